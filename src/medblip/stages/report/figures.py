"""Pictures of the page: training curves (inline SVG) and images as data URIs."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medblip.data.images import open_image
from medblip.data.phantoms import decode_mask

__all__ = ["COLOURS", "curve_svg", "image_uri", "outline_uri"]

#: One colour per system, readable on white and on near-black (Okabe and Ito 2008, adapted).
COLOURS = ("#7f8794", "#d98a00", "#2f8fd0", "#00916e", "#b5559e", "#c4511c", "#5b6ee1")
_LONGEST_SIDE = 384


def curve_svg(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float], str]], y_label: str
) -> str:
    """Return a line chart as inline SVG.

    Args:
        lines: (name, x values, y values, colour) per system.
        y_label: What the vertical axis shows.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10}):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        for name, x, y, colour in lines:
            axes.plot(x, y, label=name, color=colour, linewidth=1.8,
                      marker="o" if len(x) < 30 else None, markersize=3.5)  # fmt: skip
        axes.set_xlabel("optimizer step")
        axes.set_ylabel(y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows what svg is: no URL in the page
    return re.sub(r"#000000|black", "currentColor", svg)


def image_uri(path: Path) -> str:
    """Return an image as a data URI, its longest side at most 384 px; PNG when it is small."""
    image = open_image(path)
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small = image.width * image.height <= 160 * 160
    image.save(buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 82}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


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
    pixels[edges] = (255, 214, 10, 255)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
