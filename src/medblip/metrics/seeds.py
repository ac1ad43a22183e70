"""Several trainings of one recipe: a value over seeds, and its interval over images and seeds.

Two-level bootstrap: each resample draws images (or groups) and, of the trainings, seeds, both with
replacement; its value is the mean over the drawn seeds of the metric on the drawn images. All
variants get the same draws, so that differences are paired in both. Drawn from S seeds, the mean
shows (S - 1) / S of their variance (Davison and Hinkley 1997, section 2.2), so that each draw's
distance from the mean over seeds is stretched by sqrt(S / (S - 1)). What that cannot mend: the
spread of two or three seeds is itself poorly known (`MODERATE_SEEDS`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Floats
from medblip.metrics.resampling import bootstrap
from medblip.metrics.significance import PairedTest, check_comparable
from medblip.metrics.stored import StoredStatistics

__all__ = ["MODERATE_SEEDS", "OverSeeds", "over_seeds", "paired_over_seeds"]

#: Below so many seeds a test finds differences that are not there more often than it says
#: (docs/metrics.md has how often).
MODERATE_SEEDS = 5

_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class OverSeeds:
    """One metric of one recipe.

    Args:
        per_seed: Value of each training on all images.
        drawn: Value in each resample, float64 (resamples,); stretched, it may leave the metric's
            range.
        within: Where the interval is cut: 0 to 1, or as far as any training's draws lie.
    """

    per_seed: tuple[float, ...]
    drawn: Floats
    within: tuple[float, float] = (-math.inf, math.inf)

    @property
    def value(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.per_seed))

    @property
    def ci(self) -> tuple[float, float]:
        """95 % percentile interval over images and seeds."""
        low, high = np.clip(np.percentile(self.drawn, [2.5, 97.5]), *self.within)
        return float(low), float(high)

    @property
    def sd_seeds(self) -> float | None:
        """Standard deviation between seeds (n - 1); None for one."""
        return float(np.std(self.per_seed, ddof=1)) if len(self.per_seed) > 1 else None


def over_seeds(
    runs: Sequence[StoredStatistics],
    metrics: Collection[str],
    *,
    seeds: int | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, OverSeeds]:
    """Return every metric of a recipe's trainings.

    Args:
        runs: One per seed, in the order of the seeds; one alone for what is not trained.
        metrics: Names.
        seeds: How many seeds the other recipes have; None: as many as there are runs.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        MetricError: The runs were not scored on the same images in the same way, or their number
            is neither 1 nor `seeds`.
    """
    seeds = len(runs) if seeds is None else seeds
    if not runs or len(runs) not in (1, seeds):
        raise MetricError(
            explain(
                "trainings that cannot be averaged",
                got=f"{len(runs)} runs of {seeds} seeds",
                expected="one run per seed",
                do="finish all runs first",
            )
        )
    for run in runs[1:]:
        check_comparable(run, runs[0])
    picks = np.random.default_rng([seed, seeds]).integers(0, seeds, (resamples, seeds))
    share_RS = np.stack([(picks == index).mean(axis=1) for index in range(seeds)], axis=1)
    if seeds > 1:
        share_RS = 1 / seeds + (share_RS - 1 / seeds) * (seeds / (seeds - 1)) ** 0.5
    corpus: dict[str, list[float]] = {}
    drawn: dict[str, list[Floats]] = {}
    for run in runs:
        families = [f for f in run.families.values() if not set(f.metric.names).isdisjoint(metrics)]
        for family, values in zip(
            families, bootstrap(families, resamples, seed, run.groups), strict=True
        ):
            for index, name in enumerate(family.metric.names):
                if name in metrics:
                    corpus.setdefault(name, []).append(float(family.corpus()[index]))
                    drawn.setdefault(name, []).append(values[:, index])
    return {
        name: OverSeeds(
            tuple(corpus[name]),
            columns[0] if len(runs) == 1 else (np.stack(columns, axis=1) * share_RS).sum(axis=1),
            (min(0.0, *map(np.min, columns)), max(1.0, *map(np.max, columns))),
        )
        for name, columns in drawn.items()
    }


def paired_over_seeds(one: OverSeeds, other: OverSeeds) -> PairedTest:
    """Test the difference of two recipes that got the same draws.

    p is the share of resamples whose difference lies at least as far from the observed one as that
    lies from 0, as `medblip.metrics.significance.paired_bootstrap` has it.
    """
    observed = one.value - other.value
    differences = one.drawn - other.drawn
    low, high = np.percentile(differences, [2.5, 97.5])
    as_far = np.abs(differences - observed) >= abs(observed) - _ROUNDING
    p = (int(as_far.sum()) + 1) / (len(differences) + 1)
    return PairedTest(observed, (float(low), float(high)), p)
