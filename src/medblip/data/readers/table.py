"""A CSV, TSV or JSONL table: one row per image, with columns that are recognised or told.

Also a folder with one such table, with one per split (train.csv, val.csv, ...), or with a
`metadata` table in a folder per split, as Hugging Face's image folders have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.names import ImageFinder, split_in, split_name
from medblip.data.readers.rows import TABLE_SUFFIXES, read_rows
from medblip.errors import DataError, explain
from medblip.schema import Split

__all__ = ["COLUMNS", "find_columns", "matches", "named_split", "read"]

#: Column names that are understood without being told, best first.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": (
        "image", "image_path", "img_path", "file_name", "filename", "file", "path", "filepath",
        "image_id", "id",
    ),
    "caption": ("caption", "captions", "text", "report", "description", "impression"),
    "id": ("id", "image_id", "uid", "name"),
    "split": ("split", "subset", "set"),
    "group": (
        "group", "patient", "patient_id", "subject_id", "case", "case_id", "study", "study_id",
        "article", "pmcid", "pmc_id",
    ),
    "licence": ("licence", "license"),
    "source": ("source", "url", "doi"),
    "concepts": ("concepts", "cuis", "cui"),
    "keywords": ("keywords",),
}  # fmt: skip


def matches(source: Path) -> bool:
    """Whether this is a table, or a folder with one, or with one per split."""
    if source.is_file():
        return source.suffix.lower() in TABLE_SUFFIXES
    return bool(_tables(source))


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the rows of the table or tables.

    Raises:
        DataError: A column is missing, or it is not clear which table is meant.
    """
    tables = [source] if source.is_file() else _tables(source)
    several = len(tables) > 1
    if several and not all(_split_of(table, source) for table in tables):
        raise DataError(
            explain(
                f"{source}: several tables",
                got=", ".join(path.name for path in tables[:6]),
                expected="one table, or one per split, such as train.csv, val.csv and test.csv",
                do="name the table itself",
            )
        )
    for table in tables:
        yield from _read_one(table, options, _split_of(table, source) if several else None)


def _read_one(table: Path, options: ReadOptions, split: Split | None) -> Iterator[Raw]:
    finder = ImageFinder(table.parent, table.parent / "images")
    names: dict[str, str] = {}
    for number, row in enumerate(read_rows(table), start=1):
        if number == 1:
            names = find_columns(table, list(row), options.columns)
        value = row.get(names["caption"])
        captions = value if isinstance(value, list) else [value]
        image = str(row.get(names["image"]) or "")
        yield Raw(
            id=str(row.get(names.get("id", "")) or Path(image).stem or f"row-{number}"),
            image=finder.find(image),
            captions=tuple(str(caption) for caption in captions if caption is not None),
            split=named_split(table, row.get(names.get("split", ""))) or split,
            group=_text(row.get(names.get("group", ""))),
            licence=_text(row.get(names.get("licence", ""))),
            source=_text(row.get(names.get("source", ""))),
            concepts=_list(row.get(names.get("concepts", ""))),
            keywords=_list(row.get(names.get("keywords", ""))),
        )


def find_columns(table: Path, present: list[str], told: Mapping[str, str]) -> dict[str, str]:
    """Return role -> column name; image and caption must be found.

    Raises:
        DataError: One of them is not, or a column that was told is not there.
    """
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


def named_split(table: Path, value: object) -> Split | None:
    """Return the split of a cell; None for an empty one.

    Raises:
        DataError: The word is no split: a guess would mix what somebody kept apart.
    """
    split = split_name(value)
    if split is None and str(value or "").strip():
        raise DataError(
            explain(
                f"{table}: unknown split",
                got=value,
                expected="train, validation (valid, val, dev), test, or an empty cell",
                do="correct the split column, or name another one with --split-column",
            )
        )
    return split


def _tables(folder: Path) -> list[Path]:
    """Return the tables of a folder, or else the metadata tables of its split folders."""
    tables = sorted(path for path in folder.iterdir() if path.suffix.lower() in TABLE_SUFFIXES)
    if tables:
        return tables
    inner = (
        p for f in sorted(folder.iterdir()) if split_name(f.name) for p in f.glob("metadata.*")
    )
    return [path for path in inner if path.suffix.lower() in TABLE_SUFFIXES]


def _split_of(table: Path, source: Path) -> Split | None:
    """Return the split that the file's name holds, or else its folder's below the source."""
    return split_in(table.stem) or (
        split_name(table.parent.name) if table.parent != source else None
    )


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _list(value: Any) -> tuple[str, ...]:
    """Return a list of words: of JSON, or of one cell with semicolons."""
    items = value if isinstance(value, list) else str(value or "").split(";")
    return tuple(text for item in items if (text := str(item).strip()))
