"""Batches, read ahead of the step by threads; how long the step waited for them.

What a step learns from is a function of (seed, epoch, step) alone. Processes share each batch out
and threads only fetch: neither their number changes what is learned.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from medblip.stages.train.parts import Part

__all__ = ["Micro", "Work", "cut", "feed"]


@dataclasses.dataclass(frozen=True)
class Micro:
    """One forward pass of one process.

    Args:
        indices: Samples.
        images: What `Part.read` gave for them.
        counts: False for a filler: where a batch has fewer captions than there are processes, one
            takes part in the exchange of gradients with a loss of 0.
    """

    indices: list[int]
    images: torch.Tensor
    counts: bool = True


@dataclasses.dataclass(frozen=True)
class Work:
    """What one process does in one step: its samples, cut into micro-batches."""

    batch: list[int]
    micros: list[Micro]
    waited_s: float


def cut(batch: Sequence[int], rank: int, world: int, micro: int) -> list[tuple[list[int], bool]]:
    """Return one process's share of a batch as micro-batches, as many for every process.

    >>> cut([1, 2, 3, 4, 5], rank=0, world=2, micro=2)
    [([1, 3], True), ([5], True)]
    >>> cut([1, 2, 3, 4, 5], rank=1, world=2, micro=2)
    [([2, 4], True), ([1], False)]
    """
    mine = list(batch[rank::world])
    largest_share = math.ceil(len(batch) / world)
    count = math.ceil(largest_share / micro)
    parts = [(mine[at : at + micro], True) for at in range(0, len(mine), micro)]
    return parts + [([batch[0]], False)] * (count - len(parts))


def feed(
    part: Part, batches: Iterable[Sequence[int]], *, rank: int, world: int, micro: int,
    workers: int, pin: bool,
) -> Iterator[Work]:  # fmt: skip
    """Yield the work of each step, in order; an error of a thread is raised at its step.

    Args:
        part: What is read.
        batches: Samples of each step, over all processes.
        rank: Of this process.
        world: Number of processes.
        micro: Samples per forward pass.
        workers: Threads; 0: read when it is asked for.
        pin: Put what is read into pinned memory, from where a GPU takes it without waiting.
    """

    def one(batch: Sequence[int]) -> tuple[list[int], list[Micro]]:
        micros = []
        for indices, counts in cut(batch, rank, world, micro):
            images = part.read(indices)
            micros.append(Micro(indices, images.pin_memory() if pin else images, counts))
        return list(batch), micros

    if workers == 0:
        for batch in batches:
            begun = time.perf_counter()
            yield Work(*one(batch), time.perf_counter() - begun)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="feed") as pool:
        coming = iter(batches)
        ahead: deque[Future[tuple[list[int], list[Micro]]]] = deque(
            pool.submit(one, batch) for batch in itertools.islice(coming, workers + 1)
        )
        try:
            while ahead:
                begun = time.perf_counter()
                done = ahead.popleft().result()
                waited = time.perf_counter() - begun
                ahead.extend(pool.submit(one, batch) for batch in itertools.islice(coming, 1))
                yield Work(*done, waited)
        finally:
            for future in ahead:
                future.cancel()
