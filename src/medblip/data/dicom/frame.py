"""One frame of stored values out of Pixel Data, each transfer syntax by a chosen decoder.

| transfer syntax | decoder | why this one |
| --- | --- | --- |
| native, deflated | pydicom | |
| RLE | pydicom | in Python: no other package |
| JPEG Baseline, Extended of 8 bits | Pillow | GDCM aborts on some damaged frames |
| JPEG Extended of 12 bits, Lossless | GDCM | nothing else with a free licence reads them |
| JPEG-LS | GDCM | is there anyway |
| JPEG 2000 | Pillow | as JPEG; GDCM for JP2 files and colour of more than 8 bits |

Where two decoders read a test file, their values are equal (tests/parity). pylibjpeg-libjpeg, which
pydicom would use when it is there, is GPL and is never asked.
"""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING, Any

from medblip.data.dicom.parse import Layout, standard_name
from medblip.data.dicom.reasons import Reason, Refused

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

__all__ = ["decode_frame", "middle_frame"]

_NATIVE = {
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.2",
}
_RLE = "1.2.840.10008.1.2.5"
_JPEG_BASELINE, _JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG_LOSSLESS = {"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_JPEG_2000 = {"1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}
#: SOF0..SOF15 but DHT, JPG, DAC (ITU-T T.81 table B.1), and SOF55 of JPEG-LS (T.87 C.1.1).
_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def middle_frame(frames: int) -> int:
    """Return the frame that stands for a multi-frame image: the middle one.

    >>> middle_frame(1), middle_frame(30)
    (0, 15)
    """
    return frames // 2


def decode_frame(ds: FileDataset, layout: Layout) -> tuple[Any, str]:
    """Return the stored values of the middle frame and their photometric interpretation.

    The array is (rows, columns) or (rows, columns, 3), of unsigned or signed integers.

    Raises:
        Refused: The syntax is not supported, or the data are too short, at odds with the header, or
            damaged.
    """
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    index = middle_frame(layout.frames)
    name = standard_name(layout.syntax)
    if layout.syntax in _NATIVE:
        _check_length(ds, layout)
        plugin = ""
    else:
        plugin = _plugin(ds, layout, index, name)
    try:
        decoder = get_decoder(UID(layout.syntax))
        if plugin == "gdcm12":
            _add_gdcm12(decoder)
        if plugin and plugin not in decoder.available_plugins:
            raise Refused(Reason.NO_DECODER, name)
        values, found = decoder.as_array(ds, index=index, raw=True, decoding_plugin=plugin)
    except (MemoryError, Refused):
        raise
    except Exception:
        raise Refused(Reason.UNDECODABLE) from None
    return values, str(found["photometric_interpretation"])


def _check_length(ds: FileDataset, layout: Layout) -> None:
    """Refuse what is cut off: every frame must be there, PS3.5 8.1.1."""
    bits = layout.rows * layout.columns * layout.samples * layout.bits_allocated
    if layout.photometric == "YBR_FULL_422":  # PS3.3 C.7.6.3.1.2: two of three samples are stored
        bits = bits // 3 * 2
    if len(ds["PixelData"].value) * 8 < bits * layout.frames:
        raise Refused(Reason.SHORT)


def _plugin(ds: FileDataset, layout: Layout, index: int, name: str) -> str:
    """Return the decoder for a compressed frame, after a look at the frame's own header."""
    syntax = layout.syntax
    if syntax == _RLE:
        return "pydicom"
    if syntax not in {_JPEG_BASELINE, _JPEG_EXTENDED} | _JPEG_LOSSLESS | _JPEG_LS | _JPEG_2000:
        raise Refused(Reason.SYNTAX, name or "an unknown one")
    frame = _compressed(ds, index)
    jpeg_2000 = syntax in _JPEG_2000
    size = _j2k_size(frame) if jpeg_2000 else _jpeg_size(frame)
    if size is None:
        raise Refused(Reason.UNDECODABLE)
    # a frame of 100 bytes may claim 65535 x 65535: decoders allocate before they read
    if size[:2] != (layout.rows, layout.columns):
        raise Refused(Reason.MISMATCH)
    wide = size[2] > 8
    if jpeg_2000:
        boxed = frame[:2] != b"\xff\x4f"
        return "gdcm" if boxed or (wide and layout.samples > 1) else "pillow"
    if syntax == _JPEG_BASELINE:
        return "pillow"
    if syntax == _JPEG_EXTENDED:
        if wide and layout.samples > 1:
            raise Refused(Reason.SYNTAX, f"{name} in colour of 12 bits")
        return "gdcm12" if wide else "pillow"
    return "gdcm"


def _compressed(ds: FileDataset, index: int) -> bytes:
    from pydicom.encaps import get_frame
    from pydicom.pixels.utils import as_pixel_options

    try:
        options = as_pixel_options(ds)
        return get_frame(
            ds["PixelData"].value,
            index,
            number_of_frames=options["number_of_frames"],
            extended_offsets=options.get("extended_offsets"),
        )
    except MemoryError:
        raise
    except Exception:
        raise Refused(Reason.UNDECODABLE) from None


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and precision of a JPEG or JPEG-LS frame, ITU-T T.81 B.2.2, T.87 C.2.2.

    >>> _jpeg_size(bytes.fromhex("ffd8 ffc0 000b 08 0010 0020 01 01 11 00"))
    (16, 32, 8)
    """
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame):
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if frame[at] != 0xFF:
            return None
        if marker == 0xFF:  # fill byte, B.1.1.2
            at += 1
        elif marker in _START_OF_FRAME:
            precision, rows, columns = struct.unpack(">BHH", frame[at + 4 : at + 9])
            return rows, columns, precision
        else:
            at += 2 + length
    return None


def _j2k_size(frame: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and precision of a JPEG 2000 frame, ITU-T T.800 A.5.1, boxed or not."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 43 > len(frame):
        return None
    width, height, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
    return height - top, width - left, (frame[start + 42] & 0x7F) + 1


@functools.cache
def _add_gdcm12(decoder: Any) -> None:
    decoder.add_plugin("gdcm12", ("medblip.data.dicom.jpeg12", "decode_frame"))
