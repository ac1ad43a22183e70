"""The tables that commands print: scores with intervals, paired differences, the demo's summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from medblip.schema import Score

if TYPE_CHECKING:
    from medblip.stages.demo import Demonstrated

__all__ = ["comparison_table", "demo_table", "score_table"]


def score_table(scores: Mapping[str, Score], title: str) -> Table:
    """Return metric, value, 95 % interval and number of images."""
    table = Table(title=title)
    for column in ("metric", "value", "95 % interval", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, score in scores.items():
        low, high = score.ci
        table.add_row(name, f"{score.value:.4f}", f"[{low:.4f}, {high:.4f}]", str(score.n))
    return table


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line per system and metric: difference, interval, p and Holm-corrected p."""
    table = Table(title="Paired differences")
    for column in ("system", "baseline", "metric", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(
            column, justify="left" if len(column) < 9 and column[0] != "p" else "right"
        )
    for row in rows:
        low, high = row["ci"]
        table.add_row(
            str(row["system"]),
            str(row["baseline"]),
            str(row["metric"]),
            f"{row['difference']:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            f"{row['p']:.4f}",
            f"{row['p_holm']:.4f}",
        )
    return table


def demo_table(result: Demonstrated) -> Table:
    """Return the study in miniature: one line per system, quality beside cost."""
    shown = [
        name for name in result.columns if name in next(iter(result.systems.values()))["scores"]
    ]
    table = Table(
        title=f"{result.n} test phantoms; value [95 % interval]; p: paired, Holm, CIDEr-D"
    )
    table.add_column("system")
    for name in shown:
        table.add_column(name, justify="right")
    for name in ("p vs zero-shot", "p vs encoder", "seconds", "trainable"):
        table.add_column(name, justify="right")
    for system, record in result.systems.items():
        cells = []
        for name in shown:
            score = record["scores"][name]
            low, high = score["ci"]
            cells.append(f"{score['value']:.3f}\n[{low:.3f}, {high:.3f}]")
        tests = (record["p_vs_zero_shot"], record["p_vs_encoder"])
        table.add_row(
            system,
            *cells,
            *("-" if p is None else f"{p:.4f}" for p in tests),
            "-" if record["seconds"] is None else f"{record['seconds']:.0f}",
            "-" if record["trainable"] is None else f"{record['trainable']:,}",
        )
    return table
