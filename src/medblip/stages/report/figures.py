"""Pictures of the page: training curves (inline SVG), images and attention tiles (data URIs)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medblip.data.images import open_image
from medblip.data.phantoms import decode_mask
from medblip.pictures import data_uri, heat

__all__ = [
    "COLOURS",
    "DASHES",
    "Line",
    "cost_chart",
    "cost_svg",
    "curve_svg",
    "heat_tile",
    "image_uri",
    "outline_uri",
    "thumbnail",
]

#: One colour per system, at least 3:1 on white and on near-black (after Okabe and Ito 2008).
COLOURS = ("#7c8594", "#c97f00", "#2a86c8", "#00916e", "#b5559e", "#c4511c", "#5b6ee1")
#: One dash pattern per system, so that lines differ without colour too (SVG stroke-dasharray).
DASHES = ((), (6, 2), (2, 1.6), (8, 2, 2, 2), (4, 1.5), (10, 3), (1, 1))
_MARKS = "oDs^vPX*"
_LONGEST_SIDE = 384
_QUALITY = 82
_TILE_SIDE = 72
_INK = "#010203"  # stands for the page's text colour until the SVG is written


class Line(NamedTuple):
    """One system's curve: x and y of the same length, colour and dash pattern."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: tuple[float, ...]


def curve_svg(lines: Sequence[Line], label: str, along: str = "optimizer step") -> str:
    """Return a line chart as inline SVG without any URL; the same lines give the same bytes.

    Args:
        lines: One per system, at least one.
        label: What the vertical axis shows; becomes the accessible name with the last values.
        along: What the horizontal axis shows.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(axes: Any) -> None:
        for line in lines:
            axes.plot(line.x, line.y, color=line.colour, linewidth=1.7,
                      linestyle=(0, line.dash) if line.dash else "solid",
                      marker="o" if len(line.x) < 30 else None, markersize=3)  # fmt: skip
        axes.set_xlabel(along)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=along.endswith("step")))
        axes.yaxis.set_major_locator(MaxNLocator(5))

    last = ", ".join(f"{line.name} {line.y[-1]:.3f}" for line in lines)
    return _inline(_chart(draw, label, "svg").decode(), f"{label} by {along}; last values: {last}")


def cost_chart(ablation: Mapping[str, Any], kind: str) -> bytes:
    """Return quality against cost: headline metric with interval, over seconds of training.

    Args:
        ablation: Content of ablation.json.
        kind: `svg` or `pdf`.
    """
    metric = ablation["headline"]

    def draw(axes: Any) -> None:
        for index, one in enumerate(v for v in ablation["variants"] if metric in v["metrics"]):
            score, colour = one["metrics"][metric], COLOURS[index % len(COLOURS)]
            if one["seconds"] is None:
                axes.axhline(score["value"], color=colour, linestyle=(0, (4, 2)), linewidth=1.4,
                             label=one["name"])  # fmt: skip
                continue
            low, high = (abs(score["value"] - end) for end in score["ci"])
            mark = _MARKS[index % len(_MARKS)]
            axes.errorbar(one["seconds"], score["value"], yerr=[[low], [high]], capsize=3,
                          fmt=mark, color=colour, label=one["name"])  # fmt: skip
        axes.set_xlabel("training, s")
        axes.set_ylabel(metric)
        axes.set_xlim(left=0)
        axes.legend(frameon=False, fontsize=8)

    return _chart(draw, f"{metric} by training time", kind, size=(5.2, 3.2))


def cost_svg(ablation: Mapping[str, Any]) -> str:
    """Return `cost_chart` for the page; its values are in the table beside it."""
    told = ", ".join(
        f"{one['name']} {one['metrics'][ablation['headline']]['value']:.3f}"
        for one in ablation["variants"]
        if ablation["headline"] in one["metrics"]
    )
    name = f"{ablation['headline']} by seconds of training: {told}"
    return _inline(cost_chart(ablation, "svg").decode(), name)


def _chart(
    draw: Callable[[Any], None], salt: str, kind: str, size: tuple[float, float] = (3.7, 2.5)
) -> bytes:
    """Return a chart in the page's style; the same input gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = ("text.color", "axes.edgecolor", "axes.labelcolor",
             "xtick.color", "ytick.color", "grid.color")  # fmt: skip
    style: dict[Any, Any] = dict.fromkeys(names, _INK if kind == "svg" else "black")
    style |= {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9, "axes.linewidth": 0.6}
    with rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        axes.grid(axis="y", alpha=0.14, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"CreationDate": None}
        figure.savefig(buffer, format=kind, transparent=kind == "svg", metadata=metadata)
    return buffer.getvalue()


def _inline(svg: str, name: str) -> str:
    """Return an SVG for the middle of a page, with an accessible name."""
    svg = svg[svg.index("<svg") :]
    # its style element would reach the whole page, and the page's policy knows one style only
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows what svg is: no URL in the page
    # ids of several charts in one page must not collide: clip paths and markers refer to them
    unique = "c" + re.sub(r"\W", "", name.split(";")[0].split(":")[0])
    svg = re.sub(r'id="|href="#|url\(#', lambda match: match[0] + unique, svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{_escape(name)}"', 1).replace(
        _INK, "currentColor"
    )


def thumbnail(path: Path) -> Image.Image:
    """Return an image, mode L or RGB, its longest side at most 384 px.

    Raises:
        ImageError: It cannot be decoded.
    """
    image = open_image(path)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    return image


def image_uri(image: Image.Image) -> str:
    """Return an image as a data URI: PNG when it is small, JPEG else."""
    return data_uri(image, _QUALITY)


def heat_tile(image: Image.Image, strength: NDArray[np.uint8]) -> str:
    """Return a small picture of one word's attention over the image, as a data URI.

    Args:
        image: The image.
        strength: uint8 (rows, columns), 255 at the strongest patch; stretched bilinearly.
    """
    return data_uri(heat(image, strength, _TILE_SIDE), 62)


def outline_uri(findings: Sequence[dict[str, Any]]) -> str | None:
    """Return the outlines of the findings' masks as a transparent PNG, or None without masks."""
    masks = [decode_mask(finding["mask"]) for finding in findings if finding.get("mask")]
    if not masks:
        return None
    edges = np.zeros(masks[0].shape, dtype=bool)
    for mask in masks:
        inner = mask.copy()
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        edges |= mask & ~inner
    pixels = np.zeros((*edges.shape, 4), dtype=np.uint8)
    pixels[edges] = (64, 224, 255, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _escape(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
