"""Rendered DICOM files against pydicom's own pipeline, and decoders against each other.

The picture has 8 bits, the reference is a float: they may differ by rounding to 1/255 and by 1e-6.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
gdcm = pytest.importorskip("gdcm")
data_store = pytest.importorskip("data_store")

from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.pixels import get_decoder, pixel_array  # noqa: E402
from pydicom.pixels.processing import (  # noqa: E402
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    convert_color_space,
)

from medblip.data.dicom.frame import decode_frame, middle_frame  # noqa: E402
from medblip.data.dicom.parent import close_children, render  # noqa: E402
from medblip.data.dicom.parse import parse, read_layout  # noqa: E402
from medblip.data.dicom.reasons import Refused  # noqa: E402
from medblip.errors import DicomError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom speaks of what is odd in its files
ROOTS = [Path(package.__file__).parent / "data" for package in (pydicom, data_store)]
FILES = sorted(
    path
    for root in ROOTS
    for path in root.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc", ".json")
)
STORE = ROOTS[1]


@pytest.fixture(scope="module", autouse=True)
def _end_children() -> Iterator[None]:
    yield
    close_children()


def reference(ds: Dataset) -> Any:
    """Return what pydicom's functions make of the middle frame, each value in 0..1."""
    index = middle_frame(int(ds.get("NumberOfFrames") or 1))
    values = pixel_array(ds, index=index, raw=True)
    photometric = ds.PhotometricInterpretation
    if photometric == "PALETTE COLOR":
        colours = apply_color_lut(values, ds)[..., :3]
        if ds.original_encoding == (False, False) and "RedPaletteColorLookupTableData" in ds:
            colours = colours.byteswap()  # which pydicom forgets
        return (colours >> 8) / 255
    if ds.SamplesPerPixel == 3:
        values = pixel_array(ds, index=index)  # as RGB
        return values / (2.0**ds.BitsStored - 1)
    real = apply_modality_lut(values, ds)
    shown = apply_voi_lut(real, ds)
    if "VOILUTSequence" in ds:
        out = shown / (2.0 ** ds.VOILUTSequence[0].LUTDescriptor[2] - 1)
    elif "WindowWidth" in ds:
        out = (shown - ends(ds)[0]) / (ends(ds)[1] - ends(ds)[0])
    elif ds.BitsStored == 8 and real.dtype == np.uint8:
        out = real / 255
    else:
        real = real.astype(float)
        kept = real[values != ds.get("PixelPaddingValue", object())]
        out = np.clip((real - kept.min()) / np.ptp(kept), 0, 1)
    out = 1 - out if photometric == "MONOCHROME1" else out
    return np.where(values == ds.get("PixelPaddingValue", object()), 0, out)


def ends(ds: Dataset) -> tuple[float, float]:
    """Return what pydicom's window makes of the lowest and highest stored value."""
    low = -(2 ** (ds.BitsStored - 1)) if ds.PixelRepresentation else 0
    slope, intercept = ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)
    first, last = (float(v) * slope + intercept for v in (low, low + 2**ds.BitsStored - 1))
    return first, last


def assert_same(picture: Any, expected: Any) -> None:
    found = np.asarray(picture).astype(float) / 255
    assert found.shape == expected.shape
    worst = np.abs(found - expected).max()
    assert worst <= 0.5 / 255 + 1e-6, f"differ by {worst:.6f} somewhere"


def test_every_file_that_is_rendered_is_what_pydicom_makes_of_it() -> None:
    count = 0
    for path in FILES:
        try:
            picture = render(path)
        except DicomError:
            continue
        ds = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in ds.file_meta:
            ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
        if path.name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
            continue  # pydicom refuses them: see the test of 12 bits
        assert_same(picture, reference(ds))
        count += 1
    assert count > 150


def grey(bits: int, *, signed: bool, **attributes: Any) -> Dataset:
    """Return a dataset with every value of so many bits once."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.Rows, ds.Columns = 2 ** (bits // 2), 2 ** (bits - bits // 2)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16 if bits > 8 else 8, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    values = np.arange(2**bits) - (2 ** (bits - 1) if signed else 0)
    ds.PixelData = values.astype(f"{'i' if signed else 'u'}{ds.BitsAllocated // 8}").tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (10, True), (12, False), (16, True)])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_windows(tmp_path: Path, function: str, bits: int, signed: bool, photometric: str) -> None:
    top = 2**bits
    scales = ((1, 0), (1, -1024), (0.684, 200), (-2.5, 10.125), (3.774114, 0.000061))
    windows = ((top / 3, top / 5), (top * 0.9, top * 1.5), (40.5, 1.5), (-600, 1500))
    for (slope, intercept), (centre, width) in itertools.product(scales, windows):
        ds = grey(
            bits, signed=signed, RescaleSlope=slope, RescaleIntercept=intercept,
            WindowCenter=f"{centre:.8g}", WindowWidth=f"{width:.8g}", VOILUTFunction=function,
            PhotometricInterpretation=photometric,
        )  # fmt: skip
        ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        assert_same(render(tmp_path / "x.dcm"), reference(ds))


@pytest.mark.parametrize("depth", [10, 12, 16])  # at 8, pydicom counts entries in 8 bits
def test_voi_tables_over_rescaled_values(tmp_path: Path, depth: int) -> None:
    rng = np.random.default_rng(depth)
    table = Dataset()
    table.add_new(0x00283002, "US", [300, 20, depth])
    entries = np.sort(rng.integers(0, 2**depth, 300))
    entries[-1] = 2**depth - 1
    table.add_new(0x00283006, "US", entries.tolist())
    for slope in (1, 0.37):
        ds = grey(12, signed=False, RescaleSlope=slope, RescaleIntercept=-5)
        ds.VOILUTSequence = [table]
        ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        assert_same(render(tmp_path / "x.dcm"), reference(ds))


def test_ybr_to_rgb_is_pydicoms_value_for_value(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    ds = grey(8, signed=False, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL")
    ds.Rows, ds.Columns, ds.PlanarConfiguration = 200, 300, 0
    ds.PixelData = values.tobytes()
    ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    expected = convert_color_space(values, "YBR_FULL", "RGB")
    assert (np.asarray(render(tmp_path / "x.dcm")) == expected).all()


def test_where_several_decoders_read_a_frame_they_agree_with_the_chosen_one() -> None:
    """GDCM's crash on a damaged frame would take the tests along: the files here are whole."""
    compared = 0
    for path in FILES:
        try:
            ds, _ = parse(str(path))
            layout = read_layout(ds, 64_000_000)
            values, _ = decode_frame(ds, layout)
        except Refused:
            continue
        if not pydicom.uid.UID(layout.syntax).is_compressed:
            continue
        decoder = get_decoder(layout.syntax)
        for plugin in decoder.available_plugins:
            try:
                other, _ = decoder.as_array(
                    ds, index=middle_frame(layout.frames), raw=True, decoding_plugin=plugin
                )
            except RuntimeError:
                continue  # it does not read this one
            assert (values == other).all(), f"{path.name}: {plugin}"
            compared += 1
    assert compared > 80


