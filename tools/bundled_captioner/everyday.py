"""Everyday scenes with exact captions: what the bundled captioner is trained on.

Shapes, shades, colours, places and backgrounds in ordinary English; no radiology. Half of the
pictures are black and white and noisy, so that the captioner meets a radiograph as the real BLIP
does: with eyes that see and words that do not fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pictures
from pictures import where

__all__ = ["ALL_BACKGROUNDS", "ALL_SHAPES", "ALL_TONES", "batch", "scene", "words"]

Array = np.ndarray

SHAPES = (
    "ball", "egg", "ring", "box", "stick", "triangle", "star", "moon", "cloud", "cross",
    "wave", "dots", "slice of pie", "bowl", "rope", "leaf",
)  # fmt: skip
BACKGROUNDS = {
    "wall": "a plain wall",
    "stripes": "a striped curtain",
    "fence": "a wooden fence",
    "plate": "a big plate",
    "hills": "two hills",
    "windows": "two windows",
    "sky": "a cloudy sky",
    "fan": "a paper fan",
    "sand": "the sand",
    "branches": "a tree with branches",
}
COLOURS = {
    "red": (0.85, 0.15, 0.15), "green": (0.15, 0.65, 0.2), "blue": (0.15, 0.3, 0.85),
    "yellow": (0.9, 0.85, 0.2), "orange": (0.95, 0.55, 0.1), "purple": (0.55, 0.2, 0.65),
    "pink": (0.95, 0.6, 0.75), "brown": (0.45, 0.28, 0.12),
}  # fmt: skip
SHADES = {"black": 0.04, "dark": 0.22, "grey": 0.5, "pale": 0.76, "white": 0.96}
SIZES = {"tiny": 0.13, "small": 0.2, "": 0.29, "big": 0.42}
#: Everything that the scaffold of train.py asks for, scenes and pictures together.
ALL_BACKGROUNDS = (*BACKGROUNDS, *pictures.BACKGROUNDS)
ALL_SHAPES = ("nothing", *SHAPES, *pictures.SHAPES)
ALL_TONES = tuple(dict.fromkeys(("nothing", *COLOURS, *SHADES, *pictures.SHADES)))


def scene(rng: np.random.Generator, size: int = 128) -> tuple[Array, str, Array]:
    """Draw one scene.

    Returns:
        RGB pixels, uint8 (size, size, 3); the caption; and what is where, int64 (19,): the
        background, then the shape in each of the nine places (0: none), then its tone (0: none).
    """
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    grey = rng.random() < 0.6
    background = str(rng.choice(list(BACKGROUNDS)))
    picture = _background(background, x, y, rng, grey)
    objects = []
    cells = rng.permutation(9)[: rng.choice([1, 2, 3], p=[0.55, 0.35, 0.1])]
    for cell in sorted(cells):  # told in reading order
        objects.append(_place_object(picture, int(cell), x, y, rng, grey))
    picture = _photograph(picture, rng, grey)
    caption = _caption(background, objects, grey, rng)
    things = [(int(str(o["cell"])), str(o["shape"]), str(o["tone"])) for o in objects]
    facts = _facts(background, things)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8), caption, facts


def batch(seed: int, number: int, count: int, size: int) -> tuple[Array, list[str], Array]:
    """Draw scenes and pictures in turn: pixels (count, size, size, 3), captions, facts."""
    rng = np.random.default_rng([seed, number])
    drawn = []
    for index in range(count):
        if index % 2:
            drawn.append(scene(rng, size))
        else:
            grey, caption, things, behind = pictures.picture(number * count + index, size)
            drawn.append((np.repeat(grey[..., None], 3, axis=2), caption, _facts(behind, things)))
    pixels, captions, facts = zip(*drawn, strict=True)
    return np.stack(pixels), list(captions), np.stack(facts)


def _facts(background: str, things: list[tuple[int, str, str]]) -> Array:
    """Return what is where, int64 (19,): background, shape per cell, tone per cell."""
    facts = np.zeros(19, dtype=np.int64)
    facts[0] = ALL_BACKGROUNDS.index(background)
    for cell, shape, tone in things:
        facts[1 + cell] = ALL_SHAPES.index(shape)
        facts[10 + cell] = ALL_TONES.index(tone)
    return facts


def words() -> list[str]:
    """Return every word that a caption can hold, sorted."""
    rng = np.random.default_rng(0)
    found: set[str] = set()
    for _ in range(3000):
        background = str(rng.choice(list(BACKGROUNDS)))
        objects = [_random_object(int(cell), rng, bool(rng.random() < 0.5))
                   for cell in rng.permutation(9)[: rng.integers(1, 4)]]  # fmt: skip
        text = _caption(background, objects, bool(rng.random() < 0.5), rng)
        found.update(text.replace(",", " ").replace(".", " ").split())
    told = [*pictures.SCENES.values(), *(f"{a} {b}" for a, b in pictures.LOOKS.values())]
    return sorted(found | {word for text in told for word in text.split()})


def _random_object(cell: int, rng: np.random.Generator, grey: bool) -> dict[str, object]:
    return {
        "cell": cell,
        "shape": str(rng.choice(SHAPES)),
        "size": str(rng.choice(list(SIZES), p=[0.2, 0.3, 0.3, 0.2])),
        "tone": str(rng.choice(list(SHADES) if grey else [*COLOURS, "black", "white"])),
        "blurry": bool(rng.random() < 0.25),
    }


def _place_object(
    picture: Array, cell: int, x: Array, y: Array, rng: np.random.Generator, grey: bool
) -> dict[str, object]:
    """Paint one object into `picture` (H, W, 3) and return what was painted."""
    thing = _random_object(cell, rng, grey)
    cx = (cell % 3 - 1) * 0.58 + rng.uniform(-0.13, 0.13)
    cy = (cell // 3 - 1) * 0.58 + rng.uniform(-0.13, 0.13)
    radius = SIZES[str(thing["size"])] * rng.uniform(0.9, 1.15)
    angle = rng.uniform(-np.pi, np.pi)
    u = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
    v = (-(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)) / radius
    if thing["shape"] in ("bowl", "moon"):  # keep what makes them recognisable nearly upright
        u, v = (x - cx) / radius, (y - cy) / radius
    inside = _DISTANCE[str(thing["shape"])](u, v, rng) * radius
    edge = 0.09 if thing["blurry"] else 0.015
    mask = 1 / (1 + np.exp(-np.clip(inside / edge * 2, -30, 30)))
    tone = str(thing["tone"])
    here = picture[np.abs(y - cy) + np.abs(x - cx) < radius].mean(axis=0)
    colour = np.asarray(COLOURS.get(tone) or [SHADES[tone]] * 3, dtype=np.float32)
    if (
        np.abs(colour - here).max() < 0.17
    ):  # invisible against what lies behind: take a tone that shows
        tone = "white" if here.mean() < 0.5 else "black"
        colour = np.asarray([SHADES[tone]] * 3, dtype=np.float32)
        thing["tone"] = tone
    opacity = rng.uniform(0.7, 1.0)
    picture += (mask * opacity)[..., None] * (colour - picture)
    return thing


def _polygon_star(u: Array, v: Array, rng: np.random.Generator) -> Array:
    theta, r = np.arctan2(v, u), np.hypot(u, v)
    return 0.75 + 0.3 * np.cos(5 * theta) - r


def _cloud(u: Array, v: Array, rng: np.random.Generator) -> Array:
    best = np.full_like(u, -9.0)
    for _ in range(6):
        du, dv, r = rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), rng.uniform(0.35, 0.6)
        best = np.maximum(best, r - np.hypot(u - du, v - dv))
    return best


def _dots(u: Array, v: Array, rng: np.random.Generator) -> Array:
    best = np.full_like(u, -9.0)
    for _ in range(int(rng.integers(5, 9))):
        du, dv = rng.uniform(-0.9, 0.9, 2)
        best = np.maximum(best, 0.2 - np.hypot(u - du, v - dv))
    return best


def _rope(u: Array, v: Array, rng: np.random.Generator) -> Array:
    bend = rng.uniform(-0.6, 0.6)
    return np.minimum(0.08 - np.abs(v - bend * (u / 2.4) ** 2), 2.4 - np.abs(u))


_DISTANCE: dict[str, Callable[[Array, Array, np.random.Generator], Array]] = {
    "ball": lambda u, v, rng: 0.85 - np.hypot(u, v),
    "egg": lambda u, v, rng: 0.8 - np.hypot(u * 0.75, v * 1.4),
    "ring": lambda u, v, rng: 0.17 - np.abs(np.hypot(u, v) - 0.8),
    "box": lambda u, v, rng: 0.78 - np.maximum(np.abs(u), np.abs(v) * 1.15),
    "stick": lambda u, v, rng: np.minimum(0.14 - np.abs(v), 1.3 - np.abs(u)),
    "triangle": lambda u, v, rng: np.minimum(
        0.55 - v, np.minimum(0.6 + v - 1.7 * u, 0.6 + v + 1.7 * u)
    ),
    "star": _polygon_star,
    "moon": lambda u, v, rng: np.minimum(0.95 - np.hypot(u, v), np.hypot(u - 0.5, v) - 0.75),
    "cloud": _cloud,
    "cross": lambda u, v, rng: np.maximum(
        np.minimum(0.22 - np.abs(v), 0.95 - np.abs(u)),
        np.minimum(0.22 - np.abs(u), 0.95 - np.abs(v)),
    ),
    "wave": lambda u, v, rng: np.minimum(0.14 - np.abs(v - 0.35 * np.sin(5 * u)), 1.3 - np.abs(u)),
    "dots": _dots,
    "slice of pie": lambda u, v, rng: np.minimum(
        1.1 - np.hypot(u, v + 0.6), np.minimum(v + 0.6 - 1.2 * u, v + 0.6 + 1.2 * u)
    ),
    "bowl": lambda u, v, rng: np.minimum(0.95 - np.hypot(u, v), v + 0.05 + 0.25 * u**2),
    "rope": _rope,
    "leaf": lambda u, v, rng: 1.15 - np.hypot(u * 0.5, np.abs(v) + 0.75),
}


def _noise(size: int, cells: int, rng: np.random.Generator) -> Array:
    """Smooth noise of about `cells` bumps per side, mean 0, (size, size)."""
    coarse = rng.standard_normal((cells + 2, cells + 2), dtype=np.float32)
    at = np.linspace(0, cells, size, dtype=np.float32)
    low = at.astype(int)
    t = at - low
    t = t * t * (3 - 2 * t)
    rows = coarse[low] * (1 - t)[:, None] + coarse[low + 1] * t[:, None]
    return rows[:, low] * (1 - t) + rows[:, low + 1] * t


def _background(kind: str, x: Array, y: Array, rng: np.random.Generator, grey: bool) -> Array:
    """Return an RGB background, float32 (H, W, 3) in [0, 1]."""
    size = x.shape[0]
    dark, light = sorted(rng.uniform(0.05, 0.95, 2))
    if light - dark < 0.3:
        dark, light = max(0.02, dark - 0.2), min(0.98, light + 0.2)
    if rng.random() < 0.3:
        dark, light = light, dark
    tilt = rng.uniform(-0.1, 0.1)
    u, v = x + tilt * y + rng.uniform(-0.08, 0.08), y - tilt * x + rng.uniform(-0.08, 0.08)
    soft = rng.uniform(0.01, 0.06)
    if kind == "wall":
        shape = 0.5 + 0.3 * (rng.uniform(-1, 1) * u + rng.uniform(-1, 1) * v)
    elif kind == "stripes":
        bend = rng.uniform(0, 0.8)
        shape = 0.5 + 0.5 * np.sin((v + bend * u**2) * rng.uniform(9, 20))
    elif kind == "fence":
        shape = 0.5 + 0.5 * np.sign(np.sin(u * rng.uniform(8, 16)))
    elif kind == "plate":
        r = np.hypot(u / rng.uniform(0.7, 0.98), v / rng.uniform(0.7, 0.98))
        rim = (np.abs(r - 0.93) < 0.07) * rng.uniform(0.2, 0.6)
        shape = _step(1 - r, soft) * 0.6 + rim
    elif kind == "hills":
        a, b = rng.uniform(0.2, 0.7, 2)
        left = v - a + 0.8 * np.exp(-((u + 0.5) ** 2) * 6)
        right = v - b + 0.8 * np.exp(-((u - 0.5) ** 2) * 6)
        shape = _step(np.maximum(left, right) - 0.3, soft)
    elif kind == "windows":
        w, h = rng.uniform(0.26, 0.4), rng.uniform(0.5, 0.8)
        power = rng.choice([2, 4, 8])
        pane = lambda c: 1 - (np.abs((u - c) / w) ** power + np.abs(v / h) ** power)  # noqa: E731
        shape = 1 - _step(np.maximum(pane(-0.46), pane(0.46)), soft * 4)
    elif kind == "sky":
        shape = 0.5 + 0.3 * _noise(size, 4, rng) + 0.15 * _noise(size, 9, rng)
    elif kind == "fan":
        r, theta = np.hypot(u, v + 1.05), np.arctan2(u, v + 1.05)
        spread = rng.uniform(0.5, 0.8)
        shape = _step(np.minimum(spread - np.abs(theta), np.minimum(1.95 - r, r - 0.2)), soft)
        shape = shape * (0.6 + 0.3 * np.sin(theta * rng.uniform(15, 30)) * rng.random())
    elif kind == "sand":
        shape = 0.5 + 0.35 * rng.standard_normal(x.shape, dtype=np.float32)
    else:  # branches: a trunk and arms, as thin as fingers
        shape = _step(rng.uniform(0.06, 0.15) - np.abs(u), soft)
        for _ in range(int(rng.integers(3, 7))):
            slope, start = rng.uniform(-1.2, 1.2), rng.uniform(-0.7, 0.7)
            line = np.abs(v - start - slope * u) / np.hypot(1, slope)
            side = np.sign(slope) * u > 0 if rng.random() < 0.8 else np.full_like(u, True)
            shape = np.maximum(shape, _step(0.05 - line, soft) * side)
    shape = np.clip(shape, 0, 1)[..., None].astype(np.float32)
    if grey:
        tints = np.ones((2, 3), np.float32)
    else:
        tints = (1 - rng.uniform(0, 0.5, (2, 3))).astype(np.float32)
    behind, ahead = tints * np.asarray([[dark], [light]], np.float32)
    return behind + shape * (ahead - behind)


def _step(value: Array, softness: float) -> Array:
    return 1 / (1 + np.exp(-np.clip(value / softness, -30, 30)))


def _photograph(picture: Array, rng: np.random.Generator, grey: bool) -> Array:
    """Light, contrast, grain: (H, W, 3) in and out."""
    size = picture.shape[0]
    light = 1 + rng.uniform(0, 0.15) * _noise(size, 2, rng)
    picture = picture * light[..., None]
    picture = 0.5 + (picture - 0.5) * rng.uniform(0.75, 1.1) + rng.uniform(-0.06, 0.06)
    grain = rng.standard_normal((size, size, 1 if grey else 3), dtype=np.float32)
    return picture + rng.uniform(0.005, 0.06) * grain


def _name(thing: dict[str, object]) -> str:
    parts = [str(thing["size"]), "blurry" if thing["blurry"] else ""]
    text = " ".join(part for part in [*parts, str(thing["tone"]), str(thing["shape"])] if part)
    if thing["shape"] == "dots":
        return "some " + text
    return ("an " if text[0] in "aeiou" else "a ") + text


def _caption(
    background: str, objects: list[dict[str, object]], grey: bool, rng: np.random.Generator
) -> str:
    things = [f"{_name(thing)} {where(int(str(thing['cell'])))}" for thing in objects]
    listed = things[0] if len(things) == 1 else ", ".join(things[:-1]) + " and " + things[-1]
    behind = BACKGROUNDS[background]
    kind = "a black and white photo of" if grey else "a photo of"
    forms = (f"{kind} {listed} in front of {behind}", f"there is {listed}, and {behind} behind")
    return str(rng.choice(forms, p=[0.75, 0.25]))
