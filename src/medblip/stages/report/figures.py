"""Pictures of the page as data URIs: images, attention tiles, outlines."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medblip.data.images import open_image
from medblip.data.phantoms import decode_mask
from medblip.pictures import data_uri, heat

__all__ = [
    "heat_tile",
    "image_uri",
    "outline_uri",
    "thumbnail",
]

_QUALITY, _LOWER_QUALITY, _TILE_QUALITY = 82, 65, 62  # of JPEG
_SCALES = (1, 0.8, 0.64, 0.5, 0.4, 0.32, 0.25, 0.16, 0.1)


def thumbnail(path: Path, side: int = 384) -> Image.Image:
    """Return an image, mode L or RGB, its longest side at most `side` pixels.

    Raises:
        ImageError: It cannot be decoded.
    """
    image = open_image(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def image_uri(image: Image.Image, most: int) -> tuple[str, bool]:
    """Return an image as a data URI of at most `most` letters, and whether it had to be reduced.

    First it is compressed further, then it is made smaller: noise is what needs it.
    """
    for scale in _SCALES:
        smaller = image
        if scale < 1:
            side = max(1, round(scale * max(image.size)))
            smaller = image.copy()
            smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in (_QUALITY, _LOWER_QUALITY):
            found = data_uri(smaller, quality)
            if len(found) <= most:
                return found, (scale, quality) != (1, _QUALITY)
    return found, True  # a few pixels: nothing smaller shows an image


def heat_tile(image: Image.Image, strength: NDArray[np.uint8], side: int = 72) -> str:
    """Return a small picture of one word's attention over the image, as a data URI.

    Args:
        image: The image.
        strength: uint8 (rows, columns), 255 at the strongest patch.
        side: Width of the tile, pixels.
    """
    return data_uri(heat(image, strength, side), _TILE_QUALITY)


def outline_uri(findings: Sequence[dict[str, Any]]) -> str | None:
    """Return the outlines of the findings' masks as a transparent PNG, or None without masks."""
    masks = [decode_mask(finding["mask"]) for finding in findings if finding.get("mask")]
    if not masks:
        return None
    edges = np.zeros(masks[0].shape, dtype=bool)
    for mask in masks:
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        edges |= mask & ~inner
    pixels = np.zeros((*edges.shape, 4), dtype=np.uint8)
    pixels[edges] = (64, 224, 255, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
