"""Values over seeds: the two-level bootstrap against a loop, and what it covers."""

from __future__ import annotations

import numpy as np
import pytest

from medblip.errors import MetricError
from medblip.metrics.base import Means, Statistics
from medblip.metrics.resampling import bootstrap_weights
from medblip.metrics.seeds import over_seeds, paired_over_seeds
from medblip.metrics.stored import StoredStatistics


def run(values: np.ndarray, *, ids: tuple[str, ...] | None = None) -> StoredStatistics:
    """Return the statistics of one training whose metric `m` is a mean over images."""
    names = ids or tuple(str(index) for index in range(len(values)))
    table = np.column_stack([values, np.ones(len(values))])
    return StoredStatistics(names, {"m": Statistics(Means(["m"]), table)}, None, "refs")


def test_it_is_what_a_loop_over_resamples_gives() -> None:
    rng = np.random.default_rng(3)
    values_SN = rng.random((3, 20))
    found = over_seeds([run(one) for one in values_SN], {"m"}, resamples=50, seed=7)["m"]
    weights = np.concatenate(list(bootstrap_weights(20, 50, 7)))
    picks = np.random.default_rng([7, 3]).integers(0, 3, (50, 3))
    for drawn, weight, seeds in zip(found.drawn, weights, picks, strict=True):
        means = np.average(values_SN, axis=1, weights=weight)
        stretched = means.mean() + (means[seeds].mean() - means.mean()) * (3 / 2) ** 0.5
        assert drawn == pytest.approx(stretched, abs=1e-12)
    assert found.per_seed == pytest.approx(values_SN.mean(axis=1))
    assert found.value == pytest.approx(values_SN.mean())
    assert found.sd_seeds == pytest.approx(values_SN.mean(axis=1).std(ddof=1))


def test_one_training_has_the_interval_over_images_alone() -> None:
    values = np.random.default_rng(0).random(40)
    found = over_seeds([run(values)], {"m"}, seeds=3, resamples=400, seed=1)["m"]
    weights = np.concatenate(list(bootstrap_weights(40, 400, 1)))
    assert found.drawn == pytest.approx(weights @ values / 40)
    assert found.sd_seeds is None


def test_luck_between_seeds_widens_the_interval() -> None:
    images = np.random.default_rng(1).random(200)
    calm = over_seeds([run(images)] * 3, {"m"}, resamples=2000, seed=0)["m"]
    moved = over_seeds([run(images + shift) for shift in (-0.2, 0.0, 0.2)], {"m"}, resamples=2000)
    width = [high - low for low, high in (calm.ci, moved["m"].ci)]
    assert calm.value == pytest.approx(moved["m"].value)
    assert width[1] > 2 * width[0]


@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_the_spread_is_that_of_a_mean_over_seeds(seeds: int) -> None:
    """Not (S - 1) / S of it: the plain bootstrap's variance of a mean of S is too small."""
    luck = np.random.default_rng(seeds).normal(0, 1, seeds)
    runs = [run(np.full(4, shift)) for shift in luck]
    found = over_seeds(runs, {"m"}, resamples=20_000, seed=0)["m"]
    assert found.drawn.std() == pytest.approx(luck.std(ddof=1) / seeds**0.5, rel=0.02)


def test_an_interval_stays_within_the_metrics_range() -> None:
    """Stretched draws of 0.9 and 1.0 lie above 1; no accuracy does."""
    runs = [run(np.ones(40)), run(np.concatenate([np.ones(30), np.zeros(10)]))]
    found = over_seeds(runs, {"m"}, resamples=2000, seed=0)["m"]
    assert found.drawn.max() > 1
    assert found.ci[1] == 1.0
    low = over_seeds([run(np.zeros(40)), run(np.eye(40)[0])], {"m"}, resamples=2000, seed=0)["m"]
    assert low.ci[0] == 0.0


def test_what_is_shared_by_both_cancels_in_the_difference() -> None:
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 1, 300)  # how hard an image is, for both
    runs = [
        [run(hard + better + rng.normal(0, 0.05, 300)) for _ in range(3)] for better in (0, 0.05)
    ]
    worse, better = (over_seeds(one, {"m"}, resamples=2000, seed=0)["m"] for one in runs)
    assert worse.ci[1] > better.ci[0], "alone, the intervals overlap"
    test = paired_over_seeds(better, worse)
    assert test.ci[0] > 0
    assert test.p < 0.01
    same = paired_over_seeds(worse, worse)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_the_interval_covers_the_truth() -> None:
    """Images and seeds both random: with many seeds the 95 % interval holds the mean 95 times."""
    rng = np.random.default_rng(4)
    held = 0
    for trial in range(200):
        luck = rng.normal(0, 0.1, 8)
        images = rng.normal(0, 1.0, 100)
        runs = [run(images + shift + rng.normal(0, 0.3, 100)) for shift in luck]
        low, high = over_seeds(runs, {"m"}, resamples=300, seed=trial)["m"].ci
        held += low <= 0.0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_unequal_numbers_of_runs_and_other_images_are_refused() -> None:
    one = run(np.arange(4.0))
    with pytest.raises(MetricError, match="2 runs of 3 seeds"):
        over_seeds([one, one], {"m"}, seeds=3)
    with pytest.raises(MetricError, match="same images"):
        over_seeds([one, run(np.arange(4.0), ids=("a", "b", "c", "d"))], {"m"})
