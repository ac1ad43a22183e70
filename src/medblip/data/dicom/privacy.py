"""What may be told of a DICOM file: an allow-list of coded facts, and names that betray nobody.

A fact is told only if its value is one of the standard's own terms: a name typed into Body Part
Examined is not told. A path is told only if no header value of its file is in it: files are often
called after their SOP Instance UID, their accession number or their patient. Nothing here removes
anything from pixels, captions or the source, and nothing makes a data set anonymous.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medblip.data.dicom.terms import BODY_PARTS, COMMON, MODALITIES, SIDES, VIEWS, YES_NO

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

__all__ = ["FACTS", "Pseudonyms", "allowed", "betrays", "facts", "identifiers"]

#: Attribute -> name of the fact, and the values that may be told.
FACTS: dict[str, tuple[str, frozenset[str]]] = {
    "Modality": ("modality", MODALITIES),
    "BodyPartExamined": ("body_part", BODY_PARTS),
    "ViewPosition": ("view_position", VIEWS),
    "Laterality": ("laterality", SIDES),
    "ImageLaterality": ("laterality", SIDES),
    "BurnedInAnnotation": ("burned_in_annotation", YES_NO),
}
#: Shorter pieces of a value are in every path by chance.
_SHORTEST = 3
#: Values of these are numbers or UIDs of many short parts.
_LONGEST_PARTS = {"UI", "DS", "IS", "TM"}
_TEXT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI"}
_TEXT |= {"UR", "UT"}
#: Private and unknown elements are bytes; names are in the short ones.
_LONGEST_BYTES = 65_536
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_RUN = re.compile(rb"[A-Za-z0-9]{5,}")
_PSEUDONYM = re.compile(r"(image|patient)-\d+", re.IGNORECASE)


def facts(ds: Dataset) -> dict[str, str]:
    """Return the facts of the allow-list that have a value of the standard."""
    found = {}
    for keyword, (name, terms) in FACTS.items():
        value = str(ds.get(keyword) or "").strip().upper()
        if value in terms:
            found[name] = value
    return found


def allowed(told: Mapping[str, object]) -> dict[str, str]:
    """Return what the allow-list allows of facts that a child has told."""
    terms = dict(FACTS.values())
    return {name: str(value) for name, value in told.items() if str(value) in terms.get(name, ())}


def identifiers(ds: Dataset) -> dict[str, str]:
    """Return what files are matched and grouped by; it stays in memory."""
    names = ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "AccessionNumber")
    found = {name: str(ds.get(name) or "").strip(" \0")[:200] for name in names}
    # PS3.3 C.7.1.1: the same number of two hospitals is two patients
    issuer = str(ds.get("IssuerOfPatientID") or "").strip(" \0")[:200]
    if found["PatientID"] and issuer:
        found["PatientID"] += f"\\{issuer}"
    return {name: value for name, value in found.items() if value}


def betrays(name: str, ds: FileDataset, data: bytes) -> bool:
    """Whether a relative path holds a value, or a part of a value, of the file's header.

    Case, accents and punctuation do not matter; parts of three letters or digits count, of UIDs
    and numbers those of five.

    Args:
        name: The path.
        ds: The header as it was parsed.
        data: The file: damage may hide a value from the parser, but not from a search for words.
    """
    if _PSEUDONYM.search(name):
        return True  # it would be taken for one of ours
    tokens = _pieces(_plain(name))
    whole, long_ones = "".join(tokens), [token for token in tokens if len(token) >= 5]
    lowered = data.lower()
    for token in tokens:
        known = len(token) >= (5 if token.isdecimal() else 4) and token not in COMMON
        if known and token.encode("utf-8", "replace") in lowered:
            return True
    for value, shortest in _values(ds):
        pieces = _pieces(_plain(value))
        joined = "".join(pieces)
        if len(joined) >= shortest and joined not in COMMON and joined in whole:
            return True  # SMITH^JOHN in smithjohn/, 19970430 in 1997-04-30/
        for piece in pieces:
            if len(piece) >= shortest and piece not in COMMON:
                if any(piece in token for token in tokens):
                    return True  # SMITH^JOHN in dr_smiths_cases/
                if any(token in piece for token in long_ones):
                    return True  # MRN0012345 in 0012345/
    return False


def _values(ds: FileDataset) -> Iterator[tuple[str, int]]:
    """Yield every text of the header, nested and private ones too, with its shortest part."""
    for source in (ds.file_meta, ds):
        for element in source.iterall():
            value: Any = element.value
            if element.VR in _TEXT:
                shortest = 5 if element.VR in _LONGEST_PARTS else _SHORTEST
                several = isinstance(value, list | tuple) or hasattr(value, "append")
                for one in value if several else [value]:
                    text = str(one)
                    if not text.startswith("1.2.840.10008."):  # of the standard, of nobody
                        yield text, shortest
            elif isinstance(value, bytes) and len(value) <= _LONGEST_BYTES:
                yield from _texts(value)


def _texts(value: bytes) -> Iterator[tuple[str, int]]:
    """Yield what may be text in bytes of unknown meaning: all of it, or runs of letters."""
    plain = value.rstrip(b"\0")
    if not _CONTROL.search(plain):
        yield plain.decode("utf-8", "replace"), _SHORTEST
        yield plain.decode("latin-1"), _SHORTEST
        return
    yield from ((run.decode("ascii"), 5) for run in _RUN.findall(value))
    yield from ((run, 5) for run in _pieces(value.decode("utf-16-le", "ignore")))


def _plain(text: str) -> str:
    """Return lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def _pieces(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


class Pseudonyms:
    """Numbers in order of appearance: `patient-00017` says nothing, not even as a hash would.

    A hash of an identifier is found again by trying all identifiers: there are few.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._numbers: dict[str, int] = {}

    def name(self, key: str) -> str:
        """Return the pseudonym of a key, a new one for a new key."""
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        return f"{self._kind}-{number:05d}"
