"""A metric = sufficient statistics per image + an aggregation of their sums.

Corpus values, values per image, bootstrap intervals and paired tests are then written once, for all
metrics (the shape of sacrebleu's base.py:269-452).
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import numpy as np

from medblip.errors import MetricError, explain
from medblip.schema import Score

__all__ = [
    "Metric",
    "Ratio",
    "Statistics",
    "bootstrap_weights",
    "check_pairs",
    "group_numbers",
    "group_sums",
]

#: Resamples are drawn in blocks of this many, so that memory does not grow with their number.
_BLOCK = 250


class Metric(abc.ABC):
    """A family of metrics that share their sufficient statistics.

    Args:
        names: Metric names, e.g. BLEU-1 .. BLEU-4.
        signature: What a value depends on besides the captions.
    """

    names: tuple[str, ...]
    signature: str

    @abc.abstractmethod
    def statistics(
        self, hypotheses: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> np.ndarray:
        """Return float64 (images, k) from token lists."""

    @abc.abstractmethod
    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        """Return values (..., names) from summed statistics (..., k)."""


class Ratio(Metric):
    """A sum over images divided by another: means (denominator 1) and accuracies."""

    def __init__(self, name: str, signature: str = "") -> None:
        self.names = (name,)
        self.signature = signature

    def statistics(
        self, hypotheses: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> np.ndarray:
        raise TypeError(f"{self.names[0]} is built from numerators and denominators")

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        """Return numerator / denominator; 0 where no image counts."""
        numerator, denominator = sums[..., 0], sums[..., 1]
        value = np.divide(
            numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0
        )
        return value[..., None]


class Statistics:
    """Statistics of one metric family for one system, ready for scores and tests.

    Args:
        metric: How to aggregate.
        values: Float64 (images, k).
    """

    def __init__(self, metric: Metric, values: np.ndarray) -> None:
        self.metric = metric
        self.values = values

    def corpus(self) -> np.ndarray:
        """Return the value of each name on all images."""
        return self.metric.aggregate(self.values.sum(axis=0))

    def per_image(self) -> np.ndarray:
        """Return the value of each name on each image alone, (images, names)."""
        return self.metric.aggregate(self.values)

    def resampled(self, resamples: int, seed: int, groups: np.ndarray | None) -> np.ndarray:
        """Return bootstrap values, (resamples, names)."""
        sums = group_sums(self.values, groups)
        blocks = [
            self.metric.aggregate(weights @ sums)
            for weights in bootstrap_weights(len(sums), resamples, seed)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.metric.names)))

    def scores(self, resamples: int, seed: int, groups: np.ndarray | None) -> dict[str, Score]:
        """Return value, 95 % percentile interval, n and signature per name."""
        corpus = self.corpus()
        drawn = self.resampled(resamples, seed, groups)
        unit = "image" if groups is None else "group"
        how = f"ci:bootstrap{resamples},{unit},seed{seed}" if resamples else "ci:none"
        scores = {}
        for index, name in enumerate(self.metric.names):
            value = float(corpus[index])
            low, high = (
                np.percentile(drawn[:, index], [2.5, 97.5]) if resamples else (value, value)
            )
            parts = [name, self.metric.signature, how, "medblip"]
            scores[name] = Score(
                value=value,
                ci=(float(low), float(high)),
                n=len(self.values),
                signature="|".join(part for part in parts if part),
            )
        return scores


def bootstrap_weights(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield multinomial weights in blocks, float64 (block, units); a function of the seed alone."""
    rng = np.random.default_rng(seed)
    share = np.full(units, 1 / units)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        yield rng.multinomial(units, share, size=size).astype(np.float64)


def group_numbers(groups: Sequence[str]) -> np.ndarray | None:
    """Return the number of each image's group, or None when every image is its own."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    return None if len(np.unique(numbers)) == len(groups) else numbers


def group_sums(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """Return statistics summed within each group, (groups, k); unchanged without groups."""
    if groups is None:
        return values
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums


def check_pairs(hypotheses: Sequence[object], references: Sequence[Sequence[object]]) -> None:
    """Refuse sets that cannot be scored.

    Raises:
        MetricError: Lengths differ, the set is empty, or an image has no reference.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise MetricError(
            explain(
                "captions and references do not belong together",
                got=f"{len(hypotheses)} captions, {len(references)} sets of references",
                expected="as many of both, and at least one",
                do="score one caption per image, in the same order",
            )
        )
    bare = [index for index, refs in enumerate(references) if not refs]
    if bare:
        raise MetricError(
            explain(
                "images without a reference",
                got=f"{len(bare)}, first at position {bare[0]}",
                expected="at least one reference caption per image",
                do="leave these images out of the split, or add captions",
            )
        )
