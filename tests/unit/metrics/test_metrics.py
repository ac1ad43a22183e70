"""Properties of every metric, intervals and paired tests."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics import evaluate_captions, load_statistics, tokenize
from medblip.metrics.base import Ratio, Statistics
from medblip.metrics.degeneration import degeneration
from medblip.metrics.significance import approximate_randomisation, holm, paired_bootstrap
from medblip.metrics.table import StoredStatistics

CAPTIONS = [
    "Chest X-ray showing a left pleural effusion.",
    "Axial CT of the abdomen with a liver lesion.",
    "Normal hand radiograph.",
    "MRI of the brain: a ring-enhancing lesion in the right frontal lobe.",
]
text = st.text(max_size=60)


def values(hypotheses: list[str], references: list[list[str]]) -> dict[str, float]:
    table = evaluate_captions(hypotheses, references, resamples=0)
    return {name: score.value for name, score in table.scores.items()}


def test_identical_captions_score_the_maximum() -> None:
    same = values(CAPTIONS, [[c] for c in CAPTIONS])
    assert same["BLEU-1"] == pytest.approx(1, abs=1e-6)
    assert same["ROUGE-L"] == pytest.approx(1)
    for index in range(len(CAPTIONS)):
        worse = [*CAPTIONS]
        worse[index] = "something else altogether"
        other = values(worse, [[c] for c in CAPTIONS])
        assert all(other[name] < same[name] for name in same)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(text, text), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_any_text_scores_and_order_does_not_matter(pairs: list[tuple[str, str]], random: object) -> None:
    shuffled = [*pairs]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one = values([h for h, _ in pairs], [[r] for _, r in pairs])
    two = values([h for h, _ in shuffled], [[r] for _, r in shuffled])
    for name, value in one.items():
        assert np.isfinite(value)
        assert value == pytest.approx(two[name], abs=1e-9)


@given(text)
def test_tokens_hold_no_space_and_are_stable(caption: str) -> None:
    tokens = tokenize(caption)
    assert all(token and " " not in token for token in tokens)
    assert [t.lower() for t in tokens] == tokens


def test_an_empty_caption_scores_nothing() -> None:
    found = values(["", *CAPTIONS[1:]], [[c] for c in CAPTIONS])
    table = evaluate_captions(["", *CAPTIONS[1:]], [[c] for c in CAPTIONS], resamples=0)
    assert table.per_image["ROUGE-L"][0] == 0
    assert table.per_image["CIDEr-D"][0] == 0
    assert found["BLEU-4"] > 0


def test_more_references_never_lower_rouge_or_matches() -> None:
    one = values(CAPTIONS[:2], [[CAPTIONS[1]], [CAPTIONS[0]]])
    two = values(CAPTIONS[:2], [[CAPTIONS[1], CAPTIONS[0]], [CAPTIONS[0], CAPTIONS[1]]])
    assert two["ROUGE-L"] > one["ROUGE-L"]
    assert two["BLEU-1"] > one["BLEU-1"]


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [([], [], "do not belong"), (["a"], [["a"], ["b"]], "do not belong"), (["a"], [[]], "without a reference")],
)  # fmt: skip
def test_sets_that_cannot_be_scored(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        evaluate_captions(hypotheses, references)


def test_an_interval_holds_its_value_and_depends_on_the_seed_alone() -> None:
    many = CAPTIONS * 20
    noisy = [c if i % 3 else "a scan" for i, c in enumerate(many)]
    a = evaluate_captions(noisy, [[c] for c in many], seed=1)
    b = evaluate_captions(noisy, [[c] for c in many], seed=1)
    c = evaluate_captions(noisy, [[c] for c in many], seed=2)
    assert a.scores == b.scores
    assert a.scores["BLEU-4"].ci != c.scores["BLEU-4"].ci
    for score in a.scores.values():
        assert score.ci[0] <= score.value <= score.ci[1]
        assert "bootstrap1000" in score.signature


def test_groups_widen_the_interval() -> None:
    """Eight copies of an image are one observation, not eight."""
    many = [c for c in CAPTIONS for _ in range(8)]
    noisy = [c if i < 16 else "a scan" for i, c in enumerate(many)]
    groups = [str(i // 8) for i in range(32)]
    alone = evaluate_captions(noisy, [[c] for c in many]).scores["ROUGE-L"]
    grouped = evaluate_captions(noisy, [[c] for c in many], groups=groups).scores["ROUGE-L"]
    assert grouped.ci[1] - grouped.ci[0] > 1.5 * (alone.ci[1] - alone.ci[0])
    assert "group" in grouped.signature


def test_coverage_of_the_interval_by_simulation() -> None:
    """The 95 % interval of a mean of 80 values holds the truth in about 95 of 100 samples."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        sample = rng.beta(2, 5, 80)
        statistics = Statistics(Ratio("x"), np.column_stack([sample, np.ones(80)]))
        low, high = statistics.scores(400, 0, None)["x"].ci
        held += low <= 2 / 7 <= high
    assert 0.89 <= held / 200 <= 0.99


