"""Properties of every metric, intervals and paired tests."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics import evaluate_captions, load_statistics, save_statistics, tokenize
from medblip.metrics.base import Agreement, Means, Ratio, Statistics, mean_statistics
from medblip.metrics.degeneration import degeneration
from medblip.metrics.meteor import Meteor
from medblip.metrics.ngrams import TokenPairs
from medblip.metrics.resampling import bootstrap, bootstrap_weights, scores
from medblip.metrics.significance import approximate_randomisation, holm, paired_bootstrap
from medblip.metrics.stored import StoredStatistics

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
def test_any_text_scores_and_order_does_not_matter(
    pairs: list[tuple[str, str]], random: object
) -> None:
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
    [
        ([], [], "do not belong"),
        (["a"], [["a"], ["b"]], "do not belong"),
        (["a"], [[]], "without a reference"),
    ],
)
def test_sets_that_cannot_be_scored(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(MetricError, match=message):
        evaluate_captions(hypotheses, references)


@pytest.mark.parametrize("extra", [{"facts": [{}]}, {"groups": ["a", "b", "c"]}])
def test_facts_and_groups_of_another_length(extra: dict[str, Any]) -> None:
    with pytest.raises(MetricError, match="2 captions"):
        evaluate_captions(["a", "b"], [["a"], ["b"]], **extra)


def test_one_image_of_one_word() -> None:
    """Smoothing alone keeps BLEU-1 from 1; BLEU-2 has no bigram; every idf is log 1 = 0."""
    table = evaluate_captions(["nodule"], [["Nodule."]], resamples=20)
    found = {name: score.value for name, score in table.scores.items()}
    assert found["BLEU-1"] == pytest.approx(1 - 2e-9, abs=1e-14)
    assert found["BLEU-2"] == pytest.approx(1e-3)
    assert found["ROUGE-L"] == 1
    assert found["CIDEr-D"] == 0
    assert table.scores["ROUGE-L"].ci == (1, 1)


def test_bleu_by_hand() -> None:
    """Clipping: `the the the` against `the a` matches once; 3 words against 2, so no brevity."""
    table = evaluate_captions(["the the the"], [["the a"]], resamples=0)
    assert table.scores["BLEU-1"].value == pytest.approx(1 / 3)
    short = evaluate_captions(["a scan"], [["a scan of the knee"]], resamples=0)
    assert short.scores["BLEU-2"].value == pytest.approx(np.exp(1 - 5 / 2))
    # Of lengths 1 and 3, both 1 from 2, the shorter is taken: no brevity penalty.
    tie = evaluate_captions(["a scan"], [["a scan here", "a"]], resamples=0)
    assert tie.scores["BLEU-1"].value == pytest.approx(1)


def test_rouge_by_hand() -> None:
    """`a b c d` and `a x c` share `a c`: P = 2/4, R = 2/3, F with beta 1.2."""
    table = evaluate_captions(["aa bb cc dd"], [["aa xx cc"]], resamples=0)
    assert table.scores["ROUGE-L"].value == pytest.approx(2.44 * 0.5 * 2 / 3 / (2 / 3 + 1.44 * 0.5))


def test_cider_by_hand() -> None:
    """Two images, every word held by one: idf log 2 cancels, identical single words score 10/4."""
    table = evaluate_captions(["aa", "zz"], [["aa"], ["bb"]], resamples=0)
    for name in ("CIDEr-D", "CIDEr"):
        np.testing.assert_allclose(table.per_image[name], [2.5, 0], atol=1e-15)
    # 2 of 3 words more than the reference: delta of bigrams is 2; plain CIDEr has no such factor.
    table = evaluate_captions(["aa xx yy", "bb"], [["aa"], ["bb"]], resamples=0)
    plain = 10 / 4 / np.sqrt(3)
    assert table.per_image["CIDEr"][0] == pytest.approx(plain)
    assert table.per_image["CIDEr-D"][0] == pytest.approx(plain * np.exp(-4 / 72))


def naive_counts(words: list[str], order: int) -> dict[tuple[str, ...], int]:
    grams = [tuple(words[i : i + order]) for i in range(len(words) - order + 1)]
    return {gram: grams.count(gram) for gram in grams}


few_words = st.lists(st.sampled_from("abc"), max_size=7)


@given(
    st.lists(
        st.tuples(few_words, st.lists(few_words, min_size=1, max_size=3)), min_size=1, max_size=5
    )
)
def test_counted_n_grams_are_those_of_a_loop(
    pairs: list[tuple[list[str], list[list[str]]]],
) -> None:
    counted = TokenPairs([h for h, _ in pairs], [refs for _, refs in pairs])
    owners = [(image, ref) for image, (_, refs) in enumerate(pairs) for ref in refs]
    assert counted.image.tolist() == [image for image, _ in owners]
    for order, found in enumerate(counted.orders, start=1):
        for entries, captions in (
            (found.hypothesis, [h for h, _ in pairs]),
            (found.reference, [ref for _, ref in owners]),
        ):
            for number, words in enumerate(captions):
                mine = np.sort(entries.count[entries.caption == number])
                assert mine.tolist() == sorted(naive_counts(words, order).values())
        shared = sum(
            len(naive_counts(ref, order).keys() & naive_counts(pairs[image][0], order).keys())
            for image, ref in owners
        )
        assert (found.shared >= 0).sum() == shared


def test_statistics_of_parts_add_up() -> None:
    """BLEU of a set follows from the summed statistics of its parts."""
    hypotheses, references = CAPTIONS[::-1], [[c] for c in CAPTIONS]
    whole = evaluate_captions(hypotheses, references, resamples=0).families["Bleu"]
    parts = [
        evaluate_captions(hypotheses[s], references[s], resamples=0).families["Bleu"].values
        for s in (slice(0, 1), slice(1, 4))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole.values)


def test_a_signature_names_what_changes_the_number() -> None:
    one = evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS], resamples=10, seed=3)
    two = evaluate_captions(CAPTIONS, [[c, c] for c in CAPTIONS], resamples=0)
    assert one.scores["BLEU-4"].signature == (
        "BLEU-4|tok:ptb-compat|refs:1|medblip-metrics:2|length:closest|smooth:1e-15"
        "|ci:bootstrap10,images,seed3"
    )
    assert "idf:references,fixed" in one.scores["CIDEr-D"].signature
    assert "|refs:2|" in two.scores["BLEU-4"].signature
    assert "ci:none" in two.scores["BLEU-4"].signature


def test_weights_are_multinomial_and_the_stream_ignores_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = np.concatenate(list(bootstrap_weights(50, 4000, 0)))
    assert weights.sum(axis=1).tolist() == [50.0] * 4000
    # A count is binomial(50, 1/50): mean 1, variance .98; 5 standard errors over 4,000 draws.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 * (0.98 / 4000) ** 0.5)
    np.testing.assert_allclose(weights.var(axis=0).mean(), 0.98, rtol=0.02)
    monkeypatch.setattr("medblip.metrics.resampling._BLOCK_BYTES", 8 * 50 * 7)
    np.testing.assert_array_equal(np.concatenate(list(bootstrap_weights(50, 4000, 0))), weights)


def test_the_bootstrap_equals_scoring_each_resample_anew() -> None:
    hypotheses = [CAPTIONS[0], "a scan", CAPTIONS[2], "MRI of the brain"]
    references = [[c] for c in CAPTIONS]
    family = evaluate_captions(hypotheses, references, resamples=0).families["Bleu"]
    (drawn,) = bootstrap([family], 20, 5)
    for values, weights in zip(drawn, *bootstrap_weights(4, 20, 5), strict=True):
        chosen = np.repeat(np.arange(4), weights.astype(int))
        again = evaluate_captions(
            [hypotheses[i] for i in chosen], [references[i] for i in chosen], resamples=0
        )
        np.testing.assert_allclose(values, again.families["Bleu"].corpus(), atol=1e-12)


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
        statistics = Statistics(Ratio("x"), mean_statistics(sample))
        low, high = scores([statistics], resamples=400, seed=0)["x"].ci
        held += low <= 2 / 7 <= high
    assert 0.89 <= held / 200 <= 0.99


def stored(values: np.ndarray, ids: tuple[str, ...] | None = None) -> StoredStatistics:
    statistics = Statistics(Ratio("x"), mean_statistics(values))
    return StoredStatistics(ids or tuple(map(str, range(len(values)))), {"x": statistics}, None)


def test_a_system_against_itself_is_never_significant() -> None:
    sample = np.random.default_rng(0).random(50)
    test = paired_bootstrap(stored(sample), stored(sample), resamples=500)["x"]
    assert (test.difference, test.ci, test.p) == (0, (0, 0), 1)
    assert approximate_randomisation(stored(sample), stored(sample), trials=500) == {"x": 1}


def test_a_clear_difference_is_significant_and_has_a_sign() -> None:
    sample = np.random.default_rng(0).random(50)
    test = paired_bootstrap(stored(sample + 0.2), stored(sample), resamples=999)["x"]
    assert test.difference == pytest.approx(0.2)
    assert test.ci[0] > 0
    assert test.p == 1 / 1000
    assert (
        approximate_randomisation(stored(sample + 0.2), stored(sample), trials=999)["x"] == 1 / 1000
    )
    back = paired_bootstrap(stored(sample), stored(sample + 0.2), resamples=999)["x"]
    assert back.difference == pytest.approx(-0.2)


def test_randomisation_equals_the_exact_permutation_test() -> None:
    """All 2^10 swaps of ten images, counted; 20,000 random ones agree within 3 standard errors."""
    rng = np.random.default_rng(3)
    a, b = rng.random(10) + 0.15, rng.random(10)
    gap = a - b
    exact = np.mean(
        [
            abs(np.dot(signs, gap)) >= abs(gap.sum()) - 1e-12
            for signs in itertools.product((1, -1), repeat=10)
        ]
    )
    drawn = approximate_randomisation(stored(a), stored(b), trials=20_000, seed=0)["x"]
    assert drawn == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / 20_000))


def test_different_images_are_refused() -> None:
    with pytest.raises(MetricError, match="2 only here"):
        paired_bootstrap(stored(np.ones(4), ("a", "b", "c", "d")), stored(np.ones(2), ("a", "b")))


def test_groups_and_definitions_must_agree() -> None:
    grouped = evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS], resamples=0, groups=list("aabb"))
    alone = evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS], resamples=0)
    two = evaluate_captions(CAPTIONS, [[c, "a"] for c in CAPTIONS], resamples=0)
    names = list("wxyz")
    for test in (paired_bootstrap, approximate_randomisation):
        with pytest.raises(MetricError, match="groups"):
            test(grouped.stored(names), alone.stored(names))
        with pytest.raises(MetricError, match="same way"):
            test(two.stored(names), alone.stored(names))


def test_p_values_of_both_tests_are_those_of_chance_when_there_is_no_difference() -> None:
    """Under the null, p < .05 in about 5 % of 300 pairs of systems of 60 images."""
    rng = np.random.default_rng(1)
    found = {"bootstrap": 0, "randomisation": 0}
    for _ in range(300):
        a, b = stored(rng.random(60)), stored(rng.random(60))
        found["bootstrap"] += paired_bootstrap(a, b, resamples=199)["x"].p < 0.05
        found["randomisation"] += approximate_randomisation(a, b, trials=199)["x"] < 0.05
    for count in found.values():
        assert 4 <= count <= 28, found  # 15 +- 3.4 standard errors


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert all(p <= c <= 1 for p, c in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(x <= y for x, y in itertools.pairwise(np.array(corrected)[order]))


def test_statistics_survive_the_file(tmp_path: Path) -> None:
    facts = [{"modality": "X-ray", "region": "chest", "findings": [], "devices": []}] * 4
    table = evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS], facts=facts, groups=list("aabb"))
    save_statistics(tmp_path / "s.npz", table.stored(list("wxyz")))
    loaded = load_statistics(tmp_path / "s.npz")
    assert loaded.ids == tuple("wxyz")
    assert loaded.groups is not None
    for name, family in table.families.items():
        np.testing.assert_array_equal(loaded.families[name].corpus(), family.corpus())
        assert loaded.families[name].metric.names == family.metric.names
    tests = paired_bootstrap(loaded, table.stored(list("wxyz")), resamples=50)
    assert {name: test.p for name, test in tests.items()} == dict.fromkeys(table.scores, 1)


@pytest.mark.parametrize("content", [b"nothing", b"PK\x03\x04 torn", b""])
def test_a_damaged_file_of_statistics(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(MetricError, match="cannot be read"):
        load_statistics(tmp_path / "bad.npz")


def test_a_file_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.ones(3))
    with pytest.raises(MetricError, match="cannot be read"):
        load_statistics(tmp_path / "other.npz")
    with pytest.raises(MetricError, match="cannot be read"):
        load_statistics(tmp_path / "absent.npz")


def test_collapse_is_visible() -> None:
    found = degeneration(["the same"] * 9 + ["another another another another"])
    assert found["unique_captions"] == 0.2
    assert found["most_frequent_share"] == 0.9
    assert found["repeated_bigrams"] == pytest.approx(2 / 12, abs=1e-4)


def test_no_caption_is_no_collapse() -> None:
    with pytest.raises(MetricError, match="no captions"):
        degeneration([])
    assert degeneration([""])["repeated_bigrams"] == 0


def test_metrics_import_no_torch() -> None:
    names = ("facts", "significance", "degeneration")
    code = "import sys, json, medblip.metrics\n"
    code += "".join(f"import medblip.metrics.{name}\n" for name in names)
    code += "print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers"} & set(json.loads(done.stdout))


def test_images_without_a_value_for_both_systems_are_left_out_of_the_pair() -> None:
    """A scorer failed on another image of each system: only the shared ones are compared."""
    one = Statistics(Ratio("x"), np.array([[0.9, 1], [0.0, 0], [0.5, 1], [0.4, 1]]))
    other = Statistics(Ratio("x"), np.array([[0.1, 1], [0.7, 1], [0.0, 0], [0.2, 1]]))
    systems = [StoredStatistics(tuple("abcd"), {"x": s}, None) for s in (one, other)]
    test = paired_bootstrap(*systems, resamples=99)["x"]
    assert test.difference == pytest.approx((0.9 + 0.4) / 2 - (0.1 + 0.2) / 2)


def test_precision_recall_and_f1_of_items() -> None:
    counts = np.array([[1.0, 2, 1], [0, 0, 0], [0, 1, 0], [0, 0, 2]])
    family = Statistics(Agreement("x"), counts)
    np.testing.assert_allclose(family.corpus(), [1 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(
        family.per_image(), [[0.5, 1, 2 / 3], [1, 1, 1], [0, 0, 0], [0, 0, 0]]
    )
    assert family.metric.names == ("x-P", "x-R", "x-F1")


def test_every_kind_of_family_survives_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    families = {
        "Bleu": evaluate_captions(CAPTIONS, [[c] for c in CAPTIONS]).families["Bleu"],
        "Meteor": Statistics(Meteor(), np.abs(rng.normal(size=(4, 25)))),
        "roco-concepts": Statistics(Agreement("roco-concepts", "rules"), np.eye(4, 3) * 2 + 2),
        "errors": Statistics(Means(("error-a", "error-b"), "audit:1"), np.ones((4, 3)), "refs:1"),
        "ImageCLEF-style 2026 overall": Statistics(Ratio("ImageCLEF-style 2026 overall"),
                                                   np.ones((4, 2))),
    }  # fmt: skip
    save_statistics(tmp_path / "s.npz", StoredStatistics(tuple("abcd"), families, None, "ref"))
    loaded = load_statistics(tmp_path / "s.npz")
    assert loaded.references == "ref"
    for name, family in families.items():
        found = loaded.families[name]
        assert found.metric.names == family.metric.names
        assert found.signature == family.signature
        np.testing.assert_array_equal(found.corpus(), family.corpus())
