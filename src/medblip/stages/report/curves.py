"""Which charts a report has, from its contents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medblip.stages.report.charts import COLOURS, DASHES, Chart, Line
from medblip.stages.report.collect import HEADLINE, System
from medblip.stages.report.contents import Contents

__all__ = ["all_charts", "cost_chart", "faithfulness_charts", "marks", "training_charts"]


def all_charts(contents: Contents) -> list[Chart]:
    """Return every chart that the files allow."""
    cost = cost_chart(contents)
    return [
        *training_charts(contents.systems),
        *([cost] if cost else []),
        *faithfulness_charts(contents),
    ]


def marks(names: Sequence[str], *, first: int = 0) -> dict[str, dict[str, Any]]:
    """Return colour and dash of each name; the first colour, grey, is for a baseline."""
    return {
        name: {
            "colour": COLOURS[index % len(COLOURS)],
            "dash": DASHES[(index - first) % len(DASHES)],
        }
        for index, name in enumerate(names, start=first)
    }


def system_marks(systems: Sequence[System]) -> dict[str, dict[str, Any]]:
    """Return colour and dash of each system."""
    return marks([system.name for system in systems], first=2 if len(systems) == 1 else 0)


def training_charts(systems: Sequence[System]) -> list[Chart]:
    """Return training loss (smoothed), validation loss, validation CIDEr-D by step."""
    styles = system_marks(systems)
    charts = []
    for kind, key, title in (
        ("train", "loss", "Training loss per token"),
        ("validation", "loss", "Validation loss per token"),
        ("validation", HEADLINE, f"Validation {HEADLINE}"),
    ):
        lines = []
        for system in systems:
            rows = [r for r in system.curves if r.get("kind") == kind and r.get(key) is not None]
            if rows:
                values = [float(row[key]) for row in rows]
                lines.append(
                    Line(
                        system.name,
                        [float(row["step"]) for row in rows],
                        _smooth(values) if kind == "train" else values,
                        styles[system.name]["colour"],
                        styles[system.name]["dash"],
                    )
                )
        if lines:
            name = title.lower().replace(" ", "-")
            charts.append(Chart(name=name, title=title, x="optimizer step", lines=lines))
    return charts


def _smooth(values: list[float], share: float = 0.08) -> list[float]:
    """Return an exponential mean: single batches are noisy."""
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else smooth[-1] + share * (value - smooth[-1]))
    return smooth


def cost_chart(contents: Contents) -> Chart | None:
    """Return the ablation's quality against its cost, a point with interval per variant."""
    found = contents.ablation
    if found is None:
        return None
    styles = marks([variant["name"] for variant in found["variants"]])
    lines = []
    for number, variant in enumerate(found["variants"], start=1):
        score = variant["metrics"].get(found["headline"])
        # what was used as it is was not trained: it stands at 0 seconds
        seconds = 0.0 if variant.get("zero_shot") else variant.get("seconds")
        if score is not None and seconds is not None:
            lines.append(
                Line(f"{number} {variant['name']}", [float(seconds)],
                     [float(score["value"])], styles[variant["name"]]["colour"], (),
                     [tuple(score["ci"])])
            )  # fmt: skip
    if not lines:
        return None
    return Chart(name="quality-against-cost", title=found["headline"], x="training, s",
                 lines=lines, joined=False, whole=False)  # fmt: skip


def faithfulness_charts(contents: Contents) -> list[Chart]:
    """Return the deletion and insertion curves of every system, a line per map."""
    charts = []
    for kind in ("deletion", "insertion"):
        for index, (name, record) in enumerate(contents.faithfulness.items()):
            curves = record["curves"].get(kind, {})
            styles = marks(list(curves))
            lines = [
                Line(map_name, record["curves"]["fractions"], values,
                     styles[map_name]["colour"], styles[map_name]["dash"])
                for map_name, values in curves.items()
            ]  # fmt: skip
            if lines:
                charts.append(
                    Chart(name=f"{kind}-{index}", title=f"{kind.capitalize()}, {name}",
                          x=f"share of patches {'removed' if kind == 'deletion' else 'shown'}",
                          lines=lines, whole=False)
                )  # fmt: skip
    return charts
