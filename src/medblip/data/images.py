"""One image file to Pillow pixels, decoded in full, or an `ImageError` that says why not.

| as the file has it | as it comes out |
| --- | --- |
| EXIF or XMP orientation | turned upright; broken metadata are ignored |
| 1 bit, grey, grey palette | grey (L) |
| 16-bit, 32-bit and float grey | grey, its own minimum..maximum stretched to 0..255 |
| 16 bits per colour, 16-bit grey with alpha | the high byte, as Pillow reads it |
| palette, CMYK, YCbCr, LAB | RGB |
| transparency | laid on black, as radiographs are |
| TIFF that says "white is zero" | inverted, at any depth |
| several frames or pages | the first |
| colour profiles | ignored, as transformers does |

The result is mode L or RGB and does not depend on the process: neither its warning filters nor its
`ImageFile.LOAD_TRUNCATED_IMAGES` matter. The reason of a reject is `kind: detail`; the kinds are
few, because statistics count them. Damage inside compressed data that still decodes cannot be seen.
The rules again, for users: docs/data.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from medblip.errors import ImageError

__all__ = ["MAX_BYTES", "MAX_PIXELS", "decode_image", "open_image", "read_bytes", "reduce_grey"]

#: Larger files are not opened.
MAX_BYTES = 200_000_000
#: Refused above this, from the header, before anything is decoded: a file of 200 kB can hold 200
#: million pixels.
MAX_PIXELS = 64_000_000
#: Nothing else is tried: Pillow would run Ghostscript for an EPS, and knows 40 that few test.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
#: Half of the pixels are too many for these, whose decoders need 16 to 20 bytes for each.
_GREEDY = ("JPEG2000", "WEBP")
#: Images of more pixels are decoded one at a time, so that threads do not add up their memory.
_LARGE = 16_000_000
#: A progressive JPEG has about ten; each costs a pass over all pixels, and 100 bytes are enough.
_MAX_SCANS = 200
#: Pillow joins the EXIF blocks of a JPEG by copying all of them each time: 3,000 take minutes.
#: Counting them takes 0.4 ms per MB; in smaller files no number of them takes long.
_MAX_EXIF_BLOCKS = 100
_FEW_BYTES = 256_000
#: First bytes of what Pillow may refuse to recognise although it is one of ours.
_OURS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
}
#: What is often found under the name of an image: first bytes -> what it is.
_STRANGERS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"\x93NUMPY": "a numpy array",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"<head": "a web page",
    b"<?xml": "XML",
    b"<svg": "an SVG drawing",
    b"{": "JSON",
    b"%!PS": "PostScript",
    b"version https://git-lfs": "a Git LFS pointer, not the file",
}
_one_large = threading.Lock()
_quiet_lock = threading.Lock()
_strict_lock = threading.Lock()
_strict_users = 0
_strict_before = False


def open_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode one image file.

    Raises:
        ImageError: With the reason, in a few words.
    """
    return decode_image(read_bytes(path), max_pixels=max_pixels)


def read_bytes(path: Path, offset: int = 0, size: int | None = None) -> bytes:
    """Return the bytes of a file or of a part of it.

    Raises:
        ImageError: It is absent, no file, larger than `MAX_BYTES`, or shorter than it should be.
    """
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ImageError("not an image: a folder")
        if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
            raise ImageError("not an image: a pipe, socket or device")
        size = found.st_size if size is None else size
        if size > MAX_BYTES:
            raise ImageError(
                f"too large: a file of {size / 1e6:.0f} MB (limit {MAX_BYTES / 1e6:.0f} MB)"
            )
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except FileNotFoundError:
        raise ImageError("file not found") from None
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None
    except ValueError:  # a zero byte in the name
        raise ImageError("cannot be read: not a file name") from None
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
        with _strict():
            try:
                return _decode(data, max_pixels)
            except Warning:  # of broken metadata, which this process makes an error of
                with _quiet_lock, warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return _decode(data, max_pixels)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError(_stranger(data)) from None
    except Image.DecompressionBombError:
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


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    if (
        data.startswith(b"\xff\xd8")
        and len(data) > _FEW_BYTES
        and data.count(b"Exif\0\0") > _MAX_EXIF_BLOCKS
    ):
        raise ImageError(f"too large: more than {_MAX_EXIF_BLOCKS} EXIF blocks")
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(image, max_pixels)
        if "progressive" in image.info and data.count(b"\xff\xda") > _MAX_SCANS:
            raise ImageError(f"too large: more than {_MAX_SCANS} scans")
        # the only decoder here that is content with a part; the end of the code stream is marked
        if image.format == "JPEG2000" and b"\xff\xd9" not in data:  # ISO 15444-1 A.4.4
            raise ImageError("cannot be decoded: image file is truncated")
        # ISO 12639 PhotometricInterpretation; Pillow heeds it up to 8 bits only
        inverted = image.format == "TIFF" and _tag(image, 262) == 0
        large = image.width * image.height > _LARGE
        with _one_large if large else contextlib.nullcontext():
            image.load()
            return _plain(_upright(image), inverted=inverted)


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.format in _GREEDY:
        max_pixels //= 2
    sizes = [image.size]
    if image.format == "TIFF":  # decoded tile by tile: a tile can be larger than the image
        sizes.append((_tag(image, 322) or 0, _tag(image, 323) or 0))
    for width, height in sizes:
        if width * height > max_pixels:
            raise ImageError(f"too large: {width} x {height} pixels")


