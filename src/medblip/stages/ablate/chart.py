"""An ablation as a picture and as a table for other programs: SVG and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["quality_against_cost", "table_csv"]

#: As the report's: at least 3:1 on white (after Okabe and Ito 2008), and a mark each besides.
_COLOURS = ("#7c8594", "#c97f00", "#2a86c8", "#00916e", "#b5559e", "#c4511c", "#5b6ee1")
_MARKS = "oDs^vPX*"


def quality_against_cost(record: dict[str, Any]) -> str:
    """Return an SVG: the headline metric with its interval against seconds of training.

    What is not trained is a line across. The same record gives the same bytes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric = record["headline"]
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "ablation",
            "font.size": 9,
            "text.parse_math": False,
        }
    ):
        figure = Figure(figsize=(5.6, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for index, variant in enumerate(record["variants"]):
            score = variant["metrics"].get(metric)
            if score is None:
                continue
            colour, mark = _COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)]
            if variant["seconds"] is None:
                axes.axhline(score["value"], color=colour, linestyle="--", label=variant["name"])
                continue
            low, high = score["ci"]
            axes.errorbar(
                variant["seconds"], score["value"],
                yerr=[[max(0.0, score["value"] - low)], [max(0.0, high - score["value"])]],
                fmt=mark, color=colour, capsize=3, label=variant["name"],
            )  # fmt: skip
        axes.set_xlabel("training, s (mean over seeds)")
        axes.set_ylabel(f"{metric}, {record['split']} split, 95 % interval")
        axes.set_xlim(left=0)
        axes.grid(axis="y", alpha=0.2)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def table_csv(record: dict[str, Any], costs: Sequence[str]) -> str:
    """Return one row per variant: value and interval of each metric, then costs."""
    metrics = list(dict.fromkeys(name for one in record["variants"] for name in one["metrics"]))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    head = [
        part for name in metrics for part in (name, f"{name} low", f"{name} high", f"{name} sd")
    ]
    writer.writerow(["variant", *head, *costs])
    for one in record["variants"]:
        cells: list[Any] = [one["name"]]
        for name in metrics:
            score = one["metrics"].get(name)
            cells += [""] * 4 if score is None else [
                score["value"], *score["ci"], "" if score["sd_seeds"] is None else score["sd_seeds"]
            ]  # fmt: skip
        writer.writerow([*cells, *("" if one[key] is None else one[key] for key in costs)])
    return buffer.getvalue()
