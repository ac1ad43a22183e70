"""Rules from phrases to concepts, learned by counting; the settings by cross-validation.

Knows captions and sets of names, and neither files nor metrics.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from medblip.metrics.ngrams import Ints

__all__ = ["LIFT", "Learned", "learn", "phrases_of"]

#: A phrase must make its concept this many times likelier than it is anyway.
LIFT = 3.0
#: Settings that cross-validation chooses from: captions with both, and share of the phrase's.
_TOGETHER = (3, 5, 10)
_SHARES = (0.6, 0.75, 0.9)
_WORD = re.compile(r"[a-z0-9]+")


@dataclasses.dataclass(frozen=True)
class Learned:
    """Concepts by phrase, and the settings that were chosen.

    Args:
        rules: Phrases in alphabetical order.
        together: Least number of captions that hold both phrase and concept.
        share: Least share of the phrase's captions that have the concept.
        cross_validated: Micro-F1 of these settings on the halves that were not learned from.
    """

    rules: dict[str, frozenset[str]]
    together: int
    share: float
    cross_validated: float


def learn(phrases: Sequence[set[str]], concepts: Sequence[set[str]]) -> Learned:
    """Choose the settings with the best micro-F1 over two folds, then learn from all captions.

    Args:
        phrases: Of each caption, see `phrases_of`.
        concepts: Of each caption.
    """
    halves = [(phrases[start::2], concepts[start::2]) for start in (0, 1)]
    folds = [_Counted(*halves[one]).micro_f1(*halves[1 - one]) for one in (0, 1)]
    mean = {setting: (folds[0][setting] + folds[1][setting]) / 2 for setting in folds[0]}
    best = max(mean, key=lambda setting: mean[setting])
    return Learned(_Counted(phrases, concepts).rules(*best), *best, mean[best])


def phrases_of(caption: str) -> set[str]:
    """Return the phrases of 1 to 3 words, lower case, without the plural s of longer words."""
    words = [
        word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] != "s" else word
        for word in _WORD.findall(caption.lower())
    ]
    triples = zip(words, words[1:], words[2:], strict=False)
    return {*words, *map(" ".join, pairwise(words)), *map(" ".join, triples)}


class _Counted:
    """How often phrases and concepts occur, alone and together, in as many captions of each."""

    def __init__(self, phrases: Sequence[set[str]], concepts: Sequence[set[str]]) -> None:
        rarest = min(_TOGETHER)  # rarer ones can be in no rule
        self.phrases, often = _number(phrases, rarest)
        self.concepts, known = _number(concepts, rarest)
        caption, phrase = _occurrences(phrases, self.phrases)
        owner, concept = _occurrences(concepts, self.concepts)
        stop = np.searchsorted(owner, np.arange(len(phrases) + 1))
        which, entry = _expand(stop, caption)
        self.width = max(1, len(known))
        keys, self.together = np.unique(
            phrase[which] * self.width + concept[entry], return_counts=True
        )
        self.phrase, self.concept = np.divmod(keys, self.width)
        self.share = self.together / often[self.phrase]
        self.lift = self.share * len(phrases) / known[self.concept]

    def kept(self, together: int, share: float) -> npt.NDArray[np.bool_]:
        """Return which pairs of phrase and concept are rules at these settings."""
        kept: npt.NDArray[np.bool_] = (
            (self.together >= together) & (self.share >= share) & (self.lift >= LIFT)
        )
        return kept

    def rules(self, together: int, share: float) -> dict[str, frozenset[str]]:
        """Return concepts by phrase."""
        names, cuis = list(self.phrases), list(self.concepts)
        found: dict[str, set[str]] = {}
        kept = self.kept(together, share)
        for phrase, concept in zip(self.phrase[kept], self.concept[kept], strict=True):
            found.setdefault(names[phrase], set()).add(cuis[concept])
        return {phrase: frozenset(found[phrase]) for phrase in sorted(found)}

    def micro_f1(
        self, phrases: Sequence[set[str]], concepts: Sequence[set[str]]
    ) -> dict[tuple[int, float], float]:
        """Return the micro-F1 of each of the settings on other captions."""
        loosest = np.flatnonzero(self.kept(min(_TOGETHER), min(_SHARES)))
        stop = np.searchsorted(self.phrase[loosest], np.arange(len(self.phrases) + 1))
        caption, phrase = _occurrences(phrases, self.phrases)
        which, entry = _expand(stop, phrase)
        rule = loosest[entry]
        says = caption[which] * self.width + self.concept[rule]
        owner, concept = _occurrences(concepts, self.concepts)
        truth = owner * self.width + concept
        total = sum(map(len, concepts))  # what no rule can name is missed all the same
        scores = {}
        for together in _TOGETHER:
            for share in _SHARES:
                said = np.unique(says[self.kept(together, share)[rule]])
                both = len(np.intersect1d(said, truth, assume_unique=True))
                scores[together, share] = 2 * both / max(1, len(said) + total)
        return scores


def _number(sets: Sequence[set[str]], rarest: int) -> tuple[dict[str, int], Ints]:
    """Return numbers of the names that occur in enough sets, and in how many they occur."""
    often = Counter(name for names in sets for name in names)
    kept = sorted(name for name, count in often.items() if count >= rarest)
    counts = np.array([often[name] for name in kept], dtype=np.int64)
    return {name: number for number, name in enumerate(kept)}, counts


def _occurrences(sets: Sequence[set[str]], numbers: Mapping[str, int]) -> tuple[Ints, Ints]:
    """Return (set number, name number) of each numbered name in each set, set by set."""
    found = [[numbers[name] for name in names if name in numbers] for names in sets]
    sizes = np.array([len(names) for names in found], dtype=np.int64)
    owner = np.repeat(np.arange(len(found)), sizes)
    return owner, np.array([number for names in found for number in names], dtype=np.int64)


def _expand(stop: Ints, which: Ints) -> tuple[Ints, Ints]:
    """Return (position in `which`, entry) of every entry stop[w] .. stop[w + 1] - 1 of every w."""
    many = stop[which + 1] - stop[which]
    first = np.repeat(stop[which] - np.cumsum(many) + many, many)
    return np.repeat(np.arange(len(which)), many), first + np.arange(int(many.sum()))
