"""Every kind of image file becomes grey or RGB by rule, or is refused with a reason."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from medblip.data import images
from medblip.data.images import decode_image, open_image, read_bytes, reduce_grey
from medblip.errors import ImageError

NOISE = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
COLOUR, GREY = Image.fromarray(NOISE), Image.fromarray(NOISE[..., 0])


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def png(header: tuple[int, ...], rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """Return a PNG: (width, height, bits, colour type), filtered rows, further chunks."""
    packed = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    chunks = [(b"IHDR", packed), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """Return a little-endian TIFF: tags in four numbers each, then data at byte 300."""
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    return head.ljust(300, b"\0") + data


def grey_tiff(bits: int, white_is_zero: bool, values: bytes, width: int) -> bytes:
    sample = 3 if bits == 32 else 1  # 3: floating point
    return tiff(
        [(256, 4, 1, width), (257, 4, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1),
         (262, 3, 1, 0 if white_is_zero else 1), (273, 4, 1, 300), (278, 4, 1, 1),
         (279, 4, 1, len(values)), (339, 3, 1, sample)],
        values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "colour", "form", "expected"),
    [
        ("1", 1, "PNG", 255),
        ("L", 100, "PNG", 100),
        ("LA", (200, 128), "PNG", 100),  # 200 x 128 / 255 on black
        ("LA", (90, 255), "TIFF", 90),
        ("RGB", (10, 20, 30), "PNG", (10, 20, 30)),
        ("RGB", (10, 20, 30), "PPM", (10, 20, 30)),
        ("RGB", (10, 20, 30), "BMP", (10, 20, 30)),
        ("RGB", (10, 20, 30), "JPEG2000", (10, 20, 30)),
        ("RGBX", (1, 2, 3, 4), "TIFF", (1, 2, 3)),
        ("RGBA", (200, 100, 50, 0), "PNG", (0, 0, 0)),
        ("RGBA", (200, 100, 50, 128), "PNG", (100, 50, 25)),
        ("RGBA", (10, 20, 30, 255), "WEBP", (10, 20, 30)),
        ("CMYK", (0, 0, 0, 255), "TIFF", (0, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0)),
        ("CMYK", (0, 0, 0, 0), "JPEG", (255, 255, 255)),  # Adobe writes CMYK inverted
        ("YCbCr", (90, 128, 128), "TIFF", (90, 90, 90)),
        ("LAB", (255, 128, 128), "TIFF", (254, 255, 254)),  # white
        ("I;16", 7, "PNG", 0),  # one value everywhere: nothing to stretch
        ("I", 70000, "TIFF", 0),
        ("F", 0.5, "TIFF", 0),
    ],
)
def test_modes(mode: str, colour: object, form: str, expected: int | tuple[int, ...]) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.get(form, {})
    source = Image.new(mode, (8, 6), colour)  # type: ignore[arg-type]
    image = decode_image(encoded(source, form, **options))
    assert image.mode == ("L" if isinstance(expected, int) else "RGB")
    assert image.size == (8, 6)
    assert image.getpixel((3, 3)) == expected


def test_transparency_is_rounded_the_same_for_every_value() -> None:
    value, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    pixels = np.stack([value, value, value, alpha], axis=-1)
    expected = np.rint(value.astype(np.float64) * alpha / 255)
    for bands in (pixels, pixels[..., 2:]):
        got = np.asarray(decode_image(encoded(Image.fromarray(bands), "PNG")))
        assert np.array_equal(got if got.ndim == 2 else got[..., 1], expected)


def test_grey_that_is_multiplied_by_its_alpha_already() -> None:
    tags = [(256, 4, 1, 1), (257, 4, 1, 1), (258, 3, 2, 8 << 16 | 8), (259, 3, 1, 1),
            (262, 3, 1, 1), (273, 4, 1, 300), (277, 3, 1, 2), (278, 4, 1, 1), (279, 4, 1, 2),
            (338, 3, 1, 1)]  # fmt: skip
    image = decode_image(tiff(tags, bytes([80, 128])))
    assert (image.mode, image.getpixel((0, 0))) == ("L", 80)


def test_palettes() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 77, 77, 77])
    for form in ("PNG", "GIF", "BMP", "TIFF"):
        grey = decode_image(encoded(image, form))
        assert (grey.mode, grey.getpixel((1, 1))) == ("L", 77)
    image.putpalette([9, 9, 9, 200, 100, 50])
    colour = decode_image(encoded(image, "GIF"))
    assert (colour.mode, colour.getpixel((1, 1))) == ("RGB", (200, 100, 50))
    half = image.convert("PA")
    half.putalpha(128)
    assert decode_image(encoded(half, "TIFF")).getpixel((1, 1)) == (100, 50, 25)


def test_a_transparent_colour_lies_on_black() -> None:
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.putpixel((0, 0), 0)
    opened = decode_image(encoded(image, "PNG", transparency=0))
    assert (opened.getpixel((0, 0)), opened.getpixel((1, 1))) == ((0, 0, 0), (200, 100, 50))
    for mode in ("L", "1"):
        told = {"transparency": 255}
        grey = decode_image(encoded(Image.new(mode, (4, 2), 255), "PNG", **told))
        assert (grey.mode, grey.getpixel((1, 1))) == ("L", 0)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bits_are_stretched(dtype: str) -> None:
    values = np.array([[1000, 1500], [2000, 3000]], np.uint16)
    expected = [[0, 64], [128, 255]]
    for form in ("PNG", "TIFF"):
        image = decode_image(encoded(Image.fromarray(values.astype(dtype)), form))
        assert (image.mode, np.asarray(image).tolist()) == ("L", expected)
    pgm = decode_image(b"P5 2 2 65535\n" + values.astype(">u2").tobytes())
    assert np.asarray(pgm).tolist() == expected


def test_the_stretch_is_the_same_in_strips_as_in_one_piece() -> None:
    rng = np.random.default_rng(3)
    for values in (
        rng.integers(0, 4096, (1100, 1000)).astype(np.uint16),  # 12 bits in 16
        rng.normal(size=(3, 700_000)).astype(np.float32),
        rng.integers(-5, 9, (1_200_000, 1)).astype(np.int32),
    ):
        exact = values.astype(np.float64)
        low, high = exact.min(), exact.max()
        image = decode_image(encoded(Image.fromarray(values), "TIFF"))
        assert np.array_equal(np.asarray(image), np.round((exact - low) * (255 / (high - low))))


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_white_is_zero_at_every_depth(bits: int) -> None:
    kind = {8: "<u1", 16: "<u2", 32: "<f4"}[bits]
    values = np.array([0, 51, 255], kind).tobytes()
    assert list(decode_image(grey_tiff(bits, False, values, 3)).tobytes()) == [0, 51, 255]
    assert list(decode_image(grey_tiff(bits, True, values, 3)).tobytes()) == [255, 204, 0]


def test_sixteen_bits_per_colour_become_the_high_byte() -> None:
    row = b"\0" + struct.pack(">6H", 0x1234, 0xFFFF, 0x00FF, 0, 0x8000, 0x7FFF)
    assert decode_image(png((2, 1, 16, 2), row)).tobytes() == bytes([0x12, 255, 0, 0, 128, 127])
    row = b"\0" + struct.pack(">2H", 0x1234, 0xFFFF)  # grey and alpha
    assert decode_image(png((1, 1, 16, 4), row)).getpixel((0, 0)) == (0x12,) * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_numbers(value: float) -> None:
    for place in ((0, 0), (7, 3)):
        values = np.ones((9, 5), np.float32)
        values[place] = value
        with pytest.raises(ImageError, match=r"^holds values that are not numbers$"):
            decode_image(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("name", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_the_first_frame_is_taken(name: str) -> None:
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], name, save_all=True, append_images=frames[1:])
    assert np.abs(np.subtract(decode_image(data).getpixel((4, 3)), (255, 0, 0))).max() <= 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(form: str, turn: int) -> None:
    """The value says which corner of the scene the first pixel is (TIFF 6.0, Orientation)."""
    scene = np.zeros((16, 32), np.uint8)
    scene[:8, :16] = 255  # the upper left quarter is bright
    stored = [scene, scene[:, ::-1], scene[::-1, ::-1], scene[::-1], scene.T, scene.T[::-1],
              scene.T[::-1, ::-1], scene.T[:, ::-1]][turn - 1]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = Image.fromarray(np.ascontiguousarray(stored))
    image = decode_image(encoded(picture.convert("RGB"), form, exif=exif))
    assert image.size == (32, 16)
    assert np.abs(np.asarray(image)[..., 0].astype(int) - scene).max() < 60


def test_xmp_orientation_is_applied_and_broken_metadata_do_not_cost_the_image() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode_image(encoded(Image.new("L", (10, 4)), "JPEG", xmp=xmp)).size == (4, 10)
    broken = b"Exif\0\0" + b"\xff" * 40
    assert decode_image(encoded(Image.new("L", (10, 4)), "JPEG", exif=broken)).size == (10, 4)


def test_colour_profiles_are_ignored() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain, told = (encoded(COLOUR, "PNG", icc_profile=p) for p in (None, profile))
    assert len(told) > len(plain)
    assert decode_image(told).tobytes() == decode_image(plain).tobytes() == NOISE.tobytes()


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1), (1, 1)])
def test_odd_shapes(size: tuple[int, int]) -> None:
    assert decode_image(encoded(Image.new("L", size, 5), "PNG")).size == size


def test_grey_in_colour_becomes_grey() -> None:
    opened = decode_image(encoded(GREY.convert("RGB"), "JPEG", quality=80))
    grey = reduce_grey(opened)
    assert (opened.mode, grey.mode) == ("RGB", "L")
    assert np.array_equal(np.asarray(grey.convert("RGB")), np.asarray(opened))
    coloured = opened.copy()
    coloured.putpixel((29, 39), (1, 1, 2))  # one pixel is enough
    assert reduce_grey(coloured) is coloured
    assert reduce_grey(grey) is grey


WHOLE: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(GREY, "JPEG"),
    "progressive jpeg": lambda: encoded(COLOUR, "JPEG", progressive=True),
    "cmyk jpeg": lambda: encoded(COLOUR.convert("CMYK"), "JPEG"),
    "mpo": lambda: encoded(COLOUR, "MPO", save_all=True, append_images=[COLOUR]),
    "jpeg with exif": lambda: encoded(GREY, "JPEG", exif=_exif(), icc_profile=b"icc" * 99),
    "png": lambda: encoded(COLOUR, "PNG", exif=_exif()),
    "grey png": lambda: encoded(GREY.convert("LA"), "PNG"),
    "palette png": lambda: encoded(GREY.convert("P"), "PNG", transparency=3),
    "16-bit png": lambda: encoded(Image.fromarray(NOISE[..., 0] * np.uint16(257)), "PNG"),
    "apng": lambda: encoded(COLOUR, "PNG", save_all=True, append_images=[COLOUR.rotate(180)]),
    "tiff": lambda: encoded(COLOUR, "TIFF"),
    "float tiff": lambda: encoded(GREY.convert("F"), "TIFF"),
    "lzw tiff": lambda: encoded(COLOUR, "TIFF", compression="tiff_lzw"),
    "deflated tiff": lambda: encoded(GREY.convert("I"), "TIFF", compression="tiff_deflate"),
    "jpeg in tiff": lambda: encoded(COLOUR, "TIFF", compression="jpeg"),
    "fax tiff": lambda: encoded(GREY.convert("1"), "TIFF", compression="group4"),
    "bmp": lambda: encoded(COLOUR, "BMP"),
    "grey bmp": lambda: encoded(GREY, "BMP"),
    "gif": lambda: encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(180)]),
    "webp": lambda: encoded(COLOUR, "WEBP", exif=_exif()),
    "lossless webp": lambda: encoded(
        COLOUR.convert("RGBA"), "WEBP", lossless=True, save_all=True, append_images=[COLOUR]
    ),
    "jp2": lambda: encoded(COLOUR, "JPEG2000"),
    "tiled j2k": lambda: encoded(COLOUR, "JPEG2000", no_jp2=True, tile_size=(16, 16)),
    "ppm": lambda: encoded(COLOUR, "PPM"),
    "pfm": lambda: encoded(GREY.convert("F"), "PPM"),
}


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 3
    exif[0x010E] = "a description of some length"
    return exif


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_was_cut_is_refused(name: str) -> None:
    """At every length that lacks pixels; `verify()` passes most of these."""
    data = WHOLE[name]()
    assert decode_image(data).size == (30, 40)
    kept = len(data) // 2 if name in ("mpo", "apng", "gif", "lossless webp") else len(data) - 24
    for length in range(1, kept - kept % 7, 7):
        with pytest.raises(ImageError, match=r"^(cannot be decoded|not an image|too large): "):
            decode_image(data[:length])


def test_what_cannot_be_seen_is_known() -> None:
    """A JPEG whose middle is lost but whose end marker is there decodes; this is in the docs."""
    data = WHOLE["jpeg"]()
    assert decode_image(data[: len(data) // 2] + b"\xff\xd9").size == (30, 40)


def test_the_switch_for_truncated_images_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    whole = WHOLE["jpeg"]()
    cut = whole[: len(whole) // 2]
    Image.open(io.BytesIO(cut)).load()  # so Pillow would take it

    def refused(_: int) -> bool:
        decode_image(whole)
        with pytest.raises(ImageError, match="truncated"):
            decode_image(cut)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(refused, range(200)))
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("action", ["error", "ignore"])
def test_warning_filters_do_not_matter(action: str) -> None:
    """Orientation 6 stands before a tag that Pillow warns of."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x010E, 2, 99, 9**9)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + entries + bytes(4)
    data = encoded(Image.new("L", (10, 4)), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter(action)  # type: ignore[arg-type]
        with ThreadPoolExecutor(4) as pool:
            assert {i.size for i in pool.map(decode_image, [data] * 40)} == {(4, 10)}
        assert warnings.filters[0][0] == action
        bomb = png((9000, 9000, 8, 0), b"")  # 81 million: Pillow itself has nothing against it
        with pytest.raises(ImageError, match=r"^too large: 9000 x 9000 pixels$"):
            decode_image(bomb)


def flooded(blocks: int) -> bytes:
    data = WHOLE["jpeg"]()
    block = b"\xff\xe1" + struct.pack(">H", 2 + 6 + 3000) + b"Exif\0\0" + bytes(3000)
    return data[:2] + block * blocks + data[2:]


def scanned(times: int) -> bytes:
    data = WHOLE["progressive jpeg"]()
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * times + data[-2:]


LYING = {
    "9000 x 9000 PNG": lambda: png((9000, 9000, 8, 0), b""),
    "14000 x 14000 PNG": lambda: png((14000, 14000, 8, 0), b""),
    "60000 x 60000 PNG": lambda: png((60000, 60000, 8, 0), b""),
    "GIF": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",;" * 20,
    "GIF with a frame beyond its screen": lambda: (
        b"GIF89a" + struct.pack("<HHBBB", 5, 5, 0x80, 0, 0) + bytes(6)
        + b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x44\x01\x00;"
    ),
    "WebP": lambda: encoded(Image.new("RGB", (16000, 2001)), "WEBP", lossless=True, method=0),
    "BMP": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 99, 0, 0, 54, 40, 30000, -30000, 1, 24,
                                       0, 0, 0, 0, 0, 0) + bytes(99),
    "PPM": lambda: b"P5 80000 80000 255\n" + bytes(99),
    "tile of a TIFF": lambda: tiff(
        [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1),
         (322, 4, 1, 40000), (323, 4, 1, 40000), (324, 4, 1, 300), (325, 4, 1, 99)], bytes(99)),
    "EXIF blocks of a JPEG": lambda: flooded(101),
    "scans of a JPEG": lambda: scanned(300),
}  # fmt: skip


