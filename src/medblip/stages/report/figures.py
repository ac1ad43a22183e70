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

__all__ = [
    "heat_tile",
    "image_uri",
    "outline_uri",
    "thumbnail",
]


def thumbnail(path: Path, side: int = 384) -> Image.Image:
    """Return an image, mode L or RGB, its longest side at most `side` pixels.

    Raises:
        ImageError: It cannot be decoded.
    """
    image = open_image(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def image_uri(image: Image.Image) -> str:
    """Return an image as a data URI: PNG when it is small, JPEG else."""
    return _uri(image, "PNG" if image.width * image.height <= 160 * 160 else "JPEG", 82)


def heat_tile(image: Image.Image, strength: NDArray[np.uint8], side: int = 72) -> str:
    """Return a small picture of one word's attention over the image, as a data URI.

    Args:
        image: The image.
        strength: uint8 (rows, columns), 255 at the strongest patch; stretched bilinearly.
        side: Width of the tile, pixels.
    """
    size = (side, max(1, round(side * image.height / image.width)))
    below = np.asarray(image.convert("RGB").resize(size), dtype=np.float64)
    stretched = Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)
    t = np.asarray(stretched, dtype=np.float64)[..., None] / 255
    heat = np.concatenate([255 + 0 * t, 96 + 150 * t, 16 + 90 * t * t], axis=-1)  # as in report.js
    over = below * (1 - 0.8 * t) + heat * 0.8 * t
    return _uri(Image.fromarray(np.round(over).astype(np.uint8)), "JPEG", 62)


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
    return _uri(Image.fromarray(pixels), "PNG", 0)


def _uri(image: Image.Image, kind: str, quality: int) -> str:
    buffer = io.BytesIO()
    options = {"quality": quality} if kind == "JPEG" else {}
    image.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
