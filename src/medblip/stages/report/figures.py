"""Pictures of the page: training curves (inline SVG), images and attention tiles (data URIs)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medblip.data.images import open_image
from medblip.data.phantoms import decode_mask

__all__ = [
    "COLOURS",
    "DASHES",
    "Line",
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
_LONGEST_SIDE = 384
_TILE_SIDE = 72
_INK = "#010203"  # stands for the page's text colour until the SVG is written


class Line(NamedTuple):
    """One system's curve: x and y of the same length, colour and dash pattern."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    dash: tuple[float, ...]


def curve_svg(lines: Sequence[Line], label: str) -> str:
    """Return a line chart as inline SVG without any URL; the same lines give the same bytes.

    Args:
        lines: One per system, at least one.
        label: What the vertical axis shows; becomes the accessible name with the last values.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    ink: dict[Any, Any] = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK)
    ink |= dict.fromkeys(("xtick.color", "ytick.color", "grid.color"), _INK)
    style = {"svg.fonttype": "none", "svg.hashsalt": label, "font.size": 9, "axes.linewidth": 0.6}
    with rc_context(ink | style):
        figure = Figure(figsize=(3.7, 2.5), layout="constrained")
        axes = figure.add_subplot()
        for line in lines:
            axes.plot(line.x, line.y, color=line.colour, linewidth=1.7,
                      linestyle=(0, line.dash) if line.dash else "solid",
                      marker="o" if len(line.x) < 30 else None, markersize=3)  # fmt: skip
        axes.set_xlabel("optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", alpha=0.14, linewidth=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    last = ", ".join(f"{line.name} {line.y[-1]:.3f}" for line in lines)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows what svg is: no URL in the page
    # ids of several charts in one page must not collide: clip paths and markers refer to them
    unique = "c" + re.sub(r"\W", "", label)
    svg = re.sub(r'id="|href="#|url\(#', lambda match: match[0] + unique, svg)
    name = _escape(f"{label} by optimizer step; last values: {last}")
    return svg.replace("<svg", f'<svg role="img" aria-label="{name}"', 1).replace(
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
    return _uri(image, "PNG" if image.width * image.height <= 160 * 160 else "JPEG", 82)


def heat_tile(image: Image.Image, strength: NDArray[np.uint8]) -> str:
    """Return a small picture of one word's attention over the image, as a data URI.

    Args:
        image: The image.
        strength: uint8 (rows, columns), 255 at the strongest patch; stretched bilinearly.
    """
    size = (_TILE_SIDE, max(1, round(_TILE_SIDE * image.height / image.width)))
    below = np.asarray(image.convert("RGB").resize(size), dtype=np.float64)
    stretched = Image.fromarray(strength).resize(size, Image.Resampling.BILINEAR)
    t = np.asarray(stretched, dtype=np.float64)[..., None] / 255
    heat = np.concatenate([255 + 0 * t, 96 + 150 * t, 16 + 90 * t * t], axis=-1)  # as in report.js
    over = below * (1 - 0.8 * t) + heat * 0.8 * t
    return _uri(Image.fromarray(np.round(over).astype(np.uint8)), "JPEG", 62)


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
    return _uri(Image.fromarray(pixels), "PNG", 0)


def _uri(image: Image.Image, kind: str, quality: int) -> str:
    buffer = io.BytesIO()
    options = {"quality": quality} if kind == "JPEG" else {}
    image.save(buffer, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _escape(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))
