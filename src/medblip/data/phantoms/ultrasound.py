"""Ultrasound phantoms: a sector with speckle, shadows and enhancement; three organs.

Transverse scans keep the convention (the patient's right on the image's left): the vertebra with
its shadow lies medially of the kidney, the liver before the right kidney, the spleen before the
left one.
"""

from __future__ import annotations

import numpy as np

from medblip.data.phantoms.canvas import Array, Canvas, Shape, edge
from medblip.data.phantoms.plan import Study, sign

__all__ = ["draw_gallbladder_us", "draw_kidney_us", "draw_pelvis_us"]

#: The virtual apex of the sector lies above the image.
_APEX_V = -1.25


def draw_kidney_us(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw one flank in a transverse scan."""
    s = sign(study.laterality)
    tissue = _tissue(canvas, rng)
    organ = (
        canvas.ellipse(-0.42, -0.35, 0.62, 0.48, 0.2)  # liver
        if s < 0
        else canvas.ellipse(0.5, -0.45, 0.3, 0.3, -0.4)  # spleen
    )
    canvas.paint(organ, 0.5 if s < 0 else 0.62)
    spine = canvas.ellipse(-s * 0.14, 0.3, 0.17, 0.1)
    _shadow(canvas, spine, (-s * 0.14, 0.3), 0.15, 0.12)
    canvas.paint(canvas.ring(-s * 0.14, 0.3, 0.15, 0.09, 0.05), 0.95)
    u0, v0 = s * float(rng.uniform(0.36, 0.42)), float(rng.uniform(0.1, 0.18))
    wet, cyst = study.get("hydronephrosis"), study.get("renal cyst")
    canvas.paint(canvas.ellipse(u0, v0, 0.3, 0.25, 0.3 * s), 0.82)  # capsule and fat
    canvas.paint(canvas.ellipse(u0, v0, 0.27, 0.22, 0.3 * s), 0.3)
    canvas.paint(canvas.ellipse(u0 - s * 0.03, v0, 0.14, 0.11, 0.3 * s, soft=0.06), 0.85)
    if wet is not None:
        wide = 0.13 + 0.05 * wet.extent
        lobes = [(3, 0.16, float(rng.uniform(0, 6)))]
        pool = canvas.ellipse(u0 - s * 0.03, v0, wide, wide * 0.85, wobble=lobes)
        canvas.paint(pool, 0.02)
        wet.mask = canvas.mask(pool)
    if cyst is not None:
        radius = 0.12 + 0.05 * cyst.extent
        u1 = u0 + s * float(rng.uniform(0.08, 0.14))
        v1 = v0 + float(rng.choice([-1.0, 1.0])) * 0.17
        cyst.mask = _cyst(canvas, (u1, v1), radius, radius)
    _sector(canvas, tissue, rng)


def draw_gallbladder_us(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw the gallbladder along its axis, under the liver."""
    tissue = _tissue(canvas, rng)
    canvas.paint(canvas.ellipse(-0.1, -0.3, 0.95, 0.7), 0.5)
    canvas.paint(canvas.ring(-0.1, -0.3, 0.95, 0.7, 0.03), 0.75)
    u0, v0 = float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.06, 0.06))
    tilt = float(rng.uniform(0.1, 0.5))
    wall = canvas.ellipse(u0, v0, 0.41, 0.21, tilt)
    canvas.paint(wall, 0.8)
    _behind(canvas, (u0, v0), 0.3, 0.2)
    lumen = canvas.ellipse(u0, v0, 0.38, 0.18, tilt)
    canvas.paint(lumen, 0.02)
    stone = study.get("gallstone")
    if stone is not None:
        along = float(rng.uniform(-0.16, 0.18))
        radius = 0.085 + 0.05 * stone.extent
        u1 = u0 + along * float(np.cos(tilt)) - 0.1 * float(np.sin(tilt))
        v1 = v0 + along * float(np.sin(tilt)) + 0.09 * float(np.cos(tilt))
        body = canvas.ellipse(u1, v1, radius, radius * 0.85)
        _shadow(canvas, body, (u1, v1), radius, 0.03)
        canvas.paint(body, 0.98)
        stone.mask = canvas.mask(body)
    _sector(canvas, tissue, rng)


