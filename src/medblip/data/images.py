"""One image file to Pillow pixels, decoded in full, or an `ImageError` that says why not.

| as the file has it | as it comes out |
| --- | --- |
| EXIF or XMP orientation | turned upright; broken metadata are ignored |
| 1 bit, grey | grey (L) |
| 16-bit, 32-bit and float grey | grey, its own minimum..maximum stretched to 0..255 |
| 16 bits per colour | the high byte, as Pillow reads it |
| palette, CMYK, YCbCr, HSV | RGB |
| transparency | laid on black, as radiographs are |
| several frames or pages | the first |
| colour profiles | ignored, as transformers does |

The result is mode L or RGB. The reason of a reject is `kind: detail`; the kinds are few, because
statistics count them. Damage inside compressed data that still decodes cannot be seen.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from medblip.errors import ImageError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_image", "open_image", "read_bytes", "reduce_grey"]

#: Larger files are not opened.
MAX_BYTES = 200_000_000
#: Refused above this, from the header, before anything is decoded: a file of 200 kB can hold 200
#: million pixels.
MAX_PIXELS = 64_000_000
#: Nothing else is tried: Pillow would run Ghostscript for an EPS, and knows 40 that few test.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
#: What is often found under the name of an image: first bytes -> what it is.
_STRANGERS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<?xml": "XML",
    b"<svg": "an SVG drawing",
    b"%!PS": "PostScript",
    b"version https://git-lfs": "a Git LFS pointer, not the file",
}


def open_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file.

    Raises:
        ImageError: With the reason, in a few words.
    """
    return decode_image(read_bytes(path), max_pixels=max_pixels)


def read_bytes(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of a file or of a part of it.

    Raises:
        ImageError: It is absent, larger than `MAX_BYTES`, or shorter than it should be.
    """
    try:
        with path.open("rb") as file:
            if size is None:
                size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageError(
                    f"too large: a file of {size / 1e6:.0f} MB (limit {MAX_BYTES / 1e6:.0f} MB)"
                )
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except IsADirectoryError:
        raise ImageError("not an image: a folder") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None
    if len(data) < size:
        raise ImageError("cannot be read: the container ends before the image does")
    return data


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode the bytes of one image file in full; mode L or RGB.

    Raises:
        ImageError: With the reason, in a few words.
    """
    if not data:
        raise ImageError("not an image: an empty file")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"too large: {image.width} x {image.height} pixels")
            image.load()
            return _plain(_upright(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"not an image: {_stranger(data)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError("too large: a decompression bomb") from None
    except MemoryError:
        raise ImageError("too large: needs more memory than there is") from None
    except Exception as error:  # hostile bytes make decoders raise anything: struct.error, KeyError
        words = str(error).partition("\n")[0][:100] or type(error).__name__
        raise ImageError(f"cannot be decoded: {words}") from None


def reduce_grey(image: Image.Image) -> Image.Image:
    """Return mode L where the three channels are equal in every pixel, else the image itself.

    Most radiographs on the web are grey pictures saved in colour. Exact, so that nothing is lost:
    0.2 ms for 600 x 500 pixels.
    """
    if image.mode != "RGB":
        return image
    red, green, blue = image.split()
    pixels = red.tobytes()
    return red if pixels == green.tobytes() and pixels == blue.tobytes() else image


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation of the metadata, if there is one that can be read."""
    told = {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
    if not told and image.format != "TIFF":
        return image  # without a copy of the pixels, 0.2 ms
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are whole, and were never turned by other programs either
        return image


def _plain(image: Image.Image) -> Image.Image:
    """Return mode L or RGB."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        return _stretch(image)
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        full = image.convert("RGBA")
        black = Image.new("RGBA", full.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, full).convert("RGB")
        return flat.convert("L") if image.mode in ("L", "LA", "La") else flat
    return image.convert("RGB")


def _stretch(image: Image.Image) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ImageError("holds values that are not numbers")
    low, high = float(values.min()), float(values.max())
    scaled = (values - low) * (255 / (high - low)) if high > low else np.zeros_like(values)
    return Image.fromarray(np.round(scaled).astype(np.uint8))


def _stranger(data: bytes) -> str:
    """Say what was found instead of an image."""
    if data[128:132] == b"DICM":
        return "a DICOM file (medblip data prepare --format dicom)"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in _STRANGERS.items():
        if start.startswith(magic.lower()):
            return what
    if not data.strip(b"\0"):
        return "nothing but zero bytes"
    return "an unknown format"
