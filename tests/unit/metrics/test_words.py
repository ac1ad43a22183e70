"""Texts as numbers: every short cut equals the long way."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medblip.metrics.imageclef import normalise, rouge1_statistics
from medblip.metrics.ngrams import TokenPairs, _stable_order
from medblip.metrics.tokenize import _scan, _simple, tokenize, tokenize_all
from medblip.metrics.words import Pieces, Words

#: What decides between short cut and long way: white space, signs, abbreviations, numbers.
caption = st.lists(
    st.sampled_from(
        ["CT", "Fig.", "2", "21", "3/7", "(arrow)", "<b>", "B.", "The", "left-sided", "a.", "5.",
         "can't", "cannot", "\u00a0", "\n", ",", "(", "3.5-cm", "é", "x-ray).", "200", "300",
         "etc.", "\u0130", "\u03a3", "\u0661", "K\u212a"]
    ),
    max_size=12,
).map(" ".join)  # fmt: skip
words = st.lists(st.sampled_from(["a", "b", "", "c\u00a0d", "\u00a0", "e f", "x\u00a0y\u00a0z"]),
                 max_size=6)  # fmt: skip


def spelled(found: Words) -> list[list[str]]:
    return [[found.vocabulary[number] for number in numbers] for numbers in found.lists()]


@given(st.lists(caption | st.text(max_size=30), max_size=8))
def test_many_texts_get_the_tokens_of_each(texts: list[str]) -> None:
    assert spelled(tokenize_all(Pieces(texts))) == [tokenize(text) for text in texts]


@given(caption | st.text(max_size=40))
def test_pieces_get_the_tokens_of_the_whole_text(text: str) -> None:
    assert tokenize(text) == _scan(text)


def test_the_short_cut_for_plain_pieces_takes_no_other_turn() -> None:
    rng = random.Random(0)
    letters = "abcdefgistnolmvxzACDEFGINSTX0127-."
    common = ["fig", "no", "vs", "dr", "etc", "ct", "mr", "cannot", "gonna", "inc", "st", "ed",
              "ph", "wash", "mfg", "art", "figs", "x", "n", "i"]  # fmt: skip
    tried = 0
    for _ in range(20_000):
        core = "".join(rng.choices(letters, k=rng.randint(1, 6)))
        core = rng.choice([core, rng.choice(common), rng.choice(common) + "-" + core])
        core = rng.choice([str.lower, str.upper, str.title, str])(core)
        piece = rng.choice(["", "", "("]) + core + rng.choice(["", ".", ",", ";", ":", ")", ")."])
        found = _simple(piece)
        if found is not None:
            tried += 1
            assert list(found) == _scan(piece), piece
    assert tried > 5_000


@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=5))
def test_a_word_that_holds_a_space_counts_as_its_parts(
    pairs: list[tuple[list[str], list[list[str]]]],
) -> None:
    def split(tokens: list[str]) -> list[str]:
        return " ".join(tokens).split()

    one = TokenPairs([h for h, _ in pairs], [refs for _, refs in pairs])
    two = TokenPairs([split(h) for h, _ in pairs], [[split(r) for r in refs] for _, refs in pairs])
    assert one.hypotheses == [h for h, _ in pairs]
    assert one.references == [refs for _, refs in pairs]
    for mine, theirs in zip(one.lengths, two.lengths, strict=True):
        assert mine.tolist() == theirs.tolist()
    for mine, theirs in zip(one.orders, two.orders, strict=True):
        for a, b in ((mine.hypothesis, theirs.hypothesis), (mine.reference, theirs.reference)):
            entries = [sorted(zip(c.caption.tolist(), c.count.tolist(), strict=True))
                       for c in (a, b)]  # fmt: skip
            assert entries[0] == entries[1]
        assert (mine.shared >= 0).sum() == (theirs.shared >= 0).sum()


@given(st.lists(st.integers(0, 2**62), max_size=30))
def test_the_packed_sort_is_a_stable_sort(keys: list[int]) -> None:
    for values in (np.array(keys, dtype=np.int64), np.array(keys, dtype=np.int64) % 5):
        expected = np.argsort(values, kind="stable")
        np.testing.assert_array_equal(_stable_order(values), expected)


@given(st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=3)),
                min_size=1, max_size=5))  # fmt: skip
def test_rouge_1_from_pieces_is_that_of_whole_texts(pairs: list[tuple[str, list[str]]]) -> None:
    import re

    def f1(one: str, two: str) -> float:
        if not one and not two:
            return 1.0
        a, b = (re.findall("[a-z0-9]+", normalise(text)) for text in (one, two))
        common = sum(min(a.count(word), b.count(word)) for word in set(a))
        return 2 * common / (len(a) + len(b)) if a or b else 0.0

    found = rouge1_statistics([h for h, _ in pairs], [refs for _, refs in pairs])
    expected = [max(f1(h, ref) for ref in refs) for h, refs in pairs]
    np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-12)
