"""One run that trains: everything the loop needs, opened new or where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.config import RunConfig
from medblip.files import write_json
from medblip.power import Cost, energy_j
from medblip.progress import console
from medblip.rundir import RunDir
from medblip.stages.train.build import (
    rate_share,
    set_rates,
    training_mode,
)
from medblip.stages.train.feed import Work, feed
from medblip.stages.train.parts import Part

if TYPE_CHECKING:
    import numpy as np
    import torch

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match
    from medblip.stages.train.graphs import Graphs
    from medblip.stages.train.state import Position

__all__ = ["Session", "Trained", "summary"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished training leaves.

    Args:
        run: The run directory.
        best_step: Optimizer step of the kept checkpoint.
        best_value: Its value of `train.select` on the validation split.
        seconds: Wall time of the whole training, over all sessions.
    """

    run: str
    best_step: int
    best_value: float
    seconds: float


@dataclasses.dataclass
class Session:
    """A run in the making.

    Args:
        cfg: All settings.
        run: Where it is written.
        engine: Of this process.
        captioner: With adapters, rules applied.
        matches: Which rule caught how many parameters.
        learn: The training split.
        watch: The validation split.
        objective: Called for a loss; joins the processes.
        optimizer: On what trains.
        position: Where the run is.
        in_features_s: Seconds spent on the features of a frozen encoder, before this one opened.
        feature_pass: What these features cost whoever made them.
        over: Set when validation asked to stop.
        graphs: Recorded passes, where they pay.
        text: What the progress bar says.
    """

    cfg: RunConfig
    run: RunDir
    engine: Engine
    captioner: Captioner
    matches: list[Match]
    learn: Part
    watch: Part
    objective: Any
    optimizer: torch.optim.Optimizer
    position: Position
    in_features_s: float = 0.0
    feature_pass: Cost = dataclasses.field(default_factory=Cost)
    over: bool = False
    graphs: Graphs | None = None
    text: str = ""

    def __post_init__(self) -> None:
        train = self.cfg.train
        self.per_epoch = math.ceil(len(self.learn.token_ids) / train.batch_size)
        self.steps = self.per_epoch * train.epochs
        self.look_at = {round(self.steps * (i + 1) / train.validations)
                        for i in range(train.validations)}  # fmt: skip
        self.measure_at = {round(self.steps * (i + 1) / train.loss_validations)
                           for i in range(train.loss_validations)}  # fmt: skip
        self._share = rate_share(self.cfg, self.steps)
        self._epoch: tuple[int, list[np.ndarray]] = (-1, [])
        self._opened = self._mark = time.perf_counter()
        self._before_s = self.position.seconds
        self._before_j = self.position.energy_j if self.position.step else 0.0
        self._opened_j = energy_j(self.engine.device)
        self._recording_failed = False

    @property
    def writes(self) -> bool:
        """Whether this process writes."""
        return self.engine.is_main

    @property
    def lags(self) -> bool:
        """Whether numbers of a step are read while the next one runs."""
        return self.engine.device.startswith("cuda")

    def work(self) -> Iterator[Work | None]:
        """Yield each step's work; None before it where validation may be due, and at the end."""
        at = self.position
        while True:
            yield None
            training_mode(self.captioner)
            self._record_passes()
            self._mark = time.perf_counter()  # looking and saving are not steps
            stops = {step for step in self.look_at | self.measure_at if step > at.step}
            yield from feed(
                self.learn, (self._batch(step) for step in range(at.step, min(stops))),
                rank=self.engine.rank, world=self.engine.world, micro=at.micro,
                workers=self.cfg.train.workers, pin=self.engine.device.startswith("cuda"),
            )  # fmt: skip

    def _record_passes(self) -> None:
        """Record passes once, before the first step of this session."""
        from medblip.stages.train.graphs import Graphs, wanted

        if self.graphs is not None or self._recording_failed or not wanted(self.cfg, self.engine):
            return
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        try:
            self.graphs = Graphs(
                self.cfg, self.captioner, self.engine, self.learn, self.position.micro, parameters
            )
        except RuntimeError as error:  # an operation that this torch cannot record, or no memory
            self._recording_failed = True
            self.optimizer.zero_grad(set_to_none=True)
            reason = str(error).splitlines()[0]
            line = f"passes cannot be recorded as CUDA graphs ({reason}): they run as they are"
            console().print(line, markup=False, soft_wrap=True)

    def set_rates(self, step: int) -> float:
        """Set the learning rates of a step, counted from 0."""
        return set_rates(self.optimizer, self._share(step))

    def save_is_due(self) -> bool:
        """Whether a checkpoint is due that validation will not write anyway."""
        every = self.cfg.train.save_every or 500
        return self.position.step % every == 0 and self.position.step not in self.look_at

    def save(self) -> Path | None:
        """Write a resumable checkpoint."""
        from medblip.stages.train import state

        self.position.seconds, self.position.energy_j = self.seconds, self.energy_j
        path = state.save(
            self.cfg, self.captioner, self.optimizer, self.engine, self.run, self.position
        )
        self._mark = time.perf_counter()
        return path

    @property
    def seconds(self) -> float:
        """Wall time of all sessions of this run."""
        return self._before_s + time.perf_counter() - self._opened

    @property
    def energy_j(self) -> float | None:
        """Joules of all sessions of this run; None where one of them could not count."""
        now = energy_j(self.engine.device)
        if now is None or self._opened_j is None or self._before_j is None:
            return None
        return self._before_j + now - self._opened_j

    def callable(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which parts of the network may be called on their own."""
        from medblip.sharded import gathered_parameters

        return gathered_parameters(self.objective)

    def log(self, kind: str, record: dict[str, Any]) -> None:
        """Append a record to `metrics.jsonl`, and send it to the trackers."""
        step = self.position.step
        epoch = (step - 1) // self.per_epoch + 1
        row = {"kind": kind, "step": step, "epoch": epoch} | record
        if self.writes:
            self.run.append_metrics(row)
        self.engine.track(row)

    def log_step(self, step: int, loss: float, norm: float, rate: float, work: Work) -> None:
        """Record one step: what it came to and how fast it went."""
        at = self.position
        now = time.perf_counter()
        seconds, self._mark = now - self._mark, now
        at.in_steps_s += seconds
        at.waited_s += work.waited_s
        tokens = self.learn.tokens(work.batch)
        row = {
            "kind": "train", "step": step, "epoch": (step - 1) // self.per_epoch + 1,
            "loss": round(loss, 6), "grad_norm": round(norm, 5), "lr": rate,
            "seconds": round(at.in_steps_s, 4), "tokens_per_s": round(tokens / seconds, 1),
            "images_per_s": round(len(work.batch) / seconds, 2),
            "data_wait_share": round(work.waited_s / seconds, 4),
        }  # fmt: skip
        if self.lags:
            import torch

            row["gpu_gb"] = round(torch.cuda.memory_allocated() / 1e9, 2)
        if self.writes:
            self.run.append_metrics(row)
        self.engine.track(row)
        wait = at.waited_s / at.in_steps_s
        self.text = (
            f"loss {loss:.3f}  {row['images_per_s']:.0f} img/s  {row['tokens_per_s']:.0f} tok/s  "
            + (f"{row['gpu_gb']:.1f} GB  " if self.lags else "")
            + f"wait {wait:.0%}{' (bound by reading images)' if wait > 0.3 else ''}"
        )

    def _batch(self, step: int) -> list[int]:
        """Return the samples of a step, counted from 0: a function of (seed, step)."""
        from medblip.data.loader import length_bucketed_batches

        epoch, place = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            lengths = [len(ids) for ids in self.learn.token_ids]
            train = self.cfg.train
            batches = length_bucketed_batches(
                lengths, train.batch_size, seed=train.seed, epoch=epoch
            )
            self._epoch = (epoch, batches)
        return [int(i) for i in self._epoch[1][place]]


def summary(session: Session) -> Trained:
    """Write `train.json`: the run is complete."""
    import torch

    from medblip.engine import device_name, peak_memory_mb

    at, engine = session.position, session.engine
    total = sum(match.parameters for match in session.matches)
    trained = sum(m.parameters for m in session.matches if m.rate is not None)
    joules = session.energy_j
    samples = min(at.step * session.cfg.train.batch_size,
                  len(session.learn.token_ids) * session.cfg.train.epochs)  # fmt: skip
    record = {
        "steps": at.step,
        "best_step": at.best_step,
        "select": session.cfg.train.select,
        "best_value": at.best_value,
        "seconds": round(session.seconds, 3),
        "seconds_in_steps": round(at.in_steps_s, 3),
        "seconds_in_features": round(session.in_features_s, 3),
        "feature_pass_seconds": round(session.feature_pass.seconds, 3),
        "feature_pass_wh": None
        if session.feature_pass.joules is None
        else round(session.feature_pass.joules / 3600, 3),
        "seconds_per_step": round(at.in_steps_s / at.step, 5),
        "captions_per_second": round(samples / at.in_steps_s, 2),
        "data_wait_share": round(at.waited_s / at.in_steps_s, 4),
        "peak_memory_mb": round(peak_memory_mb(engine.device), 1),
        "energy_wh": None if joules is None or engine.world > 1 else round(joules / 3600, 3),
        "parameters_total": total,
        "parameters_trainable": trained,
        "device": engine.device,
        "device_name": device_name(engine.device),
        "processes": engine.world,
        "micro_batch_size": at.micro,
        "precision": engine.precision,
        "threads": torch.get_num_threads(),
    }
    if engine.is_main:
        write_json(session.run.completion, record)
    return Trained(
        run=str(session.run.path), best_step=at.best_step, best_value=at.best_value or 0.0,
        seconds=round(session.seconds, 3),
    )  # fmt: skip
