"""What faithfulness measures say of all images: values with intervals, and paired tests.

Words of one image are not independent, so images are what is drawn again. Of each image two sums
are kept, a numerator and a denominator: a value is their ratio over all images.

A bootstrap of one image draws that image every time and is sure of itself. So p is never below the
least that `differ` images can give in an exact test, where each one's difference may have either
sign: 2 / 2 ** differ. Below `FEWEST` such images no difference can count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medblip.metrics.base import Floats, Ratio, Statistics
from medblip.metrics.resampling import scores
from medblip.metrics.significance import holm, paired_bootstrap
from medblip.metrics.stored import StoredStatistics

__all__ = ["FEWEST", "Table", "compared", "least_p", "measures", "paired_tests", "stored"]

#: Images that must differ before a difference can count: five give at best p = 2 / 2 ** 5 = 0.0625.
FEWEST = 6

#: (measure, map) -> per image a numerator and a denominator, float64 (images, 2).
Table = Mapping[tuple[str, str], Floats]


def measures(table: Table, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Return a row per measure and map: value, 95 % interval over images, and images that count.

    Only images that count are drawn. Where none does, value and interval are None; of fewer than
    `FEWEST` there is no interval: it would be sure of itself.
    """
    rows = []
    for key, values in table.items():
        counted = values[values[:, 1] > 0]
        row: dict[str, Any] = {"measure": key[0], "map": key[1], "value": None, "ci": None}
        if len(counted):
            enough = len(counted) >= FEWEST
            family = Statistics(Ratio(_name(key)), counted)
            found = scores([family], resamples=resamples if enough else 0, seed=seed)[_name(key)]
            row |= {"value": found.value, "ci": list(found.ci) if enough else None}
        rows.append(row | {"n": len(counted)})
    return rows


def paired_tests(
    table: Table, pairs: Sequence[tuple[str, str, str]], *, resamples: int, seed: int
) -> list[dict[str, Any]]:
    """Return a row per pair (measure, map, baseline): paired bootstrap, Holm over all of them.

    `n` are the images that count, `differ` those of them in which the two maps differ.
    """
    sides: tuple[dict[str, Statistics], dict[str, Statistics]] = ({}, {})
    kept = {}
    for pair in pairs:
        keys = [(pair[0], kind) for kind in pair[1:]]
        if set(keys) <= table.keys() and all((table[key][:, 1] > 0).any() for key in keys):
            name = "@".join(pair)
            kept[name] = pair
            for side, key in zip(sides, keys, strict=True):
                side[name] = Statistics(Ratio(name), table[key])
    if not kept:
        return []
    ids = tuple(map(str, range(len(next(iter(table.values()))))))
    mine, theirs = (StoredStatistics(ids, side, None) for side in sides)
    found = paired_bootstrap(mine, theirs, resamples=resamples, seed=seed)
    return _corrected(
        [
            {"measure": kept[name][0], "map": kept[name][1], "baseline": kept[name][2],
             "difference": test.difference, "ci": list(test.ci),
             **_counted(test.p, *(table[kept[name][0], kind] for kind in kept[name][1:]))}
            for name, test in found.items()
        ]
    )  # fmt: skip


def stored(table: Table, ids: Sequence[str], signature: str) -> StoredStatistics:
    """Return the statistics as `save_statistics` keeps them; names are `measure@map`."""
    families = {
        _name(key): Statistics(Ratio(_name(key), signature), values)
        for key, values in table.items()
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
                **_counted(test.p, *both),
            }
        )
    return _corrected(rows)


def least_p(differ: int) -> float:
    """Return the least p that so many images that differ can give, two-sided.

    >>> least_p(6)
    0.03125
    """
    return min(1.0, 0.5 ** (differ - 1))  # of thousands of images: 0, where 2 ** differ overflows


def _counted(p: float, mine: Floats, theirs: Floats) -> dict[str, Any]:
    """Return p as so many images allow it, and how many they are.

    Args:
        p: Of the bootstrap.
        mine: Numerator and denominator of each image, (images, 2).
        theirs: The same of the other side.
    """
    counts = (mine[:, 1] > 0) & (theirs[:, 1] > 0)
    gaps = mine[:, 0] * theirs[:, 1] - theirs[:, 0] * mine[:, 1]  # of two ratios, up to scale
    differ = int((counts & (np.abs(gaps) > 1e-12)).sum())  # more than the last bits of a sum
    return {"p": max(p, least_p(differ)), "n": int(counts.sum()), "differ": differ}


def _name(key: tuple[str, str]) -> str:
    return "@".join(key)


def _corrected(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    corrected = holm([row["p"] for row in rows])
    return [row | {"p_holm": p} for row, p in zip(rows, corrected, strict=True)]
