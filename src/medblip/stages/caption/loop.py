"""Batch after batch through the network, while the next ones are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from medblip.config import DecodeConfig
from medblip.stages.caption.formats import row_of
from medblip.stages.caption.sources import OWN, Source

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner, Generated

__all__ = ["Batch", "captioned"]

_READERS = 2  # threads; each has a batch in hand

#: Number of the batch, its rows, and {id, reason} of the images that cannot be read.
Batch = tuple[int, list[dict[str, Any]], list[dict[str, str]]]


def captioned(
    captioner: Captioner, source: Source, decode: DecodeConfig, batches: Sequence[int]
) -> Iterator[Batch]:
    """Yield the batches that are asked for, in that order.

    Batch k is the images k * size to (k + 1) * size, whatever else is done: so it comes out the
    same in any run.
    """
    writer = _Writer(captioner, decode)
    waiting: deque[tuple[int, list[int], Future[tuple[np.ndarray, dict[int, str]]]]] = deque()
    left = iter(batches)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="read") as pool:
        try:
            while True:
                while len(waiting) <= _READERS and (batch := next(left, None)) is not None:
                    first = batch * decode.batch_size
                    indices = list(range(first, min(first + decode.batch_size, len(source.ids))))
                    waiting.append((batch, indices, pool.submit(source.read, indices)))
                if not waiting:
                    return
                batch, indices, future = waiting.popleft()
                pixels, reasons = future.result()
                good = [index for index in indices if index not in reasons]
                names = [source.ids[index] for index in good]
                prompts = None
                if source.prompts is not None:
                    given = (source.prompts[index] for index in good)
                    prompts = [captioner.prompt if one == OWN else one for one in given]
                found = writer.write(pixels, names, prompts)
                rejects = [{"id": source.ids[i], "reason": why} for i, why in reasons.items()]
                yield batch, [row_of(n, f) for n, f in zip(names, found, strict=True)], rejects
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Writer:
    """Captions of pixels; in smaller pieces once memory has run out."""

    def __init__(self, captioner: Captioner, decode: DecodeConfig) -> None:
        self._captioner, self._decode = captioner, decode
        self._size = decode.batch_size

    def write(
        self, pixels: np.ndarray, names: list[str], prompts: list[str] | None
    ) -> list[list[Generated]]:
        """Return the captions of uint8 (B, 1 or 3, H, W)."""
        import torch

        found: list[list[Generated]] = []
        while len(found) < len(names):
            part = slice(len(found), len(found) + self._size)
            try:
                found += self._piece(pixels[part], names[part], prompts and prompts[part])
            except torch.OutOfMemoryError:
                if self._size == 1:
                    raise
                self._size = max(1, self._size // 2)
                torch.cuda.empty_cache()
        return found

    def _piece(
        self, pixels: np.ndarray, names: list[str], prompts: list[str] | None
    ) -> list[list[Generated]]:
        import torch

        from medblip.data.store import normalised_on

        captioner = self._captioner
        with torch.inference_mode():
            batch = normalised_on(
                captioner.device, torch.from_numpy(pixels), captioner.image_mean,
                captioner.image_std,
            )  # fmt: skip
            embeds = captioner.encode(batch)
            return captioner.generate(embeds, self._decode, prompts=prompts, keys=names)
