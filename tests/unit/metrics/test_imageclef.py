"""The challenge's text rules, ROUGE-1, means of components that never hide a missing one."""

from __future__ import annotations

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics.imageclef import (
    COMPONENTS,
    Year,
    imageclef_statistics,
    normalise,
    rouge1_statistics,
    with_empty_captions,
)
from medblip.metrics.resampling import scores

#: First row of the published table of 2026: components, relevance, factuality, overall.
PUBLISHED = {
    "BERTScore-F1(imageclef)": 0.6250, "ROUGE-1": 0.3234, "similarity": 1.0104, "BLEURT": 0.3555,
    "MedCAT-F1": 0.2160, "AlignScore": 0.1287,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 3.5 cm Mass.", "a numbernumber cm mass"),
        ("T1-weighted; 2.5cm", "tnumberweighted numbernumbercm"),
        ("“Arrow” – 10 %", "“arrow” – number "),
        ("Fig_2 'a' (b)", "fignumber a b"),
        ("٣ ² ½", "number ² ½"),
        ("", ""),
    ],
)
def test_normalised_text(text: str, expected: str) -> None:
    assert normalise(text) == expected


def naive(hypothesis: str, reference: str) -> float:
    if not hypothesis and not reference:
        return 1.0
    one, two = (Counter(re.findall("[a-z0-9]+", normalise(t))) for t in (hypothesis, reference))
    return 2 * (one & two).total() / max(1, one.total() + two.total())


messy = st.text(alphabet=st.sampled_from("ab A.1٣-½ñK\n\r\t\x1c\u2028\ud800\ue000'"), max_size=20)


@given(st.lists(st.tuples(messy, st.lists(messy, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_rouge_1_is_that_of_a_loop(pairs: list[tuple[str, list[str]]]) -> None:
    statistics = rouge1_statistics([h for h, _ in pairs], [refs for _, refs in pairs])
    expected = [max(naive(h, ref) for ref in refs) for h, refs in pairs]
    np.testing.assert_allclose(statistics.per_image()[:, 0], expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(statistics.values[:, 1], 1)
    assert not set("ABK" + string.punctuation) & set(normalise(pairs[0][0]))


def test_a_word_matches_as_often_as_on_both_sides() -> None:
    statistics = rouge1_statistics(["a a a b", "a a c c"], [["a a c c"], ["a a a b"]])
    assert statistics.per_image()[:, 0].tolist() == [0.5, 0.5]


def test_rouge_1_of_empty_captions() -> None:
    statistics = rouge1_statistics(["", "", "a", "", "."], [[""], ["a"], [""], ["a", ""], ["."]])
    assert statistics.per_image()[:, 0].tolist() == [1, 0, 0, 1, 0]
    assert statistics.metric.names == ("ROUGE-1",)


@pytest.mark.parametrize(
    ("hypotheses", "references"), [([], []), (["a"], [["a"], ["b"]]), (["a", "b"], [["a"], []])]
)
def test_captions_that_cannot_be_scored(hypotheses: list[str], references: list[list[str]]) -> None:
    with pytest.raises(MetricError):
        rouge1_statistics(hypotheses, references)


def means(values: dict[str, float], year: Year) -> tuple[dict[str, float], list[str]]:
    statistics, missing = imageclef_statistics({n: np.full(3, v) for n, v in values.items()}, year)
    prefix = f"ImageCLEF-style {year} "
    found = {name.removeprefix(prefix): s.corpus()[0] for name, s in statistics.items()}
    return found, missing


def test_the_published_means_of_2026() -> None:
    found, missing = means(PUBLISHED | {"BLEU-4": 0.1}, 2026)
    assert found["relevance"] == pytest.approx(0.5786, abs=5e-5)
    assert found["factuality"] == pytest.approx(0.1724, abs=1e-4)
    assert found["overall"] == pytest.approx(0.3755, abs=1e-4)
    assert missing == []


def test_2025_knows_no_bleurt() -> None:
    found, _ = means(PUBLISHED, 2025)
    assert found["relevance"] == pytest.approx((0.6250 + 0.3234 + 1.0104) / 3)


@pytest.mark.parametrize("gone", list(PUBLISHED))
def test_a_mean_with_a_missing_component_is_not_given(gone: str) -> None:
    found, missing = means({n: v for n, v in PUBLISHED.items() if n != gone}, 2026)
    whole = "relevance" if gone in COMPONENTS[2026]["factuality"] else "factuality"
    assert list(found) == [whole]
    assert missing == [gone]


def test_nothing_given() -> None:
    found, missing = means({}, 2025)
    assert found == {}
    assert len(missing) == 5


@pytest.mark.parametrize("year", [2025, 2026])
def test_means_per_image_are_the_means_of_the_set(year: Year) -> None:
    rng = np.random.default_rng(0)
    arrays = {name: rng.random(40) for name in PUBLISHED}
    statistics, missing = imageclef_statistics(arrays, year)
    assert missing == []
    expected = {
        part: np.mean([arrays[name].mean() for name in names])
        for part, names in COMPONENTS[year].items()
    }
    expected["overall"] = np.mean([expected["relevance"], expected["factuality"]])
    for part, value in expected.items():
        assert statistics[f"ImageCLEF-style {year} {part}"].corpus()[0] == pytest.approx(value)
    overall = f"ImageCLEF-style {year} overall"
    low, high = scores(list(statistics.values()), resamples=200, seed=0)[overall].ci
    assert low < expected["overall"] < high
    relevance = statistics[f"ImageCLEF-style {year} relevance"].metric.signature
    assert ("BLEURT" in relevance) == (year == 2026)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ROUGE-1": np.ones(2)}, r"ROUGE-1: \(2,\)"),
        ({"BLEURT": np.array([1, np.nan, 0])}, "not finite: BLEURT"),
        ({"BLEURT": np.ones((3, 1))}, r"\(3, 1\)"),
    ],
)
def test_components_of_other_images(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        imageclef_statistics({name: np.ones(3) for name in PUBLISHED} | change, 2026)


def test_a_year_without_rules() -> None:
    with pytest.raises(MetricError, match="2025, 2026"):
        imageclef_statistics({}, 2024)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("component", "year", "expected"),
    [
        ("BERTScore-F1(imageclef)", 2026, [1, 0.5, 0.5, 0.5]),
        ("ROUGE-1", 2025, [1, 0.5, 0.5, 0.5]),
        ("MedCAT-F1", 2026, [1, 0.5, 0.5, 0.5]),
        ("AlignScore", 2026, [1, 0.5, 0.5, 0.5]),
        ("BLEURT", 2026, [0.5, 0.5, 0.5, 0.5]),
        ("similarity", 2025, [1, 0.5, 0.5, 0.5]),
        ("similarity", 2026, [0, 0, 0.5, 0.5]),
    ],
)
def test_rules_for_empty_captions(component: str, year: Year, expected: list[float]) -> None:
    values = np.full(4, 0.5)
    found = with_empty_captions(
        component, values, ["", "", "a", "."], [[""], ["a"], [""], ["."]], year
    )
    assert found.tolist() == expected
    assert values.tolist() == [0.5] * 4


def test_rules_for_unknown_components_or_lengths() -> None:
    with pytest.raises(MetricError, match="'BLEURT'"):
        with_empty_captions("BLEURT", np.ones(1), ["a"], [["a"]], 2025)
    with pytest.raises(MetricError, match="2 captions"):
        with_empty_captions("ROUGE-1", np.ones(1), ["a", "b"], [["a"]], 2025)
