"""Chest phantoms: the frontal radiograph and the axial CT slice at the level of the heart.

Organs first, then the findings of the study on top, whose painted pixels become their masks.
"""

from __future__ import annotations

import numpy as np

from medblip.data.phantoms.canvas import Array, Canvas, Shape, edge
from medblip.data.phantoms.plan import Device, Finding, Study, sign

__all__ = ["draw_chest_ct", "draw_chest_xray"]

_ZONE_V = {"upper zone": -0.36, "mid zone": -0.04, "lower zone": 0.24}
_SLICE_V = {"anterior": -0.17, "posterior": 0.2}


def draw_chest_xray(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a frontal chest radiograph: air dark, bone and fluid bright."""
    u, v = canvas.u, canvas.v
    canvas.pixels += np.float32(0.04)
    canvas.paint(canvas.ellipse(0, 0.35, 0.98, 1.25, soft=0.1), 0.5)
    canvas.paint(canvas.capsule(0, -1.3, 0, -0.7, 0.2, soft=0.08), 0.52)
    width, top = float(rng.uniform(0.32, 0.36)), float(rng.uniform(-0.84, -0.78))
    lungs: dict[int, Array] = {}
    hulls: dict[int, Array] = {}  # lung and the recess behind the diaphragm
    for s in (-1, 1):
        y = (v - 0.1) / np.float32(0.1 - top)
        x = (u - np.float32(s * 0.44)) / (width * (1 + np.float32(0.22) * y))
        hulls[s] = edge((1 - np.sqrt(x * x + y * y)) * np.float32(width), 0.03)
        dome = np.float32(0.47 - (0.06 if s < 0 else 0.0) + rng.uniform(-0.03, 0.03))
        lungs[s] = hulls[s] * edge(dome - np.float32(0.12) * (1 - x * x) - v, 0.03)
        canvas.paint(canvas.whole(lungs[s]), 0.17)
    both = lungs[-1] + lungs[1]
    _vessels(canvas, both, rng)
    gastric_bubble = canvas.ellipse(0.4, 0.53, 0.13, 0.07, wobble=[(2, 0.1, 1.0)])
    canvas.add(gastric_bubble, -0.25)
    _spine_and_ribs(canvas, rng)
    if study.plane == "AP":
        _scapulae(canvas, rng)
    heart = _heart(canvas, study, rng)
    for finding in study.findings:
        if finding.name == "cardiomegaly":
            finding.mask = canvas.mask(heart)
        elif finding.name == "pleural effusion":
            finding.mask = _meniscus(canvas, finding, lungs, rng)
        elif finding.name == "pneumothorax":
            finding.mask = _pneumothorax(canvas, finding, lungs[sign(finding.side)], rng)
        elif finding.name == "nodule":
            finding.mask = _nodule(canvas, finding, _ZONE_V[str(finding.zone)], rng)
        else:
            v0 = _ZONE_V[str(finding.zone)]
            finding.mask = _consolidation(canvas, finding, lungs, (0.45, v0), 0.6, rng)
    for device in study.devices:
        device.mask = _device(canvas, device, rng)


def draw_chest_ct(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw an axial chest slice in a wide window, seen from the feet."""
    half_u, half_v = float(rng.uniform(0.84, 0.9)), float(rng.uniform(0.62, 0.68))
    canvas.paint(canvas.ellipse(0, 0, half_u, half_v), 0.36)  # fat
    canvas.paint(canvas.ellipse(0, 0, half_u - 0.07, half_v - 0.06), 0.56)  # muscle
    lungs: dict[int, Array] = {}
    size_u, size_v = float(rng.uniform(0.29, 0.32)), float(rng.uniform(0.43, 0.47))
    for s in (-1, 1):
        lung = canvas.ellipse(s * 0.41, 0.03, size_u, size_v, -0.12 * s)
        full = np.zeros_like(canvas.pixels)
        full[lung.window] = lung.alpha
        lungs[s] = full
        canvas.paint(lung, 0.19)
    _vessels(canvas, lungs[-1] + lungs[1], rng)
    shift = float(rng.uniform(-0.02, 0.02))
    heart = canvas.ellipse(0.1 + shift, -0.16, 0.3, 0.24, 0.35, wobble=[(2, 0.05, shift * 100)])
    canvas.paint(heart, 0.62)
    canvas.paint(canvas.ellipse(0.02, 0.12, 0.15, 0.2), 0.56)
    canvas.paint(canvas.ellipse(0.13, 0.27, 0.075, 0.075), 0.7)  # descending aorta, left
    for s in (-1, 1):  # ribs cut across
        for angle in np.linspace(0.35, 2.75, 6) + rng.uniform(-0.1, 0.1):
            x, y = s * np.sin(angle) * (half_u - 0.1), -np.cos(angle) * (half_v - 0.09)
            rib = canvas.ellipse(float(x), float(y), 0.08, 0.025, float(s * angle))
            canvas.paint(rib, 0.92)
    _vertebra(canvas, 0.42)
    canvas.paint(canvas.ellipse(0, -half_v + 0.11, 0.12, 0.03), 0.85)  # sternum
    for s in (-1, 1):
        lungs[s] = lungs[s] * edge(0.36 - canvas.pixels, 0.05)
    for finding in study.findings:
        s = sign(finding.side)
        if finding.name == "pleural effusion":
            finding.mask = _layered(canvas, finding, lungs, rng)
        elif finding.name == "pneumothorax":
            finding.mask = _anterior_air(canvas, finding, lungs[s], rng)
        elif finding.name == "nodule":
            finding.mask = _nodule(canvas, finding, _SLICE_V[str(finding.zone)], rng, value=0.75)
        else:
            v0 = _SLICE_V[str(finding.zone)]
            finding.mask = _consolidation(canvas, finding, lungs, (0.47, v0), 0.72, rng)


def _vessels(canvas: Canvas, lungs: Array, rng: np.random.Generator) -> None:
    """Branching markings that thin out from the hilum, plus fine texture."""
    canvas.pixels += lungs * canvas.texture(rng, 20) * np.float32(0.022)
    for s in (-1, 1):
        for angle in np.linspace(-1.2, 1.2, 5) + rng.uniform(-0.2, 0.2, 5):
            length = float(rng.uniform(0.18, 0.34))
            u1 = s * (0.2 + length * float(np.cos(angle)))
            v1 = 0.02 + length * float(np.sin(angle))
            branch = canvas.capsule(s * 0.17, 0.02, u1, v1, 0.014, soft=0.03)
            canvas.add(canvas.clipped(branch, lungs), 0.09)


def _spine_and_ribs(canvas: Canvas, rng: np.random.Generator) -> None:
    u, v = canvas.u, canvas.v
    away = np.abs(u)
    canvas.add(canvas.whole(edge(0.13 - away, 0.12)), 0.12)
    discs = np.cos((v + float(rng.uniform(0, 0.2))) * np.float32(2 * np.pi / 0.17))
    canvas.add(canvas.whole(edge(0.09 - away, 0.06) * np.clip(discs, 0, 1)), 0.05)
    cage = canvas.ellipse(0, 0.05, 0.82, 0.92)
    phase = float(rng.uniform(0, 0.22))
    behind = v + phase - 0.5 * (away - 0.35) + 0.55 * (away - 0.35) ** 2
    behind = np.cos(behind * np.float32(2 * np.pi / 0.22))
    front = v + phase + 0.55 * away**2 * 1.4
    front = np.cos(front * np.float32(2 * np.pi / 0.25))
    ribs = np.clip(behind * 2 - 0.7, 0, 1) * 0.085 + np.clip(front * 2 - 1.1, 0, 1) * 0.035
    ribs *= edge(away - 0.12, 0.1) * edge(0.62 - v, 0.2)
    canvas.pixels[cage.window] += cage.alpha * ribs[cage.window]
    for s in (-1, 1):
        tilt = float(rng.uniform(-0.05, 0.03))
        clavicle = canvas.capsule(s * 0.08, -0.6, s * 0.72, -0.74 + tilt, 0.035)
        canvas.add(clavicle, 0.14)


def _scapulae(canvas: Canvas, rng: np.random.Generator) -> None:
    """Shoulder blades over the lungs: in AP views the arms are not rolled forward as in PA."""
    for s in (-1, 1):
        u0, v0 = s * float(rng.uniform(0.6, 0.64)), float(rng.uniform(-0.3, -0.24))
        canvas.add(canvas.ellipse(u0, v0, 0.11, 0.3, -0.15 * s), 0.13)
        canvas.add(canvas.ring(u0, v0, 0.1, 0.29, 0.03, -0.15 * s), 0.1)


def _heart(canvas: Canvas, study: Study, rng: np.random.Generator) -> Shape:
    """Heart, aortic knob and vessels; an enlarged heart spans more than half the thorax."""
    big = study.get("cardiomegaly")
    radius = float(rng.uniform(0.26, 0.3)) if big is None else 0.43 + 0.1 * big.extent
    height = 0.25 + (0.0 if big is None else 0.07)
    canvas.add(canvas.capsule(0.02, -0.8, 0.03, 0.2, 0.11, soft=0.08), 0.16)
    canvas.paint(canvas.ellipse(0.13, -0.24, 0.09, 0.09), 0.6)
    heart = canvas.ellipse(
        0.13 if big is None else 0.12, 0.27, radius, height, 0.4, wobble=[(3, 0.05, 0.6)]
    )
    canvas.paint(heart, 0.64 if big is None else 0.68)
    return heart


def _meniscus(
    canvas: Canvas, finding: Finding, lungs: dict[int, Array], rng: np.random.Generator
) -> np.ndarray:
    """Fluid at the base with the concave border that climbs along the chest wall."""
    out = np.zeros(canvas.pixels.shape, np.bool_)
    for s in (-1, 1) if finding.side == "bilateral" else (sign(finding.side),):
        level = 0.24 - 0.36 * finding.extent + float(rng.uniform(-0.03, 0.03))
        lateral = np.clip(s * canvas.u / np.float32(0.75), 0, 1)
        border = level - np.float32(0.3) * (lateral**2 - np.float32(0.3))
        fluid = canvas.whole(lungs[s] * edge(canvas.v - border, 0.04))
        canvas.paint(fluid, 0.74)
        out |= canvas.mask(fluid)
    return out


def _layered(
    canvas: Canvas, finding: Finding, lungs: dict[int, Array], rng: np.random.Generator
) -> np.ndarray:
    """Fluid that settles behind the lung of a supine patient."""
    out = np.zeros(canvas.pixels.shape, np.bool_)
    for s in (-1, 1) if finding.side == "bilateral" else (sign(finding.side),):
        level = 0.24 - 0.2 * finding.extent + float(rng.uniform(-0.02, 0.02))
        lateral = (s * canvas.u - np.float32(0.4)) / np.float32(0.3)
        border = level - np.float32(0.16) * lateral
        fluid = canvas.whole(lungs[s] * edge(canvas.v - border, 0.04))
        canvas.paint(fluid, 0.5)
        out |= canvas.mask(fluid)
    return out


def _pneumothorax(
    canvas: Canvas, finding: Finding, lung: Array, rng: np.random.Generator
) -> np.ndarray:
    """Black air without markings beside a collapsed lung with a fine pleural line."""
    s = sign(finding.side)
    shrink = 0.86 - 0.28 * finding.extent + float(rng.uniform(-0.02, 0.02))
    x = (canvas.u - np.float32(s * (0.44 - 0.36 * (1 - shrink)))) / np.float32(0.36 * shrink)
    y = (canvas.v - np.float32(0.26)) / np.float32(1.04 * shrink)
    inside = (1 - np.sqrt(x * x + y * y)) * np.float32(0.36 * shrink)
    air = canvas.whole(lung * edge(-inside))
    collapsed = canvas.whole(lung * edge(inside))
    canvas.paint(air, 0.015)
    canvas.add(collapsed, 0.07)
    canvas.add(canvas.whole(lung * edge(0.016 - np.abs(inside))), 0.3)
    return canvas.mask(air)


def _anterior_air(
    canvas: Canvas, finding: Finding, lung: Array, rng: np.random.Generator
) -> np.ndarray:
    """Air in front of the collapsed lung of a supine patient."""
    level = -0.12 + 0.22 * finding.extent + float(rng.uniform(-0.02, 0.02))
    lateral = (canvas.u - np.float32(sign(finding.side) * 0.4)) / np.float32(0.3)
    inside = canvas.v - (level + np.float32(0.1) * lateral**2)
    air = canvas.whole(lung * edge(-inside))
    canvas.paint(air, 0.0)
    canvas.add(canvas.whole(lung * edge(inside)), 0.09)
    canvas.add(canvas.whole(lung * edge(0.018 - np.abs(inside))), 0.35)
    return canvas.mask(air)


def _nodule(
    canvas: Canvas, finding: Finding, v0: float, rng: np.random.Generator, value: float = 0.72
) -> np.ndarray:
    u0 = sign(finding.side) * float(rng.uniform(0.4, 0.52))
    radius = 0.085 + 0.075 * finding.extent
    nodule = canvas.ellipse(
        u0,
        v0 + float(rng.uniform(-0.07, 0.07)),
        radius,
        radius * float(rng.uniform(0.9, 1.1)),
        wobble=[(5, 0.04, float(rng.uniform(0, 6)))],
    )
    canvas.paint(nodule, value)
    return canvas.mask(nodule)


def _consolidation(
    canvas: Canvas,
    finding: Finding,
    lungs: dict[int, Array],
    centre: tuple[float, float],
    value: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """A patchy opacity with soft, irregular borders and air bronchograms, inside the lung."""
    s = sign(finding.side)
    radius = 0.26 + 0.09 * finding.extent
    wobble = [(3, 0.16, float(rng.uniform(0, 6))), (5, 0.12, float(rng.uniform(0, 6)))]
    patch = canvas.ellipse(
        s * (centre[0] + float(rng.uniform(-0.04, 0.04))),
        centre[1] + float(rng.uniform(-0.05, 0.05)),
        radius,
        radius * float(rng.uniform(0.7, 0.9)),
        soft=0.12,
        wobble=wobble,
    )
    patch = canvas.clipped(patch, lungs[s])
    canvas.paint(patch, value + canvas.texture(rng, 16) * np.float32(0.06))
    return canvas.mask(patch)


def _vertebra(canvas: Canvas, v0: float) -> None:
    canvas.paint(canvas.ellipse(0, v0, 0.12, 0.1), 0.9)
    canvas.paint(canvas.capsule(0, v0 + 0.1, 0, v0 + 0.24, 0.03), 0.88)
    canvas.paint(canvas.capsule(-0.16, v0 + 0.14, 0.16, v0 + 0.14, 0.028), 0.88)
    canvas.paint(canvas.ellipse(0, v0 + 0.11, 0.05, 0.04), 0.5)


def _device(canvas: Canvas, device: Device, rng: np.random.Generator) -> np.ndarray:
    s = sign(device.side)
    if device.name == "endotracheal tube":
        tip = float(rng.uniform(-0.42, -0.3))
        tube = canvas.path([(0.02, -1.1), (-0.01, -0.7), (0.0, tip)], 0.016)
        canvas.paint(tube, 0.95)
        return canvas.mask(tube)
    if device.name == "pacemaker":
        u0, v0 = s * float(rng.uniform(0.55, 0.62)), float(rng.uniform(-0.56, -0.48))
        box = canvas.ellipse(u0, v0, 0.13, 0.1, 0.2 * s)
        lead = canvas.path(
            [(u0 - s * 0.08, v0 - 0.06), (s * 0.2, -0.66), (-0.06, -0.4), (-0.08, 0.0),
             (0.05, 0.3), (0.24, 0.4)],
            0.012,
        )  # fmt: skip
        canvas.paint(lead, 0.93)
        canvas.paint(box, 0.98)
        return canvas.mask(box, lead)
    line = canvas.path(
        [(s * 0.24, -1.1), (s * 0.2, -0.72), (-0.06, -0.46), (-0.09, float(rng.uniform(-0.12, 0)))],
        0.012,
    )
    canvas.paint(line, 0.93)
    return canvas.mask(line)
