"""A metric = sufficient statistics per image + an aggregation of their sums.

Corpus values, values per image, bootstrap intervals and paired tests are then written once, for all
metrics. Draws nothing at random; that is `resampling.py`.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medblip.metrics.ngrams import TokenPairs

__all__ = ["Aggregation", "Floats", "Metric", "Ratio", "Statistics", "mean_statistics"]

Floats = npt.NDArray[np.float64]


class Aggregation(abc.ABC):
    """How values follow from sums of statistics.

    Args:
        names: The metrics of this family, e.g. BLEU-1 .. BLEU-4.
        signature: What a value depends on besides the captions and their tokens.
    """

    names: tuple[str, ...]
    signature: str

    @abc.abstractmethod
    def aggregate(self, sums: Floats) -> Floats:
        """Return values (..., names) from summed statistics (..., k)."""


class Metric(Aggregation):
    """A family of metrics computed from tokens."""

    @abc.abstractmethod
    def statistics(self, pairs: TokenPairs) -> Floats:
        """Return float64 (images, k)."""


class Ratio(Aggregation):
    """A sum over images divided by another: means (denominator 1) and accuracies."""

    def __init__(self, name: str, signature: str = "") -> None:
        self.names = (name,)
        self.signature = signature

    def aggregate(self, sums: Floats) -> Floats:
        """Return numerator / denominator, from (..., 2); 0 where no image counts."""
        numerator, denominator = sums[..., 0], sums[..., 1]
        value = np.zeros_like(numerator)
        np.divide(numerator, denominator, out=value, where=denominator > 0)
        return value[..., None]


class Statistics:
    """Statistics of one metric family for one system.

    Args:
        metric: How to aggregate.
        values: Float64 (images, k).
    """

    def __init__(self, metric: Aggregation, values: Floats) -> None:
        self.metric = metric
        self.values = values

    def corpus(self) -> Floats:
        """Return the value of each name on all images, (names,)."""
        return self.metric.aggregate(self.values.sum(axis=0))

    def per_image(self) -> Floats:
        """Return the value of each name on each image alone, (images, names)."""
        return self.metric.aggregate(self.values)


def mean_statistics(values: Sequence[float] | npt.NDArray[Any]) -> Floats:
    """Return the statistics (images, 2) of a plain mean over images: value and 1."""
    column = np.asarray(values, dtype=np.float64)
    return np.column_stack([column, np.ones_like(column)])
