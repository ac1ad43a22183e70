"""Collapse, repetition and copying are visible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics import degeneration as module
from medblip.metrics.degeneration import degeneration
from medblip.metrics.tokenize import tokenize

CAPTIONS = [
    "Chest X-ray (PA view).",
    "CT of the abdomen, no free air.",
    "Normal hand.",
    "Normal hand",
]


def test_runs_of_two_and_four_tokens() -> None:
    found = degeneration(["a b a b a b", "c d e f g"])
    # 5 + 4 bigrams: ab, ba, ab, ba, ab repeat 3; 3 + 2 runs of four: abab, baba, abab repeat 1
    assert found["repeated_bigrams"] == round(3 / 9, 4)
    assert found["repeated_4grams"] == round(1 / 5, 4)
    assert "seen_in_training" not in found
    short = degeneration(["a", "", "b c d"])
    assert (short["repeated_bigrams"], short["repeated_4grams"]) == (0, 0)


def test_the_keys_that_files_hold() -> None:
    assert list(degeneration(CAPTIONS, training=[])) == [
        "unique_captions", "most_frequent_share", "mean_words", "repeated_bigrams",
        "repeated_4grams", "seen_in_training",
    ]  # fmt: skip


def test_copies_of_training_captions() -> None:
    training = [
        "CHEST x-ray, ( PA view )",
        "normal hand!",
        "CT of the abdomen",
        "handnormal",
    ]
    assert degeneration(CAPTIONS, training=training)["seen_in_training"] == 0.75
    assert degeneration(CAPTIONS, training=CAPTIONS)["seen_in_training"] == 1
    assert degeneration(CAPTIONS, training=["Norm al hand"])["seen_in_training"] == 0
    assert degeneration(CAPTIONS, training=[])["seen_in_training"] == 0


def test_known_tokens_are_not_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = degeneration(CAPTIONS)
    tokens = [tokenize(caption) for caption in CAPTIONS]

    def fail(text: str) -> list[str]:
        raise AssertionError(text)

    monkeypatch.setattr(module, "tokenize", fail)
    assert degeneration(CAPTIONS, tokens=tokens) == expected
    # letters differ from all captions: ruled out without the tokenizer
    assert degeneration(CAPTIONS, tokens=tokens, training=["foot"])["seen_in_training"] == 0


def test_tokens_of_other_captions() -> None:
    with pytest.raises(MetricError, match="tokens of 1"):
        degeneration(CAPTIONS, tokens=[["a"]])
    with pytest.raises(MetricError, match="no captions"):
        degeneration([], tokens=[])


@given(st.text(alphabet=st.sampled_from("aTñ½1 -,.()[]'\u2019\u00a0\n/x"), max_size=25))
def test_tokens_keep_the_letters(text: str) -> None:
    """Hence texts with the same tokens have the same letters, which is what is compared first."""
    assert module._letters(" ".join(tokenize(text))) == module._letters(text)
