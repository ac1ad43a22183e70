"""Every kind of image file becomes grey or RGB by rule, or is refused with a reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.data import images
from medblip.data.images import decode_image, open_image, reduce_grey
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
    with pytest.raises(ImageError, match="too large"):
        open_image(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"not an image", "an unknown format"),
        (bytes(5000), "nothing but zero bytes"),
        (b"%PDF-1.7 ...", "a PDF"),
        (b"\r\n<!DOCTYPE html><html><body>404</body>", "a web page"),
        (b"\xef\xbb\xbf<HTML>", "a web page"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=f"^not an image: {reason}"):
        open_image(tmp_path / "a.jpg")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"^file not found$"):
        open_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"^not an image: a folder$"):
        open_image(tmp_path)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(ImageError, match=r"^cannot be read: "):
        open_image(tmp_path / "loop.png")
    path = saved(tmp_path, Image.new("L", (99, 99)), "d.bmp")
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    with pytest.raises(ImageError, match=r"^too large: a file of"):
        open_image(path)


@pytest.mark.parametrize(
    ("mode", "colour", "name", "expected"),
    [
        ("I;16", 7, "a.png", 0),  # one value everywhere: nothing to stretch
        ("I", 70000, "a.tif", 0),
        ("F", 0.5, "a.tif", 0),
        ("YCbCr", (90, 128, 128), "a.tif", (90, 90, 90)),
        ("RGBX", (1, 2, 3, 4), "a.tif", (1, 2, 3)),
        ("CMYK", (0, 0, 0, 0), "a.jpg", (255, 255, 255)),  # Adobe writes CMYK inverted
        ("LA", (90, 255), "a.tif", 90),
        ("RGBA", (10, 20, 30, 255), "a.webp", (10, 20, 30)),
    ],
)
def test_rarer_modes(
    tmp_path: Path, mode: str, colour: object, name: str, expected: int | tuple[int, ...]
) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    image = open_image(saved(tmp_path, Image.new(mode, (8, 6), colour), name, **options))  # type: ignore[arg-type]
    assert image.mode == ("L" if isinstance(expected, int) else "RGB")
    assert np.abs(np.subtract(image.getpixel((3, 3)), expected)).max() <= 1


def test_a_palette_with_a_transparent_colour_lies_on_black(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.putpixel((0, 0), 0)
    opened = open_image(saved(tmp_path, image, "a.png", transparency=0))
    assert opened.getpixel((0, 0)) == (0, 0, 0)
    assert opened.getpixel((1, 1)) == (200, 100, 50)
    grey = open_image(saved(tmp_path, Image.new("L", (4, 2), 77), "b.png", transparency=77))
    assert (grey.mode, grey.getpixel((1, 1))) == ("L", 0)


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_the_first_frame_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    assert np.abs(np.subtract(open_image(path).getpixel((4, 3)), (255, 0, 0))).max() <= 3


def test_broken_metadata_do_not_cost_the_image(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("L", (10, 4)), "a.jpg", exif=b"Exif\0\0" + b"\xff" * 40)
    assert open_image(path).size == (10, 4)


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1), (1, 1)])
def test_odd_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    assert open_image(saved(tmp_path, Image.new("L", size, 5), "a.png")).size == size


def test_grey_in_colour_becomes_grey(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 60), np.uint8))
    path = saved(tmp_path, noise.convert("RGB"), "a.jpg", quality=80)
    opened = open_image(path)
    grey = reduce_grey(opened)
    assert (opened.mode, grey.mode) == ("RGB", "L")
    assert np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(opened))
    coloured = opened.copy()
    coloured.putpixel((59, 49), (1, 1, 2))  # one pixel is enough
    assert reduce_grey(coloured) is coloured
    assert reduce_grey(grey) is grey


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Yield files of every format with flipped, cut, doubled and invented bytes."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 255, (40, 30, 3), np.uint8)
    wholes = []
    for suffix in ("jpg", "png", "tiff", "bmp", "gif", "webp", "jp2", "ppm"):
        for image in (Image.fromarray(pixels), Image.fromarray(pixels[..., 0])):
            buffer = io.BytesIO()
            exif = {"exif": Image.Exif()} if suffix in ("jpg", "png", "webp") else {}
            kind = {"jpg": "JPEG", "jp2": "JPEG2000"}.get(suffix, suffix.upper())
            image.save(buffer, kind, **exif)
            wholes.append(buffer.getvalue())
    for index in range(count):
        data = bytearray(wholes[index % len(wholes)])
        for _ in range(int(rng.integers(1, 12))):
            place = int(rng.integers(0, len(data)) if rng.random() < 0.5 else rng.integers(0, 60))
            place = min(place, len(data) - 1)
            how = rng.integers(0, 4)
            if how == 0:
                data[place] = int(rng.integers(0, 256))
            elif how == 1:
                data[place : place + 4] = bytes(rng.choice([0, 255, 127], 4).tolist())
            elif how == 2 and len(data) > 60:
                del data[place : place + int(rng.integers(1, 40))]
            else:
                data[place:place] = data[: int(rng.integers(1, 30))]
        yield bytes(data)


@pytest.mark.parametrize("count", [600, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_file_raises_anything_else(count: int) -> None:
    """Every decoder sees broken files; an image comes out, or an `ImageError` with a known kind."""
    kinds = set()
    decoded = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken TIFF tags
        for data in mutated(count, seed=count):
            try:
                image = decode_image(data)
            except ImageError as error:
                kinds.add(str(error).split(":")[0])
            else:
                decoded += 1
                assert image.mode in ("L", "RGB")
                assert image.width * image.height <= images.MAX_PIXELS
    assert kinds <= {
        "not an image", "too large", "cannot be decoded", "holds values that are not numbers",
    }  # fmt: skip
    assert count * 0.05 < decoded < count * 0.9
