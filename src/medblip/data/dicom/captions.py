"""Captions of DICOM files: a table that names them, or report texts beside them.

Matching by UID or accession number happens in memory; the keys are not written anywhere.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medblip.data.readers.rows import read_rows
from medblip.data.readers.table import COLUMNS
from medblip.errors import DataError, explain

__all__ = ["SUFFIXES", "CaptionTable", "report_text"]

#: Suffixes of DICOM files; others, and none, are told by their first 132 bytes.
SUFFIXES = (".dcm", ".dicom", ".ima")
#: Column name without case and punctuation -> attribute, the most particular first.
_IDENTIFIERS = {
    "sopinstanceuid": "SOPInstanceUID",
    "studyinstanceuid": "StudyInstanceUID",
    "accessionnumber": "AccessionNumber",
}
_IMAGE_COLUMNS = ("dicom_id", *COLUMNS["image"])


class CaptionTable:
    """Captions by file name or identifier.

    Args:
        table: CSV, TSV or JSONL.
        columns: Role -> column, as told.

    Raises:
        DataError: It cannot be read, or has no column of captions or none that names images.
    """

    def __init__(self, table: Path, columns: Mapping[str, str]) -> None:
        self._by_file: dict[str, list[str]] = defaultdict(list)
        self._by_identifier: dict[tuple[str, str], list[str]] = defaultdict(list)
        names: dict[str, str] = {}
        for number, row in enumerate(read_rows(table), start=1):
            if number == 1:
                names = _find_columns(table, list(row), columns)
            found = _captions(row.get(names["caption"]))
            for attribute, column in names.items():
                value = str(row.get(column) or "").strip()
                if not value or attribute == "caption":
                    continue
                if attribute == "image":
                    self._by_file[_plain(value)] += found
                else:
                    self._by_identifier[attribute, value] += found

    def find(
        self, name: str, identifiers: Mapping[str, str], *, one_of_its_name: bool
    ) -> tuple[str, ...]:
        """Return the captions of a file: of its path, else of its name, else of its identifiers.

        Args:
            name: Path from the source's folder, with forward slashes.
            identifiers: Of its header.
            one_of_its_name: Whether no other file of the source has this name in another folder.
        """
        keys = [_plain(name)]
        if one_of_its_name:
            keys.append(keys[0].rpartition("/")[2])
        for key in keys:
            if key in self._by_file:
                return tuple(self._by_file[key])
        for attribute in _IDENTIFIERS.values():
            found = self._by_identifier.get((attribute, identifiers.get(attribute, "")))
            if found:
                return tuple(found)
        return ()


def report_text(path: Path, root: Path) -> tuple[str, ...]:
    """Return the text beside an image, raw: its own, else its folder's, else its study's.

    `x.txt` for `x.dcm`; `report.txt` in the folder; `s50414267.txt` beside the folder `s50414267`,
    as MIMIC-CXR lays reports out.
    """
    own = path.with_suffix("") if path.suffix.lower() in SUFFIXES else path
    candidates = [own.with_name(f"{own.name}.txt"), path.with_name("report.txt")]
    if path.parent != root:
        candidates.append(path.parent.with_name(f"{path.parent.name}.txt"))
    for candidate in candidates:
        try:
            return (candidate.read_text(encoding="utf-8-sig"),)
        except OSError:
            continue
        except UnicodeDecodeError:
            return ()
    return ()


def _find_columns(table: Path, present: list[Any], told: Mapping[str, str]) -> dict[str, str]:
    """Return what names images, and the captions: attribute, or `image`, or `caption` -> column."""
    by_name = {re.sub(r"[^a-z0-9]", "", str(name).lower()): str(name) for name in present}
    found = {
        attribute: by_name[name] for name, attribute in _IDENTIFIERS.items() if name in by_name
    }
    for role, usual in (("image", _IMAGE_COLUMNS), ("caption", COLUMNS["caption"])):
        known = (told.get(role), *usual)
        column = next((name for name in known if name in present), None) or _first(by_name, usual)
        if column is not None:
            found[role] = column
    if "caption" not in found or len(found) < 2:
        raise DataError(
            explain(
                f"{table}: not a table of captions for DICOM files",
                got=f"the columns {', '.join(map(str, present))}",
                expected="a caption, and a file name, " + ", ".join(_IDENTIFIERS.values()),
                do="name them with --caption-column and --image-column",
            )
        )
    return found


def _first(by_name: Mapping[str, str], usual: Iterable[str]) -> str | None:
    return next((by_name[u] for u in (re.sub("_", "", u) for u in usual) if u in by_name), None)


def _captions(value: object) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one]


def _plain(name: str) -> str:
    """Return a path as it is compared: forward slashes, no DICOM suffix."""
    name = name.replace("\\", "/").removeprefix("./")
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]
