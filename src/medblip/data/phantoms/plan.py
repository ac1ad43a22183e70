"""What a phantom shows: the table of studies with their findings, and the draw of one study.

Sides are the patient's: the right lies on the image's left, except for hands, whose side is told
by the thumb (a hand seen from its back: the thumb of a left hand points to the image's right).
Knows which findings go together; nothing of pixels or words.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

__all__ = ["STUDIES", "Device", "Finding", "FindingSpec", "Study", "StudySpec", "sample", "sign"]

#: Shares of studies: normal, one finding, two findings (one where a study cannot hold two: 4 % do).
SHARES = (0.18, 0.77, 0.05)
DEVICE_SHARE = 0.10
BILATERAL_SHARE = 0.12
SIDES = ("right", "left")
LOBES = ("frontal lobe", "parietal lobe", "occipital lobe")
DEVICES = ("endotracheal tube", "pacemaker", "central venous catheter")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FindingSpec:
    """How one finding may occur in one kind of study.

    Args:
        sided: Whether it has a side.
        zones: Where it may lie; empty when it has one place only.
        grade: Whether its extent is told as `size`, as `severity` or not at all.
        measured: Whether a diameter in mm makes sense.
        weight: Relative frequency within the study.
    """

    sided: bool = True
    zones: tuple[str, ...] = ()
    grade: str | None = "size"
    measured: bool = False
    bilateral: bool = False
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One kind of study: how it is drawn (`view`), its planes, its frequency, its findings."""

    view: str
    modality: str
    region: str
    planes: tuple[str, ...]
    weight: float
    field_of_view_mm: float
    findings: dict[str, FindingSpec]
    devices: tuple[str, ...] = ()
    pairs: bool = True


@dataclasses.dataclass(kw_only=True)
class Finding:
    """One finding of one phantom; `extent` in [0, 1] grades it, `mask` is set when it is drawn."""

    name: str
    side: str | None
    zone: str | None
    extent: float
    spec: FindingSpec
    mask: NDArray[np.bool_] | None = None

    @property
    def size(self) -> str | None:
        """Size in words, or None where size makes no sense."""
        return self._word(("small", "moderate", "large")) if self.spec.grade == "size" else None

    @property
    def severity(self) -> str | None:
        """Severity in words, or None where it makes no sense."""
        words = ("mild", "moderate", "severe")
        return self._word(words) if self.spec.grade == "severity" else None

    def _word(self, scale: tuple[str, str, str]) -> str:
        return scale[min(int(self.extent * 3), 2)]


@dataclasses.dataclass(kw_only=True)
class Device:
    """One device of one phantom."""

    name: str
    side: str | None
    mask: NDArray[np.bool_] | None = None


@dataclasses.dataclass(kw_only=True)
class Study:
    """One phantom before it is drawn; `laterality` is the side of a paired part, as a hand."""

    spec: StudySpec
    plane: str
    findings: list[Finding]
    devices: list[Device]
    laterality: str | None = None

    def get(self, name: str) -> Finding | None:
        """Return the finding of that name, or None."""
        return next((finding for finding in self.findings if finding.name == name), None)


def _lobar(**kwargs: float) -> FindingSpec:
    return FindingSpec(zones=LOBES, measured=True, weight=kwargs.get("weight", 1.0))


_LUNG_ZONES = ("upper zone", "mid zone", "lower zone")
_SLICE_ZONES = ("anterior", "posterior")

