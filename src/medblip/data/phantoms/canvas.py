"""A grey canvas in anatomical coordinates: soft-edged shapes, smooth noise, pose.

Coordinates: u runs from -1 (image left, the patient's right) to 1, v from -1 (top) to 1; one unit
is half the image side. A random pose (rotation, shift, scale) lies between them and the pixels.
Knows shapes and grey values; nothing of organs or findings.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Canvas", "Shape", "edge"]

#: Grey values and coverages; float32 in fact, which mixed arithmetic hides from type checkers.
Array = NDArray[np.floating[Any]]

#: Default width of a soft edge, in units: about 1.5 pixels at 128.
SOFT = 0.024


@dataclasses.dataclass(frozen=True)
class Shape:
    """Coverage in [0, 1] of every pixel of a window of the canvas; outside it is 0."""

    window: tuple[slice, slice]
    alpha: Array


def edge(inside: Array, soft: float = SOFT) -> Array:
    """Turn a signed distance (positive inside, in units) into coverage in [0, 1]."""
    coverage: Array = inside * np.float32(1 / soft)
    coverage += np.float32(0.5)
    np.minimum(coverage, np.float32(1), out=coverage)  # np.clip costs twice as much here
    np.maximum(coverage, np.float32(0), out=coverage)
    return coverage


@functools.lru_cache(maxsize=8)
def _pixel_grid(size: int) -> tuple[Array, Array]:
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
    return centres[None, :], centres[:, None]


@functools.lru_cache(maxsize=64)
def _interpolation(size: int, cells: int) -> tuple[NDArray[np.intp], Array]:
    """Return the left node (size,) and the smoothstep weight (size, 1) of every pixel."""
    at = np.linspace(0, cells - 1, size)
    left = np.minimum(at.astype(np.intp), cells - 2)
    t = (at - left).astype(np.float32)
    return left, (t * t * (3 - 2 * t))[:, None]


class Canvas:
    """Pixels (size, size) of float32, 0 black to 1 white, with the coordinates `u` and `v`.

    Args:
        pose: rotation (radians), shift in u, shift in v, scale.
    """

    def __init__(
        self, size: int, pose: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)
    ) -> None:
        """Begin with a black canvas."""
        angle, self._shift_u, self._shift_v, self._scale = pose
        self._cos, self._sin = math.cos(angle), math.sin(angle)
        self.size = size
        self.pixels: Array = np.zeros((size, size), np.float32)
        x, y = _pixel_grid(size)
        x, y = (x - self._shift_u) / self._scale, (y - self._shift_v) / self._scale
        self.u: Array = (x * self._cos + y * self._sin).astype(np.float32)
        self.v: Array = (y * self._cos - x * self._sin).astype(np.float32)

    def window(self, u: float, v: float, half_u: float, half_v: float) -> tuple[slice, slice]:
        """Return the rows and columns that a box around (u, v) can touch."""
        x = self._scale * (u * self._cos - v * self._sin) + self._shift_u
        y = self._scale * (u * self._sin + v * self._cos) + self._shift_v
        half_x = self._scale * (half_u * abs(self._cos) + half_v * abs(self._sin))
        half_y = self._scale * (half_u * abs(self._sin) + half_v * abs(self._cos))
        return self._pixels_between(y, half_y), self._pixels_between(x, half_x)

    def _pixels_between(self, centre: float, half: float) -> slice:
        first = math.floor((centre - half + 1) * self.size / 2) - 1
        last = math.ceil((centre + half + 1) * self.size / 2) + 1
        first = min(max(first, 0), self.size - 1)
        return slice(first, max(min(last, self.size), first + 1))

    def whole(self, alpha: Array) -> Shape:
        """Make a shape of a coverage that spans the canvas."""
        return Shape((slice(None), slice(None)), alpha)

    def ellipse(
        self,
        u: float,
        v: float,
        radius_u: float,
        radius_v: float,
        angle: float = 0.0,
        *,
        soft: float = SOFT,
        wobble: Sequence[tuple[int, float, float]] = (),
    ) -> Shape:
        """Return an ellipse, rotated by `angle` radians; `wobble` = (lobes, depth, phase)."""
        reach = max(radius_u, radius_v) if angle or wobble else 0.0
        stretch = 1 + sum(abs(depth) for _, depth, _ in wobble)
        window = self.window(
            u, v, max(radius_u, reach) * stretch + soft, max(radius_v, reach) * stretch + soft
        )
        x, y = self.u[window] - np.float32(u), self.v[window] - np.float32(v)
        if angle:
            cos, sin = math.cos(angle), math.sin(angle)
            x, y = x * cos + y * sin, y * cos - x * sin
        a, b = x * np.float32(1 / radius_u), y * np.float32(1 / radius_v)
        a *= a
        b *= b
        rho = np.sqrt(a + b)
        if wobble:
            theta = np.arctan2(y, x)
            bound = sum(
                (np.float32(depth) * np.sin(lobes * theta + np.float32(phase)))
                for lobes, depth, phase in wobble
            )
            rho = rho / (1 + bound)
        np.subtract(np.float32(1), rho, out=rho)
        rho *= np.float32(min(radius_u, radius_v))
        return Shape(window, edge(rho, soft))

    def ring(
        self, u: float, v: float, radius_u: float, radius_v: float, width: float, angle: float = 0.0
    ) -> Shape:
        """Return the outline of an ellipse, `width` wide."""
        outer = self.ellipse(u, v, radius_u + width / 2, radius_v + width / 2, angle)
        inner = self.ellipse(u, v, radius_u - width / 2, radius_v - width / 2, angle)
        alpha = outer.alpha.copy()
        rows, columns = outer.window
        top, left = inner.window[0].start - rows.start, inner.window[1].start - columns.start
        height, width_px = inner.alpha.shape
        alpha[top : top + height, left : left + width_px] -= inner.alpha
        return Shape(outer.window, np.maximum(alpha, 0))

    def capsule(
        self, u0: float, v0: float, u1: float, v1: float, radius: float, soft: float = SOFT
    ) -> Shape:
        """Return the points within `radius` of the segment from (u0, v0) to (u1, v1)."""
        reach = radius + soft
        window = self.window(
            (u0 + u1) / 2, (v0 + v1) / 2, abs(u1 - u0) / 2 + reach, abs(v1 - v0) / 2 + reach
        )
        x, y = self.u[window] - np.float32(u0), self.v[window] - np.float32(v0)
        du, dv = u1 - u0, v1 - v0
        t = np.clip((x * du + y * dv) / max(du * du + dv * dv, 1e-9), 0, 1)
        distance = np.sqrt((x - t * du) ** 2 + (y - t * dv) ** 2)
        return Shape(window, edge(np.float32(radius) - distance, soft))

    def path(self, points: Sequence[tuple[float, float]], radius: float) -> Shape:
        """Return a line of `radius` through the points, spanning the canvas."""
        alpha = np.zeros_like(self.pixels)
        for (u0, v0), (u1, v1) in itertools.pairwise(points):
            piece = self.capsule(u0, v0, u1, v1, radius)
            alpha[piece.window] = np.maximum(alpha[piece.window], piece.alpha)
        return self.whole(alpha)

    def clipped(self, shape: Shape, by: Array) -> Shape:
        """Return the shape times a coverage (size, size)."""
        return Shape(shape.window, shape.alpha * by[shape.window])

    def paint(self, shape: Shape, value: float | Array) -> None:
        """Cover the shape's pixels with a grey value, a number or (size, size)."""
        pixels = self.pixels[shape.window]
        new = value if isinstance(value, float) else value[shape.window]
        pixels += shape.alpha * (new - pixels)

    def add(self, shape: Shape, value: float) -> None:
        """Add to the shape's pixels, as overlying tissue does in a projection."""
        self.pixels[shape.window] += shape.alpha * np.float32(value)

    def mask(self, *shapes: Shape) -> NDArray[np.bool_]:
        """Return the pixels (size, size) that any of the shapes covers by at least a half."""
        out = np.zeros(self.pixels.shape, np.bool_)
        for shape in shapes:
            out[shape.window] |= shape.alpha >= 0.5
        return out

    def texture(self, rng: np.random.Generator, cells: int) -> Array:
        """Return smooth noise (size, size) of about unit variance with `cells` nodes a side."""
        nodes = rng.standard_normal((cells, cells), dtype=np.float32)
        left, weight = _interpolation(self.size, cells)
        rows = nodes[left] + weight * (nodes[left + 1] - nodes[left])
        columns = rows.T
        full = columns[left] + weight * (columns[left + 1] - columns[left])
        return np.asarray(full.T * np.float32(1.35))  # interpolation lowers the deviation to 0.74
