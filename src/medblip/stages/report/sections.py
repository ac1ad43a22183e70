"""The page's sections that come from files beside the runs: ablation, study, groups, maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medblip.stages.report.collect import System
from medblip.stages.report.figures import COLOURS, DASHES, Line, cost_svg, curve_svg
from medblip.stages.report.sheets import agreement_sheets, sheets

__all__ = ["sections"]

#: How maps are called on the page.
_MAPS = {
    "attention": "the captioner\u2019s map",
    "random": "a random map",
    "centre": "the centre of the image",
    "randomised-weights": "the map with random weights",
}


def sections(
    systems: Sequence[System],
    *,
    compared: Mapping[str, Any] | None,
    ablation: Mapping[str, Any] | None,
    study: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what `sections.html` shows.

    Args:
        systems: Of the page.
        compared: Content of comparison.json.
        ablation: Content of ablation.json.
        study: Content of study.json.
    """
    found = sheets(systems, compared=compared, ablation=ablation, study=study)
    charts, legend = _map_charts(systems)
    return {
        "sheets": {sheet.name: sheet for sheet in found},
        "agreements": agreement_sheets(compared),
        "ablation_svg": None if ablation is None else cost_svg(ablation),
        "concluded": [
            {"system": system.name, "sentences": system.faithfulness["conclusions"]}
            for system in systems
            if system.faithfulness
        ],
        "map_charts": charts,
        "map_legend": legend,
    }


def _map_charts(systems: Sequence[System]) -> tuple[list[dict[str, str]], list[Line]]:
    """Return deletion and insertion curves of every system that has them, and their legend."""
    charts, legend = [], {}
    for system in systems:
        curves = system.faithfulness.get("curves", {})
        for kind in ("deletion", "insertion"):
            lines = []
            for index, (name, values) in enumerate(curves.get(kind, {}).items()):
                colour, dash = COLOURS[-1 - index], DASHES[index % len(DASHES)]
                line = Line(_MAPS.get(name, name), curves["fractions"], values, colour, dash)
                lines.append(line)
                legend[line.name] = line
            if lines:
                label = f"{kind.capitalize()}: {system.name}"
                charts.append({"title": label, "svg": curve_svg(lines, label, "share of patches")})
    return charts, list(legend.values())
