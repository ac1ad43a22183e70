"""What `ablate` prints: quality with intervals, tests, costs; or the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from medblip.progress import time_of
from medblip.stages.report.cells import p_value

if TYPE_CHECKING:
    from medblip.stages.ablate import Ablated

__all__ = ["ablation_tables"]

_SHOWN = 4  # metrics of the table; all are in the files


def ablation_tables(result: Ablated) -> list[Table]:
    """Return the tables of a finished ablation, or of a dry run."""
    if not result.ablation_file:
        return [_plan(result)]
    return [_quality(result), _tests(result), _costs(result)]


def _plan(result: Ablated) -> Table:
    table = Table(title=f"{result.runs} trainings, seeds {', '.join(map(str, result.seeds))}")
    table.add_column("variant")
    for column in (
        "trained parameters",
        "steps",
        "GFLOP per step",
        "s per step",
        "time of one run",
    ):
        table.add_column(column, justify="right")
    for one in result.variants:
        table.add_row(
            Text(one["name"]), _count(one.get("parameters_trainable")), _count(one.get("steps")),
            _number(one.get("gflop_per_step"), 1), _number(one.get("seconds_per_step"), 3),
            time_of(one["hours"]) if "hours" in one else "",
        )  # fmt: skip
    return table


def _quality(result: Ablated) -> Table:
    seeds = f"{len(result.seeds)} seed{'s' if len(result.seeds) > 1 else ''}"
    table = Table(title=f"Quality: mean, 95 % interval over {result.n} images and {seeds}")
    table.add_column("variant")
    names = list(dict.fromkeys(name for one in result.variants for name in one["metrics"]))
    chosen = [name for name in ("CIDEr-D", "BLEU-4", "ROUGE-L", "fact-finding") if name in names]
    for name in chosen or names[:_SHOWN]:
        table.add_column(name, justify="right")
    for one in result.variants:
        cells = [
            f"{score['value']:.3f}\n{score['ci'][0]:.3f} to {score['ci'][1]:.3f}"
            if (score := one["metrics"].get(name))
            else "–"  # noqa: RUF001
            for name in chosen or names[:_SHOWN]
        ]
        table.add_row(Text(one["name"]), *cells)
    return table


def _tests(result: Ablated) -> Table:
    table = Table(
        title=f"Is it more than chance? {result.headline}\n{result.test}; {result.correction}"
    )
    for column in ("variant", "against", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(column, justify="left" if column in ("variant", "against") else "right")
    for row in result.tests:
        if row["metric"] == result.headline:
            table.add_row(
                Text(row["variant"]), Text(row["baseline"]), f"{row['difference']:+.3f}",
                f"{row['ci'][0]:+.3f} to {row['ci'][1]:+.3f}", p_value(row["p"]),
                p_value(row["p_holm"]),
            )  # fmt: skip
    return table


def _costs(result: Ablated) -> Table:
    table = Table(title="Cost: mean over seeds")
    table.add_column("variant")
    columns = ("trained parameters", "s", "s per step", "s to best", "GFLOP per step", "MB", "Wh")
    for column in columns:
        table.add_column(column, justify="right")
    for one in result.variants:
        table.add_row(
            Text(one["name"]), _count(one["parameters_trainable"]), _number(one["seconds"], 1),
            _number(one["seconds_per_step"], 4), _number(one["seconds_to_best"], 1),
            _number(one["gflop_per_step"], 1), _number(one["peak_memory_mb"], 0),
            _number(one["energy_wh"], 2),
        )  # fmt: skip
    return table


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,.0f}"


def _number(value: Any, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
