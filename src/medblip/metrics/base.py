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

__all__ = [
    "Aggregation",
    "Agreement",
    "Floats",
    "Means",
    "Metric",
    "Ratio",
    "Statistics",
    "mean_statistics",
]

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


class Means(Aggregation):
    """Several means over the same images; statistics: one value per name, then 1 (0: not scored).

    Args:
        names: One per value.
        signature: How the values were computed, e.g. model, revision, layer.
    """

    def __init__(self, names: Sequence[str], signature: str = "") -> None:
        self.names = tuple(names)
        self.signature = signature

    def aggregate(self, sums: Floats) -> Floats:
        """Return sums / number of scored images, (..., names); 0 where no image counts."""
        count = sums[..., -1:]
        values = np.zeros_like(sums[..., :-1])
        np.divide(sums[..., :-1], count, out=values, where=count > 0)
        return values


class Agreement(Aggregation):
    """Precision, recall and F1 of items that both sides name; statistics: both, said, true.

    Where neither side names anything all three are 1: there was nothing to say.

    Args:
        name: What the items are; the metrics are `<name>-P`, `<name>-R`, `<name>-F1`.
        signature: How items are found, e.g. the version of a lexicon.
    """

    def __init__(self, name: str, signature: str = "") -> None:
        self.names = (f"{name}-P", f"{name}-R", f"{name}-F1")
        self.signature = signature

    def aggregate(self, sums: Floats) -> Floats:
        """Return precision, recall, F1 (..., 3) from counts (..., 3): both, said, true."""
        both, said, true = sums[..., 0], sums[..., 1], sums[..., 2]
        below = np.stack([said, true, (said + true) / 2], axis=-1)
        above = np.broadcast_to(both[..., None], below.shape)
        values = np.where((said + true == 0)[..., None], 1.0, np.zeros_like(below))
        np.divide(above, below, out=values, where=below > 0)
        return values


class Statistics:
    """Statistics of one metric family for one system.

    Args:
        metric: How to aggregate.
        values: Float64 (images, k).
        context: What the values depend on besides the metric's own settings, e.g. the tokenizer
            and the number of references.
    """

    def __init__(self, metric: Aggregation, values: Floats, context: str = "") -> None:
        self.metric = metric
        self.values = values
        self.context = context

    @property
    def signature(self) -> str:
        """All that a value depends on besides captions and references."""
        return "|".join(filter(None, (self.context, self.metric.signature)))

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
