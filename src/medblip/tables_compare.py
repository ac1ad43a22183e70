"""What `compare` prints below its tests: image by image, and groups below the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from medblip.stages.compare import Compared

__all__ = ["detail_tables"]

#: Rows of groups that the terminal shows; all are in the file.
_SHOWN = 12


def detail_tables(result: Compared) -> list[Table | str]:
    """Return outcomes per image, the groups farthest below their system's value, and notes."""
    outcomes = Table(title=f"Image by image against {result.baseline}", box=None)
    for column in ("system", "metric", "better", "equal", "worse"):
        outcomes.add_column(column, justify="left" if column in ("system", "metric") else "right")
    for row in result.outcomes:
        counts = (str(row[key]) for key in ("wins", "ties", "losses"))
        outcomes.add_row(Text(row["system"]), row["metric"], *counts)
    found: list[Table | str] = [outcomes]
    if result.weakest:
        farthest = sorted(result.weakest, key=lambda row: row["value"] - row["overall"])
        table = Table(title="Groups below the mean (exploratory, uncorrected)", box=None)
        for column in ("system", "metric", "group", "n", "value", "95 % interval", "overall"):
            left = column in ("system", "metric", "group")
            table.add_column(column, justify="left" if left else "right")
        for row in farthest[:_SHOWN]:
            low, high = row["ci"]
            table.add_row(
                Text(row["system"]), row["metric"], Text(f"{row['stratum']}: {row['level']}"),
                str(row["n"]), f"{row['value']:.3f}", f"{low:.3f} to {high:.3f}",
                f"{row['overall']:.3f}",
            )  # fmt: skip
        found.append(table)
        if len(farthest) > _SHOWN:
            found.append(f"{len(farthest) - _SHOWN} more groups are in the file")
    return found + list(result.notes)
