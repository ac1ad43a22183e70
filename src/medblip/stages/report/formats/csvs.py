"""One CSV file per table, for other programs: full precision, ends of intervals in columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.files import write_text
from medblip.stages.report.sheets import Sheet

__all__ = ["table_csv", "write_csv"]


def write_csv(folder: Path, sheets: Sequence[Sheet]) -> Path:
    """Write `<table>.csv` for every table; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for sheet in sheets:
        write_text(folder / f"{sheet.name}.csv", table_csv(sheet))
    return folder


def table_csv(sheet: Sheet) -> str:
    """Return a table; a column with intervals becomes three.

    Text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, CSV
    injection): captioners and data sets are named by anybody.
    """
    ends = [
        any(row[index].ci is not None for row in sheet.rows) for index in range(len(sheet.head))
    ]
    head: list[str] = []
    for name, wide in zip(sheet.head, ends, strict=True):
        head += [_safe(name), *([f"{_safe(name)} low", f"{_safe(name)} high"] if wide else [])]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for row in sheet.rows:
        cells: list[Any] = []
        for cell, wide in zip(row, ends, strict=True):
            value = "" if cell.value is None else cell.value
            cells.append(_safe(value) if isinstance(value, str) else value)
            if wide:
                cells += ["", ""] if cell.ci is None else list(cell.ci)
        writer.writerow(cells)
    return buffer.getvalue()


def _safe(text: str) -> str:
    """Return text that no spreadsheet runs.

    >>> _safe("=HYPERLINK(1)"), _safe("full")
    ("'=HYPERLINK(1)", 'full')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
