"""Head phantoms: axial slices at the level of the lateral ventricles, as CT and as MR."""

from __future__ import annotations

import dataclasses

import numpy as np

from medblip.data.phantoms.canvas import Array, Canvas, Shape, edge
from medblip.data.phantoms.plan import Finding, Study, sign

__all__ = ["draw_head_ct", "draw_head_mr"]

#: Centre of a lobar lesion on the patient's left.
_LOBES = {
    "frontal lobe": (0.33, -0.4),
    "parietal lobe": (0.4, 0.06),
    "occipital lobe": (0.31, 0.46),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Look:
    """Grey values of tissues in one technique."""

    scalp: float
    bone: float
    white: float
    grey: float
    fluid: float
    falx: float


_CT = _Look(scalp=0.35, bone=1.0, white=0.42, grey=0.5, fluid=0.17, falx=0.62)
_T1 = _Look(scalp=0.8, bone=0.1, white=0.62, grey=0.45, fluid=0.12, falx=0.3)
_T2 = _Look(scalp=0.6, bone=0.06, white=0.3, grey=0.45, fluid=0.92, falx=0.75)


def draw_head_ct(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a head CT in a brain window: fresh blood bright, dead tissue dark."""
    brain, swept = _brain(canvas, study, _CT, rng)
    for finding in study.findings:
        if finding.name == "midline shift":
            finding.mask = swept
        elif finding.name == "subdural haematoma":
            finding.mask = _subdural(canvas, finding, brain, rng)
        elif finding.name == "haemorrhage":
            blob = _blob(canvas, finding, 0.13 + 0.09 * finding.extent, rng)
            rim = _blob_like(canvas, blob, 1.25)
            canvas.paint(canvas.clipped(rim, brain), 0.3)
            blob = canvas.clipped(blob, brain)
            canvas.paint(blob, 0.84)
            finding.mask = canvas.mask(blob)
        else:
            finding.mask = _infarct(canvas, finding, brain, 0.2, rng)


def draw_head_mr(canvas: Canvas, study: Study, rng: np.random.Generator) -> None:
    """Draw a head MR: T2-weighted (fluid bright) or T1-weighted after contrast (rings bright)."""
    look = _T1 if study.spec.view.endswith("t1") else _T2
    brain, _ = _brain(canvas, study, look, rng)
    for finding in study.findings:
        if finding.name == "infarct":
            finding.mask = _infarct(canvas, finding, brain, 0.82, rng)
        elif finding.name == "ring-enhancing lesion":
            finding.mask = _ring(canvas, finding, brain, rng)
        else:
            finding.mask = _mass(canvas, finding, brain, rng)


def _brain(
    canvas: Canvas, study: Study, look: _Look, rng: np.random.Generator
) -> tuple[Array, np.ndarray]:
    """Draw skull, brain and ventricles; return the brain's coverage and what a shift displaced."""
    half_u, half_v = float(rng.uniform(0.68, 0.74)), float(rng.uniform(0.84, 0.9))
    wobble = [(2, 0.015, float(rng.uniform(0, 6))), (4, 0.015, 0.0)]
    canvas.paint(canvas.ellipse(0, 0, half_u + 0.07, half_v + 0.06, wobble=wobble), look.scalp)
    canvas.paint(canvas.ellipse(0, 0, half_u + 0.03, half_v + 0.02, wobble=wobble), look.bone)
    inner = canvas.ellipse(0, 0, half_u - 0.05, half_v - 0.06, wobble=wobble)
    canvas.paint(inner, look.fluid)
    brain = np.zeros_like(canvas.pixels)
    brain[inner.window] = inner.alpha
    u, v = canvas.u, canvas.v
    shift = study.get("midline shift")
    bow = np.zeros_like(u)
    if shift is not None:  # 0.17 of half the image is 11 pixels at 128, about 20 mm
        reach = sign(shift.side) * (0.17 + 0.1 * shift.extent)
        bow = np.float32(reach) * np.clip(1 - ((v + 0.05) / np.float32(0.72)) ** 2, 0, 1)
    x = u - bow  # distance from the falx
    folds = canvas.texture(rng, 15)
    depth = (1 - np.sqrt((u / (half_u - 0.05)) ** 2 + (v / (half_v - 0.06)) ** 2)) * 0.7
    cortex = edge(0.115 + 0.028 * folds - depth, 0.05)
    canvas.paint(inner, look.white + cortex * np.float32(look.grey - look.white))
    sulci = edge(np.abs(folds) * -0.06 + 0.008, 0.05) * edge(0.13 - depth, 0.05)
    canvas.paint(canvas.whole(sulci * brain * np.float32(0.75)), look.fluid)
    ventricles = np.maximum(_horns(x, v, rng), 0)
    oval = ((np.abs(x) - 0.24) / np.float32(0.1)) ** 2 + ((v + 0.03) / np.float32(0.2)) ** 2
    deep = edge(1 - oval, 0.6)
    canvas.paint(canvas.whole(deep * np.float32(0.8)), look.grey)
    canvas.paint(canvas.whole(ventricles), look.fluid)
    falx = edge(0.012 - np.abs(x)) * edge(np.abs(v) - 0.3, 0.03) * brain
    canvas.paint(canvas.whole(falx), look.falx)
    beside = sign(shift.side if shift else None) * u > 0
    swept = (np.abs(u) <= np.abs(bow)) & (brain > 0.5) | (ventricles >= 0.5) & (np.abs(bow) > 0)
    return brain, swept & beside


def _horns(x: Array, v: Array, rng: np.random.Generator) -> Array:
    """Frontal and occipital horns of both lateral ventricles, bent away from the midline."""
    width, length = float(rng.uniform(0.055, 0.075)), float(rng.uniform(0.3, 0.36))
    away = np.abs(x)
    bend = np.float32(0.08) + np.float32(0.75) * (v + 0.03) ** 2
    inside = np.float32(width) * (1 - ((v + 0.03) / np.float32(length)) ** 2) - np.abs(away - bend)
    return edge(inside)


def _wobble(rng: np.random.Generator, depth: float) -> list[tuple[int, float, float]]:
    phases = rng.uniform(0, 6.28, 3)
    return [(2, depth, float(phases[0])), (3, depth, float(phases[1])), (5, depth / 2, phases[2])]


def _blob(canvas: Canvas, finding: Finding, radius: float, rng: np.random.Generator) -> Shape:
    u0, v0 = _LOBES[str(finding.zone)]
    return canvas.ellipse(
        sign(finding.side) * (u0 + float(rng.uniform(-0.03, 0.03))),
        v0 + float(rng.uniform(-0.06, 0.06)),
        radius,
        radius * float(rng.uniform(0.85, 1.2)),
        float(rng.uniform(-0.7, 0.7)),
        wobble=_wobble(rng, 0.09),
    )


def _blob_like(canvas: Canvas, blob: Shape, factor: float) -> Shape:
    """Return the ellipse about the blob's window, `factor` times as large."""
    rows, columns = blob.window
    u = float(canvas.u[blob.window].mean())
    v = float(canvas.v[blob.window].mean())
    height, width = rows.stop - rows.start, columns.stop - columns.start
    per_pixel = 2 / canvas.size
    return canvas.ellipse(
        u, v, width * per_pixel / 2.6 * factor, height * per_pixel / 2.6 * factor, soft=0.08
    )


def _subdural(
    canvas: Canvas, finding: Finding, brain: Array, rng: np.random.Generator
) -> np.ndarray:
    """A bright crescent between skull and brain."""
    s, thick = sign(finding.side), 0.17 + 0.11 * finding.extent
    v0 = float(rng.uniform(-0.1, 0.05))
    pushed = canvas.ellipse(-s * (0.16 + thick * 0.62), v0, 0.8, 0.92, soft=0.02)
    outside = np.ones_like(canvas.pixels)
    outside[pushed.window] -= pushed.alpha
    crescent = canvas.whole(brain * outside * edge(s * canvas.u - 0.12, 0.05))
    canvas.paint(crescent, 0.8)
    return canvas.mask(crescent)


def _infarct(
    canvas: Canvas, finding: Finding, brain: Array, value: float, rng: np.random.Generator
) -> np.ndarray:
    """A wedge that widens towards the cortex."""
    s = sign(finding.side)
    u0, v0 = _LOBES[str(finding.zone)]
    apex_u, apex_v = s * 0.2, v0 * 0.35
    axis = float(np.arctan2(v0 - apex_v, s * u0 - apex_u)) + float(rng.uniform(-0.1, 0.1))
    x, y = canvas.u - np.float32(apex_u), canvas.v - np.float32(apex_v)
    along = x * np.float32(np.cos(axis)) + y * np.float32(np.sin(axis))
    across = y * np.float32(np.cos(axis)) - x * np.float32(np.sin(axis))
    half_angle = 0.42 + 0.22 * finding.extent
    ragged = canvas.texture(rng, 12) * np.float32(0.015)
    inside = along * np.float32(np.tan(half_angle)) - np.abs(across) + ragged
    wedge = edge(inside, 0.04) * edge(along - 0.03, 0.05) * brain
    wedge *= edge(s * canvas.u - 0.14, 0.04)
    shape = canvas.whole(wedge)
    canvas.paint(shape, value + canvas.texture(rng, 16) * np.float32(0.02))
    return canvas.mask(shape)


def _ring(canvas: Canvas, finding: Finding, brain: Array, rng: np.random.Generator) -> np.ndarray:
    """A dark necrotic centre within a bright rim, in slightly darker swollen tissue."""
    u0, v0 = _LOBES[str(finding.zone)]
    u0 = sign(finding.side) * (u0 + float(rng.uniform(-0.03, 0.03)))
    v0 += float(rng.uniform(-0.06, 0.06))
    radius = 0.13 + 0.07 * finding.extent
    wobble, turn = _wobble(rng, 0.06), float(rng.uniform(-0.7, 0.7))
    swollen = canvas.ellipse(u0, v0, radius * 1.5, radius * 1.6, soft=0.12)
    canvas.paint(canvas.clipped(swollen, brain), 0.4)
    outer = canvas.ellipse(u0, v0, radius, radius * 1.1, turn, wobble=wobble)
    inner = canvas.ellipse(u0, v0, radius - 0.055, radius * 1.1 - 0.055, turn, wobble=wobble)
    outer = canvas.clipped(outer, brain)
    canvas.paint(outer, 0.98)
    canvas.paint(inner, 0.14)
    return canvas.mask(outer)


def _mass(canvas: Canvas, finding: Finding, brain: Array, rng: np.random.Generator) -> np.ndarray:
    """A solid grey mass within finger-like bright oedema; the mask covers both."""
    u0, v0 = _LOBES[str(finding.zone)]
    u0 = sign(finding.side) * (u0 + float(rng.uniform(-0.02, 0.03)))
    v0 += float(rng.uniform(-0.06, 0.06))
    radius = 0.1 + 0.06 * finding.extent
    fingers = [(5, 0.16, float(rng.uniform(0, 6))), (3, 0.12, float(rng.uniform(0, 6)))]
    oedema = canvas.ellipse(u0, v0, radius * 1.75, radius * 1.95, soft=0.05, wobble=fingers)
    beside = edge(sign(finding.side) * canvas.u - 0.05, 0.04)
    oedema = canvas.clipped(oedema, brain * beside)
    canvas.paint(oedema, 0.86)
    mass = canvas.ellipse(u0, v0, radius, radius, wobble=_wobble(rng, 0.07))
    canvas.paint(mass, 0.36 + canvas.texture(rng, 20) * np.float32(0.04))
    return canvas.mask(oedema, mass)
