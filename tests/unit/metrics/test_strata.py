"""Groups of images: from facts and from text, merged where small, scored like the whole."""

from __future__ import annotations

import numpy as np
import pytest

from medblip.metrics.base import Agreement, Ratio, Statistics, mean_statistics
from medblip.metrics.strata import SMALLEST, levels, stratified


def test_facts_say_it_where_they_are_known() -> None:
    facts = [
        {"modality": "CT", "region": "chest", "findings": [{"name": "nodule"}]},
        {"modality": "MR", "region": "head", "findings": []},
    ] * 20
    found = levels([["a scan"]] * 40, facts, [["a scan"]] * 40, facts)
    assert found["modality"] == ["CT", "MR"] * 20
    assert found["region"] == ["chest", "head"] * 20
    assert found["findings"] == ["common", "none"] * 20
    assert set(found["length"]) == {"short (up to 10 words)"}


def test_the_reference_is_read_where_they_are_not() -> None:
    texts = [["CT of the chest shows a nodule."], ["A figure."], ["MRI and CT of the brain."]] * 15
    found = levels(texts, None)
    assert found["modality"][:3] == ["CT", "not stated", "several"]
    assert found["region"][:3] == ["chest", "not stated", "head"]
    # without a training split nobody knows what is rare there
    assert found["findings"][:3] == ["frequency unknown", "none", "none"]


def test_what_is_rare_is_rare_in_training() -> None:
    training = [["nodule"]] * 70 + [["fracture"]] * 20 + [["haemorrhage"]] * 10
    images = [["nodule"]] * 12 + [["haemorrhage"]] * 12 + [["fracture"]] * 12
    found = levels(images, None, training)
    # haemorrhage makes 10 of 100 mentions; with fracture it would be 30, above a fifth
    assert found["findings"] == ["common"] * 12 + ["rare"] * 12 + ["common"] * 12


def test_a_finding_that_training_lacks_is_rare() -> None:
    def facts(*names: str) -> dict[str, object]:
        return {"findings": [{"name": name} for name in names]}

    training = [facts("nodule")] * 100 + [facts("effusion")] * 60 + [facts("fracture")] * 10
    images = [facts("nodule")] * 20 + [facts("nodule", "pneumothorax")] * 12
    found = levels([["x"]] * 32, images, [["x"]] * 170, training)
    assert found["findings"] == ["common"] * 20 + ["rare"] * 12
    silent = levels([["x"]] * 32, images, [["x"]] * 9, [facts()] * 9)
    assert silent["findings"] == ["rare"] * 32


def test_a_small_group_alone_keeps_its_name() -> None:
    texts = [["word " * 4]] * 20 + [["word " * 26]] * 3
    found = levels(texts, None)
    assert found["length"][-1] == "long (more than 25 words)"


def test_small_groups_are_one() -> None:
    facts = [{"modality": name, "findings": []} for name in ["CT"] * 12 + ["MR"] * 3 + ["US"] * 2]
    found = levels([["x"]] * 17, facts)
    assert SMALLEST == 10
    assert found["modality"] == ["CT"] * 12 + ["other: MR, US"] * 5
    many = [{"modality": name, "findings": []} for name in "aaabbcdde"]
    found = levels([["x"]] * 9, many)
    assert set(found["modality"]) == {"other: a, b, d, 2 more"}


def test_a_groups_value_is_that_of_its_images_alone() -> None:
    values = np.random.default_rng(0).random(60)
    family = Statistics(Ratio("m"), mean_statistics(values))
    strata = {"by": ["a", "b", "b"] * 20}
    rows = stratified([family], ["m"], strata, resamples=500, seed=0)
    for row in rows:
        inside = np.array(strata["by"]) == row["level"]
        assert row["n"] == inside.sum()
        assert row["value"] == pytest.approx(values[inside].mean())
        assert row["ci"][0] < row["value"] < row["ci"][1]


def test_patients_are_drawn_whole() -> None:
    values = np.repeat([0.0, 1.0, 0.2, 0.9] * 3, 10)
    family = Statistics(Ratio("m"), mean_statistics(values))
    alone = stratified([family], ["m"], {"by": ["a"] * 120}, resamples=500, seed=0)[0]
    whole = stratified(
        [family], ["m"], {"by": ["a"] * 120}, resamples=500, seed=0,
        groups=np.repeat(np.arange(12), 10),
    )[0]  # fmt: skip
    width = [row["ci"][1] - row["ci"][0] for row in (alone, whole)]
    assert width[1] > 2 * width[0]


def test_a_metric_that_no_image_of_a_group_has_is_left_out() -> None:
    sided = np.array([1.0, 1.0, 0.0, 0.0])
    family = Statistics(Ratio("side"), np.stack([sided, sided], axis=1))
    rows = stratified([family], ["side"], {"by": ["a", "a", "b", "b"]}, resamples=50, seed=0)
    assert [(row["level"], row["value"]) for row in rows] == [("a", 1.0)]


def test_n_and_interval_are_of_the_images_that_count() -> None:
    """One image with a side among forty is not forty, and resamples without it are not wrong."""
    values = np.zeros((80, 2))
    values[:12] = values[40] = 1
    values[3, 0] = 0
    strata = {"by": ["a"] * 40 + ["b"] * 40}
    many, one = stratified([Statistics(Ratio("side"), values)], ["side"], strata, resamples=200,
                           seed=0)  # fmt: skip
    assert (many["n"], many["value"]) == (12, pytest.approx(11 / 12))
    assert 0.5 < many["ci"][0] < many["ci"][1] <= 1
    assert (one["n"], one["value"], one["ci"]) == (1, 1.0, None)


def test_agreement_counts_images_that_either_side_says_something_of() -> None:
    values = np.zeros((40, 3))
    values[:12, 1] = 1  # said of twelve images, true of none
    rows = stratified([Statistics(Agreement("kind"), values)], ["kind-F1"], {"by": ["a"] * 40},
                        resamples=200, seed=0)  # fmt: skip
    assert [(row["n"], row["value"], row["ci"]) for row in rows] == [(12, 0.0, [0.0, 0.0])]


def test_few_patients_have_no_interval() -> None:
    family = Statistics(Ratio("m"), mean_statistics(np.linspace(0, 1, 40)))
    for patients, known in ((1, False), (SMALLEST - 1, False), (SMALLEST, True)):
        (row,) = stratified([family], ["m"], {"by": ["a"] * 40}, resamples=50, seed=0,
                            groups=np.arange(40) % patients)  # fmt: skip
        assert (row["ci"] is not None) == known
        assert row["n"] == 40