def _tag(image: Image.Image, number: int) -> int | None:
    value = image.tag_v2.get(number)  # type: ignore[attr-defined]
    return value if isinstance(value, int) else None


@contextlib.contextmanager
def _strict() -> Iterator[None]:
    """Make Pillow refuse truncated files, whatever the process told it.

    `ImageFile.LOAD_TRUNCATED_IMAGES` is one switch for all threads: the first of them here turns
    it off and the last one out restores it. Other threads of the process see it off meanwhile.
    """
    global _strict_users, _strict_before
    with _strict_lock:
        if not _strict_users:
            _strict_before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        _strict_users += 1
    try:
        yield
    finally:
        with _strict_lock:
            _strict_users -= 1
            if not _strict_users:
                ImageFile.LOAD_TRUNCATED_IMAGES = _strict_before


def _upright(image: Image.Image) -> Image.Image:
    """Apply the orientation of the metadata, if there is one that can be read."""
    told = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
    if not told and image.format != "TIFF":
        return image  # without a copy of the pixels, 0.2 ms
    try:
        return ImageOps.exif_transpose(image)
    except Warning:
        raise
    except Exception:  # the pixels are whole, and were never turned by other programs either
        return image


def _plain(image: Image.Image, *, inverted: bool) -> Image.Image:
    """Return mode L or RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _stretch(image, inverted=inverted)
    if image.mode in ("La", "RGBa"):  # already multiplied by the alpha: on black
        bands = image.split()[:-1]
        return bands[0] if len(bands) == 1 else Image.merge("RGB", bands)
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
        full = image if image.mode == f"{mode}A" else image.convert(f"{mode}A")
        black = Image.new(mode, full.size)
        black.paste(full, mask=full)  # value * alpha / 255, rounded
        return black
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "P":
        return reduce_grey(image.convert("RGB"))
    return image.convert("L" if image.mode == "1" else "RGB")


def _stretch(image: Image.Image, *, inverted: bool) -> Image.Image:
    """Map minimum..maximum to 0..255, by strips of a million pixels: 64 million take 0.4 GB."""
    width, height = image.size
    rows = max(1, 1_000_000 // width)
    edges = [(top, min(top + rows, height)) for top in range(0, height, rows)]
    low, high = np.inf, -np.inf
    for top, bottom in edges:
        values = np.asarray(image.crop((0, top, width, bottom)))
        least, most = float(values.min()), float(values.max())
        if not (np.isfinite(least) and np.isfinite(most)):  # NaN is the minimum where there is one
            raise ImageError("holds values that are not numbers")
        low, high = min(low, least), max(high, most)
    out = np.zeros((height, width), np.uint8)  # black, where there is nothing to stretch
    for top, bottom in edges if high > low else []:
        values = np.asarray(image.crop((0, top, width, bottom)), dtype=np.float64)
        scaled = np.round((values - low) * (255 / (high - low))).astype(np.uint8)
        out[top:bottom] = 255 - scaled if inverted else scaled
    return Image.fromarray(out)


def _stranger(data: bytes) -> str:
    """Say what was found instead of an image."""
    if data[128:132] == b"DICM":
        return "not an image: a DICOM file (medblip data prepare --format dicom)"
    if not data.strip(b"\0"):
        return "not an image: nothing but zero bytes"
    for magic, what in _OURS.items():
        if data.startswith(magic):
            return f"cannot be decoded: a {what} that is broken or of a rare kind"
    if data[4:8] == b"ftyp":  # ISO 14496-12
        return "not an image: HEIC, AVIF or a video"
    start = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what in _STRANGERS.items():
        if start.startswith(magic.lower()):
            return f"not an image: {what}"
    return "not an image: an unknown format"
