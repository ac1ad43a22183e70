"""Rows of text tables (.csv, .tsv, .jsonl), whatever their dialect, as dictionaries."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.errors import DataError, explain
from medblip.schema import read_jsonl

__all__ = ["TABLE_SUFFIXES", "read_json", "read_rows"]

TABLE_SUFFIXES = (".jsonl", ".csv", ".tsv")
#: A report of a whole study is some kB; Python stops at 131 kB.
_LONGEST_CELL = 10_000_000


def read_rows(table: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table.

    Text tables may begin with a byte order mark, be separated by comma, tab, semicolon or bar
    (whichever the header has), hold line breaks in quotes, and have blanks around column names.

    Raises:
        DataError: The file is absent, not UTF-8, or no table.
    """
    if table.suffix.lower() == ".jsonl":
        yield from read_jsonl(table)
        return
    usual = csv.field_size_limit(_LONGEST_CELL)
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            delimiter = max("\t,;|", key=lambda mark: (header.count(mark), mark == ","))
            names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
            for row in csv.DictReader(file, names, restkey="", delimiter=delimiter):
                if any(value for value in row.values()):  # not a blank line
                    yield row
    except FileNotFoundError:
        raise _not_a_table(table, "no such file", "check the path") from None
    except UnicodeDecodeError as error:
        got = f"byte {error.object[error.start]:#04x} at offset {error.start}: not UTF-8"
        raise _not_a_table(table, got, "convert it, e.g. `iconv -f latin1 -t utf-8`") from None
    except csv.Error as error:
        raise _not_a_table(table, str(error), "write it anew as CSV") from None
    finally:
        csv.field_size_limit(usual)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        DataError: It is not UTF-8 or not JSON.
    """
    try:
        return json.loads(open(path, encoding="utf-8-sig").read())
    except (OSError, ValueError) as error:
        raise DataError(
            explain(
                f"{path}: not JSON",
                got=str(error).partition("\n")[0],
                expected="one JSON document",
                do="fetch the file again",
            )
        ) from None


def _not_a_table(table: Path, got: str, do: str) -> DataError:
    return DataError(
        explain(
            f"{table}: cannot be read as a table",
            got=got,
            expected="UTF-8 text, one row per image, column names first",
            do=do,
        )
    )
