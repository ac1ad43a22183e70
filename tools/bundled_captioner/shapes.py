"""The things of an everyday scene, as signed distances: positive inside, about 1 unit in radius."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["SHAPES", "Shape"]

Array = np.ndarray
Rng = np.random.Generator
Shape = Callable[[Array, Array, Rng], Array]


def _ring(u: Array, v: Array, rng: Rng) -> Array:
    return rng.uniform(0.1, 0.25) - np.abs(np.hypot(u, v) - 0.8)


def _egg(u: Array, v: Array, rng: Rng) -> Array:
    return 0.8 - np.hypot(u * 0.75, v * rng.uniform(1.2, 1.7))


def _star(u: Array, v: Array, rng: Rng) -> Array:
    return 0.75 + 0.3 * np.cos(5 * np.arctan2(v, u)) - np.hypot(u, v)


def _union(u: Array, v: Array, circles: Array) -> Array:
    best = np.full(u.shape, -9.0, np.float32)
    for du, dv, radius in circles:
        best = np.maximum(best, radius - np.hypot(u - du, v - dv))
    return best


def _cloud(u: Array, v: Array, rng: Rng) -> Array:
    places = rng.uniform([-0.6, -0.4, 0.35], [0.6, 0.4, 0.6], (6, 3))
    return _union(u, v, places)


def _dots(u: Array, v: Array, rng: Rng) -> Array:
    places = rng.uniform([-0.9, -0.9, 0.14], [0.9, 0.9, 0.24], (int(rng.integers(4, 9)), 3))
    return _union(u, v, places)


def _puddle(u: Array, v: Array, rng: Rng) -> Array:
    theta, (a, b) = np.arctan2(v, u), rng.uniform(0, 6, 2)
    return 0.75 + 0.14 * np.sin(3 * theta + a) + 0.1 * np.sin(5 * theta + b) - np.hypot(u, v)


def _moon(u: Array, v: Array, rng: Rng) -> Array:
    shift = rng.uniform(0.3, 0.55)
    return np.minimum(0.95 - np.hypot(u, v), np.hypot(u - shift, v) - 0.75)


def _peel(u: Array, v: Array, rng: Rng) -> Array:
    """A long thin arc."""
    arc = rng.uniform(0.09, 0.18) - np.abs(np.hypot(u + 1.4, v) - 1.6)
    return np.minimum(arc, 1.25 - np.abs(v))


def _cross(u: Array, v: Array, rng: Rng) -> Array:
    a = np.minimum(0.22 - np.abs(v), 0.95 - np.abs(u))
    return np.maximum(a, np.minimum(0.22 - np.abs(u), 0.95 - np.abs(v)))


def _wave(u: Array, v: Array, rng: Rng) -> Array:
    height = 0.35 * np.sin(rng.uniform(3, 6) * u)
    return np.minimum(0.14 - np.abs(v - height), 1.3 - np.abs(u))


def _rope(u: Array, v: Array, rng: Rng) -> Array:
    bend = rng.uniform(-0.6, 0.6)
    return np.minimum(rng.uniform(0.06, 0.1) - np.abs(v - bend * (u / 2.4) ** 2), 2.4 - np.abs(u))


def _stick(u: Array, v: Array, rng: Rng) -> Array:
    return np.minimum(rng.uniform(0.1, 0.18) - np.abs(v), 1.3 - np.abs(u))


def _broken_stick(u: Array, v: Array, rng: Rng) -> Array:
    step, gap = rng.uniform(-0.25, 0.25), rng.uniform(0.06, 0.14)
    shifted = v - np.where(u > 0, step, 0.0)
    return np.minimum(np.minimum(0.18 - np.abs(shifted), 1.3 - np.abs(u)), np.abs(u) - gap)


def _bowl(u: Array, v: Array, rng: Rng) -> Array:
    return np.minimum(0.95 - np.hypot(u, v), v + 0.05 + rng.uniform(-0.3, 0.4) * u**2)


def _eye(u: Array, v: Array, rng: Rng) -> Array:
    """A ring around a ball."""
    r = np.hypot(u, v)
    return np.maximum(0.12 - np.abs(r - 0.85), rng.uniform(0.25, 0.5) - r)


def _pie(u: Array, v: Array, rng: Rng) -> Array:
    wide = rng.uniform(0.9, 1.5)
    sides = np.minimum(v + 0.6 - wide * u, v + 0.6 + wide * u)
    return np.minimum(1.1 - np.hypot(u, v + 0.6), sides)


def _comb(u: Array, v: Array, rng: Rng) -> Array:
    teeth = np.cos(u * rng.uniform(9, 14)) * 0.12
    return np.minimum(np.minimum(teeth, 0.9 - np.abs(u)), 0.7 - np.abs(v))


def _leaf(u: Array, v: Array, rng: Rng) -> Array:
    return 1.15 - np.hypot(u * 0.5, np.abs(v) + 0.75)


def _box(u: Array, v: Array, rng: Rng) -> Array:
    return 0.78 - np.maximum(np.abs(u), np.abs(v) * rng.uniform(0.9, 1.8))


def _triangle(u: Array, v: Array, rng: Rng) -> Array:
    return np.minimum(0.55 - v, np.minimum(0.6 + v - 1.7 * u, 0.6 + v + 1.7 * u))


SHAPES: dict[str, Shape] = {
    "ball": lambda u, v, rng: 0.85 - np.hypot(u, v),
    "egg": _egg,
    "ring": _ring,
    "eye": _eye,
    "box": _box,
    "stick": _stick,
    "broken stick": _broken_stick,
    "triangle": _triangle,
    "star": _star,
    "moon": _moon,
    "peel": _peel,
    "cloud": _cloud,
    "puddle": _puddle,
    "cross": _cross,
    "wave": _wave,
    "dots": _dots,
    "slice of pie": _pie,
    "bowl": _bowl,
    "rope": _rope,
    "comb": _comb,
    "leaf": _leaf,
}
