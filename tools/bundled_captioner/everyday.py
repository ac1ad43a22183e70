"""Everyday scenes with exact captions: what the bundled captioner is trained on.

Shapes, shades, colours, places and backgrounds in ordinary English; no radiology, in words or in
pictures. Two thirds of the scenes are black and white and grainy, so that the captioner meets a
radiograph as the real BLIP does: with eyes that see and words that do not fit.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from backgrounds import BACKGROUNDS, draw_background
from shapes import SHAPES

__all__ = [
    "GRID",
    "THINGS",
    "Batch",
    "Scene",
    "background_pool",
    "batch",
    "labels",
    "scene",
    "words",
]

Array = np.ndarray
Rng = np.random.Generator

COLOURS = {
    "red": (0.85, 0.15, 0.15), "green": (0.15, 0.65, 0.2), "blue": (0.15, 0.3, 0.85),
    "yellow": (0.9, 0.85, 0.2), "orange": (0.95, 0.55, 0.1), "purple": (0.55, 0.2, 0.65),
    "pink": (0.95, 0.6, 0.75), "brown": (0.45, 0.28, 0.12),
}  # fmt: skip
SHADES = {"black": 0.03, "dark": 0.22, "grey": 0.5, "pale": 0.76, "white": 0.97}
SIZES = {"tiny": 0.12, "small": 0.2, "": 0.3, "big": 0.45}
_GREY_SHARE, _BLURRY_SHARE = 0.67, 0.3
_ROWS, _COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")
#: Patches per side in which train.py asks what is where; things per scene at most.
GRID, THINGS = 8, 2
_NAMES = tuple(SHAPES)
_TONES = (*SHADES, *COLOURS)


@dataclasses.dataclass(frozen=True)
class Thing:
    """One thing in a scene; `cell` is one of nine places in reading order."""

    shape: str
    size: str
    tone: str
    blurry: bool
    cell: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """Pixels, uint8 (size, size, 3); the caption; and what is where.

    Args:
        owners: Per word of the caption (a comma counts as one) the thing it speaks of, or -1.
        background: Index among the backgrounds.
        shapes, tones: int64 (GRID, GRID): 0 nothing, else 1 + index of what fills the patch.
        places: bool (THINGS, GRID, GRID): the patches of each thing.
    """

    pixels: Array
    caption: str
    owners: list[int]
    background: int
    shapes: Array
    tones: Array
    places: Array


def labels() -> tuple[int, int, int]:
    """Return how many backgrounds, shapes (with nothing) and tones (with nothing) there are."""
    return len(BACKGROUNDS), 1 + len(_NAMES), 1 + len(_TONES)


def background_pool(seed: int, first: int, count: int, size: int) -> tuple[Array, Array]:
    """Draw backgrounds: grey uint8 (count, size, size), and their indices."""
    names = list(BACKGROUNDS)
    weights = np.array([weight for _, weight in BACKGROUNDS.values()], dtype=float)
    pixels, kinds = np.empty((count, size, size), np.uint8), np.empty(count, np.int64)
    for row in range(count):
        rng = np.random.default_rng([seed, 1, first + row])
        kinds[row] = rng.choice(len(names), p=weights / weights.sum())
        pixels[row] = draw_background(names[kinds[row]], rng, size) * 255
    return pixels, kinds


class Batch(NamedTuple):
    """The fields of several scenes, stacked."""

    pixels: Array
    captions: list[str]
    owners: list[list[int]]
    background: Array
    shapes: Array
    tones: Array
    places: Array


def batch(seed: int, number: int, count: int, pool: tuple[Array, Array]) -> Batch:
    """Draw `count` scenes in front of backgrounds of the pool."""
    rng = np.random.default_rng([seed, 2, number])
    pixels, kinds = pool
    drawn = []
    for index in rng.integers(len(kinds), size=count):
        drawn.append(scene(rng, pixels[index].astype(np.float32) / 255, int(kinds[index])))
    return Batch(
        np.stack([s.pixels for s in drawn]),
        [s.caption for s in drawn],
        [s.owners for s in drawn],
        np.array([s.background for s in drawn]),
        np.stack([s.shapes for s in drawn]),
        np.stack([s.tones for s in drawn]),
        np.stack([s.places for s in drawn]),
    )


def scene(rng: Rng, background: Array, kind: int) -> Scene:
    """Put things in front of a background, float32 (size, size)."""
    size = len(background)
    grey = rng.random() < _GREY_SHARE
    picture = _tinted(background, rng, grey)
    shapes, tones = np.zeros((2, GRID, GRID), np.int64)
    places = np.zeros((THINGS, GRID, GRID), bool)
    things: list[Thing] = []
    cells = rng.permutation(9)[: rng.choice(3, p=[0.1, 0.75, 0.15])]
    for cell in sorted(cells.tolist()):  # told in reading order
        thing = random_thing(cell, rng, grey)
        thing, hit = _paint(picture, thing, rng)
        shapes[hit] = 1 + _NAMES.index(thing.shape)
        tones[hit] = 1 + _TONES.index(thing.tone)
        places[len(things)] = hit
        things.append(thing)
    picture = _photograph(picture, rng, grey)
    pixels = (np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if pixels.shape[2] == 1:
        pixels = np.broadcast_to(pixels, (size, size, 3))
    names = list(BACKGROUNDS)
    text, owners = caption(names[kind], things, grey, rng)
    return Scene(pixels, text, owners, kind, shapes, tones, places)


def random_thing(cell: int, rng: Rng, grey: bool) -> Thing:
    """Draw a thing for one of the nine places."""
    tones = list(SHADES) if grey or rng.random() < 0.25 else list(COLOURS)
    return Thing(
        shape=_NAMES[int(rng.integers(len(_NAMES)))],
        size=list(SIZES)[int(rng.choice(4, p=[0.2, 0.3, 0.3, 0.2]))],
        tone=tones[int(rng.integers(len(tones)))],
        blurry=bool(rng.random() < _BLURRY_SHARE),
        cell=cell,
    )


def caption(background: str, things: list[Thing], grey: bool, rng: Rng) -> tuple[str, list[int]]:
    """Say what is where, by the image's own left and right: the opposite of a radiologist's.

    Returns:
        The caption, and per word the index of the thing it speaks of, or -1.
    """
    kind = "a black and white photo of" if grey else "a photo of"
    behind = BACKGROUNDS[background][0]
    parts: list[tuple[str, int]] = []
    for index, thing in enumerate(things):
        parts += [("and", -1)] if index else []
        parts.append((f"{_name(thing)} {where(thing.cell)}", index))
    if not things:
        parts = [(f"{kind} {behind}", -1)]
    elif rng.random() < 0.75:
        parts = [(kind, -1), *parts, (f"in front of {behind}", -1)]
    else:
        parts = [("there is", -1), *parts, (f", and {behind} behind", -1)]
    owners = [owner for text, owner in parts for _ in text.split()]
    return " ".join(text for text, _ in parts).replace(" ,", ","), owners


def where(cell: int) -> str:
    """Say one of the nine places."""
    column, row = _COLUMNS[cell % 3], _ROWS[cell // 3]
    if column == row == "middle":
        return "in the middle"
    if row == "middle":
        return f"on the {column} side"
    return f"at the {row}" if column == "middle" else f"at the {row} {column}"


def words() -> list[str]:
    """Return every word that a caption can hold, sorted."""
    rng = np.random.default_rng(0)
    found: set[str] = set()
    for _ in range(4000):
        background = str(rng.choice(list(BACKGROUNDS)))
        grey = bool(rng.random() < 0.5)
        cells = rng.permutation(9)[: rng.integers(0, THINGS + 1)]
        things = [random_thing(int(cell), rng, grey) for cell in cells]
        text, _ = caption(background, things, grey, rng)
        found.update(text.replace(",", " ").split())
    return sorted(found)


def _name(thing: Thing) -> str:
    parts = [thing.size, "blurry" if thing.blurry else "", thing.tone, thing.shape]
    text = " ".join(part for part in parts if part)
    if thing.shape == "dots":
        return "some " + text
    return ("an " if text[0] in "aeiou" else "a ") + text


@functools.cache
def _axis(size: int) -> Array:
    return np.linspace(-1, 1, size, dtype=np.float32)


def _paint(picture: Array, thing: Thing, rng: Rng) -> tuple[Thing, Array]:
    """Paint one thing into `picture`; return what was painted, and its patches (GRID, GRID)."""
    size = len(picture)
    cx = (thing.cell % 3 - 1) * 0.58 + rng.uniform(-0.15, 0.15)
    cy = (thing.cell // 3 - 1) * 0.58 + rng.uniform(-0.15, 0.15)
    radius = SIZES[thing.size] * rng.uniform(0.85, 1.2)
    reach = radius * (2.5 if thing.shape == "rope" else 1.6)
    columns, rows = _span(cx, reach, size), _span(cy, reach, size)
    x, y = (_axis(size)[columns] - cx) / radius, (_axis(size)[rows, None] - cy) / radius
    angle = rng.uniform(-np.pi, np.pi)
    if thing.shape in ("bowl", "comb"):  # what makes them recognisable stays nearly upright
        angle *= 0.08
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = SHAPES[thing.shape](u, v, rng) * radius
    edge = rng.uniform(0.07, 0.14) if thing.blurry else rng.uniform(0.015, 0.03)
    mask = np.clip(inside / edge + 0.5, 0, 1)
    here = picture[rows, columns]
    colour = _colour(thing.tone, picture.shape[2])
    behind = (here * mask[..., None]).sum((0, 1)) / max(1e-3, float(mask.sum()))
    if np.abs(colour - behind).max() < 0.17:  # it would not show: take a tone that does
        thing = dataclasses.replace(thing, tone="white" if behind.mean() < 0.5 else "black")
        colour = _colour(thing.tone, picture.shape[2])
    here += (mask * rng.uniform(0.65, 1.0))[..., None] * (colour - here)
    return thing, _patches(mask > 0.5, rows.start, columns.start, size)


def _patches(mask: Array, top: int, left: int, size: int) -> Array:
    """Return the patches of which a mask covers a tenth, or the most of itself."""
    ys, xs = np.nonzero(mask)
    side = size // GRID
    patches = (ys + top) // side * GRID + (xs + left) // side
    counts = np.bincount(patches, minlength=GRID * GRID).reshape(GRID, GRID)
    hit: Array = (counts >= 0.1 * side * side) | ((counts > 0) & (counts == counts.max()))
    return hit


def _span(centre: float, reach: float, size: int) -> slice:
    first = int((centre - reach + 1) * size / 2)
    last = int((centre + reach + 1) * size / 2) + 2
    return slice(min(max(first, 0), size - 2), min(max(last, 2), size))


def _colour(tone: str, channels: int) -> Array:
    if tone in COLOURS:
        return np.asarray(COLOURS[tone], np.float32)
    return np.full(channels, SHADES[tone], np.float32)


def _tinted(background: Array, rng: Rng, grey: bool) -> Array:
    """Vary the contrast of a grey background, turn some to negatives, and tint it unless grey."""
    low, high = sorted(rng.uniform(0, 1, 2))
    if high - low < 0.5:
        low, high = max(0.0, low - 0.3), min(1.0, high + 0.3)
    if rng.random() < 0.25:
        low, high = high, low
    moved = np.roll(background, rng.integers(-8, 9, 2).tolist(), (0, 1))[..., None]
    if grey:
        return moved * np.float32(high - low) + np.float32(low)
    tints = 1 - rng.uniform(0, 0.6, (2, 3)).astype(np.float32)
    dark, light = tints[0] * np.float32(low), tints[1] * np.float32(high)
    return moved * (light - dark) + dark


def _photograph(picture: Array, rng: Rng, grey: bool) -> Array:
    """Light, contrast and grain: (H, W, 3 or 1) in and out."""
    size = len(picture)
    axis = _axis(size)
    slope = rng.uniform(-0.12, 0.12, 2).astype(np.float32)
    light = 1 + slope[0] * axis[None, :] + slope[1] * axis[:, None]
    contrast = rng.uniform(0.75, 1.1)
    picture = 0.5 + (picture * light[..., None] - 0.5) * np.float32(contrast)
    picture = np.clip(picture + np.float32(rng.uniform(-0.06, 0.06)), 0, 1)
    grain = rng.standard_normal((size, size, 1 if grey else 3), dtype=np.float32)
    return picture + grain * np.float32(rng.uniform(0.005, 0.05))
