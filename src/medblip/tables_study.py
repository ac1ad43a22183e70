"""What `reproduce` prints: the plan, or the paper's claims with what the study says to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

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
    table = Table(title="What would be done")
    for column in ("captioner", "trained", "hours of one run", "here", "GB in bf16"):
        table.add_column(column)
    for one in result.plan:
        trained = f"{one['runs']} times" if one.get("set") else "as it is"
        hours = f"{one['hours']:.2f}" if "hours" in one else ""
        here = {True: "yes", False: "no", None: ""}[one.get("here")]
        table.add_row(Text(one["name"]), trained, hours, here, str(one.get("bf16_gb", "")))
    return table
