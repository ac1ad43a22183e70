"""Deletion and insertion: what becomes of a word's probability when its map's patches go or come.

Petsiuk et al. 2018 (RISE, arXiv 1806.07421, section 4.1), with three choices of ours:

* a patch that goes is blurred, not blackened: a black or grey square is itself a finding to a
  radiological network (air, a border), while a blur keeps the brightness and takes the detail;
* what is read is a word's natural-log probability, given the caption's words before it, and on a
  scale of its own: 1 in the image as it is, 0 in the image blurred all over;
* of each caption, the `WORDS` content words are read that lose most when all is blurred. They are
  chosen without any map; a word that loses nothing does not need the image, and cannot be tested.

A perturbed image is encoded once and all words are read from it, so the random and centre orders
cost as much for three words as for one: in all `passes` encoder passes for an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medblip.metrics.base import Floats

if TYPE_CHECKING:
    import torch

    from medblip.models.captioner import Captioner

__all__ = ["FRACTIONS", "WORDS", "Reader", "blurred", "order_of", "passes", "shown"]

#: Shares of the patches, closer where maps differ.
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
#: Content words that are read per caption, at most.
WORDS = 3
#: Standard deviation of the blur, as a share of the image's side: larger than most findings.
BLUR = 1 / 8

_BATCH = 64
Bools = npt.NDArray[np.bool_]


def passes(words: int, orders: int) -> int:
    """Return encoder passes for one image: its maps, both ends, and each point of each order."""
    return 3 + 2 * (len(FRACTIONS) - 2) * (words + orders)


def blurred(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (B, C, H, W) under a Gaussian blur; edges are mirrored."""
    from torch.nn import functional

    for axis in (2, 3):
        side = pixels.shape[axis]
        radius = min(side - 1, round(3 * BLUR * side))
        steps = np.arange(-radius, radius + 1) / (BLUR * side)
        weights = pixels.new_tensor(np.exp(-0.5 * steps**2))
        kernel = (weights / weights.sum()).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        pad = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = functional.pad(pixels, pad, mode="reflect")
        flat = padded.reshape(-1, 1, *padded.shape[2:])
        pixels = functional.conv2d(flat, kernel).view(pixels.shape)
    return pixels


def order_of(heat: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return patches from the highest to the lowest, (patches,); ties in random order."""
    return np.lexsort((rng.random(heat.size), -heat.ravel()))


def shown(order: npt.NDArray[np.int64], *, insertion: bool) -> Bools:
    """Return which patches are sharp at each fraction, (points, patches).

    Args:
        order: Patches, the first to go (deletion) or to come (insertion) first.
        insertion: Which of the two.
    """
    counts = np.floor(np.array(FRACTIONS) * len(order) + 0.5).astype(int)
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = np.arange(len(order))
    moved: Bools = ranks[None, :] < counts[:, None]
    return moved if insertion else ~moved


@dataclasses.dataclass(frozen=True)
class Reader:
    """One caption over one image, read under any patches.

    Args:
        captioner: Who reads.
        pixels: Normalised, (3, H, W).
        blurry: The same, blurred.
        caption: Text or pieces.
        spans: First piece and the one behind the last, of each word that is read.
        grid: Rows and columns of patches.
    """

    captioner: Captioner
    pixels: torch.Tensor
    blurry: torch.Tensor
    caption: str | Sequence[str]
    spans: Sequence[tuple[int, int]]
    grid: tuple[int, int]

    def read(self, patches: Bools) -> Floats:
        """Return each word's log-probability under each set of sharp patches, (sets, words).

        Equal sets are encoded once.
        """
        import torch

        unique, back = np.unique(patches, axis=0, return_inverse=True)
        down, across = (
            (torch.arange(side) * 2 + 1) * parts // (2 * side)  # the patch of each pixel's centre
            for side, parts in zip(self.pixels.shape[1:], self.grid, strict=True)
        )
        found: list[Floats] = []
        for start in range(0, len(unique), _BATCH):
            part = torch.from_numpy(unique[start : start + _BATCH]).view(-1, 1, *self.grid)
            sharp = part[:, :, down][..., across].to(self.pixels.device)
            images = torch.where(sharp, self.pixels, self.blurry)
            with torch.inference_mode():
                embeds = self.captioner.encode(images)
                pieces = self.captioner.caption_logprobs(embeds, [self.caption] * len(images))
            found += [
                np.array([float(one[first:last].double().sum()) for first, last in self.spans])
                for one in pieces
            ]
        return np.stack(found)[back.ravel()]