def stored(values: np.ndarray, ids: tuple[str, ...] | None = None) -> StoredStatistics:
    statistics = Statistics(Ratio("x"), np.column_stack([values, np.ones(len(values))]))
    return StoredStatistics(ids or tuple(map(str, range(len(values)))), {"x": statistics}, None)


def test_a_system_against_itself_is_never_significant() -> None:
    sample = np.random.default_rng(0).random(50)
    test = paired_bootstrap(stored(sample), stored(sample), resamples=500)["x"]
    assert (test.difference, test.ci, test.p) == (0, (0, 0), 1)
    assert approximate_randomisation(stored(sample).families["x"], stored(sample).families["x"])[0] == 1


def test_a_clear_difference_is_significant_and_has_a_sign() -> None:
    sample = np.random.default_rng(0).random(50)
    test = paired_bootstrap(stored(sample + 0.2), stored(sample), resamples=999)["x"]
    assert test.difference == pytest.approx(0.2)
    assert test.ci[0] > 0
    assert test.p == pytest.approx(2 / 1000)
    back = paired_bootstrap(stored(sample), stored(sample + 0.2), resamples=999)["x"]
    assert back.difference == pytest.approx(-0.2)


def test_randomisation_equals_the_exact_permutation_test() -> None:
    """All 2^10 swaps of ten images, counted; 20,000 random ones must agree within 3 standard errors."""
    rng = np.random.default_rng(3)
    a, b = rng.random(10) + 0.15, rng.random(10)
    gap = a - b
    exact = np.mean(
        [abs(np.dot(signs, gap)) >= abs(gap.sum()) - 1e-12 for signs in itertools.product((1, -1), repeat=10)]
    )
    drawn = approximate_randomisation(
        stored(a).families["x"], stored(b).families["x"], trials=20_000, seed=0
    )[0]
    assert drawn == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / 20_000))


def test_different_images_are_refused() -> None:
    with pytest.raises(MetricError, match="2 only here"):
        paired_bootstrap(stored(np.ones(4), ("a", "b", "c", "d")), stored(np.ones(2), ("a", "b")))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(x <= y for x, y in itertools.pairwise(np.array(corrected)[order]))


def test_statistics_survive_the_file(tmp_path: Path) -> None:
    facts = [{"modality": "X-ray", "region": "chest", "findings": [], "devices": []}] * 4
    table = evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS], facts=facts, groups=list("aabb"))
    table.save_statistics(tmp_path / "s.npz", ids=list("wxyz"))
    loaded = load_statistics(tmp_path / "s.npz")
    assert loaded.ids == tuple("wxyz")
    assert loaded.groups is not None
    for name, family in table.families.items():
        np.testing.assert_array_equal(loaded.families[name].corpus(), family.corpus())
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(MetricError, match="cannot be read"):
        load_statistics(tmp_path / "bad.npz")


def test_collapse_is_visible() -> None:
    found = degeneration(["the same"] * 9 + ["another another another another"])
    assert found["unique_captions"] == 0.2
    assert found["most_frequent_share"] == 0.9
    assert found["repeated_bigrams"] == pytest.approx(2 / 12, abs=1e-4)


def test_metrics_import_no_torch() -> None:
    code = "import sys, json, medblip.metrics, medblip.metrics.facts; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(json.loads(done.stdout))
