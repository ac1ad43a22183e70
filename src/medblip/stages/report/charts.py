"""Charts by matplotlib: inline SVG without any URL or style for the page, PDF for a paper."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["COLOURS", "DASHES", "Chart", "Line", "chart_pdf", "chart_svg"]

#: One colour per system, at least 3:1 on white and on near-black (after Okabe and Ito 2008).
COLOURS = ("#7c8594", "#c97f00", "#2a86c8", "#00916e", "#b5559e", "#c4511c", "#5b6ee1")
#: One dash pattern per system, so that lines differ without colour too (SVG stroke-dasharray).
DASHES = ((), (6, 2), (2, 1.6), (8, 2, 2, 2), (4, 1.5), (10, 3), (1, 1))
_MARKS = "osD^vPX"
_INK = "#010203"  # stands for the page's text colour until the SVG is written


class Line(NamedTuple):
    """One curve: x and y of one length, colour, dash pattern; `ci`: (low, high) of each y."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: tuple[float, ...]
    ci: Sequence[tuple[float, float]] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart: a name for its file, what is drawn against what, and whether points are joined."""

    name: str
    title: str
    x: str
    lines: Sequence[Line]
    joined: bool = True
    whole: bool = True

    @property
    def words(self) -> str:
        """What somebody is told who cannot see the chart: title and last value of each line."""
        last = ", ".join(f"{line.name} {line.y[-1]:.3f}" for line in self.lines)
        return f"{self.title} by {self.x}; {'last values' if self.joined else 'values'}: {last}"


def chart_svg(chart: Chart) -> str:
    """Return a chart as inline SVG; the same values give the same bytes.

    Style attributes become presentation attributes: the page's policy allows no inline style.
    """
    from matplotlib import rc_context

    ink: dict[Any, Any] = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK)
    ink |= dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), _INK)
    buffer = io.StringIO()
    with rc_context(ink | {"svg.fonttype": "none", "svg.hashsalt": chart.title}):
        _draw(chart, legend=False).savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows what svg is: no URL in the page
    svg = re.sub(r' style="([^"]*)"', _attributes, svg)
    # ids of several charts in one page must not collide: clip paths and markers refer to them
    unique = "c" + re.sub(r"\W", "", chart.name)
    svg = re.sub(r'id="|href="#|url\(#', lambda match: match[0] + unique, svg)
    named = f'<svg role="img" aria-label="{_escape(chart.words)}"'
    return svg.replace("<svg", named, 1).replace(_INK, "currentColor")


def chart_pdf(chart: Chart) -> bytes:
    """Return a chart as PDF with its legend; the same values give the same bytes."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    with rc_context({"pdf.fonttype": 42}):
        _draw(chart, legend=True).savefig(
            buffer, format="pdf", metadata={"CreationDate": None, "Title": None}
        )
    return buffer.getvalue()


def _draw(chart: Chart, *, legend: bool) -> Any:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # a dollar sign in a name is no formula, wherever the name stands
    with rc_context({"font.size": 9, "axes.linewidth": 0.6, "text.parse_math": False}):
        figure = Figure(figsize=(3.7, 2.5) if not legend else (4.6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for index, line in enumerate(chart.lines):
            mark = "o" if chart.joined else _MARKS[index % len(_MARKS)]
            axes.plot(line.x, line.y, color=line.colour, linewidth=1.7 if chart.joined else 0,
                      linestyle=(0, line.dash) if line.dash and chart.joined else "solid",
                      marker=mark if len(line.x) < 30 else None,
                      markersize=3 if chart.joined else 6,
                      label=_drawable(line.name).lstrip("_") or "?",
                      )  # fmt: skip
            if not chart.joined:  # a number tells variants apart without colour
                axes.annotate(line.name.split()[0], (line.x[0], line.y[0]),
                              xytext=(6, 3) if index % 2 else (-12, 3),
                              textcoords="offset points", fontsize=8)  # fmt: skip
            for x, (low, high) in zip(line.x, line.ci, strict=bool(line.ci)):
                axes.plot([x, x], [low, high], color=line.colour, linewidth=1.4)
        axes.set_xlabel(chart.x)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=chart.whole))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", alpha=0.14, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        if legend:
            axes.set_ylabel(_drawable(chart.title))
            axes.legend(frameon=False, fontsize=7)
    return figure


def _drawable(text: str) -> str:
    """Return text of signs that every font has."""
    return text.encode("ascii", "replace").decode()


def _attributes(match: re.Match[str]) -> str:
    pairs = [part.split(":", 1) for part in match[1].split(";") if ":" in part]
    found = {name.strip(): value.strip() for name, value in pairs}
    if "font" in found:  # the page sets the family
        size = re.search(r"([\d.]+)px", found.pop("font"))
        found |= {"font-size": size[1]} if size else {}
    return "".join(f' {name}="{value}"' for name, value in found.items())


def _escape(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
