"""A DICOM file to a dataset and the layout of its pixels, or the reason why not. Child only.

Refused by name is what this project has not tested: see the checks in `read_layout`.
"""

from __future__ import annotations

import dataclasses
import io
import os
from typing import TYPE_CHECKING

from medblip.data.dicom.reasons import Reason, Refused

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

__all__ = ["Layout", "number", "parse", "read_layout", "standard_name"]

#: Media Storage Directory Storage, PS3.4 B.5: a DICOMDIR.
_DIRECTORY = "1.2.840.10008.1.3.10"
#: Pixel Data that is no picture: numbers per voxel, masks, or tiles of a slide.
_NOT_SHOWN = {
    "1.2.840.10008.5.1.4.1.1.481.2",  # RT Dose
    "1.2.840.10008.5.1.4.1.1.66.4",  # Segmentation
    "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation
    "1.2.840.10008.5.1.4.1.1.30",  # Parametric Map
    "1.2.840.10008.5.1.4.1.1.77.1.6",  # VL Whole Slide Microscopy
    "1.2.840.10008.5.1.4.1.1.77.1.9",  # Confocal Microscopy Tiled Pyramidal
    "1.2.840.10008.5.1.4.1.1.81.1",  # Ophthalmic Thickness Map
    "1.2.840.10008.5.1.4.1.1.82.1",  # Corneal Topography Map
}
#: (0028,0004), PS3.3 C.7.6.3.1.2. YBR_PARTIAL_*, HSV, ARGB, CMYK and XYB are refused by name.
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_UNTESTED = ("YBR_PARTIAL_420", "YBR_PARTIAL_422", "HSV", "ARGB", "CMYK", "XYB")
#: (0028,0100): what may be told of a refused value.
_USUAL_BITS = (1, 4, 8, 12, 16, 24, 32, 64)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The Image Pixel module, PS3.3 C.7.6.3, checked."""

    syntax: str
    photometric: str
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    frames: int


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds: lengths in damaged headers are huge."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._end = os.fstat(raw.fileno()).st_size
        #: Whether something was cut off: a read fell short, other than the one that finds the end.
        self.is_cut = False

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most what is left; the memory for `size` is taken before reading."""
        wanted = size or 0
        if wanted > 65_536:
            size = min(wanted, max(0, self._end - self.tell()))
        data = super().read(size)
        if len(data) < wanted and (data or wanted != 8):
            self.is_cut = True
        return data


def parse(path: str) -> tuple[FileDataset, bool]:
    """Return the dataset of a file, preamble or not, and whether the file was read to its end.

    Raises:
        Refused: It is not DICOM, or damaged beyond its header.
    """
    import pydicom

    try:
        file = _Bounded(io.FileIO(path))
    except FileNotFoundError:
        raise Refused(Reason.ABSENT) from None
    except OSError:
        raise Refused(Reason.UNREADABLE) from None
    with file:
        magic = file.peek(132)[128:132] == b"DICM"  # PS3.10 7.1
        try:
            ds = pydicom.dcmread(file, force=True)
        except MemoryError:
            raise
        except Exception:
            raise Refused(Reason.HEADER if magic else Reason.NOT_DICOM) from None
        whole = file.tell() == os.fstat(file.fileno()).st_size and not file.is_cut
    if not magic and "SOPClassUID" not in ds and "Rows" not in ds:
        raise Refused(Reason.NOT_DICOM)
    if not len(ds):
        raise Refused(Reason.HEADER)
    if _text(ds.file_meta.get("MediaStorageSOPClassUID")) == _DIRECTORY or (
        "DirectoryRecordSequence" in ds
    ):
        raise Refused(Reason.DIRECTORY)
    return ds, whole


def read_layout(ds: FileDataset, max_pixels: int) -> Layout:
    """Return how the pixels are written.

    Raises:
        Refused: They are absent, of a kind that is not rendered, or written in an untested way.
    """
    kind = _text(ds.get("SOPClassUID") or ds.file_meta.get("MediaStorageSOPClassUID"))
    _check_kind(ds, kind)
    rows, columns = number(ds, "Rows"), number(ds, "Columns")
    samples = number(ds, "SamplesPerPixel", 1)
    photometric = _text(ds.get("PhotometricInterpretation")).upper()
    if min(rows, columns, samples) < 1:
        raise Refused(Reason.INCOMPLETE)
    if rows * columns > max_pixels:
        raise Refused(Reason.TOO_MANY)
    layout = Layout(
        syntax=_syntax(ds),
        photometric=photometric,
        rows=rows,
        columns=columns,
        samples=samples,
        bits_allocated=number(ds, "BitsAllocated"),
        bits_stored=number(ds, "BitsStored"),
        signed=number(ds, "PixelRepresentation", 0) == 1,
        frames=max(1, number(ds, "NumberOfFrames", 1)),
    )
    _check_pixels(ds, layout)
    return layout


