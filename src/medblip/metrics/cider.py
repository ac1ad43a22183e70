"""CIDEr-D and CIDEr (Vedantam et al., CVPR 2015): tf-idf similarity of n-grams.

The column that most papers and COCO caption evaluation call CIDEr is CIDEr-D; here each has its own
name. The idf comes from the references being scored, so a value belongs to its set of images, and
one image alone scores 0. Intervals keep that idf fixed.
"""

from __future__ import annotations

import numpy as np

from medblip.metrics.base import Floats, Means, Metric
from medblip.metrics.ngrams import LONGEST, Order, TokenPairs

__all__ = ["Cider"]

_SIGMA = 6.0
_SCALE = 10.0


class Cider(Means, Metric):
    """Means over images of 10 x the mean over n = 1..4 of the mean over references.

    `CIDEr-D` clips counts, and a difference in length costs it a Gaussian factor; `CIDEr` is the
    first definition, the plain cosine of tf-idf vectors.
    """

    def __init__(self) -> None:
        super().__init__(("CIDEr-D", "CIDEr"), "idf:references,fixed|sigma:6")

    def statistics(self, pairs: TokenPairs) -> Floats:
        """Return float64 (images, 3): CIDEr-D, CIDEr and 1."""
        length, reference_length = pairs.lengths
        # The published code takes the difference of bigram counts, not of words.
        gap = np.maximum(length - 1, 0)[pairs.image] - np.maximum(reference_length - 1, 0)
        penalty: Floats = np.exp(-(gap**2) / (2 * _SIGMA**2))
        clipped, plain = _similarities(pairs)
        columns = [_mean_over_references(values, pairs) for values in (clipped * penalty, plain)]
        return np.column_stack([*columns, np.ones(len(pairs))])


def _similarities(pairs: TokenPairs) -> tuple[Floats, Floats]:
    """Return the mean over n = 1..4 of the similarity to each reference: clipped, plain.

    Both are float64 (references,).
    """
    clipped, plain = np.zeros(len(pairs.image)), np.zeros(len(pairs.image))
    for order in pairs.orders:
        idf = _idf(order, pairs)
        mine = order.hypothesis.count * idf[order.hypothesis.gram]
        theirs = order.reference.count * idf[order.reference.gram]
        hit = order.shared >= 0
        weight, wanted = mine[order.shared[hit]], theirs[hit]
        norm = np.sqrt(np.bincount(order.hypothesis.caption, mine**2, len(pairs)))[pairs.image]
        norm = norm * np.sqrt(np.bincount(order.reference.caption, theirs**2, len(plain)))
        for total, common in ((clipped, np.minimum(weight, wanted)), (plain, weight)):
            dot = np.bincount(order.reference.caption[hit], common * wanted, len(plain))
            total += np.divide(dot, norm, out=np.zeros_like(norm), where=norm > 0)
    return clipped / LONGEST, plain / LONGEST


def _idf(order: Order, pairs: TokenPairs) -> Floats:
    """Return log(N / images whose references hold the n-gram), (grams,); log N for the unseen."""
    gram = order.reference.gram
    if len(pairs.image) > len(pairs):  # an n-gram counts once however many references hold it
        image = pairs.image[order.reference.caption]
        gram = np.unique(image * max(1, order.grams) + gram) % max(1, order.grams)
    frequency = np.bincount(gram, minlength=order.grams)
    # One table for both terms: an n-gram that every image has gets exactly 0, not a rounding error.
    logs: Floats = np.log(np.arange(1, len(pairs) + 1))
    idf: Floats = logs[-1] - logs[np.maximum(1, frequency) - 1]
    return idf


def _mean_over_references(values: Floats, pairs: TokenPairs) -> Floats:
    sums = np.bincount(pairs.image, values, len(pairs))
    return _SCALE * sums / np.bincount(pairs.image, minlength=len(pairs))
