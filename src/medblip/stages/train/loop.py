"""Stage `train`: fine-tune on the training split, keep the best on the validation split.

    cli.train -> train -> step_that_fits -> train_step

The test split cannot be reached from here: only `train` and `validation` are ever loaded.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medblip.checkpoint import reuse
from medblip.config import RunConfig, resolve
from medblip.errors import RunError, explain
from medblip.progress import Live, console
from medblip.rundir import RunDir
from medblip.stages.train.interrupt import Interrupted, Interruption
from medblip.stages.train.opening import open_run
from medblip.stages.train.session import Session, Trained, summary

if TYPE_CHECKING:
    from medblip.stages.train.feed import Work
    from medblip.stages.train.step import Outcome

__all__ = ["train"]


def train(
    config: Path | str | RunConfig | None = None,
    data: Path | str | None = None,
    out: Path | str = "runs/train",
    *,
    overrides: list[str] | tuple[str, ...] = (),
    seed: int | None = None,
    device: str | None = None,
    resume: str = "auto",
    force: bool = False,
) -> Trained:
    """Fine-tune a captioner into a run directory.

    Args:
        config: TOML file, a run's `config.json`, or a `RunConfig`; None: the defaults.
        data: Prepared data set; wins over `data.root`.
        out: Run directory; see `medblip.rundir.RunDir` for what it will hold.
        overrides: `section.key=value` strings.
        seed: Wins over `train.seed`.
        device: Wins over `train.device`.
        resume: `auto` goes on with an unfinished run of the same settings, from its newest whole
            checkpoint: the result is the same, bit for bit, as without the interruption, on the
            same machine with as many threads. `off` refuses it.
        force: Replace a run that is there; the old one is kept until the new one is complete.

    Raises:
        ConfigError: A setting is unknown or does not fit the captioner.
        DataError: The data set lacks a training or validation split, or an image.
        RunError: `out` is taken, locked or not writable; the loss diverged; captions collapsed
            and `train.collapse` is `stop`.
    """
    from medblip.models.captioner import settled

    cfg = resolve(config, data, overrides, seed, device)
    cfg = dataclasses.replace(cfg, model=settled(cfg.model))
    run = RunDir(out)
    interruption = Interruption()
    try:
        with interruption, open_run(cfg, run, resume=resume, force=force) as session:
            _loop(session, interruption)
            return summary(session)
    except Interrupted:
        line = f"interrupted and saved: the same command{' without --force' * force} goes on"
        console().print(f"{line} from {run.path}", markup=False, soft_wrap=True)
        interruption.obey()
        raise KeyboardInterrupt from None  # a signal that somebody else has decided to ignore


def _loop(session: Session, interruption: Interruption) -> None:
    """Evaluate? save? step? log: until all steps are done."""
    from medblip.stages.train.fit import step_that_fits
    from medblip.stages.train.step import require_sane

    at, cfg = session.position, session.cfg
    pending: tuple[int, Outcome, Work, float] | None = None
    stop = False
    interruption.deferring = True

    def settle() -> None:
        """Read the last step's numbers: one step late, so that a GPU never waits for the host."""
        nonlocal pending, stop
        if pending is None:
            return
        step, outcome, work, rate = pending
        pending = None
        loss, norm = require_sane(
            outcome, step, session.learn, work.batch, cfg, session.run, writes=session.writes
        )
        stop = stop or float(outcome.flags) > 0
        session.log_step(step, loss, norm, rate, work)

    with Live("train", session.steps, at.step) as live:
        for work in session.work():
            if work is None:  # all steps are done, or a look is due before the next one
                settle()
                try:
                    _look(session, interruption)
                except Interrupted:
                    session.save()
                    raise
                if session.over or at.step == session.steps:
                    break
                continue
            rate = session.set_rates(at.step)
            outcome = step_that_fits(
                session.objective, session.engine, session.learn, work, at,
                session.optimizer, cfg, graphs=session.graphs, flag=interruption.number is not None,
            )  # fmt: skip
            at.step += 1
            settle()
            pending = (at.step, outcome, work, rate)
            if not session.lags:
                settle()
            live.update(at.step, session.text)
            if stop:
                settle()
                session.save()
                raise Interrupted
            if session.save_is_due():
                settle()
                session.save()


def _look(session: Session, interruption: Interruption) -> None:
    """Measure or validate where it is due; keep the best; save; notice collapse."""
    from medblip.stages.train.validate import token_loss, validate

    at, cfg, engine = session.position, session.cfg, session.engine
    check = interruption.check if engine.world == 1 else _never
    if at.step in session.measure_at and at.measured < at.step and at.step not in session.look_at:
        begun = time.perf_counter()
        with session.callable():
            loss = token_loss(
                session.captioner, engine, session.watch, cfg.decode.batch_size, check
            )
        session.log("validation-loss", {"loss": round(loss, 6), "seconds": round(
            time.perf_counter() - begun, 3)})  # fmt: skip
        at.measured = at.step
    if at.step in session.look_at and at.validated < at.step:
        with session.callable():
            record, collapse = validate(cfg, session.captioner, engine, session.watch, check)
        session.log("validation", record)
        at.validated = at.measured = at.step
        better = at.best_value is None or record["selected"] > at.best_value
        at.worse = 0 if better else at.worse + 1
        at.collapsed = at.collapsed + 1 if collapse.reasons else 0
        if better:
            at.best_step, at.best_value = at.step, record["selected"]
        path = session.save()
        if better and path is not None:
            reuse(path, session.run.checkpoint)
        _mind_collapse(session, collapse.reasons)
        if cfg.train.patience is not None and at.worse >= cfg.train.patience:
            console().print(f"no better validation for {at.worse} times: stopped at step {at.step}")
            session.over = True


def _mind_collapse(session: Session, reasons: tuple[str, ...]) -> None:
    """Say that captions stop depending on the image; stop where that was asked for, twice seen."""
    at, setting = session.position, session.cfg.train.collapse
    if not reasons or setting == "off":
        return
    line = f"step {at.step}, captions hardly depend on the image: {'; '.join(reasons)}"
    if session.writes:
        console().print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
        console().print(
            "  lower optim.lr (BLIP-base: 2e-5 or less), train longer, or train the encoder, too",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if setting == "stop" and at.collapsed >= 2:
        raise RunError(
            explain(
                "training stopped: the captions have collapsed",
                got=line,
                expected="captions that tell images apart",
                do="lower optim.lr, or set train.collapse = 'warn' to train on",
            )
        )


def _never() -> None:
    """Several processes look together: none of them may stop on its own."""
