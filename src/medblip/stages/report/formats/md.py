"""The report as Markdown: for a README, an issue, or a lab notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.files import write_text
from medblip.markdown import escape, table
from medblip.stages.report.sheets import Cell, Sheet

__all__ = ["write_markdown"]

_LONG = 2000


def write_markdown(
    target: Path, sheets: Sequence[Sheet], *, title: str, study: Mapping[str, Any] | None
) -> Path:
    """Write one file with every table; returns it."""
    lines = [f"# {escape(title, _LONG)}", "", "Research use only. Not a medical device."]
    if study:
        lines += ["", "## Methods", "", escape(study["methods"], 10_000)]
    for sheet in sheets:
        lines += ["", f"## {escape(sheet.title)}"]
        head = [escape(name) for name in sheet.head]
        lines += table(head, ([_cell(cell) for cell in row] for row in sheet.rows))
        if sheet.note:
            lines += ["", escape(sheet.note, _LONG)]
    write_text(target, "\n".join(lines) + "\n")
    return target


def _cell(cell: Cell) -> str:
    text = escape(cell.text, _LONG)
    text = f"**{text}**" if cell.best else text
    return f"{text} ({cell.interval})" if cell.ci else text
