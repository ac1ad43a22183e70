"""Abdomen phantoms: axial slices at the level of the kidneys, as CT and as T2-weighted MR."""

from __future__ import annotations

import dataclasses

import numpy as np

from medblip.data.phantoms.canvas import Canvas
from medblip.data.phantoms.plan import Study, sign

__all__ = ["draw_abdomen_ct", "draw_abdomen_mr"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """Grey values of tissues in one technique."""

    fat: float
    muscle: float
    liver: float
    spleen: float
    kidney: float
    aorta: float
    bone: float
    canal: float
    fluid: float
    lesion: float


_CT = _Look(
    fat=0.18, muscle=0.5, liver=0.62, spleen=0.66, kidney=0.8, aorta=0.78, bone=0.97, canal=0.45,
    fluid=0.3, lesion=0.33,
)  # fmt: skip
_MR = _Look(
    fat=0.72, muscle=0.2, liver=0.34, spleen=0.52, kidney=0.58, aorta=0.05, bone=0.42, canal=0.85,
    fluid=0.97, lesion=0.9,
)  # fmt: skip


def draw_abdomen_ct(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw an abdominal CT after contrast: kidneys and aorta bright, fluid dark."""
    _draw(canvas, study, _CT, rng)


def draw_abdomen_mr(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a T2-weighted abdominal MR: fluid bright, flowing blood black."""
    _draw(canvas, study, _MR, rng)


def _draw(canvas: Canvas, study: Study, look: _Look, rng: np.random.Generator) -> None:
    half_u, half_v = float(rng.uniform(0.86, 0.92)), float(rng.uniform(0.62, 0.68))
    canvas.paint(canvas.ellipse(0, 0, half_u, half_v), look.fat)
    canvas.paint(canvas.ellipse(0, 0.01, half_u - 0.08, half_v - 0.07), look.muscle)
    canvas.paint(canvas.ellipse(0, -0.02, half_u - 0.13, half_v - 0.13), look.fat)
    _bowel(canvas, look, rng)
    jitter = rng.uniform(-0.02, 0.02, 6)
    liver = canvas.ellipse(
        -0.42, -0.16 + float(jitter[0]), 0.36, 0.36, 0.3, wobble=[(3, 0.08, float(jitter[1]) * 50)]
    )
    canvas.paint(liver, look.liver + canvas.texture(rng, 24) * np.float32(0.02))
    canvas.paint(canvas.ellipse(0.6, -0.06 + float(jitter[2]), 0.13, 0.26, -0.25), look.spleen)
    canvas.paint(canvas.ellipse(0, 0.42, 0.14, 0.11), look.bone)
    canvas.paint(canvas.capsule(0, 0.5, 0, 0.6, 0.03), look.bone)
    canvas.paint(canvas.ellipse(0, 0.5, 0.05, 0.035), look.canal)
    for s in (-1, 1):  # psoas and back muscles
        canvas.paint(canvas.ellipse(s * 0.19, 0.42, 0.06, 0.09), look.muscle)
        canvas.paint(canvas.ellipse(s * 0.2, 0.53, 0.15, 0.06), look.muscle)
    canvas.paint(canvas.ellipse(-0.1, 0.23, 0.065, 0.05), look.aorta * 0.9)  # inferior vena cava
    _aorta(canvas, study, look, rng)
    for s in (-1, 1):
        _kidney(canvas, study, look, s, rng)
    lesion = study.get("liver lesion")
    if lesion is not None:
        radius = 0.1 + 0.07 * lesion.extent
        spot = canvas.ellipse(
            -0.48 + float(rng.uniform(-0.08, 0.08)),
            -0.2 + float(rng.uniform(-0.08, 0.08)),
            radius,
            radius * float(rng.uniform(0.85, 1.1)),
            wobble=[(3, 0.07, float(rng.uniform(0, 6)))],
        )
        canvas.paint(spot, look.lesion)
        lesion.mask = canvas.mask(spot)


def _bowel(canvas: Canvas, look: _Look, rng: np.random.Generator) -> None:
    """Stomach on the patient's left and a few loops."""
    canvas.paint(canvas.ellipse(0.24, -0.3, 0.24, 0.14, 0.2), look.muscle + 0.08)
    canvas.paint(canvas.ellipse(0.24, -0.32, 0.19, 0.09, 0.2), 0.04)
    for _ in range(4):
        u0, v0 = float(rng.uniform(-0.05, 0.45)), float(rng.uniform(-0.1, 0.12))
        canvas.paint(canvas.ellipse(u0, v0, 0.07, 0.06), look.muscle + 0.04)


def _aorta(canvas: Canvas, study: Study, look: _Look, rng: np.random.Generator) -> None:
    """The aorta left of the spine's front; an aneurysm has a mural thrombus."""
    finding = study.get("aortic aneurysm")
    if finding is None:
        canvas.paint(canvas.ellipse(0.05, 0.25, 0.06, 0.06), look.aorta)
        return
    radius = 0.15 + 0.08 * finding.extent
    v0 = 0.3 - radius
    sac = canvas.ellipse(0.06, v0, radius, radius, wobble=[(2, 0.04, float(rng.uniform(0, 6)))])
    canvas.paint(sac, 0.5)
    canvas.paint(canvas.ellipse(0.05, v0 + 0.02, radius * 0.66, radius * 0.66), look.aorta + 0.1)
    finding.mask = canvas.mask(sac)


def _kidney(canvas: Canvas, study: Study, look: _Look, s: int, rng: np.random.Generator) -> None:
    """One kidney with its sinus, and its findings."""
    u0 = s * float(rng.uniform(0.42, 0.46))
    v0 = 0.26 + float(rng.uniform(-0.02, 0.02)) + (0.03 if s < 0 else 0.0)
    turn = 0.45 * s
    wet = study.get("hydronephrosis")
    wet = wet if wet is not None and sign(wet.side) == s else None
    grow = 0.0 if wet is None else 0.03 + 0.02 * wet.extent
    canvas.paint(canvas.ellipse(u0, v0, 0.14 + grow, 0.19 + grow, turn), look.kidney)
    if wet is None:
        canvas.paint(canvas.ellipse(u0 - s * 0.07, v0, 0.06, 0.075, turn), look.fat)
    else:
        wide = 0.085 + 0.035 * wet.extent
        pool = canvas.ellipse(
            u0 - s * 0.03, v0, wide, wide * 1.35, turn,
            wobble=[(3, 0.14, float(rng.uniform(0, 6)))],
        )  # fmt: skip
        duct = canvas.ellipse(u0 - s * 0.13, v0 + 0.02, 0.07, 0.05)
        canvas.paint(pool, look.fluid)
        canvas.paint(duct, look.fluid)
        wet.mask = canvas.mask(pool, duct)
    cyst = study.get("renal cyst")
    if cyst is not None and sign(cyst.side) == s:
        radius = 0.09 + 0.05 * cyst.extent
        angle = float(rng.uniform(-0.5, 0.4))  # outwards, between front and back
        ball = canvas.ellipse(
            u0 + s * 0.14 * float(np.cos(angle)), v0 + 0.16 * float(np.sin(angle)), radius, radius
        )
        canvas.paint(ball, look.fluid)
        cyst.mask = canvas.mask(ball)
