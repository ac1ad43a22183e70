"""BLEU-1..4 as COCO caption evaluation computes it (Papineni et al., ACL 2002; closest length).

Corpus values aggregate counts; the value of one image is the same formula on its counts alone.
"""

from __future__ import annotations

import numpy as np

from medblip.metrics.base import Floats, Metric
from medblip.metrics.ngrams import LONGEST, TokenPairs

__all__ = ["Bleu"]

_TINY, _SMALL = 1e-15, 1e-9  # smoothing of the published implementation: a zero match is not 0


class Bleu(Metric):
    """BLEU-1..4; statistics: matches 1-4, guesses 1-4, caption length, closest reference length."""

    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4")
    signature = "length:closest|smooth:1e-15"

    def statistics(self, pairs: TokenPairs) -> Floats:
        """Return float64 (images, 10)."""
        images = len(pairs)
        rows = np.zeros((images, 2 * LONGEST + 2))
        for column, order in enumerate(pairs.orders):
            hit = order.shared >= 0
            most = np.zeros_like(order.hypothesis.count)  # in any one reference of the image
            np.maximum.at(most, order.shared[hit], order.reference.count[hit])
            clipped = np.minimum(most, order.hypothesis.count)
            rows[:, column] = np.bincount(order.hypothesis.caption, clipped, images)
        length, reference_length = pairs.lengths
        rows[:, LONGEST : 2 * LONGEST] = np.maximum(0, length[:, None] - np.arange(LONGEST))
        rows[:, -2] = length
        distance = np.abs(reference_length - length[pairs.image])
        best = np.lexsort((reference_length, distance, pairs.image))  # shorter wins a tie
        first = np.unique(pairs.image[best], return_index=True)[1]
        rows[:, -1] = reference_length[best[first]]
        return rows

    def aggregate(self, sums: Floats) -> Floats:
        """Return BLEU-1..4 (..., 4) from summed counts (..., 10)."""
        precisions = (sums[..., 0:4] + _TINY) / (sums[..., 4:8] + _SMALL)
        means = np.cumprod(precisions, axis=-1) ** (1 / np.arange(1, 5))
        ratio = (sums[..., 8] + _TINY) / (sums[..., 9] + _SMALL)
        brevity: Floats = np.exp(np.minimum(0.0, 1 - 1 / ratio))
        return means * brevity[..., None]
