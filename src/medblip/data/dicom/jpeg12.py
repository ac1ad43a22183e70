"""JPEG Extended of 12 bits through GDCM, as a plugin of pydicom, whose own refuses it. Child only.

Values equal those of GDCM's file reader, and of the lossless twin to within its compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

__all__ = ["DECODER_DEPENDENCIES", "decode_frame", "is_available"]

_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
#: pydicom asks every plugin for this.
DECODER_DEPENDENCIES = {_JPEG_EXTENDED: ("python-gdcm>=3.2.2",)}


def is_available(uid: str) -> bool:
    """Whether GDCM is installed and this is its syntax."""
    try:
        import gdcm  # noqa: F401
    except ImportError:
        return False
    return uid == _JPEG_EXTENDED


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """Return one grey frame as little endian words."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(src)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((runner.columns, runner.rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType(str(runner.photometric_interpretation))
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(_JPEG_EXTENDED)
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    bits = runner.bits_stored
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, bits, bits - 1, runner.pixel_representation))
    # GDCM hands bytes over as text; they are there again after the same trick backwards
    values: str = image.GetBuffer()
    return values.encode("utf-8", "surrogateescape")