@pytest.mark.parametrize("name", LYING)
def test_bombs_are_refused_before_they_are_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 6,400 million pixels in a few hundred bytes."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("was decoded"))
    with pytest.raises(ImageError, match=r"^too large: "):
        decode_image(LYING[name]())


def test_long_metadata_of_a_png_are_refused() -> None:
    """A text that grows from 10 kB to 10 MB; Pillow's limit, in our words."""
    packed = zlib.compress(bytes(10_000_000), 9)
    for kind, start in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        data = png((9, 9, 8, 0), bytes(90), (kind, start + packed))
        with pytest.raises(ImageError, match=r"^cannot be decoded: Decompressed data too large"):
            decode_image(data)


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that eight threads need the memory of one."""
    monkeypatch.setattr(images, "_LARGE", 100)
    at_once: list[int] = []
    inside = 0
    plain = images._plain

    def watched(image: Image.Image, *, inverted: bool) -> Image.Image:
        nonlocal inside
        inside += 1
        at_once.append(inside)
        time.sleep(0.002)
        inside -= 1
        return plain(image, inverted=inverted)

    monkeypatch.setattr(images, "_plain", watched)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode_image, [WHOLE["png"]()] * 24))
    assert at_once == [1] * 24


def test_fewer_blocks_and_scans_are_read() -> None:
    assert decode_image(flooded(90)).size == decode_image(scanned(20)).size == (30, 40)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not an image: an empty file"),
        (b"Too many requests", "not an image: an unknown format"),
        (bytes(5000), "not an image: nothing but zero bytes"),
        (b"%PDF-1.7 ...", "not an image: a PDF"),
        (b"\r\n<!DOCTYPE html><html><body>404</body>", "not an image: a web page"),
        (b"\xef\xbb\xbf<HTML>", "not an image: a web page"),
        (b'{"error": 403}', "not an image: JSON"),
        (bytes(128) + b"DICM" + bytes(40), "not an image: a DICOM file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an image: a Git LFS pointer"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image: PostScript"),
        (b"\0\0\0\x1cftypheic\0\0\0\0", "not an image: HEIC, AVIF or a video"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "cannot be decoded: "),
        (grey_tiff(64, False, bytes(8), 1), "cannot be decoded: a TIFF that is broken"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ImageError, match=f"^{reason}"):
        open_image(tmp_path / "a.jpg")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "d.bmp").write_bytes(WHOLE["bmp"]())
    os.mkfifo(tmp_path / "pipe.png")
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    for name, reason in (
        ("gone.png", "file not found"),
        ("", "not an image: a folder"),
        ("pipe.png", "not an image: a pipe, socket or device"),
        ("loop.png", "cannot be read: Too many levels of symbolic links"),
        ("a" * 300, "cannot be read: File name too long"),
        ("a\0b.png", "cannot be read: not a file name"),
        ("d.bmp/e.png", "cannot be read: Not a directory"),
        ("d.bmp", "too large: a file of 0 MB (limit 0 MB)"),
    ):
        with pytest.raises(ImageError) as caught:
            open_image(tmp_path / name)
        assert str(caught.value) == reason

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(images, "MAX_BYTES", 10_000)
    with pytest.raises(ImageError, match=r"^cannot be read: Permission denied$"):
        read_bytes(tmp_path / "d.bmp")


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Yield files of every format with flipped, cut, doubled and invented bytes."""
    rng = np.random.default_rng(seed)
    wholes = [make() for make in WHOLE.values()]
    for index in range(count):
        data = bytearray(wholes[index % len(wholes)])
        for _ in range(int(rng.integers(1, 12))):
            place = int(rng.integers(0, len(data)) if rng.random() < 0.5 else rng.integers(0, 200))
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


