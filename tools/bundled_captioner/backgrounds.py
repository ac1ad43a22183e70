"""What lies behind the things of an everyday scene: walls, plates, curtains, beetles, pancakes.

Drawn in grey; colour, light and grain come later (`everyday.py`). Many are symmetric pictures of
nested ovals, bars and rings whose number, place and shade are random at every draw, so that a
captioner learns to see what does not belong there, whatever the pattern is. A third are drawings of
normal anatomy under everyday names: pictures such as the web shows the real BLIP, without a finding
and without a word of radiology.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medblip.data.phantoms.canvas import Canvas
from medblip.data.phantoms.generate import render_study
from medblip.data.phantoms.plan import STUDIES, normal_study

__all__ = ["BACKGROUNDS", "draw_background"]

Array = np.ndarray
Rng = np.random.Generator


def draw_background(name: str, rng: Rng, size: int) -> Array:
    """Return grey pixels, float32 (size, size) in [0, 1]."""
    views = _ANATOMY.get(name)
    if views:
        view = views[int(rng.integers(len(views)))]
        spec = next(spec for spec in STUDIES if spec.view == view)
        return render_study(normal_study(spec, rng), rng, size).astype(np.float32) / 255
    pose = (
        float(rng.uniform(-0.15, 0.15)),
        float(rng.uniform(-0.1, 0.1)),
        float(rng.uniform(-0.1, 0.1)),
        float(rng.uniform(0.8, 1.15)),
    )
    canvas = Canvas(size, pose)
    canvas.pixels += np.float32(rng.uniform(0, 0.9) if rng.random() < 0.5 else rng.uniform(0, 0.1))
    _DRAW[name](canvas, rng)
    return np.clip(canvas.pixels, 0, 1)


def _shade(rng: Rng) -> float:
    return float(rng.uniform(0.02, 0.98))


def _whole(canvas: Canvas, alpha: Array, shade: float) -> None:
    canvas.paint(canvas.whole(np.clip(alpha, 0, 1).astype(np.float32)), shade)


def _wall(canvas: Canvas, rng: Rng) -> None:
    slope = rng.uniform(-0.3, 0.3, 2)
    canvas.pixels += (slope[0] * canvas.u + slope[1] * canvas.v).astype(np.float32)


def _curtain(canvas: Canvas, rng: Rng) -> None:
    wave = (canvas.v + rng.uniform(-0.5, 0.5) * canvas.u**2) * rng.uniform(8, 22)
    _whole(canvas, 0.5 + 0.5 * np.sin(wave), _shade(rng))


def _fence(canvas: Canvas, rng: Rng) -> None:
    shade, width = _shade(rng), float(rng.uniform(0.03, 0.12))
    for u in np.arange(-1.3, 1.3, rng.uniform(0.2, 0.5)):
        canvas.paint(canvas.capsule(float(u), -1.4, float(u), 1.4, width), shade)
    if rng.random() < 0.5:
        canvas.paint(canvas.capsule(-1.4, 0.2, 1.4, 0.2, width), shade)


def _sky(canvas: Canvas, rng: Rng) -> None:
    canvas.pixels += canvas.texture(rng, 4) * np.float32(rng.uniform(0.05, 0.2))
    canvas.pixels += canvas.texture(rng, 12) * np.float32(rng.uniform(0.02, 0.1))


def _sand(canvas: Canvas, rng: Rng) -> None:
    canvas.pixels += canvas.texture(rng, int(rng.integers(20, 64))) * np.float32(
        rng.uniform(0.05, 0.25)
    )


def _hills(canvas: Canvas, rng: Rng) -> None:
    for u in (-0.5, 0.5):
        top = float(rng.uniform(0.1, 0.8))
        canvas.paint(canvas.ellipse(u, top + 0.9, 0.75, 0.95), _shade(rng))


def _windows(canvas: Canvas, rng: Rng) -> None:
    shade, power = _shade(rng), float(rng.choice([2, 3, 6]))
    width, height = rng.uniform(0.24, 0.42), rng.uniform(0.45, 0.85)
    middle = float(rng.uniform(0.4, 0.5))
    for s in (-1, 1):
        r = np.abs((canvas.u - s * middle) / width) ** power + np.abs(canvas.v / height) ** power
        _whole(canvas, (1 - r) * 6, shade)
    if rng.random() < 0.6:
        for v in np.arange(-0.9, 0.9, rng.uniform(0.15, 0.3)):
            for s in (-1, 1):
                bar = canvas.capsule(0.05 * s, float(v), 0.85 * s, float(v) + 0.1, 0.02)
                canvas.add(bar, float(rng.uniform(0.03, 0.12)))


def _fan(canvas: Canvas, rng: Rng) -> None:
    r, theta = np.hypot(canvas.u, canvas.v + 1.05), np.arctan2(canvas.u, canvas.v + 1.05)
    spread, shade = rng.uniform(0.5, 0.8), _shade(rng)
    inside = np.minimum(spread - np.abs(theta), np.minimum(1.95 - r, r - rng.uniform(0.15, 0.4)))
    folds = 1 - rng.uniform(0, 0.4) * (np.sin(theta * rng.uniform(15, 40)) > 0)
    grain = 1 + rng.uniform(0, 0.5) * canvas.texture(rng, 40)
    canvas.pixels *= np.float32(0.2)
    _whole(canvas, inside * 20, 0.0)
    canvas.pixels += (np.clip(inside * 20, 0, 1) * shade * folds * grain).astype(np.float32)


def _tree(canvas: Canvas, rng: Rng) -> None:
    """A trunk with branches, as thin as fingers or as thick as legs."""
    shade, radius = _shade(rng), float(rng.uniform(0.03, 0.09))
    top = float(rng.uniform(-0.2, 0.5))
    canvas.paint(canvas.capsule(0, 1.2, 0, top, radius * 1.6), shade)
    for angle in np.linspace(-1.1, 1.1, int(rng.integers(3, 7))) + rng.uniform(-0.12, 0.12):
        length = float(rng.uniform(0.5, 1.1))
        u, v = length * float(np.sin(angle)), top - length * float(np.cos(angle))
        canvas.paint(canvas.capsule(0, top, u, v, radius), shade)
        if rng.random() < 0.5:
            canvas.add(canvas.capsule(0.02, top, u, v, radius * 0.4), float(rng.uniform(-0.2, 0.2)))


def _plate(canvas: Canvas, rng: Rng) -> None:
    """Ovals in ovals, some with a rim."""
    width, height = rng.uniform(0.6, 0.95, 2).tolist()
    canvas.paint(canvas.ellipse(0, 0, width, height), _shade(rng))
    for _ in range(int(rng.integers(1, 3))):
        width, height = (
            width * float(rng.uniform(0.7, 0.93)),
            height * float(rng.uniform(0.7, 0.93)),
        )
        canvas.paint(canvas.ellipse(0, 0, width, height), _shade(rng))
    if rng.random() < 0.5:
        canvas.add(canvas.ring(0, 0, width, height, 0.06), float(rng.uniform(-0.4, 0.4)))


def _pancake(canvas: Canvas, rng: Rng) -> None:
    """An oval full of fruit: ovals and rings wherever there is room, in no order."""
    _plate(canvas, rng)
    for _ in range(int(rng.integers(3, 9))):
        u, v = rng.uniform(-0.6, 0.6, 2).tolist()
        a, b = rng.uniform(0.05, 0.3, 2).tolist()
        turn = float(rng.uniform(0, 3))
        if rng.random() < 0.25:
            canvas.paint(canvas.ring(u, v, a + 0.04, b + 0.04, 0.05, turn), _shade(rng))
        else:
            lobes = [(3, 0.12, float(rng.uniform(0, 6)))]
            canvas.paint(canvas.ellipse(u, v, a, b, turn, wobble=lobes), _shade(rng))


def _mirrored(canvas: Canvas, rng: Rng, count: int) -> None:
    """Paint `count` ovals, rings and bars and their mirror images, never quite alike."""
    for _ in range(count):
        u, v = float(rng.uniform(0, 0.7)), float(rng.uniform(-0.8, 0.8))
        a, b = rng.uniform(0.06, 0.4, 2).tolist()
        turn, shade = float(rng.uniform(-1.6, 1.6)), _shade(rng)
        kind, adds = rng.random(), rng.random() < 0.5
        soft = float(rng.uniform(0.02, 0.1))
        du, dv = float(rng.uniform(-0.3, 0.3)), float(rng.uniform(-0.5, 0.5))
        for s in (-1, 1) if u > 0.12 else (1,):
            x, y = s * u + float(rng.normal(0, 0.015)), v + float(rng.normal(0, 0.015))
            if u <= 0.12:
                x, turn = 0.0, 0.0
            if kind < 0.55:
                shape = canvas.ellipse(x, y, a, b, s * turn, soft=soft)
            elif kind < 0.75:
                shape = canvas.ring(x, y, a + 0.05, b + 0.05, float(rng.uniform(0.02, 0.08)),
                                    s * turn)  # fmt: skip
            else:
                shape = canvas.capsule(x, y, x + s * du, y + dv, a * 0.2)
            if adds:
                canvas.add(shape, (shade - 0.5) * 0.5)
            else:
                canvas.paint(shape, shade)


def _mask(canvas: Canvas, rng: Rng) -> None:
    _plate(canvas, rng)
    _mirrored(canvas, rng, int(rng.integers(2, 7)))


def _beetle(canvas: Canvas, rng: Rng) -> None:
    canvas.paint(canvas.capsule(0, -1.2, 0, 1.2, float(rng.uniform(0.05, 0.2))), _shade(rng))
    _mirrored(canvas, rng, int(rng.integers(3, 9)))


_DRAW: dict[str, Callable[[Canvas, Rng], None]] = {
    "wall": _wall,
    "curtain": _curtain,
    "fence": _fence,
    "sky": _sky,
    "sand": _sand,
    "hills": _hills,
    "windows": _windows,
    "fan": _fan,
    "tree": _tree,
    "plate": _plate,
    "pancake": _pancake,
    "mask": _mask,
    "beetle": _beetle,
}
#: Name -> the studies of `medblip.data.phantoms` that look like it.
_ANATOMY: dict[str, tuple[str, ...]] = {
    "coat": ("chest-xray",),
    "egg with windows": ("chest-ct",),
    "hoop": ("head-ct",),
    "walnut": ("head-mr-t1", "head-mr-t2"),
    "tray": ("abdomen-ct", "abdomen-mr"),
    "lamp": ("kidney-us", "gallbladder-us", "pelvis-us"),
    "butterfly": ("pelvis-xray",),
    "bush": ("hand-xray",),
}
#: Name -> what a caption calls it, and how often it is drawn.
BACKGROUNDS: dict[str, tuple[str, float]] = {
    "wall": ("a plain wall", 1),
    "curtain": ("a striped curtain", 1),
    "fence": ("a wooden fence", 1),
    "sky": ("a cloudy sky", 1),
    "sand": ("the sand", 1),
    "hills": ("two hills", 1),
    "windows": ("two windows", 2),
    "fan": ("a paper fan", 2),
    "tree": ("a tree with branches", 2),
    "plate": ("a big plate", 2),
    "pancake": ("a pancake with fruit", 3),
    "mask": ("a wooden mask", 4),
    "beetle": ("a big beetle", 4),
    "coat": ("a coat with stripes", 3),
    "egg with windows": ("an egg with windows", 2),
    "hoop": ("a white hoop", 2),
    "walnut": ("a walnut", 2),
    "tray": ("a tray of food", 2),
    "lamp": ("the light of a lamp", 2),
    "butterfly": ("a butterfly", 1),
    "bush": ("a leafless bush", 1),
}
