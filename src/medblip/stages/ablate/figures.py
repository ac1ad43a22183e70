"""An ablation in numbers, read from its runs: quality over images and seeds, tests, costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from medblip.files import read_json
from medblip.metrics.seeds import OverSeeds, over_seeds, paired_over_seeds
from medblip.metrics.significance import check_comparable, holm
from medblip.metrics.stored import load_statistics
from medblip.power import charged
from medblip.rundir import RunDir
from medblip.schema import read_jsonl
from medblip.stages.ablate.grid import Grid, Variant

__all__ = ["HEADLINE", "cost", "quality", "tests"]

#: Ranks variants, where it is among the metrics.
HEADLINE = "CIDEr-D"


def quality(
    grid: Grid,
    runs: Mapping[str, Sequence[RunDir]],
    metrics: Sequence[str],
    *,
    split: str,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, OverSeeds]]:
    """Return variant -> metric -> its value over seeds, all with the same draws.

    Raises:
        MetricError: Runs were not scored on the same images in the same way.
    """
    found, first = {}, None
    for variant in grid.variants:
        loaded = [
            load_statistics(run.scores(split).with_suffix(".npz")) for run in runs[variant.name]
        ]
        first = loaded[0] if first is None else first
        check_comparable(loaded[0], first)  # over_seeds checks a variant's own runs
        found[variant.name] = over_seeds(
            loaded, metrics, seeds=len(grid.seeds), resamples=resamples, seed=seed
        )
    return found


def tests(
    grid: Grid,
    values: Mapping[str, Mapping[str, OverSeeds]],
    metrics: Sequence[str],
    headline: str,
) -> list[dict[str, Any]]:
    """Test every variant against the baseline, and the others against each other by `headline`."""
    names = [variant.name for variant in grid.variants if variant.name != grid.baseline]
    asked = [(name, grid.baseline, metric) for name in names for metric in metrics]
    asked += [
        (one, other, headline)
        for index, one in enumerate(names)
        for other in names[index + 1 :]
        if headline in metrics
    ]
    rows: list[dict[str, Any]] = []
    for one, other, metric in asked:
        if metric not in values[one] or metric not in values[other]:
            continue
        test = paired_over_seeds(values[one][metric], values[other][metric])
        rows.append(
            {
                "variant": one, "baseline": other, "metric": metric,
                "value": values[one][metric].value, "baseline_value": values[other][metric].value,
                "difference": test.difference, "ci": list(test.ci), "p": test.p,
            }
        )  # fmt: skip
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    return rows


def cost(variant: Variant, runs: Sequence[RunDir]) -> dict[str, Any]:
    """Return what a variant's trainings took, mean over seeds (memory: the largest).

    Each training is charged as if it were alone: a frozen encoder's pass over the images counts in
    full, for whoever found it done, too. Seconds to the best checkpoint leave validations out.
    """
    if variant.zero_shot:
        return dict.fromkeys(
            ("parameters_trainable", "parameters_total", "seconds", "seconds_per_seed",
             "seconds_per_step", "steps",
             "steps_to_best", "seconds_to_best", "peak_memory_mb", "energy_wh", "device_name")
        )  # fmt: skip
    done = [read_json(run.completion) for run in runs]
    spent = [charged(one) for one in done]
    seconds = [one.seconds for one in spent]
    energy = [one.joules / 3600 for one in spent if one.joules is not None]
    return {
        "parameters_trainable": done[0]["parameters_trainable"],
        "parameters_total": done[0]["parameters_total"],
        "seconds": _mean(seconds),
        "seconds_per_seed": [round(one, 3) for one in seconds],
        "seconds_per_step": _mean([one["seconds_per_step"] for one in done], 5),
        "steps": _mean([one["steps"] for one in done], 1),
        "steps_to_best": _mean([one["best_step"] for one in done], 1),
        "seconds_to_best": _mean(
            [_until_best(run, one) for run, one in zip(runs, done, strict=True)]
        ),
        "peak_memory_mb": max(one["peak_memory_mb"] for one in done),
        "energy_wh": _mean(energy) if len(energy) == len(done) else None,
        "device_name": done[0].get("device_name"),
    }


def _until_best(run: RunDir, done: Mapping[str, Any]) -> float:
    """Return seconds of the encoder's pass and of the steps up to the best one."""
    rows = read_jsonl(run.metrics, tolerate_torn_tail=True)
    steps = [r["seconds"] for r in rows if r["kind"] == "train" and r["step"] <= done["best_step"]]
    return float(done.get("feature_pass_seconds", 0.0)) + float(steps[-1] if steps else 0.0)


def _mean(values: Sequence[float], digits: int = 3) -> float:
    return round(statistics.fmean(values), digits)
