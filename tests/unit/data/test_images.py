"""Every kind of image file becomes grey or RGB by rule, or is refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.data.images import open_image
from medblip.errors import ImageError


def saved(tmp_path: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    image.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("L", 100, "a.png", 100),
        ("RGB", (10, 20, 30), "a.png", (10, 20, 30)),
        ("1", 1, "a.png", 255),
        ("LA", (200, 128), "a.png", 100),  # half transparent on black
        ("RGBA", (200, 100, 50, 0), "a.png", (0, 0, 0)),
        ("CMYK", (0, 0, 0, 255), "a.tif", (0, 0, 0)),
        ("P", 0, "a.gif", (0, 0, 0)),
    ],
)
def test_modes(
    tmp_path: Path, mode: str, colour: object, name: str, expected: int | tuple[int, ...]
) -> None:
    image = open_image(saved(tmp_path, Image.new(mode, (8, 6), colour), name))  # type: ignore[arg-type]
    assert image.mode == ("L" if isinstance(expected, int) else "RGB")
    assert image.size == (8, 6)
    got = image.getpixel((3, 3))
    assert np.abs(np.subtract(got, expected)).max() <= 1


def test_sixteen_bits_are_stretched(tmp_path: Path) -> None:
    values = np.array([[1000, 1500], [2000, 3000]], np.uint16)
    image = open_image(saved(tmp_path, Image.fromarray(values), "a.png"))
    assert image.mode == "L"
    assert np.asarray(image).tolist() == [[0, 64], [128, 255]]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to show
    path = saved(tmp_path, Image.new("L", (10, 4)), "a.jpg", exif=exif)
    assert open_image(path).size == (4, 10)


def test_values_that_are_not_numbers(tmp_path: Path) -> None:
    values = np.array([[0.0, np.nan]], np.float32)
    with pytest.raises(ImageError, match="not numbers"):
        open_image(saved(tmp_path, Image.fromarray(values), "a.tif"))


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    """`verify()` passes such a JPEG; only a full decode finds it."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    for name in ("a.jpg", "a.png"):
        path = saved(tmp_path, Image.fromarray(noise), name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ImageError, match="cannot be decoded"):
            open_image(path)


@pytest.mark.parametrize("side", [9000, 14000, 60000])
def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    """81, 196 and 3,600 million pixels in a few hundred bytes: only the header is written."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    buffer = io.BytesIO(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"x"))
    path = tmp_path / "bomb.png"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ImageError, match="too many"):
        open_image(path)


def test_other_files_and_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    (tmp_path / "b.png").write_bytes(b"")
    for name, reason in (("a.png", "not an image"), ("b.png", "not an image"), ("c", "not found")):
        with pytest.raises(ImageError, match=reason):
            open_image(tmp_path / name)
    with pytest.raises(ImageError, match="limit"):
        open_image(saved(tmp_path, Image.new("L", (99, 99)), "d.bmp"), max_bytes=1000)
