"""A prepared split as batches: decode once, keep uint8 pixels, normalise per batch.

Sample order is a pure function of (seed, epoch), so that it depends on no worker, device or run.
torch is imported only where a tensor is made.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from medblip.data.images import open_image
from medblip.errors import DataError, explain
from medblip.progress import track
from medblip.schema import Example, read_split

if TYPE_CHECKING:
    import torch

__all__ = ["PixelCache", "epoch_order", "length_bucketed_batches", "load_split"]


def load_split(root: Path, split: str) -> list[Example]:
    """Return the examples of one split of a prepared data set.

    Raises:
        DataError: There is no manifest, the split is empty, or an image file is missing.
    """
    examples = read_split(root, split)
    missing = [e.image for e in examples if not (root / e.image).is_file()]
    if missing:
        raise DataError(
            explain(
                f"{root}: the manifest names images that are not there",
                got=f"{len(missing)} missing: {', '.join(missing[:3])}{', ...' if missing[3:] else ''}",
                expected=f"every image below {root}",
                do="copy the folder again, or prepare the data again",
            )
        )
    return examples


class PixelCache:
    """Resized uint8 pixels of a split, in memory when they fit.

    Resizing is Pillow's bicubic to the model's size: what transformers' Pillow image processor does
    before it rescales and normalises (image_processing_backends.py, PilBackend.resize).

    Args:
        examples: The split.
        root: Folder of the manifest.
        size: Height and width of the model's input.
        max_bytes: Above this, images are decoded again for every batch.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        root: Path,
        size: tuple[int, int],
        *,
        max_bytes: int = 2_000_000_000,
    ) -> None:
        self._paths = [root / example.image for example in examples]
        self._size = size
        self._cached: list[np.ndarray] | None = None
        if len(self._paths) * size[0] * size[1] * 3 <= max_bytes:
            with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
                decoded = pool.map(self._decode, self._paths)
                self._cached = list(track(decoded, "decode images", len(self._paths)))

    def __len__(self) -> int:
        return len(self._paths)

    def pixel_batch(
        self,
        indices: Sequence[int] | np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> torch.Tensor:
        """Return normalised pixels, float32 (B, 3, H, W)."""
        import torch

        batch = np.empty((len(indices), 3, *self._size), dtype=np.uint8)
        for row, index in enumerate(indices):
            index = int(index)
            batch[row] = self._cached[index] if self._cached else self._decode(self._paths[index])
        scale = torch.tensor(std, dtype=torch.float32).mul(255).view(1, 3, 1, 1)
        shift = torch.tensor(mean, dtype=torch.float32).mul(255).view(1, 3, 1, 1)
        return torch.from_numpy(batch).float().sub_(shift).div_(scale)

    def _decode(self, path: Path) -> np.ndarray:
        """Return uint8 pixels (3, H, W), or (1, H, W) for a grey image."""
        image = open_image(path)
        height, width = self._size
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = np.asarray(image)
        return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples of one epoch: a permutation of range(count)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def length_bucketed_batches(
    lengths: Sequence[int], order: np.ndarray, batch_size: int
) -> list[np.ndarray]:
    """Cut an epoch's order into batches of captions of nearly equal length.

    Samples are sorted by length within windows of 16 batches of `order`, so that batches stay
    random but hold little padding.
    """
    batches: list[np.ndarray] = []
    window = 16 * batch_size
    for start in range(0, len(order), window):
        part = order[start : start + window]
        by_length = part[np.argsort([lengths[int(i)] for i in part], kind="stable")]
        batches += [by_length[at : at + batch_size] for at in range(0, len(part), batch_size)]
    shuffled = np.argsort([int(batch[0]) for batch in batches], kind="stable")
    return [batches[index] for index in shuffled]