STUDIES: tuple[StudySpec, ...] = (
    StudySpec(
        view="chest-xray", modality="X-ray", region="chest", planes=("PA", "AP"), weight=0.27,
        field_of_view_mm=400, devices=DEVICES,
        findings={
            "pleural effusion": FindingSpec(bilateral=True),
            "pneumothorax": FindingSpec(),
            "nodule": FindingSpec(zones=_LUNG_ZONES, measured=True),
            "consolidation": FindingSpec(zones=_LUNG_ZONES, grade=None),
            "cardiomegaly": FindingSpec(sided=False, grade="severity"),
        },
    ),
    StudySpec(
        view="hand-xray", modality="X-ray", region="hand", planes=("PA",), weight=0.07,
        field_of_view_mm=220, pairs=False,
        findings={
            "fracture": FindingSpec(
                grade=None,
                zones=tuple(f"{nth} metacarpal" for nth in ("second", "third", "fourth", "fifth")),
            ),
        },
    ),
    StudySpec(
        view="pelvis-xray", modality="X-ray", region="pelvis", planes=("AP",), weight=0.07,
        field_of_view_mm=420,
        findings={
            "fracture": FindingSpec(zones=("femoral neck",), grade=None),
            "hip dislocation": FindingSpec(grade=None),
        },
    ),
    StudySpec(
        view="chest-ct", modality="CT", region="chest", planes=("axial",), weight=0.12,
        field_of_view_mm=380,
        findings={
            "pleural effusion": FindingSpec(bilateral=True),
            "pneumothorax": FindingSpec(),
            "nodule": FindingSpec(zones=_SLICE_ZONES, measured=True),
            "consolidation": FindingSpec(zones=_SLICE_ZONES, grade=None),
        },
    ),
    StudySpec(
        view="head-ct", modality="CT", region="head", planes=("axial",), weight=0.13,
        field_of_view_mm=240,
        findings={
            "haemorrhage": _lobar(),
            "subdural haematoma": FindingSpec(),
            "midline shift": FindingSpec(grade="severity"),
            "infarct": FindingSpec(zones=LOBES),
        },
    ),
    StudySpec(
        view="head-mr-t1", modality="MR", region="head", planes=("axial",), weight=0.06,
        field_of_view_mm=240, pairs=False,
        findings={"ring-enhancing lesion": _lobar()},
    ),
    StudySpec(
        view="head-mr-t2", modality="MR", region="head", planes=("axial",), weight=0.07,
        field_of_view_mm=240,
        findings={"mass with oedema": _lobar(weight=1.3), "infarct": FindingSpec(zones=LOBES)},
    ),
    StudySpec(
        view="abdomen-ct", modality="CT", region="abdomen", planes=("axial",), weight=0.05,
        field_of_view_mm=400,
        findings={
            "hydronephrosis": FindingSpec(grade="severity"),
            "renal cyst": FindingSpec(measured=True),
            "liver lesion": FindingSpec(sided=False, measured=True),
            "aortic aneurysm": FindingSpec(sided=False, measured=True),
        },
    ),
    StudySpec(
        view="abdomen-mr", modality="MR", region="abdomen", planes=("axial",), weight=0.03,
        field_of_view_mm=400,
        findings={
            "hydronephrosis": FindingSpec(grade="severity"),
            "renal cyst": FindingSpec(measured=True),
            "liver lesion": FindingSpec(sided=False, measured=True),
        },
    ),
    StudySpec(
        view="kidney-us", modality="ultrasound", region="abdomen", planes=("transverse",),
        weight=0.05, field_of_view_mm=180, pairs=False,
        findings={
            "hydronephrosis": FindingSpec(grade="severity"),
            "renal cyst": FindingSpec(measured=True),
        },
    ),
    StudySpec(
        view="gallbladder-us", modality="ultrasound", region="abdomen", planes=("longitudinal",),
        weight=0.03, field_of_view_mm=150, pairs=False,
        findings={"gallstone": FindingSpec(sided=False, measured=True)},
    ),
    StudySpec(
        view="pelvis-us", modality="ultrasound", region="pelvis", planes=("transverse",),
        weight=0.03, field_of_view_mm=150, pairs=False,
        findings={"ovarian cyst": FindingSpec(measured=True)},
    ),
)  # fmt: skip


def sign(side: str | None) -> int:
    """Return the image side of a patient side: -1 for right (image left), 1 for left."""
    return -1 if side == "right" else 1


def sample(rng: np.random.Generator) -> Study:
    """Draw one study: its kind, its findings with side, zone and extent, and its devices."""
    spec = STUDIES[_pick(rng, [study.weight for study in STUDIES])]
    count = _pick(rng, SHARES)
    if count == 2 and not (spec.pairs and len(spec.findings) > 1):
        count = 1
    study = Study(
        spec=spec,
        plane=spec.planes[int(rng.integers(len(spec.planes)))],
        findings=[],
        devices=[],
    )
    names = list(spec.findings)
    weights = np.array([spec.findings[name].weight for name in names])
    chosen = rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())
    taken: str | None = None
    for index in chosen.tolist():
        finding = _sample_finding(rng, names[index], spec.findings[names[index]], alone=count == 1)
        if finding.side is not None:
            if taken is not None:  # two findings never share a side, so that masks cannot overlap
                finding.side = "left" if taken == "right" else "right"
            taken = finding.side
        study.findings.append(finding)
    if spec.view in ("hand-xray", "kidney-us"):
        study.laterality = study.findings[0].side if study.findings else _side(rng)
    if spec.devices and rng.random() < DEVICE_SHARE:
        name = spec.devices[int(rng.integers(len(spec.devices)))]
        side = _device_side(rng, name)
        study.devices.append(Device(name=name, side=side))
    return study


def normal_study(spec: StudySpec, rng: np.random.Generator) -> Study:
    """Return a study of one kind without findings and devices."""
    study = Study(spec=spec, plane=spec.planes[int(rng.integers(len(spec.planes)))],
                  findings=[], devices=[])  # fmt: skip
    if spec.view in ("hand-xray", "kidney-us"):
        study.laterality = _side(rng)
    return study


def _sample_finding(
    rng: np.random.Generator, name: str, spec: FindingSpec, *, alone: bool
) -> Finding:
    side = _side(rng) if spec.sided else None
    if spec.bilateral and alone and rng.random() < BILATERAL_SHARE:
        side = "bilateral"
    zone = spec.zones[int(rng.integers(len(spec.zones)))] if spec.zones else None
    return Finding(name=name, side=side, zone=zone, extent=float(rng.random()), spec=spec)


def _device_side(rng: np.random.Generator, name: str) -> str | None:
    """Most pacemakers lie left, most central lines come from the right."""
    if name == "endotracheal tube":
        return None
    usual, other = ("left", "right") if name == "pacemaker" else ("right", "left")
    return usual if rng.random() < 0.75 else other


def _side(rng: np.random.Generator) -> str:
    return SIDES[int(rng.integers(2))]


def _pick(rng: np.random.Generator, weights: list[float] | tuple[float, ...]) -> int:
    cumulative = np.cumsum(weights)
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
