"""BLEU-1..4 as COCO caption evaluation computes it (Papineni et al., ACL 2002; closest length).

Corpus values aggregate counts; the value of one image is the same formula on its counts alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from medblip.metrics.base import Metric

__all__ = ["Bleu", "ngram_counts", "respace"]

_TINY, _SMALL = 1e-15, 1e-9  # smoothing of the published implementation: a zero match is not 0


class Bleu(Metric):
    """BLEU-1..4; statistics: matches 1-4, guesses 1-4, caption length, closest reference length."""

    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
    signature = "ref:closest|smooth:1e-15"

    def statistics(
        self, hypotheses: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> np.ndarray:
        """Return float64 (images, 10)."""
        rows = np.zeros((len(hypotheses), 10))
        for row, hypothesis, refs in zip(rows, hypotheses, references, strict=True):
            words = [respace(tokens) for tokens in (hypothesis, *refs)]
            counts = ngram_counts(words[0])
            most: Counter[tuple[str, ...]] = Counter()
            for reference in words[1:]:
                most |= ngram_counts(reference)
            for gram, count in counts.items():
                row[len(gram) - 1] += min(count, most[gram])
            length = len(words[0])
            row[4:8] = [max(0, length - order) for order in range(4)]
            row[8] = length
            row[9] = min((abs(len(ref) - length), len(ref)) for ref in words[1:])[1]
        return rows

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        """Return BLEU-1..4 from summed counts."""
        precisions = (sums[..., 0:4] + _TINY) / (sums[..., 4:8] + _SMALL)
        means = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, 5))
        ratio = (sums[..., 8] + _TINY) / (sums[..., 9] + _SMALL)
        short = np.exp(np.minimum(0.0, 1 - 1 / ratio))
        return means * short[..., None]


def respace(tokens: list[str]) -> list[str]:
    """Split tokens that hold a no-break space (`21 3/7`), as the published BLEU and CIDEr do."""
    return [part for token in tokens for part in token.split()]


def ngram_counts(tokens: list[str], longest: int = 4) -> Counter[tuple[str, ...]]:
    """Return how often each n-gram of 1..longest tokens occurs."""
    return Counter(
        tuple(tokens[start : start + order])
        for order in range(1, longest + 1)
        for start in range(len(tokens) - order + 1)
    )
