"""Groups of images: from facts and from text, merged where small, scored like the whole."""

from __future__ import annotations

import numpy as np
import pytest

from medblip.metrics.base import Ratio, Statistics, mean_statistics
from medblip.metrics.strata import SMALLEST, levels, stratified


def test_facts_say_it_where_they_are_known() -> None:
    facts = [
        {"modality": "CT", "region": "chest", "findings": [{"name": "nodule"}]},
        {"modality": "MR", "region": "head", "findings": []},
    ] * 20
    found = levels([["a scan"]] * 40, facts)
    assert found["modality"] == ["CT", "MR"] * 20
    assert found["region"] == ["chest", "head"] * 20
    assert found["findings"] == ["common", "none"] * 20
    assert set(found["length"]) == {"short (up to 10 words)"}


def test_the_reference_is_read_where_they_are_not() -> None:
    texts = [["CT of the chest shows a nodule."], ["A figure."], ["MRI and CT of the brain."]] * 15
    found = levels(texts, None)
    assert found["modality"][:3] == ["CT", "not stated", "several"]
    assert found["region"][:3] == ["chest", "not stated", "head"]
    assert found["findings"][:3] == ["common", "none", "none"]


def test_what_is_rare_is_rare_in_training() -> None:
    training = [["nodule"]] * 70 + [["fracture"]] * 20 + [["haemorrhage"]] * 10
    images = [["nodule"]] * 12 + [["haemorrhage"]] * 12 + [["fracture"]] * 12
    found = levels(images, None, training)
    # haemorrhage makes 10 of 100 mentions; with fracture it would be 30, above a fifth
    assert found["findings"] == ["common"] * 12 + ["rare"] * 12 + ["common"] * 12


def test_small_groups_are_one() -> None:
    facts = [{"modality": name, "findings": []} for name in ["CT"] * 12 + ["MR"] * 3 + ["US"] * 2]
    found = levels([["x"]] * 17, facts)
    assert SMALLEST == 10
    assert found["modality"] == ["CT"] * 12 + ["other"] * 5


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
    values = np.repeat([0.0, 1.0, 0.2, 0.9], 10)
    family = Statistics(Ratio("m"), mean_statistics(values))
    alone = stratified([family], ["m"], {"by": ["a"] * 40}, resamples=500, seed=0)[0]
    whole = stratified(
        [family], ["m"], {"by": ["a"] * 40}, resamples=500, seed=0,
        groups=np.repeat(np.arange(4), 10),
    )[0]  # fmt: skip
    width = [row["ci"][1] - row["ci"][0] for row in (alone, whole)]
    assert width[1] > 2 * width[0]


def test_a_metric_that_no_image_of_a_group_has_is_left_out() -> None:
    sided = np.array([1.0, 1.0, 0.0, 0.0])
    family = Statistics(Ratio("side"), np.stack([sided, sided], axis=1))
    rows = stratified([family], ["side"], {"by": ["a", "a", "b", "b"]}, resamples=50, seed=0)
    assert [(row["level"], row["value"]) for row in rows] == [("a", 1.0)]
