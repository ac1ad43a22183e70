"""Is a difference between two systems more than chance? Paired, on per-image statistics.

p-values are (k + 1) / (n + 1), never 0 (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Floats, Means, Ratio, Statistics
from medblip.metrics.resampling import bootstrap, group_sums
from medblip.metrics.stored import StoredStatistics

__all__ = [
    "PairedTest",
    "approximate_randomisation",
    "check_comparable",
    "holm",
    "paired_bootstrap",
]

_ROUNDING = 1e-12  # a trial that equals the observed difference counts, whatever the order of sums
_BLOCK_BYTES = 16_000_000


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
    metrics: Collection[str] | None = None,
) -> dict[str, PairedTest]:
    """Resample images (or groups) with the same weights for both systems.

    The interval is the percentile interval of the difference. p is the share of resamples whose
    difference lies at least as far from the observed one as the observed one lies from 0.

    Returns:
        One test per metric that both systems have, or of those named.

    Raises:
        MetricError: The two were not scored on the same images in the same order, in the same way.
    """
    check_comparable(system, baseline)
    pairs = list(_common(system, baseline, metrics))
    if not pairs:
        return {}
    mine = bootstrap([one for one, _ in pairs], resamples, seed, system.groups)
    theirs = bootstrap([other for _, other in pairs], resamples, seed, system.groups)
    tests: dict[str, PairedTest] = {}
    for (one, other), drawn, reference in zip(pairs, mine, theirs, strict=True):
        observed = one.corpus() - other.corpus()
        differences = drawn - reference
        low, high = np.percentile(differences, [2.5, 97.5], axis=0)
        as_far = np.abs(differences - observed) >= np.abs(observed) - _ROUNDING
        p = (as_far.sum(axis=0) + 1) / (resamples + 1)
        for index, name in enumerate(one.metric.names):
            if metrics is not None and name not in metrics:
                continue
            interval = (float(low[index]), float(high[index]))
            tests[name] = PairedTest(float(observed[index]), interval, float(p[index]))
    return tests


def approximate_randomisation(
    system: StoredStatistics,
    baseline: StoredStatistics,
    *,
    trials: int = 10_000,
    seed: int = 0,
    metrics: Collection[str] | None = None,
) -> dict[str, float]:
    """Swap the two systems' captions at random, image by image (or group by group).

    Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989.

    Returns:
        Two-sided p-value per metric that both systems have, or of those named.

    Raises:
        MetricError: The two were not scored on the same images in the same order, in the same way.
    """
    check_comparable(system, baseline)
    pairs = list(_common(system, baseline, metrics))
    if not pairs:
        return {}
    mine, theirs = (
        np.concatenate([group_sums(pair[side].values, system.groups) for pair in pairs], axis=1)
        for side in (0, 1)
    )
    ends = np.cumsum([one.values.shape[1] for one, _ in pairs])[:-1]
    observed = [np.abs(one.corpus() - other.corpus()) for one, other in pairs]
    reached = [np.zeros(len(gap), dtype=np.int64) for gap in observed]
    gap, rest, both = mine - theirs, theirs.sum(axis=0), mine.sum(axis=0) + theirs.sum(axis=0)
    for kept in _coin_flips(len(gap), trials, seed):
        swapped = rest + kept @ gap
        parts = zip(
            np.split(swapped, ends, axis=1), np.split(both - swapped, ends, axis=1), strict=True
        )
        for (one, _), (a, b), seen, count in zip(pairs, parts, observed, reached, strict=True):
            difference = one.metric.aggregate(a) - one.metric.aggregate(b)
            count += (np.abs(difference) >= seen - _ROUNDING).sum(axis=0)
    names = [name for one, _ in pairs for name in one.metric.names]
    p_values = (np.concatenate(reached) + 1) / (trials + 1)
    found = dict(zip(names, p_values.tolist(), strict=True))
    return found if metrics is None else {name: found[name] for name in names if name in metrics}


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


def _coin_flips(units: int, trials: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of 0 and 1, float64 (block, units); the same for every metric."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_BYTES // (8 * units))
    for start in range(0, trials, block):
        size = min(block, trials - start)
        heads = rng.integers(0, 2, (size, units), dtype=np.uint8)
        yield heads.astype(np.float64)


def _common(
    system: StoredStatistics, baseline: StoredStatistics, metrics: Collection[str] | None = None
) -> Iterator[tuple[Statistics, Statistics]]:
    """Yield the families that both have and that hold a metric that is asked for."""
    for name, family in system.families.items():
        asked = metrics is None or not set(family.metric.names).isdisjoint(metrics)
        if name in baseline.families and asked:
            yield _on_shared_images(family, baseline.families[name])


def _on_shared_images(one: Statistics, other: Statistics) -> tuple[Statistics, Statistics]:
    """Leave out images that an external scorer could score for one system only."""
    if not isinstance(one.metric, Ratio | Means):
        return one, other
    scored = (one.values[:, -1:] > 0) & (other.values[:, -1:] > 0)
    if scored.all():
        return one, other
    first, second = (
        Statistics(family.metric, np.where(scored, family.values, 0.0), family.context)
        for family in (one, other)
    )
    return first, second


def check_comparable(system: StoredStatistics, baseline: StoredStatistics) -> None:
    """Refuse to compare what was not scored on the same images, in the same way.

    Raises:
        MetricError: Images, order, references, groups or signatures differ.
    """
    mine, theirs = set(system.ids), set(baseline.ids)
    if system.ids != baseline.ids:
        counts = {"only here": len(mine - theirs), "only in the baseline": len(theirs - mine)}
        parts = [f"{count} {where}" for where, count in counts.items() if count]
        raise MetricError(
            explain(
                "the two systems were not scored on the same images",
                got=", ".join(parts) or "the same images in another order",
                expected="one score per image, same images, same order",
                do="caption and evaluate the same split of the same data set with both",
            )
        )
    if system.references != baseline.references:
        raise MetricError(
            explain(
                "the two systems were scored against different references",
                got=f"digest {system.references or 'unknown'}",
                expected=f"digest {baseline.references or 'unknown'}, that of the baseline",
                do="evaluate both again with the same --references, with --force",
            )
        )
    if not _same_groups(system, baseline):
        raise MetricError(
            explain(
                "the two systems were scored with different groups of images",
                got="a patient or case of one is not a patient or case of the other",
                expected="the same groups, or none, for both",
                do="evaluate both again on the same prepared data set, with --force",
            )
        )
    for one, other in _common(system, baseline):
        if one.signature != other.signature or one.metric.names != other.metric.names:
            raise MetricError(
                explain(
                    f"{', '.join(one.metric.names)}: not computed in the same way for both systems",
                    got=one.signature,
                    expected=other.signature,
                    do="evaluate both again with the same medblip, with --force",
                )
            )


def _same_groups(system: StoredStatistics, baseline: StoredStatistics) -> bool:
    if system.groups is None or baseline.groups is None:
        return system.groups is baseline.groups
    return bool(np.array_equal(system.groups, baseline.groups))
