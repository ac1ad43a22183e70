"""CIDEr-D (Vedantam et al., CVPR 2015): tf-idf n-gram similarity with clipping and length penalty.

The idf comes from the references being scored, so a value belongs to its set of images; one image
alone scores 0. Intervals keep that idf fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medblip.metrics.base import Ratio
from medblip.metrics.bleu import ngram_counts, respace

__all__ = ["CiderD"]

_SIGMA = 6.0
Gram = tuple[str, ...]


class CiderD(Ratio):
    """Mean over images of 10 x the mean over n = 1..4 of the mean over references."""

    def __init__(self) -> None:
        super().__init__("CIDEr-D", "idf:references,fixed|sigma:6")

    def statistics(
        self, hypotheses: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> np.ndarray:
        """Return float64 (images, 2): value and 1."""
        counted = [[ngram_counts(respace(ref)) for ref in refs] for refs in references]
        frequency: Counter[Gram] = Counter()
        for refs in counted:
            frequency.update(set().union(*refs))
        idf = _Idf(frequency, len(counted))
        values = [
            _one(ngram_counts(respace(hypothesis)), refs, idf)
            for hypothesis, refs in zip(hypotheses, counted, strict=True)
        ]
        return np.column_stack([values, np.ones(len(values))])


class _Idf(dict[Gram, float]):
    """log(N) - log(max(1, images whose references hold the n-gram)), computed once per n-gram."""

    def __init__(self, frequency: Counter[Gram], images: int) -> None:
        self._frequency, self._log_images = frequency, math.log(images)

    def __missing__(self, gram: Gram) -> float:
        self[gram] = self._log_images - math.log(max(1, self._frequency[gram]))
        return self[gram]


def _one(counts: Counter[Gram], references: Sequence[Counter[Gram]], idf: _Idf) -> float:
    hypothesis = {gram: count * idf[gram] for gram, count in counts.items()}
    hypothesis_norm = _norms(hypothesis)
    bigrams = sum(count for gram, count in counts.items() if len(gram) == 2)
    total = 0.0
    for ref_counts in references:
        reference = {gram: count * idf[gram] for gram, count in ref_counts.items()}
        reference_norm = _norms(reference)
        dots = [0.0] * 4
        for gram, weight in hypothesis.items():
            other = reference.get(gram)
            if other is not None:
                dots[len(gram) - 1] += min(weight, other) * other
        delta = bigrams - sum(count for gram, count in ref_counts.items() if len(gram) == 2)
        penalty = math.exp(-(delta**2) / (2 * _SIGMA**2))
        for dot, a, b in zip(dots, hypothesis_norm, reference_norm, strict=True):
            total += penalty * (dot / (a * b) if a and b else dot) / 4
    return 10 * total / len(references)


def _norms(vector: dict[Gram, float]) -> list[float]:
    squares = [0.0] * 4
    for gram, weight in vector.items():
        squares[len(gram) - 1] += weight * weight
    return [math.sqrt(square) for square in squares]
