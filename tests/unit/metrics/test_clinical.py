"""The clinical table: a status per image and row, totals, and the commonest inventions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medblip.metrics.audit.clinical import ROWS, STATUSES, clinical_row, clinical_summary
from medblip.stages.evaluate import evaluate

REFERENCE = "Axial CT of the chest: effusion in the left lung."


@pytest.mark.parametrize(
    ("caption", "modality", "side", "anatomy", "diagnosis"),
    [
        (REFERENCE, "right", "right", "right", "right"),
        ("Axial CT of the chest: effusion in the right lung.", "right", "wrong", "right", "right"),
        ("MRI of the chest: nodule in the left lung.", "wrong", "right", "right", "wrong"),
        ("Effusion.", "missing", "missing", "missing", "right"),
        ("CT of the lung: effusion and nodule.", "right", "missing", "partly", "partly"),
        ("", "missing", "missing", "missing", "missing"),
    ],
)
def test_statuses(caption: str, modality: str, side: str, anatomy: str, diagnosis: str) -> None:
    found = {name: cell.status for name, cell in clinical_row(caption, [REFERENCE]).items()}
    assert found == dict(zip(ROWS, (modality, side, anatomy, diagnosis), strict=True))


@pytest.mark.parametrize(
    ("caption", "reference", "row", "status"),
    [
        ("no fracture", "fracture of the femur", "diagnosis", "contradicted"),
        ("fracture", "no fracture of the left femur", "diagnosis", "contradicted"),
        ("no lesion", "metastasis", "diagnosis", "contradicted"),
        ("effusion, no pneumothorax", "effusion and pneumothorax", "diagnosis", "contradicted"),
        ("no metastasis", "lesion", "diagnosis", "missing"),  # another lesion may be there
        ("metastasis, no other lesion", "metastasis", "diagnosis", "right"),
        ("metastasis", "metastasis, no other lesion", "diagnosis", "right"),
        ("no fracture", "no fracture", "diagnosis", "not stated"),
        ("no fracture", "effusion", "diagnosis", "missing"),
        ("fracture", "no effusion", "diagnosis", "extra"),
        ("lesion", "metastasis", "diagnosis", "less specific"),
        ("metastasis", "lesion", "diagnosis", "right"),
        ("lesion and effusion", "metastasis and effusion", "diagnosis", "less specific"),
        ("lesion and effusion", "metastasis", "diagnosis", "partly"),
        ("MRI", "T2-weighted MRI", "modality", "less specific"),
        ("T2-weighted MRI", "MRI", "modality", "right"),
        ("T1-weighted MRI", "T2-weighted MRI", "modality", "wrong"),
        ("lung", "left lower lobe", "anatomy", "less specific"),
        ("left lower lobe", "lung", "anatomy", "right"),
        ("RLL", "left upper lobe", "anatomy", "right"),  # the rest is the side's
        ("brain", "temporal lobe", "anatomy", "less specific"),
        ("lung", "temporal lobe", "anatomy", "wrong"),
        ("chest", "left lower lobe", "anatomy", "less specific"),
        ("chest", "left lung", "anatomy", "less specific"),
        ("chest", "lung and kidney", "anatomy", "partly"),
        ("lung", "chest", "anatomy", "partly"),
        ("chest", "abdomen", "anatomy", "wrong"),
        ("liver", "upper lobe of the liver", "anatomy", "right"),
    ],
)
def test_denials_and_wider_terms(caption: str, reference: str, row: str, status: str) -> None:
    assert clinical_row(caption, [reference])[row].status == status


def test_a_contradiction_shows_what_is_denied() -> None:
    cell = clinical_row("no fracture", ["fracture of the femur"])["diagnosis"]
    assert (cell.said, cell.true, cell.stated) == (("no fracture",), ("fracture",), True)
    cell = clinical_row("fracture", ["no fracture of the femur"])["diagnosis"]
    assert (cell.said, cell.true, cell.stated) == (("fracture",), ("no fracture",), False)


def test_a_denial_alone_is_no_statement_and_its_contradiction_is_counted() -> None:
    found = clinical_summary(
        ["fracture", "no fracture", "fracture", "lesion"],
        [["no fracture"], ["fracture"], ["fracture"], ["metastasis"]],
        ["a", "b", "c", "d"], resamples=0, seed=0,
    )["totals"]["diagnosis"]  # fmt: skip
    assert (found["contradicted"], found["right"], found["less specific"]) == (2, 1, 1)
    assert found["stated"] == 3
    assert found["value"] == pytest.approx(1 / 3)
    assert sum(found[status] for status in STATUSES) == 4


def test_what_the_reference_leaves_open_is_not_judged() -> None:
    row = clinical_row("CT: mass in the left lung", ["Image of a patient."])
    assert {cell.status for cell in row.values()} == {"extra"}
    row = clinical_row("A picture.", ["Image of a patient."])
    assert {cell.status for cell in row.values()} == {"not stated"}


def test_the_reference_that_agrees_best_counts() -> None:
    row = clinical_row("CT: mass in the lung", ["Ultrasound of a cyst", "CT: mass in the lung"])
    assert {row[name].status for name in ("modality", "anatomy", "diagnosis")} == {"right"}


def test_totals_add_up_and_the_commonest_come_first() -> None:
    references = [[REFERENCE]] * 6 + [["Image of a patient."]] * 2
    captions = [
        REFERENCE, REFERENCE, "CT: nodule in the left lung", "MRI: nodule in the left lung",
        "CT: nodule and effusion in the right lung", "", "CT: fracture", "A picture.",
    ]  # fmt: skip
    ids = [f"i{index}" for index in range(8)]
    found = clinical_summary(captions, references, ids, resamples=300, seed=0)
    for name, total in found["totals"].items():
        assert sum(total[status] for status in STATUSES) == 8, name
        assert total["stated"] == 6
        assert total["value"] == pytest.approx(total["right"] / 6)
        assert 0 <= total["ci"][0] <= total["value"] <= total["ci"][1] <= 1
    assert found["totals"]["modality"]["right"] == 4
    invented = found["hallucinations"]
    assert (invented[0]["kind"], invented[0]["name"], invented[0]["count"]) == (
        "false-finding", "nodule", 3,
    )  # fmt: skip
    assert invented[0]["ids"] == ["i2", "i3", "i4"]
    assert [one["count"] for one in invented] == sorted(
        (one["count"] for one in invented), reverse=True
    )
    assert found["missed"][0]["name"] == "effusion"
    assert found["missed"][0]["count"] == 3


def test_evaluate_keeps_it_beside_the_scores(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("id,caption\na,CT: nodule in the left lung\nb,\n")
    (tmp_path / "r.csv").write_text("id,caption\na,CT: mass in the left lung\nb,MRI of a cyst\n")
    evaluate(tmp_path / "c.csv", tmp_path / "r.csv", out=tmp_path / "s.json", meteor=False)
    record = json.loads((tmp_path / "s.json").read_text())["clinical"]
    assert record["totals"]["modality"]["value"] == 0.5
    assert record["hallucinations"][0]["name"] == "nodule"
    assert record["hallucinations"][0]["ids"] == ["a"]


def test_what_nobody_states_is_counted_as_nothing() -> None:
    references = [["CT: mass in the left lung"], ["CT of a cyst"]]
    found = clinical_summary(["CT: mass", "CT with a pacemaker"], references, ["a", "b"],
                             resamples=0, seed=0)["statements"]  # fmt: skip
    assert found["modality"] == {"captions": 2, "references": 2, "images": 2}
    assert found["side"] == {"captions": 0, "references": 1, "images": 1}
    assert found["device"] == {"captions": 1, "references": 0, "images": 1}
    assert found["measurement"] == {"captions": 0, "references": 0, "images": 0}
