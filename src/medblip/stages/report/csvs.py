"""The tables as CSV files: raw values, an interval as two columns."""

from __future__ import annotations

import csv
import io
from typing import Any

from medblip.stages.report.cells import Column, Table, visible

__all__ = ["csv_text"]


def csv_text(table: Table) -> str:
    """Return one table with a header line; numbers in full precision, absent cells empty.

    A text that a spreadsheet would take as a formula gets an apostrophe before it.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_safe(name) for column in table.columns for name in _header(column)])
    for row in table.rows:
        writer.writerow(
            [
                _safe(value)
                for column in table.columns
                for value in _values(column, row.get(column.key))
            ]
        )
    return buffer.getvalue()


def _header(column: Column) -> list[str]:
    key = column.key.removeprefix("system ")
    if column.kind == "score":
        return [key, f"{key} low", f"{key} high"]
    return ["low", "high"] if column.kind == "ci" else [key]


def _values(column: Column, value: Any) -> list[Any]:
    if column.kind == "score":
        low, high = (value or {}).get("ci") or (None, None)
        return [None if value is None else value["value"], low, high]
    if column.kind == "ci":
        return list(value or (None, None))
    return [value]


def _safe(value: Any) -> Any:
    """Return a cell; a text never begins with what starts a formula.

    >>> _safe("=1+1"), _safe("-x"), _safe(-0.5)
    ("'=1+1", "'-x", -0.5)
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    risky = text.startswith(("\t", "\n")) or text.lstrip().startswith(tuple("=+-@|%"))
    return f"'{text}" if risky else text