def _check_kind(ds: FileDataset, kind: str) -> None:
    if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:  # PS3.3 C.7.6.24, C.7.6.25
        raise Refused(Reason.FLOAT)
    if "PixelData" not in ds or not ds["PixelData"].value:
        raise Refused(Reason.NO_PIXELS, standard_name(kind))
    if kind in _NOT_SHOWN:
        raise Refused(Reason.KIND, standard_name(kind) or "Label Map Segmentation Storage")
    if _text(ds.get("DimensionOrganizationType")).startswith("TILED"):  # PS3.3 C.7.6.17.3
        raise Refused(Reason.TILES)
    if _text(ds.get("PresentationIntentType")) == "FOR PROCESSING":  # PS3.3 C.8.11.1.1.1
        raise Refused(Reason.RAW_DETECTOR)
    if _text(ds.get("PixelPresentation")) in ("COLOR", "MIXED"):  # PS3.3 C.8.16.2.1.1.1
        raise Refused(Reason.SUPPLEMENTAL)


def _check_pixels(ds: FileDataset, layout: Layout) -> None:
    photometric, bits = layout.photometric, layout.bits_allocated
    if photometric in (*_GREY, "PALETTE COLOR"):
        allowed_samples, allowed_bits = 1, [8, 16]
    elif photometric in _COLOUR:
        # PS3.3 C.7.6.3.1.2 has no YBR of more than 8 bits but what JPEG 2000 makes
        wide = photometric == "RGB"
        allowed_samples, allowed_bits = 3, [8, 16, 32] if wide else [8]
    elif not photometric:
        raise Refused(Reason.INCOMPLETE, "PhotometricInterpretation")
    else:
        known = photometric if photometric in _UNTESTED else "an unknown one"
        raise Refused(Reason.PHOTOMETRIC, known)
    if layout.samples != allowed_samples:
        raise Refused(Reason.SAMPLES, f"not {allowed_samples} for {photometric}")
    if bits not in allowed_bits:
        raise Refused(Reason.BITS, str(bits) if bits in _USUAL_BITS else "an unusual number")
    if not 1 <= layout.bits_stored <= bits:
        raise Refused(Reason.INCOMPLETE, "BitsStored")
    if number(ds, "HighBit", layout.bits_stored - 1) != layout.bits_stored - 1:  # PS3.5 8.1.1
        raise Refused(Reason.HIGH_BIT)
    if layout.signed and layout.samples > 1:
        raise Refused(Reason.SIGNED_COLOUR)
    if layout.samples > 1 and number(ds, "PlanarConfiguration", 0) not in (0, 1):
        raise Refused(Reason.INCOMPLETE, "PlanarConfiguration")


def _syntax(ds: FileDataset) -> str:
    """Return the UID of the transfer syntax; where the file names none, what it was read as."""
    named = _text(ds.file_meta.get("TransferSyntaxUID"))
    if named:
        return named
    if ds["PixelData"].value[:4] == b"\xfe\xff\x00\xe0":  # PS3.5 A.4: the item of an offset table
        raise Refused(Reason.NO_SYNTAX)
    implicit, little = ds.original_encoding
    if not little:
        return "1.2.840.10008.1.2.2"
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1"


def number(ds: Dataset, keyword: str, default: int | None = None) -> int:
    """Return an integer attribute.

    Raises:
        Refused: It is not a number, or absent without a default.
    """
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            if default is None:
                raise ValueError
            return default
        return int(value)
    except (ValueError, TypeError, OverflowError):
        raise Refused(Reason.INCOMPLETE, keyword) from None


def standard_name(uid: str) -> str:
    """Return what the standard calls a UID (PS3.6 A); "" for others."""
    from pydicom._uid_dict import UID_dictionary

    return UID_dictionary[uid][0] if uid in UID_dictionary else ""


def _text(value: object) -> str:
    return str(value or "").strip(" \0")
