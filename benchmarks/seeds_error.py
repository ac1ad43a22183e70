"""How often does a test over seeds find a difference that is not there? By simulation, no clock.

Two recipes of the same true quality, each trained with S seeds and scored on 100 images; the seeds'
luck has a standard deviation of `sd` (that of one training's mean over the images is 0.03, and of a
difference of two 0.042). Printed: the share of p below 0.05, which should be 0.05 at most.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from medblip.metrics.base import Ratio, Statistics, mean_statistics
from medblip.metrics.seeds import over_seeds, paired_over_seeds
from medblip.metrics.stored import StoredStatistics

IMAGES, NOISE, ALPHA = 100, 0.3, 0.05


def trained(
    rng: np.random.Generator, hard: np.ndarray, seeds: int, sd: float
) -> list[StoredStatistics]:
    """Return the statistics of one recipe's trainings on images of which some are hard."""
    ids = tuple(map(str, range(IMAGES)))
    return [
        StoredStatistics(ids, {"m": Statistics(Ratio("m"), mean_statistics(values))}, None)
        for values in (
            hard + rng.normal(0, NOISE, IMAGES) + rng.normal(0, sd) for _ in range(seeds)
        )
    ]


def share_found(seeds: int, sd: float, trials: int, resamples: int) -> float:
    """Return how often two equal recipes are told apart."""
    rng = np.random.default_rng([seeds, int(1000 * sd)])
    found = 0
    for _ in range(trials):
        hard = rng.normal(size=IMAGES)
        one, other = (
            over_seeds(trained(rng, hard, seeds, sd), ["m"], resamples=resamples, seed=0)["m"]
            for _ in range(2)
        )
        found += paired_over_seeds(one, other).p < ALPHA
    return round(found / trials, 3)


def main() -> None:
    """Print a row per number of seeds and spread, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=400)
    asked = parser.parse_args()
    rows = {}
    for seeds in (1, 2, 3, 5, 10):
        for sd in (0.0, 0.03, 0.06, 0.12):
            share = share_found(seeds, sd, asked.trials, asked.resamples)
            rows[f"{seeds} seeds, sd {sd}"] = share
            print(f"{seeds:2} seeds, sd {sd:.2f}: {share:.3f}", flush=True)
    print(json.dumps({"benchmark": "seeds_error", "alpha": ALPHA, "trials": asked.trials,
                      "share_below_alpha": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
