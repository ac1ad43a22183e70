"""A grid of patches as places of the original image, as colour over it, and as bytes for a page.

A captioner sees every image squashed to its own square, the whole of it: so a grid lies over the
whole original, and its cells have the original's proportions.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["Box", "cell_box", "data_uri", "heat", "packed", "strengths"]

#: Height of a drawing, in widths, at most.
TALLEST = 5


class Box(NamedTuple):
    """A rectangle in pixels of the original image; edges may lie between two pixels."""

    left: float
    top: float
    right: float
    bottom: float


def cell_box(cell: int, grid: tuple[int, int], size: tuple[int, int]) -> Box:
    """Return where a cell of a map lies in the original image.

    Args:
        cell: Its place in the flattened map, row by row.
        grid: Rows and columns.
        size: Width and height of the original image, in pixels.

    >>> cell_box(5, (2, 4), (200, 100))
    Box(left=50.0, top=50.0, right=100.0, bottom=100.0)
    """
    row, column = divmod(cell, grid[1])
    return Box(
        column * size[0] / grid[1], row * size[1] / grid[0],
        (column + 1) * size[0] / grid[1], (row + 1) * size[1] / grid[0],
    )  # fmt: skip


def strengths(maps: Any) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return uint8 (words, patches), 255 at each word's strongest patch, and that patch's share.

    Args:
        maps: (words, patches) or (words, rows, columns), each word's of sum 1.
    """
    values = np.asarray(maps, dtype=np.float64)
    values = values.reshape(len(values), math.prod(values.shape[1:]))  # an empty caption has none
    peaks = values.max(axis=1, initial=0.0)
    scaled = 255 * values / np.maximum(peaks, 1e-12)[:, None]
    return np.round(scaled).clip(0, 255).astype(np.uint8), peaks


def packed(maps: Any) -> dict[str, Any]:
    """Return {peaks, data} of one caption, as `wordmaps.js` reads them: bytes in base64."""
    levels, peaks = strengths(maps)
    return {
        "peaks": [round(float(peak), 4) for peak in peaks],
        "data": base64.b64encode(levels.tobytes()).decode(),
    }


def heat(image: Image.Image, strength: NDArray[np.uint8], width: int) -> Image.Image:
    """Return the image with one word's attention over it, in the image's proportions.

    Args:
        image: The image.
        strength: uint8 (rows, columns), 255 at the strongest patch; stretched bilinearly.
        width: In pixels; an image more than `TALLEST` times as high as wide gets less, so that a
            strip of a few pixels' width does not take the memory of a wall.
    """
    scale = min(width / image.width, TALLEST * width / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    below = np.asarray(image.convert("RGB").resize(size), dtype=np.float32)
    stretched = Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)
    t = np.asarray(stretched, dtype=np.float32)[..., None] / 255
    ink = np.concatenate([255 + 0 * t, 96 + 150 * t, 16 + 90 * t * t], axis=-1)  # as in wordmaps.js
    over = below * (1 - 0.8 * t) + ink * 0.8 * t
    return Image.fromarray(np.round(over).astype(np.uint8))


def data_uri(image: Image.Image, quality: int = 82) -> str:
    """Return an image as a data URI: PNG when it is small and grey, JPEG else."""
    small = image.mode == "L" and image.width * image.height <= 160 * 160
    kind, options = ("PNG", {}) if small else ("JPEG", {"quality": quality})
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
