"""Rows as JSON lines, CSV or plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from medblip.schema import Prediction, dump_jsonl

if TYPE_CHECKING:
    from medblip.models.captioner import Generated

__all__ = ["FORMATS", "header", "row_of"]


def row_of(name: str, found: list[Generated]) -> dict[str, Any]:
    """Return one image's row: its caption, how likely, and the others where more were wanted."""
    best, *others = (
        {
            "caption": one.text,
            "logprob": round(one.logprob, 6),
            "tokens": list(one.tokens),
            "token_logprobs": [round(value, 6) for value in one.token_logprobs],
        }
        for one in found
    )
    return {"id": name} | best | ({"alternatives": others} if others else {})


def header(form: str, captions: int) -> str:
    """Return what stands before the first row."""
    if form != "csv":
        return ""
    more = [f"{name}_{n}" for n in range(2, captions + 1) for name in ("caption", "logprob")]
    return _csv(["id", "caption", "logprob", *more])


def _jsonl(row: dict[str, Any]) -> str:
    return dump_jsonl([Prediction(**row)])


def _csv_row(row: dict[str, Any]) -> str:
    every = [row, *row.get("alternatives", [])]
    cells = (one.get(name, "") for one in every for name in ("caption", "logprob"))
    return _csv([row["id"], *cells])


def _text(row: dict[str, Any]) -> str:
    return " ".join(row["caption"].split()) + "\n"


def _csv(cells: list[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    # a file's name may be no UTF-8: CSV has no escape for it
    return line.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


#: Name -> row as `row_of` makes it -> line(s).
FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {
    "jsonl": _jsonl,
    "csv": _csv_row,
    "txt": _text,
}
