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
    """Return the claims with their verdicts, and what could not be used here."""
    table = Table(title="The paper's claims", show_lines=True)
    for column in ("claim", "verdict", "figures"):
        table.add_column(column)
    for one in result.claims:
        verdict = Text(one["verdict"], style=_STYLE[one["verdict"]])
        table.add_row(Text(one["claim"]), verdict, Text(one["reason"]))
    told: list[Table | str] = [table]
    told += [f"left out: {one['system']}: {one['reason']}" for one in result.failed]
    return told