@pytest.mark.parametrize("count", [750, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_file_raises_anything_else(count: int) -> None:
    """Every decoder sees broken files; an image comes out, or an `ImageError` with a known kind."""
    kinds = set()
    decoded = 0
    slowest = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of broken TIFF tags
        for data in mutated(count, seed=count):
            begun = time.process_time()
            try:
                image = decode_image(data)
            except ImageError as error:
                kinds.add(str(error).split(":")[0])
            else:
                decoded += 1
                assert image.mode in ("L", "RGB")
                assert image.width * image.height <= images.MAX_PIXELS
            slowest = max(slowest, time.process_time() - begun)
    assert kinds <= {
        "not an image", "too large", "cannot be decoded", "holds values that are not numbers",
    }  # fmt: skip
    assert count * 0.05 < decoded < count * 0.9
    assert slowest < 5


MEASURE = """
import sys
from pathlib import Path
from medblip.data.images import decode_image
def peak():  # of this process only; getrusage begins with the parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1000 for line in lines if line.startswith("VmHWM"))
data = Path(sys.argv[1]).read_bytes()
before = peak()
decode_image(data)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "form", "limit_mb"),
    [
        ("L", "PNG", 100), ("RGB", "PNG", 300), ("RGBA", "PNG", 600), ("LA", "PNG", 500),
        ("I;16", "PNG", 200), ("F", "TIFF", 600), ("I", "TIFF", 600), ("CMYK", "JPEG", 600),
        ("RGBA", "TIFF", 900), ("RGB", "JPEG2000", 900), ("RGBA", "JPEG2000", 900),
        ("RGBA", "WEBP", 900),
    ],
)  # fmt: skip
def test_memory_at_the_limit_of_pixels(tmp_path: Path, mode: str, form: str, limit_mb: int) -> None:
    """64 million pixels: 0.26 GB as Pillow holds colour, and what the decoder needs beside."""
    options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "WEBP": {"lossless": True}}
    path = tmp_path / "large"
    height = 4000 if form in ("JPEG2000", "WEBP") else 8000
    path.write_bytes(encoded(Image.new(mode, (8000, height)), form, **options.get(form, {})))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True
    )
    print(f"{mode} {form}: {int(done.stdout)} MB")
    assert int(done.stdout) < limit_mb
