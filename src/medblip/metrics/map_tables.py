"""What faithfulness measures say of all images: values with intervals, and paired tests.

Words of one image are not independent, so images are what is drawn again. Of each image two sums
are kept, a numerator and a denominator: a value is their ratio over all images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medblip.metrics.base import Floats, Ratio, Statistics
from medblip.metrics.resampling import scores
from medblip.metrics.significance import holm, paired_bootstrap
from medblip.metrics.stored import StoredStatistics

__all__ = ["Table", "compared", "measures", "stored", "tests"]

#: (measure, map) -> per image a numerator and a denominator, float64 (images, 2).
Table = Mapping[tuple[str, str], Floats]


def measures(table: Table, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Return a row per measure and map: value, 95 % interval over images, and images that count."""
    rows = []
    for (measure, kind), values in table.items():
        counted = int((values[:, 1] > 0).sum())
        row: dict[str, Any] = {"measure": measure, "map": kind, "value": None, "ci": None}
        if counted:
            family = Statistics(Ratio(measure), values[values[:, 1] > 0])
            score = scores([family], resamples=resamples, seed=seed)[measure]
            row |= {"value": score.value, "ci": list(score.ci)}
        rows.append(row | {"n": counted})
    return rows


def tests(
    table: Table, pairs: Sequence[tuple[str, str, str]], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row per pair (measure, map, baseline): paired bootstrap, Holm over all of them."""
    rows = []
    for measure, kind, baseline in pairs:
        if not {(measure, kind), (measure, baseline)} <= table.keys():
            continue
        row = _test(table[measure, kind], table[measure, baseline], resamples, seed)
        if row is not None:
            rows.append({"measure": measure, "map": kind, "baseline": baseline} | row)
    return _corrected(rows)


def stored(table: Table, ids: Sequence[str], signature: str) -> StoredStatistics:
    """Return the statistics as `save_statistics` keeps them; names are `measure@map`."""
    families = {
        f"{measure}@{kind}": Statistics(Ratio(f"{measure}@{kind}", signature), values)
        for (measure, kind), values in table.items()
    }
    return StoredStatistics(tuple(ids), families, None)


def compared(
    system: StoredStatistics, baseline: StoredStatistics, kind: str, *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row per measure of one map: two captioners on the same images, Holm-corrected.

    Raises:
        MetricError: They were not measured on the same images, or not in the same way.
    """
    mine = [name for name in system.families if name.endswith(f"@{kind}")]
    found = paired_bootstrap(system, baseline, resamples=resamples, seed=seed, metrics=mine)
    rows = []
    for name, test in found.items():
        both = [one.families[name].values for one in (system, baseline)]
        counts = np.logical_and(*(values[:, 1] > 0 for values in both))
        if not counts.any():
            continue
        shared = [values[counts].sum(axis=0) for values in both]
        rows.append(
            {
                "measure": name.removesuffix(f"@{kind}"),
                "map": kind,
                "value": float(shared[0][0] / shared[0][1]),
                "baseline_value": float(shared[1][0] / shared[1][1]),
                "difference": test.difference,
                "ci": list(test.ci),
                "p": test.p,
                "n": int(counts.sum()),
            }
        )
    return _corrected(rows)


def _test(mine: Floats, theirs: Floats, resamples: int, seed: int) -> dict[str, Any] | None:
    counts = (mine[:, 1] > 0) & (theirs[:, 1] > 0)
    if not counts.any():
        return None
    ids = tuple(map(str, np.flatnonzero(counts)))
    sides = [
        StoredStatistics(ids, {"x": Statistics(Ratio("x"), values[counts])}, None)
        for values in (mine, theirs)
    ]
    test = paired_bootstrap(sides[0], sides[1], resamples=resamples, seed=seed)["x"]
    return {"difference": test.difference, "ci": list(test.ci), "p": test.p}


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]
