"""What `reproduce` prints: the plan, or the paper's claims with what the study says to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from medblip.progress import time_of

if TYPE_CHECKING:
    from medblip.stages.reproduce import Reproduced

__all__ = ["study_tables"]

_STYLE = {"reproduced": "green", "not reproduced": "red", "not testable": "yellow"}


def study_tables(result: Reproduced) -> list[Table | str]:
    """Return the claims with their verdicts, and what could not be used here; or the plan."""
    if result.plan:
        return [_plan(result)]
    table = Table(title="The paper's claims", show_lines=True)
    for column in ("claim", "verdict", "figures"):
        table.add_column(column)
    for one in result.claims:
        verdict = Text(one["verdict"], style=_STYLE[one["verdict"]])
        table.add_row(Text(one["claim"]), verdict, Text(one["reason"]))
    told: list[Table | str] = [table]
    told += [f"left out: {one['system']}: {one['reason']}" for one in result.failed]
    return told


def _plan(result: Reproduced) -> Table:
    """Columns that nothing fills are left out; the title has the sum."""
    runs = [one for one in result.plan if "hours" in one]
    total = sum(one["hours"] * one["runs"] for one in runs)
    whole = f"; training takes {time_of(total)} in all on this machine" if runs else ""
    table = Table(title=f"What would be done{whole}")
    columns: dict[str, Callable[[dict[str, Any]], Any]] = {
        "captioner": lambda one: Text(one["name"]),
        "trained": lambda one: _times(one["runs"]) if one.get("set") else "as it is",
        "trained parameters": lambda one: _number(one.get("parameters_trainable")),
        "steps": lambda one: _number(one.get("steps")),
        "GFLOP per step": lambda one: _number(one.get("gflop_per_step"), digits=1),
        "time of one run": lambda one: time_of(one["hours"]) if "hours" in one else "",
        "here": lambda one: {True: "yes", False: "no", None: ""}[one.get("here")],
        "GB in bf16": lambda one: str(one.get("bf16_gb", "")),
    }
    rows = [[cell(one) for cell in columns.values()] for one in result.plan]
    filled = [at for at in range(len(columns)) if any(str(row[at]) for row in rows)]
    for at in filled:
        table.add_column(list(columns)[at])
    for row in rows:
        table.add_row(*(row[at] for at in filled))
    return table


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
