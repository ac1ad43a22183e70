"""Every reason has a file that is refused for it, and no message holds a word of the file."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medblip.data.dicom.parent import render
from medblip.data.dicom.reasons import Reason, message
from medblip.errors import DicomError

Make = Callable[..., Path]
GREY16 = np.arange(16, dtype=np.uint16).reshape(4, 4)
COLOUR = np.zeros((2, 2, 3), np.uint8)
ITEM = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\4\0\0\0\xff\xd8\xff\xd9\xfe\xff\xdd\xe0\0\0\0\0"
JPEG, SOF = (
    "1.2.840.10008.1.2.4.50",
    bytes.fromhex("ffd8ffc0000b0800630063010111 00ffd9".replace(" ", "")),
)
SIZED = b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x12\0\0\0" + SOF.ljust(18, b"\0") + ITEM[-8:]
SECRET = "Zyxwv"
STORAGE = "1.2.840.10008.5.1.4.1.1"

#: Reason -> how `make` is called, and the detail.
FILES: dict[Reason, list[tuple[dict[str, Any], str]]] = {
    Reason.NO_PIXELS: [
        ({"PixelData": None, "SOPClassUID": f"{STORAGE}.88.11"}, "Basic Text SR Storage"),
        ({"PixelData": None, "SOPClassUID": f"1.2.{SECRET}"}, ""),
    ],
    Reason.KIND: [
        ({"SOPClassUID": f"{STORAGE}.481.2"}, "RT Dose Storage"),
        ({"SOPClassUID": f"{STORAGE}.66.7"}, "Label Map Segmentation Storage"),
    ],
    Reason.RAW_DETECTOR: [({"PresentationIntentType": "FOR PROCESSING"}, "")],
    Reason.TILES: [({"DimensionOrganizationType": "TILED_FULL"}, "")],
    Reason.INCOMPLETE: [
        ({"Rows": None}, "Rows"),
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"BitsStored": 17}, "BitsStored"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
        ({"NumberOfFrames": SECRET}, "NumberOfFrames"),
        ({"Rows": 0}, ""),
        ({"pixels": COLOUR, "PlanarConfiguration": 7}, "PlanarConfiguration"),
    ],
    Reason.TOO_MANY: [({"Rows": 65535, "Columns": 65535}, "")],
    Reason.SYNTAX: [
        ({"syntax": "1.2.840.10008.1.2.4.201", "data": ITEM},
         "High-Throughput JPEG 2000 Image Compression (Lossless Only)"),
        ({"syntax": "1.2.840.10008.1.2.4.102", "data": ITEM},
         "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ({"syntax": "1.2.3.4.5.6", "data": ITEM}, "an unknown one"),
    ],
    Reason.NO_SYNTAX: [({"syntax": None, "data": ITEM}, "")],
    Reason.PHOTOMETRIC: [
        ({"pixels": COLOUR, "PhotometricInterpretation": "YBR_PARTIAL_420"}, "YBR_PARTIAL_420"),
        ({"PhotometricInterpretation": SECRET}, "an unknown one"),
    ],
    Reason.SAMPLES: [
        ({"pixels": COLOUR, "PhotometricInterpretation": "MONOCHROME2"}, "not 1 for MONOCHROME2"),
        ({"SamplesPerPixel": 4, "PhotometricInterpretation": "RGB"}, "not 3 for RGB"),
    ],
    Reason.BITS: [
        ({"BitsAllocated": 1}, "1"),
        ({"BitsAllocated": 32}, "32"),
        ({"BitsAllocated": 4711}, "an unusual number"),
    ],
    Reason.SIGNED_COLOUR: [({"pixels": COLOUR.astype(np.int8)}, "")],
    Reason.FLOAT: [({"FloatPixelData": b"\0\0\0\0", "PixelData": None}, "")],
    Reason.HIGH_BIT: [({"pixels": GREY16, "BitsStored": 12, "HighBit": 15}, "")],
    Reason.SHORT: [
        ({"Rows": 5}, ""),
        ({"NumberOfFrames": 2}, ""),
    ],
    Reason.MISMATCH: [({"syntax": JPEG, "data": SIZED}, "")],
    Reason.UNDECODABLE: [({"syntax": JPEG, "data": ITEM}, "")],
    Reason.MODALITY: [({"RescaleSlope": SECRET, "RescaleIntercept": "0"}, "")],
    Reason.WINDOW: [
        ({"WindowCenter": SECRET, "WindowWidth": "10"}, ""),
        ({"WindowCenter": 10, "WindowWidth": 0}, ""),
        ({"WindowCenter": 10, "WindowWidth": 9, "VOILUTFunction": SECRET}, ""),
    ],
    Reason.NOT_NUMBERS: [
        ({"RescaleSlope": "nan", "RescaleIntercept": "0"}, ""),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"}, ""),
        ({"WindowCenter": "nan", "WindowWidth": "10"}, ""),
    ],
    Reason.PALETTE: [({"PhotometricInterpretation": "PALETTE COLOR"}, "")],
    Reason.SUPPLEMENTAL: [({"PixelPresentation": "MIXED"}, "")],
    Reason.PRESENTATION: [({"PresentationLUTShape": SECRET}, "")],
    Reason.POLARITY: [({"PresentationLUTShape": "INVERSE"}, "")],
}  # fmt: skip


def refusal(path: Path) -> str:
    with pytest.raises(DicomError) as caught:
        render(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("reason", "how", "detail"),
    [(reason, how, detail) for reason, cases in FILES.items() for how, detail in cases],
)
def test_refused_by_name(make: Make, reason: Reason, how: dict[str, Any], detail: str) -> None:
    assert refusal(make(**how)) == message(reason, detail)


def test_files_that_are_no_images(tmp_path: Path, make: Make, test_files: Path) -> None:
    whole = make().read_bytes()
    for data, reason in {
        b"": Reason.NOT_DICOM,
        b"\xff\xd8\xff\xe0 a JPEG" * 40: Reason.NOT_DICOM,
        b"Name,Age\nA,1\n" * 100: Reason.NOT_DICOM,
        gzip.compress(whole): Reason.NOT_DICOM,
        bytes(128) + b"DICM": Reason.HEADER,
        bytes(128) + b"DICM" + b"\xff" * 500: Reason.HEADER,
    }.items():
        path = tmp_path / "y.dcm"
        path.write_bytes(data)
        assert refusal(path) == reason.value
    assert refusal(test_files / "dicomdirtests" / "DICOMDIR") == Reason.DIRECTORY.value


def test_every_reason_is_tested_somewhere() -> None:
    elsewhere = {
        # test_parent.py, and above
        *(Reason.ABSENT, Reason.NOT_A_FILE, Reason.UNREADABLE, Reason.TOO_LARGE, Reason.NOT_DICOM),
        *(Reason.DIRECTORY, Reason.HEADER, Reason.TIME, Reason.MEMORY, Reason.CRASH),
        Reason.NO_DECODER,  # below
    }
    assert set(FILES) | elsewhere == set(Reason)
    assert not set(FILES) & elsewhere


def test_a_decoder_that_is_not_installed_is_named(
    test_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medblip.data.dicom.parent import close_children

    (tmp_path / "gdcm.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    close_children()
    for name, syntax in {
        "SC_rgb_jpeg_gdcm.dcm": "JPEG Lossless, Non-Hierarchical, First-Order Prediction "
        "(Process 14 [Selection Value 1])",
        "JPGExtended.dcm": "JPEG Extended (Process 2 and 4)",
    }.items():
        assert refusal(test_files / name) == message(Reason.NO_DECODER, syntax)
    assert render(test_files / "MR_small_RLE.dcm").size == (64, 64)
    close_children()


def test_a_detail_that_is_no_word_of_the_standard_is_not_shown() -> None:
    assert message(Reason.KIND, "Müller^Hans") == "not a picture to be shown"
    assert message(Reason.KIND, "x" * 101) == "not a picture to be shown"
