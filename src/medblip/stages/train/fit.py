"""Micro-batches that fit into memory: tried before the training, and again where a step fails.

The objective does not depend on how a batch is cut, so a smaller cut changes the time alone.
"""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING, Any

import torch

from medblip.config import RunConfig
from medblip.errors import RunError, explain
from medblip.models.loading import free_bytes
from medblip.progress import console
from medblip.stages.train.feed import Micro, Work, cut
from medblip.stages.train.step import Outcome, train_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.stages.train.graphs import Graphs
    from medblip.stages.train.parts import Part
    from medblip.stages.train.state import Position

__all__ = ["kept_bytes", "largest_micro", "step_that_fits"]


def largest_micro(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part,
    optimizer: torch.optim.Optimizer,
) -> int:  # fmt: skip
    """Return how many captions fit into one forward and backward pass of this process.

    On a GPU the longest captions are tried, with room for the optimizer's state held. A CPU cannot
    be tried out without being killed: there, what one forward pass keeps is counted and held
    against half of the memory that is left. The smallest answer of all processes counts.
    """
    share = -(-cfg.train.batch_size // engine.world)
    wanted = min(cfg.train.micro_batch_size or share, share)
    longest = sorted(range(len(part.token_ids)), key=lambda i: -len(part.token_ids[i]))
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    size = wanted
    if engine.device.startswith("cuda"):
        with torch.random.fork_rng(devices=[torch.device(engine.device)]):
            while size > 1 and not _fits(cfg, captioner, engine, part, longest[:size], trainable):
                size = -(-size // 2)
    elif (left := free_bytes("cpu")) is not None:
        with torch.random.fork_rng(), engine.autocast():
            each = kept_bytes(captioner, lambda: _loss(cfg, captioner, part, longest[:1]))
        state = sum(12 * p.numel() for p in trainable)  # gradient and AdamW's two moments
        size = max(1, min(wanted, int((left / engine.world - state) / 2 / each)))
    fitting = int(min(engine.gathered([size])))
    if fitting < wanted and engine.is_main:
        console().print(f"{wanted} captions do not fit into memory at once: {fitting} at a time")
    return fitting


def step_that_fits(
    objective: Any, engine: Engine, part: Part, work: Work, position: Position,
    optimizer: torch.optim.Optimizer, cfg: RunConfig, *, graphs: Graphs | None = None, flag: bool,
) -> Outcome:  # fmt: skip
    """Do one step; where memory runs out, do it again in smaller micro-batches.

    Raises:
        RunError: One caption alone does not fit, or other processes are in the middle of the step.
    """
    while True:
        micros = [
            Micro(indices, part.read(indices), counts)
            for indices, counts in cut(work.batch, engine.rank, engine.world, position.micro)
        ] if any(len(m.indices) > position.micro for m in work.micros) else work.micros  # fmt: skip
        try:
            return train_step(
                objective,
                engine,
                part,
                work.batch,
                micros,
                optimizer,
                cfg,
                graphs=graphs,
                flag=flag,
            )
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_memory(error):
                raise
            if position.micro == 1 or engine.world > 1:
                raise RunError(_too_large(cfg, position.micro, engine.world)) from error
        del micros
        work = dataclasses.replace(work, micros=[m for m in work.micros if not m.counts])
        optimizer.zero_grad(set_to_none=True)
        position.micro = -(-position.micro // 2)
        _release(engine)
        work = dataclasses.replace(
            work,
            micros=[
                Micro(indices, part.read(indices), counts)
                for indices, counts in cut(work.batch, engine.rank, engine.world, position.micro)
            ],
        )
        console().print(f"out of memory: going on with {position.micro} captions at a time")


def kept_bytes(captioner: Captioner, forward: Callable[[], torch.Tensor]) -> int:
    """Return what a forward pass keeps for the backward pass, parameters left out."""
    parameters = {p.untyped_storage().data_ptr() for p in captioner.network.parameters()}
    kept: dict[int, int] = {}
    alive = []  # or a block that is freed would be counted as the next one's

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(kept.values())


def _loss(cfg: RunConfig, captioner: Captioner, part: Part, indices: Sequence[int]) -> torch.Tensor:
    batch = captioner.collate([part.token_ids[i] for i in indices])
    images = part.images_on(captioner, part.read(indices))
    embeds = images if part.features is not None else captioner.encode(images)
    return captioner.token_losses(embeds, batch, cfg.optim.label_smoothing)


def _fits(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, indices: Sequence[int],
    trainable: list[Any],
) -> bool:  # fmt: skip
    held = [torch.empty_like(p) for p in trainable for _ in range(2)]  # AdamW's two moments
    try:
        with engine.autocast():
            loss = _loss(cfg, captioner, part, indices)
        loss.backward()  # type: ignore[no-untyped-call]
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        del held
        for parameter in trainable:
            parameter.grad = None
        _release(engine)


def _release(engine: Engine) -> None:
    gc.collect()
    if engine.device.startswith("cuda"):
        torch.cuda.empty_cache()


def _is_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _too_large(cfg: RunConfig, micro: int, world: int) -> str:
    return explain(
        "out of memory",
        got=f"{micro} captions in one forward pass, {world} processes",
        expected="a pass that fits",
        do="set train.micro_batch_size lower, or train.gradient_checkpointing = true; "
        "--resume goes on from the last checkpoint",
    )
