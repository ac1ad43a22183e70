"""Is a difference between two systems more than chance? Paired, on per-image statistics.

p-values are (k + 1) / (n + 1), never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Statistics, bootstrap_weights, group_sums
from medblip.metrics.table import StoredStatistics

__all__ = ["PairedTest", "approximate_randomisation", "holm", "paired_bootstrap"]


@dataclasses.dataclass(frozen=True)
class PairedTest:
    """System minus baseline, its 95 % interval, and the two-sided p-value."""

    difference: float
    ci: tuple[float, float]
    p: float


def paired_bootstrap(
    system: StoredStatistics,
    baseline: StoredStatistics,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, PairedTest]:
    """Resample images (or groups) with the same weights for both systems.

    p: twice the share of resamples in which the difference does not have the observed sign.

    Raises:
        MetricError: The two were not scored on the same images in the same order.
    """
    _same_images(system, baseline)
    tests: dict[str, PairedTest] = {}
    for name, mine in system.families.items():
        theirs = baseline.families.get(name)
        if theirs is None:
            continue
        observed = mine.corpus() - theirs.corpus()
        drawn = _differences(mine, theirs, system.groups, resamples, seed)
        for index, metric in enumerate(mine.metric.names):
            low, high = np.percentile(drawn[:, index], [2.5, 97.5])
            wrong = int(np.sum(drawn[:, index] * np.sign(observed[index]) <= 0))
            p = 1.0 if observed[index] == 0 else min(1.0, 2 * (wrong + 1) / (resamples + 1))
            tests[metric] = PairedTest(float(observed[index]), (float(low), float(high)), p)
    return tests


def approximate_randomisation(
    system: Statistics, baseline: Statistics, *, trials: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Swap the two systems' captions image by image at random; return a p-value per metric name.

    Noreen 1989; as in sacrebleu's significance.py:235-271.
    """
    rng = np.random.default_rng(seed)
    observed = np.abs(system.corpus() - baseline.corpus())
    both = system.values.sum(axis=0) + baseline.values.sum(axis=0)
    gap = system.values - baseline.values
    exceeded = np.zeros(len(observed), dtype=np.int64)
    for start in range(0, trials, 500):
        size = min(500, trials - start)
        keep = rng.integers(0, 2, (size, len(gap))).astype(np.float64)
        mine = baseline.values.sum(axis=0) + keep @ gap
        trial = system.metric.aggregate(mine) - system.metric.aggregate(both - mine)
        exceeded += (np.abs(trial) >= observed - 1e-12).sum(axis=0)
    return (exceeded + 1) / (trials + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for many tests (Holm 1979), in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def _differences(
    mine: Statistics, theirs: Statistics, groups: np.ndarray | None, resamples: int, seed: int
) -> np.ndarray:
    """Return bootstrap differences, (resamples, names)."""
    a, b = group_sums(mine.values, groups), group_sums(theirs.values, groups)
    return np.concatenate(
        [
            mine.metric.aggregate(weights @ a) - theirs.metric.aggregate(weights @ b)
            for weights in bootstrap_weights(len(a), resamples, seed)
        ]
    )


def _same_images(system: StoredStatistics, baseline: StoredStatistics) -> None:
    if list(system.ids) == list(baseline.ids):
        return
    mine, theirs = set(system.ids), set(baseline.ids)
    only: Mapping[str, set[str]] = {"only here": mine - theirs, "only in the baseline": theirs - mine}
    parts = [f"{len(ids)} {where}" for where, ids in only.items() if ids]
    raise MetricError(
        explain(
            "the two systems were not scored on the same images",
            got=", ".join(parts) or "the same images in another order",
            expected="one score per image, same images, same order",
            do="caption and evaluate the same split of the same data set with both",
        )
    )