def draw_pelvis_us(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw bladder, uterus and ovaries in a transverse scan."""
    tissue = _tissue(canvas, rng)
    _behind(canvas, (0.0, -0.35), 0.3, 0.12)
    bladder = canvas.ellipse(0, -0.42, 0.36, 0.2, wobble=[(4, 0.06, float(rng.uniform(0, 6)))])
    canvas.paint(bladder, 0.02)
    canvas.paint(canvas.ellipse(0, 0.08, 0.25, 0.22), 0.26)
    canvas.paint(canvas.ellipse(0, 0.08, 0.23, 0.2), 0.54)
    canvas.paint(canvas.ellipse(0, 0.07, 0.13, 0.04), 0.75)
    cyst = study.get("ovarian cyst")
    for s in (-1, 1):
        u0, v0 = s * float(rng.uniform(0.42, 0.47)), float(rng.uniform(0.08, 0.16))
        canvas.paint(canvas.ellipse(u0, v0, 0.13, 0.1), 0.27)
        if cyst is not None and sign(cyst.side) == s:
            radius = 0.15 + 0.06 * cyst.extent
            cyst.mask = _cyst(canvas, (u0, v0), radius, radius * 0.9)
    _sector(canvas, tissue, rng)


def _tissue(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Fill with mid-grey tissue and bright layers; return the sector's coverage."""
    canvas.pixels += np.float32(0.42)
    canvas.pixels += canvas.texture(rng, 9) * np.float32(0.06)
    u, v = canvas.u, canvas.v - np.float32(_APEX_V)
    angle, depth = np.arctan2(u, v), np.sqrt(u * u + v * v)
    layers = edge(0.45 - depth, 0.06) * np.cos(depth * 60) * np.float32(0.18)
    canvas.pixels += layers
    return (
        edge(float(rng.uniform(0.66, 0.74)) - np.abs(angle), 0.02)
        * edge(depth - 0.33)
        * edge(2.15 - depth)
    )


def _sector(canvas: Canvas, sector: Array, rng: np.random.Generator) -> None:
    """Apply depth attenuation, multiplicative speckle and the black outside of the sector."""
    fine, coarse = (
        canvas.texture(rng, int(canvas.size * 0.7)),
        canvas.texture(rng, canvas.size // 3),
    )
    speckle = fine * np.float32(0.13) + coarse * np.float32(0.09) + 1
    attenuation = 1 - np.float32(rng.uniform(0.08, 0.16)) * (canvas.v + 1)
    canvas.pixels *= np.clip(speckle, 0.25, 2) * attenuation * sector


def _ray(canvas: Canvas, at: tuple[float, float], half_width: float) -> tuple[Array, Array]:
    """Return the signed distance within the beam through `at` and the depth behind it."""
    u, v = canvas.u, canvas.v - np.float32(_APEX_V)
    at_v = at[1] - _APEX_V
    centre = u - np.float32(at[0] / at_v) * v
    return np.float32(half_width) * v / np.float32(at_v) - np.abs(centre), canvas.v - at[1]


def _shadow(
    canvas: Canvas, shape: Shape, at: tuple[float, float], half_width: float, value: float
) -> None:
    inside, behind = _ray(canvas, at, half_width)
    canvas.paint(canvas.whole(edge(inside, 0.05) * edge(behind, 0.05)), value)


def _behind(canvas: Canvas, at: tuple[float, float], half_width: float, gain: float) -> None:
    """Brighten what lies behind fluid."""
    inside, behind = _ray(canvas, at, half_width)
    reach = edge(inside, 0.08) * edge(behind, 0.05) * edge(0.7 - behind, 0.5)
    canvas.add(canvas.whole(reach), gain)


def _cyst(canvas: Canvas, at: tuple[float, float], radius_u: float, radius_v: float) -> np.ndarray:
    _behind(canvas, at, radius_u * 0.9, 0.2)
    canvas.paint(canvas.ellipse(*at, radius_u + 0.03, radius_v + 0.03), 0.62)
    ball = canvas.ellipse(*at, radius_u, radius_v)
    canvas.paint(ball, 0.02)
    return canvas.mask(ball)
