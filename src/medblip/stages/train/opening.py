"""Opening a run: new, in the place of another one, or where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip import config as configuration
from medblip.checkpoint import newest, reuse
from medblip.config import RunConfig
from medblip.errors import DataError, RunError, explain
from medblip.files import read_json, require_space, write_json
from medblip.progress import console
from medblip.rundir import RunDir, environment
from medblip.stages.train.build import build_captioner, build_optimizer
from medblip.stages.train.parts import Part, cache_features, load_part
from medblip.stages.train.session import Session

if TYPE_CHECKING:
    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.stages.train.state import Position

__all__ = ["open_run"]

#: Settings of the machine or of how a run is watched: they may differ when a run goes on.
_FREE = {
    "train.device", "train.workers", "train.feature_cache", "train.keep_checkpoints",
    "train.collapse", "train.loss_limit", "train.save_every", "train.sharding",
    "train.micro_batch_size", "track.tools", "track.project", "data.root",
}  # fmt: skip


@contextlib.contextmanager
def open_run(cfg: RunConfig, run: RunDir, *, resume: str, force: bool) -> Iterator[Session]:
    """Open a run: new, in the place of another, or where it was interrupted.

    Only the first process touches the folder.
    """
    from medblip.engine import Engine, reset_peak_memory, seeded

    engine = Engine(cfg.train)
    reset_peak_memory(engine.device)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        goes_on = engine.is_main and not force and _goes_on(cfg, run, resume)
        if engine.is_main:
            if not goes_on:
                stack.enter_context(run.replaced(force=force))
            stack.enter_context(run.lock())
        checkpoint = engine.from_main(_last_checkpoint(run) if goes_on else None)
        stack.enter_context(seeded(cfg.train.seed))
        session = _build(cfg, run, engine, checkpoint)
        if engine.is_main:
            _write_settings(session)
        engine.start_tracking(cfg.track, run.path, configuration.dump(cfg))
        try:
            yield session
            engine.wait()  # nobody leaves before the first process has written the end
        finally:
            session.objective = session.graphs = None
        if engine.is_main:
            run.forget_replaced()


def _build(cfg: RunConfig, run: RunDir, engine: Engine, checkpoint: Path | None) -> Session:
    """Build everything in a fixed order, so that a seed means one thing."""
    from medblip.stages.train.fit import largest_micro
    from medblip.stages.train.state import Position, restore, restore_position
    from medblip.stages.train.step import Objective
    from medblip.stages.train.validate import check_select

    captioner, matches, rates = build_captioner(
        cfg, engine.device, checkpoint, quiet=not engine.is_main
    )
    learn, watch = (_load(cfg, captioner, engine, split) for split in ("train", "validation"))
    check_select(cfg, watch)
    parameters = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    one = 4 * parameters + 8 * moving  # weights, and AdamW's two moments
    if engine.is_main:  # those that are kept, the one that is being written, and the best
        require_space(run.path, one * cfg.train.keep_checkpoints + one + 4 * parameters)
    position = restore_position(checkpoint) if checkpoint else Position()
    in_features_s, feature_pass = cache_features(cfg, captioner, engine, [learn, watch])
    if engine.world > 1 and engine.sharding == "fsdp":  # before the optimizer: it holds shares
        objective = engine.prepare(Objective(captioner))
        optimizer = build_optimizer(cfg, captioner, rates, engine.device)
    else:
        optimizer = build_optimizer(cfg, captioner, rates, engine.device)
        position.micro = position.micro or largest_micro(cfg, captioner, engine, learn, optimizer)
        objective = engine.prepare(Objective(captioner))
    share = -(-cfg.train.batch_size // engine.world)
    position.micro = min(position.micro or cfg.train.micro_batch_size or share, share)
    if checkpoint is not None:
        restore(checkpoint, captioner, optimizer, engine)
        if engine.is_main:
            if position.best_step == position.step:  # killed before it became the best
                reuse(checkpoint, run.checkpoint)
            run.cut_metrics(lambda row: _is_kept(row, position))
            console().print(f"going on after step {position.step} of {run.path}", soft_wrap=True)
    elif engine.is_main:
        run.cut_metrics(lambda row: False)
    return Session(
        cfg, run, engine, captioner, matches, learn, watch, objective, optimizer, position,
        in_features_s, feature_pass,
    )  # fmt: skip


def _load(cfg: RunConfig, captioner: Captioner, engine: Engine, split: str) -> Part:
    """Load one split; the first process first, because it makes what the others read."""
    part = load_part(cfg, captioner, split) if engine.is_main else None
    engine.wait()
    return part or load_part(cfg, captioner, split)


def _goes_on(cfg: RunConfig, run: RunDir, resume: str) -> bool:
    """Whether an unfinished run of the same settings is there.

    Raises:
        RunError: One of other settings, or of other data, is there.
    """
    if resume not in ("auto", "off"):
        raise RunError(
            explain("--resume", got=resume, expected="auto or off", do="choose one of these")
        )
    if run.completion.exists() or not run.config.exists():
        if run.path.is_dir() and {p.name for p in run.path.iterdir()} <= {"LOCK"}:
            with run.lock():  # a run that was killed before it wrote anything
                pass
        return False
    if resume == "off":
        return False
    before, now = (_flat(configuration.dump(c)) for c in (configuration.load(run.config), cfg))
    changed = [name for name in now if name not in _FREE and before.get(name) != now[name]]
    if changed and run.replaces.exists():  # it was to replace another run: that one comes back
        return False
    if changed:
        raise RunError(
            explain(
                f"{run.path} holds an unfinished run with other settings",
                got=", ".join(f"{name} = {now[name]}" for name in changed),
                expected=", ".join(f"{name} = {before.get(name)}" for name in changed),
                do="choose another --out, take the old settings, or add --force to start over",
            )
        )
    note = run.path / "data.json"
    if note.exists() and read_json(note)["manifest"] != _manifest(cfg):
        raise DataError(
            explain(
                f"{cfg.data.root} is not the data set that {run.path} was trained on until now",
                got="another manifest.jsonl",
                expected="the same images and captions",
                do="put the data set back, or start over with --force",
            )
        )
    return True


def _last_checkpoint(run: RunDir) -> Path | None:
    path, faults = newest(run.checkpoints)
    for name, fault in faults.items():
        console().print(f"warning: {name} is skipped, {fault}", style="yellow", soft_wrap=True)
    if path is None:
        console().print(f"{run.path} has no whole checkpoint yet: from the start", soft_wrap=True)
    return path


def _is_kept(row: dict[str, Any], position: Position) -> bool:
    """Whether a record of `metrics.jsonl` will not be made again."""
    done = {"validation": position.validated, "validation-loss": position.measured}
    return bool(row["step"] <= done.get(row["kind"], position.step))


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{key}": value for section, values in settings.items()
            for key, value in values.items()}  # fmt: skip


def _manifest(cfg: RunConfig) -> str:
    data = (Path(cfg.data.root) / "manifest.jsonl").read_bytes()
    return hashlib.sha256(data).hexdigest()


def _write_settings(session: Session) -> None:
    import torch

    run, matches = session.run, session.matches
    write_json(run.config, configuration.dump(session.cfg))
    write_json(run.path / "data.json", {"root": session.cfg.data.root,
                                        "manifest": _manifest(session.cfg)})  # fmt: skip
    engine = session.engine
    write_json(
        run.environment,
        environment(
            device=engine.device,
            precision=engine.precision,
            threads=torch.get_num_threads(),
            processes=engine.world,
        ),
    )
    write_json(
        run.trainable,
        {
            "rules": [dataclasses.asdict(match) for match in matches],
            "trainable": sum(m.parameters for m in matches if m.rate is not None),
            "total": sum(m.parameters for m in matches),
        },
    )
