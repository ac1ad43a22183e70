"""Bone phantoms: the hand (seen from its back) and the pelvis (seen from the front)."""

from __future__ import annotations

import math

import numpy as np

from medblip.data.phantoms.canvas import Canvas, Shape
from medblip.data.phantoms.plan import Study, sign

__all__ = ["draw_hand_xray", "draw_pelvis_xray"]

_RAYS: dict[
    str, tuple[float, float, float, tuple[float, ...]]
] = {  # finger: base u, v; direction from vertical; lengths of metacarpal and phalanges
    "second": (0.19, 0.3, 0.2, (0.36, 0.24, 0.15, 0.1)),
    "third": (0.05, 0.27, 0.04, (0.36, 0.26, 0.18, 0.11)),
    "fourth": (-0.08, 0.29, -0.1, (0.32, 0.24, 0.17, 0.11)),
    "fifth": (-0.2, 0.34, -0.26, (0.3, 0.19, 0.12, 0.09)),
}
_THUMB: tuple[float, float, float, tuple[float, ...]] = (0.26, 0.42, 0.75, (0.25, 0.18, 0.13))


def draw_hand_xray(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a hand with fingers up; the thumb of a left hand points to the image's right."""
    s = sign(study.laterality)
    canvas.pixels += np.float32(0.05)
    spread = float(rng.uniform(0.85, 1.15))
    finding = study.get("fracture")
    broken = str(finding.zone).split()[0] if finding is not None else ""
    rays = {name: (u, v, a * spread, parts) for name, (u, v, a, parts) in _RAYS.items()}
    rays["thumb"] = _THUMB
    canvas.paint(canvas.ellipse(0.02 * s, 0.32, 0.33, 0.36, soft=0.06), 0.26)
    canvas.paint(canvas.capsule(0, 0.6, 0, 1.3, 0.22, soft=0.06), 0.27)
    for u0, v0, angle, parts in rays.values():  # soft tissue
        length = sum(parts) + 0.055 * (len(parts) - 1)
        tip = (s * (u0 + length * math.sin(angle)), v0 - length * math.cos(angle))
        canvas.paint(canvas.capsule(s * u0, v0, *tip, 0.085, soft=0.05), 0.27)
    site = None
    for name, (u0, v0, angle, parts) in rays.items():
        u, v = u0, v0
        for i, length in enumerate(parts):
            radius = (0.042, 0.035, 0.03, 0.025)[i]
            u1, v1 = u + length * math.sin(angle), v - length * math.cos(angle)
            if name == broken and i == 0:
                site = _broken_bone(canvas, (s * u, v), (s * u1, v1), radius, rng)
            else:
                _bone(canvas, (s * u, v), (s * u1, v1), radius)
            u, v = u1 + 0.055 * math.sin(angle), v1 - 0.055 * math.cos(angle)
    for u0, v0 in (
        (-0.16, 0.44),
        (-0.04, 0.4),
        (0.09, 0.42),
        (-0.1, 0.54),
        (0.03, 0.53),
        (0.15, 0.55),
    ):
        carpal = canvas.ellipse(s * u0, v0, 0.065, 0.06, wobble=[(4, 0.08, u0 * 40)])
        canvas.paint(carpal, 0.66)
        canvas.add(canvas.ring(s * u0, v0, 0.06, 0.055, 0.025), 0.1)
    _bone(canvas, (s * 0.1, 0.68), (s * 0.13, 1.3), 0.1)
    _bone(canvas, (-s * 0.14, 0.7), (-s * 0.14, 1.3), 0.06)
    if finding is not None and site is not None:
        finding.mask = site


def _bone(
    canvas: Canvas, start: tuple[float, float], stop: tuple[float, float], radius: float
) -> list[Shape]:
    """A tubular bone: bright cortex, darker marrow, thicker ends."""
    (u0, v0), (u1, v1) = start, stop
    shaft = canvas.capsule(u0, v0, u1, v1, radius * 0.85)
    canvas.paint(shaft, 0.82)
    canvas.paint(canvas.capsule(u0, v0, u1, v1, radius * 0.35, soft=0.04), 0.6)
    knobs = [canvas.ellipse(u, v, radius * 1.1, radius * 1.0) for u, v in (start, stop)]
    for knob in knobs:
        canvas.paint(knob, 0.74)
    return [shaft, *knobs]


def _broken_bone(
    canvas: Canvas,
    start: tuple[float, float],
    stop: tuple[float, float],
    radius: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Two fragments with a dark gap, the far one bent and displaced; the mask is the site."""
    (u0, v0), (u1, v1) = start, stop
    at = float(rng.uniform(0.45, 0.6))
    bend = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.065, 0.095))
    length = math.hypot(u1 - u0, v1 - v0)
    du, dv = (u1 - u0) / length, (v1 - v0) / length
    near = (u0 + (at * length - 0.045) * du, v0 + (at * length - 0.045) * dv)
    middle = (u0 + at * length * du - dv * bend, v0 + at * length * dv + du * bend)
    _bone(canvas, start, near, radius)
    _bone(canvas, (middle[0] + 0.03 * du, middle[1] + 0.03 * dv), stop, radius)
    gap = ((near[0] + middle[0]) / 2, (near[1] + middle[1]) / 2)
    line = canvas.capsule(
        gap[0] - dv * 0.08, gap[1] + du * 0.08, gap[0] + dv * 0.08, gap[1] - du * 0.08, 0.016
    )
    canvas.paint(line, 0.12)
    return canvas.mask(canvas.ellipse(*gap, 0.1, 0.1))


def draw_pelvis_xray(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a pelvis: iliac wings, sacrum, pubic rings, hips and femora."""
    canvas.pixels += np.float32(0.08)
    canvas.paint(canvas.ellipse(0, 0.1, 0.98, 1.2, soft=0.12), 0.32)
    for s in (-1, 1):
        wing = canvas.ellipse(s * 0.47, -0.36, 0.3, 0.36, 0.45 * s, wobble=[(3, 0.06, 1.0 * s)])
        canvas.paint(wing, 0.47)
        canvas.add(canvas.ring(s * 0.47, -0.36, 0.28, 0.34, 0.04, 0.45 * s), 0.14)
        canvas.paint(canvas.ellipse(s * 0.5, 0.1, 0.2, 0.2), 0.6)  # acetabulum
        canvas.paint(canvas.capsule(s * 0.42, 0.15, s * 0.06, 0.3, 0.06), 0.62)
        canvas.paint(canvas.capsule(s * 0.36, 0.48, s * 0.06, 0.36, 0.055), 0.6)
        canvas.paint(canvas.capsule(s * 0.42, 0.18, s * 0.36, 0.48, 0.06), 0.6)
        canvas.paint(canvas.ellipse(s * 0.24, 0.35, 0.11, 0.07, -0.3 * s), 0.24)  # obturator
    canvas.paint(canvas.ellipse(0, -0.35, 0.2, 0.34, wobble=[(3, 0.1, 1.6)]), 0.62)
    for v0 in (-0.55, -0.42, -0.3, -0.19):
        for s in (-1, 1):
            canvas.add(canvas.ellipse(s * 0.08, v0, 0.025, 0.02), -0.15)
    canvas.paint(canvas.capsule(0, -1.2, 0, -0.7, 0.12), 0.62)
    gas = canvas.texture(rng, 9)
    canvas.pixels -= np.clip(gas - 0.9, 0, 1) * 0.1 * (canvas.v < 0.1)
    for s in (-1, 1):
        _hip(canvas, study, s, rng)


def _hip(canvas: Canvas, study: Study, s: int, rng: np.random.Generator) -> None:
    """Head, neck and shaft of one femur, whole, broken at the neck, or out of its socket."""
    side = "right" if s < 0 else "left"
    fracture, dislocation = study.get("fracture"), study.get("hip dislocation")
    broken = fracture is not None and fracture.side == side
    out = dislocation is not None and dislocation.side == side
    head: tuple[float, float] = (s * 0.5, 0.12)
    shift = (0.0, 0.0)
    if out:
        shift = (s * float(rng.uniform(0.13, 0.18)), -float(rng.uniform(0.22, 0.28)))
        canvas.paint(canvas.ellipse(*head, 0.13, 0.13), 0.3)  # the empty socket
        canvas.add(canvas.ring(*head, 0.15, 0.15, 0.035), 0.25)
    head = (head[0] + shift[0], head[1] + shift[1])
    trochanter = (s * 0.71 + shift[0] * 0.7, 0.27 + shift[1])
    if broken:
        trochanter = (trochanter[0] + s * 0.02, trochanter[1] - float(rng.uniform(0.13, 0.18)))
    foot = (s * 0.66 + shift[0] * 0.5, 1.3)
    shaft = canvas.capsule(*trochanter, *foot, 0.085)
    canvas.paint(shaft, 0.7)
    canvas.paint(canvas.capsule(*trochanter, *foot, 0.035, soft=0.05), 0.52)
    neck = canvas.capsule(*head, *trochanter, 0.075)
    canvas.paint(neck, 0.68)
    canvas.paint(canvas.ellipse(*trochanter, 0.11, 0.1, wobble=[(3, 0.1, 0.5)]), 0.66)
    ball = canvas.ellipse(*head, 0.125, 0.125)
    canvas.paint(ball, 0.74)
    canvas.add(canvas.ring(*head, 0.12, 0.12, 0.025), 0.08)
    if out and dislocation is not None:
        dislocation.mask = canvas.mask(ball)
    if broken and fracture is not None:
        fracture.mask = _neck_gap(canvas, head, trochanter, neck, rng)


def _neck_gap(
    canvas: Canvas,
    head: tuple[float, float],
    trochanter: tuple[float, float],
    neck: Shape,
    rng: np.random.Generator,
) -> np.ndarray:
    at = float(rng.uniform(0.6, 0.66))
    u0, v0 = (a + at * (b - a) for a, b in zip(head, trochanter, strict=True))
    du, dv = trochanter[0] - head[0], trochanter[1] - head[1]
    length = math.hypot(du, dv)
    du, dv = du / length * 0.13, dv / length * 0.13
    gap = canvas.capsule(u0 - dv, v0 + du, u0 + dv, v0 - du, 0.032)
    bone = np.zeros_like(canvas.pixels)
    bone[neck.window] = neck.alpha
    canvas.paint(canvas.clipped(gap, bone), 0.12)
    return canvas.mask(canvas.ellipse(u0, v0, 0.13, 0.13))
