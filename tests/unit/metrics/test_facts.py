"""Facts read from captions: names, sides, negation; and their accuracy against known facts."""

from __future__ import annotations

import numpy as np
import pytest

from medblip.data.phantoms.generate import render
from medblip.errors import MetricError
from medblip.lexicon import lexicon, words
from medblip.metrics.facts import FACT_METRICS, fact_statistics, read_facts

TRUTH = {
    "modality": "X-ray",
    "region": "chest",
    "findings": [{"name": "pleural effusion", "side": "left"}],
}


def findings(caption: str) -> dict[str, str | None]:
    """Read the findings of a caption as {name: side}."""
    return {finding["name"]: finding["side"] for finding in read_facts(caption)["findings"]}


def verdicts(caption: str, truth: dict[str, object] = TRUTH) -> list[float | None]:
    """Score one caption: 1, 0 or None per metric."""
    table = fact_statistics([caption], [truth])
    return [float(n[0]) if d[0] else None for n, d in (table[name] for name in FACT_METRICS)]


def test_captions_of_phantoms_are_read_without_error() -> None:
    drawn = [render(21, index, 64) for index in range(2000)]
    table = fact_statistics([c for *_, c in drawn], [f for _, f, _ in drawn])
    assert tuple(table) == FACT_METRICS
    for name, (numerator, denominator) in table.items():
        assert numerator.dtype == denominator.dtype == np.float64
        wrong = [drawn[i][2] for i in np.flatnonzero(numerator != denominator)]
        assert wrong == [], name
    assert table["fact-finding"][1].sum() == 2000
    assert 1000 < table["fact-side"][1].sum() < 2000
    devices = [[device["name"] for device in f["devices"]] for _, f, _ in drawn]
    assert [read_facts(c)["devices"] for *_, c in drawn] == devices


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("Chest radiograph with a left pleural effusion.", [1, 1, 1, 1]),
        ("Chest radiograph with a right pleural effusion.", [1, 1, 1, 0]),
        ("Chest radiograph with bilateral pleural effusions.", [1, 1, 1, 0]),
        ("Chest radiograph with a pleural effusion.", [1, 1, 1, 0]),
        ("Chest CT with a left pleural effusion.", [0, 1, 1, 1]),
        ("Radiograph of the hand with a left pleural effusion.", [1, 0, 1, 1]),
        ("Chest radiograph without left pleural effusion.", [1, 1, 0, 1]),
        ("Chest radiograph with a left pneumothorax.", [1, 1, 0, 1]),
        ("Chest radiograph with a right pneumothorax.", [1, 1, 0, 0]),
        ("Chest X-ray: left effusion, right nodule.", [1, 1, 0, 1]),
        ("A dog on a beach.", [0, 0, 0, 0]),
        ("", [0, 0, 0, 0]),
    ],
)
def test_each_error_costs_its_own_metric(caption: str, expected: list[float]) -> None:
    assert verdicts(caption) == expected


def test_normal_studies_have_no_side_and_need_no_finding() -> None:
    normal = {"modality": "X-ray", "region": "chest", "findings": []}
    assert verdicts("Normal chest radiograph. No pleural effusion.", normal) == [1, 1, 1, None]
    assert verdicts("Chest radiograph with a left effusion.", normal) == [1, 1, 0, None]


