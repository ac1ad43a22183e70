"""One image file to Pillow pixels, decoded in full, or an `ImageError` that says why not.

Rules: EXIF orientation is applied; 16-bit and float grey is stretched from its own minimum and
maximum to 0..255; palettes and CMYK become RGB; transparency is laid on black; of several frames
the first is taken. The result is mode L (grey) or RGB.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medblip.errors import ImageError

__all__ = ["open_image"]


def open_image(
    path: Path, *, max_pixels: int = 64_000_000, max_bytes: int = 200_000_000
) -> Image.Image:
    """Decode one image.

    Args:
        path: The file.
        max_pixels: Refused above this, from the header, before anything is decoded: a file of
            200 kB can hold 200 million pixels.
        max_bytes: Larger files are not opened.

    Raises:
        ImageError: With the reason, in a few words.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise ImageError(f"file of {size / 1e6:.0f} MB (limit {max_bytes / 1e6:.0f} MB)")
        with Image.open(path) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} pixels: too many")
            image.load()
            return _plain(image)
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except UnidentifiedImageError:
        raise ImageError("not an image, or of an unknown format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too many pixels: a decompression bomb") from None
    except (OSError, ValueError, SyntaxError, EOFError, IndexError) as error:
        raise ImageError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _plain(image: Image.Image) -> Image.Image:
    """Return mode L or RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return _stretch(image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        full = image.convert("RGBA")
        black = Image.new("RGBA", full.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, full).convert("RGB")
        return flat.convert("L") if image.mode in ("LA", "La") else flat
    return image.convert("RGB")


def _stretch(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageError("holds values that are not numbers")
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.round(scaled).astype(np.uint8))
