"""Why a DICOM file is refused: a closed list, so that no message can carry a header value.

A detail comes only from the standard's own vocabularies (names of its UID dictionary, its defined
terms, its attribute keywords), which the child looks up; a value of the file is never one.
"""

from __future__ import annotations

import enum
import re

__all__ = ["Reason", "Refused", "message"]


class Reason(enum.Enum):
    """The kinds; `rejects.jsonl` shows `kind` or `kind: detail`."""

    # the file
    ABSENT = "file not found"
    NOT_A_FILE = "not a regular file"
    UNREADABLE = "cannot be read from the disk"
    TOO_LARGE = "file larger than 200 MB"
    NOT_DICOM = "not a DICOM file"
    DIRECTORY = "a directory of files (DICOMDIR), not an image"
    HEADER = "the header cannot be read"
    # what it holds
    NO_PIXELS = "no pixel data"
    KIND = "not a picture to be shown"
    RAW_DETECTOR = "raw detector data (FOR PROCESSING), not for display"
    TILES = "tiles of a larger image"
    # how the pixels are written
    INCOMPLETE = "the header does not describe the pixels"
    TOO_MANY = "too many pixels"
    SYNTAX = "transfer syntax not supported"
    NO_SYNTAX = "compressed pixel data without a transfer syntax"
    NO_DECODER = "no decoder installed (pip install 'medblip[dicom]')"
    PHOTOMETRIC = "photometric interpretation not supported"
    SAMPLES = "samples per pixel not supported"
    BITS = "bits allocated not supported"
    SIGNED_COLOUR = "signed colour is not supported"
    FLOAT = "floating-point pixels are not supported"
    HIGH_BIT = "stored bits that do not begin at bit 0 are not supported"
    SHORT = "pixel data shorter than the header says"
    MISMATCH = "the compressed frame has another size than the header says"
    UNDECODABLE = "the pixel data cannot be decoded"
    # how they are shown
    MODALITY = "the modality transform (LUT or rescale) cannot be applied"
    WINDOW = "the window (VOI) cannot be applied"
    NOT_NUMBERS = "holds values that are not numbers"
    PALETTE = "the palette cannot be applied"
    SUPPLEMENTAL = "supplemental palette colour is not supported"
    PRESENTATION = "presentation LUT not supported"
    POLARITY = "photometric interpretation and presentation LUT shape contradict each other"
    # what the child could not survive
    TIME = "took longer than its time limit"
    MEMORY = "needs more memory than its limit"
    CRASH = "the decoder crashed"


class Refused(Exception):
    """Raised inside the child; the parent makes a `DicomError` of it.

    Args:
        reason: Of the list.
        detail: A word of the standard, or nothing.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(message(reason, detail))
        self.reason = reason
        self.detail = detail


#: What names and terms of the standard are made of; the longest is of 80 characters.
_WORD = re.compile(r"[A-Za-z0-9 .,:;/()\[\]&+_-]{1,100}")


def message(reason: Reason, detail: str = "") -> str:
    """Return the words for `rejects.jsonl`.

    >>> message(Reason.NO_PIXELS, "Basic Text SR Storage")
    'no pixel data: Basic Text SR Storage'
    """
    return f"{reason.value}: {detail}" if _WORD.fullmatch(detail) else reason.value