def test_unknown_facts_are_not_scored() -> None:
    assert verdicts("Chest radiograph.", {}) == [None] * 4


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("No pneumothorax, effusion or nodule.", {}),
        ("No effusion and no pneumothorax.", {}),
        ("Without pneumothorax or effusion, but a left nodule.", {"nodule": "left"}),
        ("No pneumothorax and a left nodule.", {"nodule": "left"}),
        ("No pneumothorax, left nodule.", {"nodule": "left"}),
        ("No pneumothorax. Right nodule.", {"nodule": "right"}),
        ("No effusion and pneumothorax.", {}),
        ("There is no evidence of right pneumothorax; left nodule.", {"nodule": "left"}),
        ("Pneumothorax is absent.", {}),
        ("Right nodule. Pleural effusion and pneumothorax are not seen.", {"nodule": "right"}),
        ("Neither effusion nor pneumothorax.", {}),
        ("Left effusion. No right effusion.", {"pleural effusion": "left"}),
        ("No mass with oedema, left infarct", {"infarct": "left"}),
        ("Normal abnormality-free image, nothing known.", {}),
    ],
)
def test_negation(caption: str, expected: dict[str, str | None]) -> None:
    assert findings(caption) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (
            "A right effusion and a nodule in the left lung.",
            {"pleural effusion": "right", "nodule": "left"},
        ),
        (
            "An effusion on the right and a left nodule.",
            {"pleural effusion": "right", "nodule": "left"},
        ),
        (
            "Effusion on the right, with a small, round nodule on the left.",
            {"pleural effusion": "right", "nodule": "left"},
        ),
        ("X - ray with a right - sided pneumothorax", {"pneumothorax": "right"}),
        ("Midline shift to the left, with a right subdural hematoma",
         {"midline shift": "left", "subdural haematoma": "right"}),
        ("Radiograph of the left hand showing a fracture.", {"fracture": "left"}),
        ("Left hand. There is a fracture.", {"fracture": "left"}),
        ("Left cardiomegaly", {"cardiomegaly": None}),
        ("Effusions on both sides.", {"pleural effusion": "bilateral"}),
        ("Left and right effusions.", {"pleural effusion": "bilateral"}),
        ("A right effusion. A left effusion.", {"pleural effusion": "bilateral"}),
        ("A pacemaker on the left and a right effusion.", {"pleural effusion": "right"}),
        ("Right effusion without left pneumothorax.", {"pleural effusion": "right"}),
        ("INTRACRANIAL HEMORRHAGE, LEFT", {"haemorrhage": "left"}),
    ],
)  # fmt: skip
def test_sides(caption: str, expected: dict[str, str | None]) -> None:
    assert findings(caption) == expected


@pytest.mark.parametrize(
    ("caption", "modality", "region"),
    [
        ("axial t2 - weighted mr image of the brain", "MR", "head"),
        ("Magnetic resonance imaging of the abdomen", "MR", "abdomen"),
        ("X-ray of the pelvis with dislocation of the femoral head", "X-ray", "pelvis"),
        ("Transverse sonogram, pelvic", "ultrasound", "pelvis"),
        ("computed tomography, thoracic", "CT", "chest"),
        ("Dilated renal pelvis on ultrasonography of the abdomen", "ultrasound", "abdomen"),
        ("a picture", None, None),
    ],
)
def test_modality_and_region(caption: str, modality: str | None, region: str | None) -> None:
    facts = read_facts(caption)
    assert (facts["modality"], facts["region"]) == (modality, region)


def test_case_and_tokenizer_spacing_do_not_matter() -> None:
    caption = "Axial T2-weighted MR image of the brain: a right-sided mass with oedema, no infarct."
    spaced = caption.lower().replace("-", " - ").replace(":", " :").replace(",", " ,")
    assert read_facts(caption) == read_facts(spaced)


def test_every_form_of_the_lexicon_reads_as_its_own_concept() -> None:
    seen: dict[tuple[str, ...], str] = {}
    for concept in lexicon().concepts:
        for form in (*concept.write, *concept.read):
            (mention,) = lexicon().mentions(words(form))
            assert (mention.kind, mention.name) == (concept.kind, concept.name), form
            assert seen.setdefault(tuple(words(form)), concept.name) == concept.name


def test_lists_of_unequal_length_are_refused() -> None:
    with pytest.raises(MetricError, match="2 captions, 1 facts"):
        fact_statistics(["a", "b"], [TRUTH])
