"""ROUGE-L as COCO caption evaluation computes it (Lin, 2004): longest common subsequence."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq

from medblip.metrics.base import Floats, Metric, Ratio, mean_statistics
from medblip.metrics.ngrams import TokenPairs

__all__ = ["RougeL"]

_BETA_SQUARED = 1.2**2  # recall counts more than precision


class RougeL(Ratio, Metric):
    """Mean over images; precision and recall are each the best over the references."""

    def __init__(self) -> None:
        super().__init__("ROUGE-L", "beta:1.2")

    def statistics(self, pairs: TokenPairs) -> Floats:
        """Return float64 (images, 2): value and 1."""
        # The published code splits "" into one empty token.
        empty = [list(pairs.words.vocabulary).index("") if "" in pairs.words.vocabulary else -1]
        texts = [numbers or empty for numbers in pairs.words.lists()]
        ends = np.searchsorted(pairs.image, np.arange(len(pairs) + 1)) + len(pairs)
        rows = zip(texts, itertools.pairwise(ends.tolist()), strict=False)
        return mean_statistics([_one(said, texts[start:end]) for said, (start, end) in rows])


def _one(hypothesis: Sequence[int], references: Sequence[Sequence[int]]) -> float:
    precision = recall = 0.0
    for reference in references:
        common = LCSseq.similarity(hypothesis, reference)
        precision = max(precision, common / len(hypothesis))
        recall = max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)
