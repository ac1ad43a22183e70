"""Sources of images and captions: tables, image folders with .txt captions, ROCO's layout.

Each reader yields `Raw` rows as the source has them; checking, splitting and copying is the
stage's work (`medblip.stages.prepare`).
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from medblip.errors import DataError, explain, nearest
from medblip.schema import read_jsonl

__all__ = ["FORMATS", "Raw", "detect_format", "read_source"]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv")
#: Column names that are understood without being told, best first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "image_path", "img_path", "file_name", "filename", "file", "path", "image_id"),
    "caption": ("caption", "captions", "text", "report", "description"),
    "id": ("id", "image_id", "uid", "name"),
    "split": ("split", "subset", "set"),
    "group": ("group", "patient", "patient_id", "case", "case_id", "study", "study_id", "article"),
    "licence": ("licence", "license"),
    "source": ("source", "url"),
}  # fmt: skip
_SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw:
    """One row of a source, unchecked; `image` is where the file should be."""

    id: str
    image: Path
    captions: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    licence: str | None = None
    source: str | None = None


def read_source(
    source: Path, *, format: str | None = None, columns: Mapping[str, str | None] | None = None
) -> Iterator[Raw]:
    """Yield the rows of a source.

    Args:
        source: Table, or folder with a table, with images and .txt files, or in ROCO's layout.
        format: One of `FORMATS`; None recognises it.
        columns: Names of the columns `image`, `caption`, `id`, `split`, `group`, where they are
            not among the usual ones.

    Raises:
        DataError: Nothing readable is there, or a column is missing.
    """
    if not source.exists():
        raise DataError(
            explain(
                "source not found",
                got=source,
                expected="a table (.csv, .tsv, .jsonl) or a folder of images",
                do="check the path",
            )
        )
    kind = format or detect_format(source)
    if kind not in FORMATS:
        raise DataError(
            explain(
                "unknown format",
                got=kind,
                expected=", ".join(FORMATS),
                do=f"use {nearest(kind, FORMATS)}, or leave --format out",
            )
        )
    return FORMATS[kind](source, {k: v for k, v in (columns or {}).items() if v})


def detect_format(source: Path) -> str:
    """Return `table`, `roco` or `folder`.

    Raises:
        DataError: The folder holds none of them.
    """
    if source.is_file():
        if source.suffix.lower() in TABLE_SUFFIXES:
            return "table"
        got = f"a file ending in {source.suffix or 'nothing'}"
    else:
        if _roco_folders(source):
            return "roco"
        if _tables(source):
            return "table"
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in source.rglob("*")):
            return "folder"
        names = sorted(path.name for path in source.iterdir())
        got = "an empty folder" if not names else f"a folder with {', '.join(names[:5])}"
    raise DataError(
        explain(
            f"{source}: no data set recognised",
            got=got,
            expected="a .csv, .tsv or .jsonl table, images with .txt captions, or ROCO's captions.txt",
            do="name the table itself, or see the README for the layouts",
        )
    )


def _read_table(source: Path, columns: Mapping[str, str]) -> Iterator[Raw]:
    table = source if source.is_file() else _tables(source)[0]
    rows = _rows(table)
    names: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        if number == 1:
            names = _find_columns(table, list(row), columns)
        value = row.get(names["caption"])
        captions = value if isinstance(value, list) else [value]
        image = str(row.get(names["image"]) or "")
        yield Raw(
            id=str(row.get(names.get("id", "")) or Path(image).stem or f"row-{number}"),
            image=_find_image(table.parent, image),
            captions=tuple(str(caption) for caption in captions if caption is not None),
            split=_named_split(table, row.get(names.get("split", ""))),
            **{key: _text(row.get(names.get(key, ""))) for key in ("group", "licence", "source")},
        )


def _read_folder(source: Path, columns: Mapping[str, str]) -> Iterator[Raw]:
    """Yield images with a .txt of the same name; first-level folders named like splits are splits."""
    for image in sorted(p for p in source.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
        text = image.with_suffix(".txt")
        relative = image.relative_to(source)
        try:
            captions = (text.read_text(encoding="utf-8"),) if text.exists() else ()
        except UnicodeDecodeError:
            captions = ()
        yield Raw(
            id="/".join(relative.with_suffix("").parts),
            image=image,
            captions=captions,
            split=_split_name(relative.parts[0]) if len(relative.parts) > 1 else None,
        )


def _read_roco(source: Path, columns: Mapping[str, str]) -> Iterator[Raw]:
    """Yield ROCO v1, as its repository lays it out, images fetched by its script.

    captions.txt: id, tab, space, caption. licences.txt: a CSV (ROCO_ID, PMC_ID, CC) among tab
    files, whose PMC_ID is the image file below images/, PMC article first.
    """
    for folder in _roco_folders(source):
        licences: dict[str, dict[str, str]] = {}
        if (folder / "licences.txt").is_file():
            with (folder / "licences.txt").open(encoding="utf-8", newline="") as file:
                licences = {row["ROCO_ID"]: row for row in csv.DictReader(file)}
        split = next((s for s in map(_split_name, reversed(folder.parts)) if s), None)
        lines = (folder / "captions.txt").read_text(encoding="utf-8").split("\n")
        for line in filter(None, lines):
            name, _, caption = line.partition("\t")
            licence = licences.get(name, {})
            file_name = licence.get("PMC_ID") or f"{name}.jpg"
            image = folder / "images" / file_name
            yield Raw(
                id=name,
                image=image if image.is_file() else _find_image(folder, name),
                captions=(caption,),
                split=split,
                group=file_name.split("_")[0] if file_name.startswith("PMC") else None,
                licence=licence.get("CC") or None,
                source="ROCO",
            )


FORMATS: dict[str, Callable[[Path, Mapping[str, str]], Iterator[Raw]]] = {
    "table": _read_table,
    "folder": _read_folder,
    "roco": _read_roco,
}


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    if table.suffix.lower() == ".jsonl":
        yield from read_jsonl(table)
        return
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if table.suffix.lower() == ".tsv" else ","
            yield from csv.DictReader(file, delimiter=delimiter)
    except UnicodeDecodeError as error:
        raise DataError(
            explain(
                f"{table}: not UTF-8 text",
                got=f"byte {error.object[error.start]:#04x} at offset {error.start}",
                expected="UTF-8",
                do="convert the file, e.g. `iconv -f latin1 -t utf-8`",
            )
        ) from None


def _find_columns(table: Path, present: list[str], told: Mapping[str, str]) -> dict[str, str]:
    """Return role -> column name; image and caption must be found."""
    found: dict[str, str] = {}
    for role, usual in COLUMNS.items():
        if role in told and told[role] not in present:
            raise DataError(
                explain(
                    f"{table} has no column {told[role]!r}",
                    got=", ".join(present),
                    expected=f"the {role} column",
                    do=f"correct --{role}-column",
                )
            )
        by_lower = {name.lower(): name for name in present if isinstance(name, str)}
        name = told.get(role) or next((by_lower[u] for u in usual if u in by_lower), None)
        if name is not None:
            found[role] = name
    for role in ("image", "caption"):
        if role not in found:
            raise DataError(
                explain(
                    f"{table}: no {role} column recognised",
                    got=", ".join(map(str, present)),
                    expected=f"one of {', '.join(COLUMNS[role])}",
                    do=f"name it with --{role}-column",
                )
            )
    return found


def _find_image(folder: Path, name: str) -> Path:
    """Return the path of an image named by a table: as given, or below images/, suffix optional."""
    path = folder / name
    if not name or path.is_file():
        return path
    for base in (folder, folder / "images"):
        for suffix in ("", *sorted(IMAGE_SUFFIXES)):
            candidate = base / f"{name}{suffix}"
            if candidate.is_file():
                return candidate
    return path


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)


def _roco_folders(source: Path) -> list[Path]:
    return sorted(path.parent for path in source.rglob("captions.txt"))


def _split_name(value: object) -> str | None:
    return _SPLIT_NAMES.get(str(value).strip().lower()) if value else None


def _named_split(table: Path, value: object) -> str | None:
    split = _split_name(value)
    if split is None and str(value or "").strip():  # a guess would mix what somebody kept apart
        raise DataError(
            explain(
                f"{table}: unknown split",
                got=value,
                expected="train, validation (valid, val, dev), test, or an empty cell",
                do="correct the split column, or name another one with --split-column",
            )
        )
    return split


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None