LOSSLESS = {
    "1.2.840.10008.1.2.4.57": "JPEGLosslessProcess14",
    "1.2.840.10008.1.2.4.70": "JPEGLosslessProcess14_1",
    "1.2.840.10008.1.2.4.80": "JPEGLSLossless",
    "1.2.840.10008.1.2.4.90": "JPEG2000Lossless",
    "1.2.840.10008.1.2.5": "RLELossless",
}


@pytest.mark.parametrize("syntax", sorted(LOSSLESS))
@pytest.mark.parametrize(
    "name", ["693_UNCR.dcm", "MR2_UNCR.dcm", "RG3_UNCR.dcm", "US1_UNCR.dcm", "vlut_04.dcm"]
)
def test_compressed_without_loss_and_rendered_is_the_same(
    tmp_path: Path, syntax: str, name: str
) -> None:
    """Signed of 16 bits, unsigned of 12 and 10, RGB, 8 bits: written by GDCM."""
    program = (
        "import gdcm, sys\n"
        "reader, writer = gdcm.ImageReader(), gdcm.ImageWriter()\n"
        "reader.SetFileName(sys.argv[1]); assert reader.Read()\n"
        "change = gdcm.ImageChangeTransferSyntax()\n"
        "kind = getattr(gdcm.TransferSyntax, sys.argv[3])\n"
        "change.SetTransferSyntax(gdcm.TransferSyntax(kind))\n"
        "change.SetInput(reader.GetImage()); assert change.Change()\n"
        "writer.SetFile(reader.GetFile()); writer.SetImage(change.GetOutput())\n"
        "writer.SetFileName(sys.argv[2]); assert writer.Write()\n"
    )
    original, copy = STORE / name, tmp_path / "copy.dcm"
    arguments = [str(original), str(copy), LOSSLESS[syntax]]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True)
    assert pydicom.dcmread(copy).file_meta.TransferSyntaxUID == syntax
    assert (np.asarray(render(copy)) == np.asarray(render(original))).all()


@pytest.mark.parametrize("name", ["RG1", "RG3", "MR2", "US1"])
def test_published_pairs_are_the_same(name: str) -> None:
    for kind in "RI":  # JPEG 2000 without loss; with loss, and what that decodes to
        packed, plain = (render(STORE / f"{name}_{how}{kind}.dcm") for how in ("J2K", "UNC"))
        assert (np.asarray(packed) == np.asarray(plain)).all()


def test_jpeg_of_twelve_bits_is_its_lossless_twin_to_within_compression() -> None:
    """pydicom refuses these; GDCM reads them (frame.py), and here is the same scan without loss."""
    lossless = np.asarray(render(STORE / "JPEG-LL.dcm")).astype(float)
    for name in ("JPGExtended.dcm", "JPEG-lossy.dcm"):
        found = np.asarray(render(ROOTS[0] / "test_files" / name)).astype(float)
        assert found.shape == lossless.shape
        assert np.corrcoef(found.ravel(), lossless.ravel())[0, 1] > 0.98


def test_big_endian_deflated_and_bare_files_are_their_little_endian_twins(tmp_path: Path) -> None:
    for one, other in (
        ("MR_small.dcm", "MR_small_expb.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("MR_small.dcm", "MR_small_padded.dcm"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd_big_endian.dcm"),
        (STORE / "OBXXXX1A.dcm", STORE / "OBXXXX1A_expb.dcm"),
        (STORE / "gdcm-US-ALOKA-16.dcm", STORE / "gdcm-US-ALOKA-16_big.dcm"),
        (STORE / "emri_small.dcm", STORE / "emri_small_big_endian.dcm"),
    ):
        pair = [np.asarray(render(ROOTS[0] / "test_files" / name)) for name in (one, other)]
        assert (pair[0] == pair[1]).all()
    ds = pydicom.dcmread(ROOTS[0] / "test_files" / "CT_small.dcm")
    plain = np.asarray(render(ROOTS[0] / "test_files" / "CT_small.dcm"))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    ds.save_as(tmp_path / "deflated.dcm", enforce_file_format=True)
    del ds.file_meta
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True)
    for name in ("deflated.dcm", "bare.dcm"):
        assert (np.asarray(render(tmp_path / name)) == plain).all()
