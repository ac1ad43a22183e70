"""What is sent of an image: its pixels, and nothing else."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
from PIL import Image

__all__ = ["Picture", "encoded"]

#: A larger PNG is sent as JPEG: providers refuse large bodies.
_PNG_BYTES = 4_000_000


@dataclasses.dataclass(frozen=True)
class Picture:
    """An encoded image."""

    mime: str
    data: bytes


def encoded(image: Image.Image, side: int) -> Picture:
    """Return a PNG (a JPEG if that is large) whose longer side is at most `side`; never enlarged.

    The pixels pass through an array: EXIF, DICOM, colour profile and comments stay behind.
    """
    longest = max(image.size)
    if longest > side:
        size = tuple(max(1, round(edge * side / longest)) for edge in image.size)
        image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    bare = Image.fromarray(np.asarray(image))
    file = io.BytesIO()
    bare.save(file, "PNG")
    if file.tell() <= _PNG_BYTES:
        return Picture("image/png", file.getvalue())
    file = io.BytesIO()
    bare.save(file, "JPEG", quality=95)
    return Picture("image/jpeg", file.getvalue())
