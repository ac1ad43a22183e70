"""DICOM files made for a test, and those that the packages pydicom and pydicom-data carry."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from pydicom.config import disable_value_validation  # noqa: E402
from pydicom.datadict import dictionary_VR, tag_for_keyword  # noqa: E402
from pydicom.dataelem import RawDataElement  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.tag import Tag  # noqa: E402
from pydicom.uid import UID  # noqa: E402

from medblip.data.dicom.parent import close_children  # noqa: E402

EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="session", autouse=True)
def _end_children() -> Iterator[None]:
    yield
    close_children()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a DICOM file; an attribute of None is left out."""

    def write(
        pixels: Any = None,
        *,
        name: str = "x.dcm",
        syntax: str | None = EXPLICIT,
        data: bytes | None = None,
        **attributes: Any,
    ) -> Path:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        ds.SOPInstanceUID = "1.2.3"
        pixels = np.arange(16, dtype=np.uint8).reshape(4, 4) if pixels is None else pixels
        colour = pixels.ndim == 3 and pixels.shape[-1] == 3
        ds.Rows, ds.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
        ds.SamplesPerPixel = 3 if colour else 1
        ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
        if colour:
            ds.PlanarConfiguration = 0
        elif pixels.ndim == 3:
            ds.NumberOfFrames = len(pixels)
        ds.BitsAllocated = 8 * pixels.dtype.itemsize
        ds.BitsStored = attributes.get("BitsStored", ds.BitsAllocated)
        ds.HighBit = ds.BitsStored - 1
        ds.PixelRepresentation = int(pixels.dtype.kind == "i")
        big = syntax == "1.2.840.10008.1.2.2"
        stored = pixels.astype(pixels.dtype.newbyteorder(">")) if big else pixels
        body = stored.tobytes() if data is None else data
        ds.PixelData = body + bytes(len(body) % 2)
        ds["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
        if data is not None and body[:4] == b"\xfe\xff\x00\xe0":
            ds["PixelData"].VR = "OB"
            ds["PixelData"].is_undefined_length = True
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if syntax is not None:
            ds.file_meta.TransferSyntaxUID = syntax
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")  # some values are wrong on purpose
            for keyword, value in attributes.items():
                _set(ds, keyword, value)
            if syntax is None:  # no preamble, no file meta information
                ds.save_as(path, implicit_vr=True, little_endian=True)
            else:
                ds.file_meta.MediaStorageSOPClassUID = ds.get("SOPClassUID", "1.2")
                ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
                known = UID(syntax).is_transfer_syntax
                how = {} if known else {"implicit_vr": False, "little_endian": True}
                ds.save_as(path, enforce_file_format=True, **how)
        return path

    return write


def _set(ds: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute; text for a number is written as it is, which pydicom would refuse."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    vr = dictionary_VR(tag)
    if value is None:
        if tag in ds:
            del ds[tag]
    elif isinstance(value, str) and vr in ("DS", "IS"):
        raw = value.encode() + b" " * (len(value) % 2)
        ds[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)
    else:
        setattr(ds, keyword, value)


@pytest.fixture(scope="session")
def test_files() -> Path:
    """Return the folder of pydicom's own test files."""
    return Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture(scope="session")
def data_store() -> Path:
    """Return the folder of pydicom-data, or skip."""
    package = pytest.importorskip("data_store")
    return Path(package.__file__).parent / "data"
