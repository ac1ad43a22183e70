"""The file of `compare`, taken only when its tests are of the scores beside which they stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.metrics.audit.silent import is_silent
from medblip.stages.report.collect import System
from medblip.stages.report.records import read_record

__all__ = ["read_comparison"]

_KEYS = {
    "split": (), "baseline": (), "test": (), "correction": (), "n": (),
    "rows": ("system", "baseline", "metric", "value", "baseline_value", "difference", "ci", "p",
             "p_holm"),
}  # fmt: skip
#: `compare` and `evaluate` sum the same statistics: only the last bits may differ.
_SAME = 1e-9


def read_comparison(path: Path, split: str, systems: Sequence[System]) -> dict[str, Any]:
    """Read the paired tests and keep those of `systems`.

    Raises:
        RunError: It is no comparison, or one of another split or of older scores.
    """
    compared = read_record(path, _KEYS, kind="comparison.json of `compare`")
    if compared["split"] != split:
        raise RunError(
            explain(
                f"{path} does not belong to this page",
                got=f"tests on the {compared['split']} split",
                expected=f"tests on the {split} split",
                do=f"run `medblip compare --split {split}` first",
            )
        )
    by_name = {system.name: system for system in systems}
    differing = _differing(compared, by_name)
    if differing:
        raise RunError(
            explain(
                f"{path} was made before these scores",
                got="; ".join(differing[:3]),
                expected="tests of the scores that stand in the runs now",
                do="run `medblip compare` again (a study: `medblip reproduce`), or leave "
                "--comparison out",
            )
        )
    rows = [_said(row, by_name) for row in compared["rows"] if row["system"] in by_name]
    strata = [
        row
        for row in compared.get("strata") or []
        if row["system"] not in by_name
        or not is_silent(by_name[row["system"]].scores, row["metric"])
    ]
    return compared | {"rows": rows, "strata": strata}


def _said(row: dict[str, Any], systems: dict[str, System]) -> dict[str, Any]:
    """Return a test without what says nothing: the value of a kind of statement nobody makes.

    A difference to such a value is none, either; the p that it has counted in the correction.
    """
    sides = {"value": row["system"], "baseline_value": row["baseline"]}
    silent = [
        key
        for key, name in sides.items()
        if name in systems and is_silent(systems[name].scores, row["metric"])
    ]
    if not silent:
        return row
    return row | dict.fromkeys([*silent, "difference", "ci", "p", "p_holm"])


def _differing(compared: dict[str, Any], systems: dict[str, System]) -> list[str]:
    """Return, in words, where tested values are not those of the runs' scores."""
    rows = compared["rows"]
    tested = {(row["system"], row["metric"]): row["value"] for row in rows}
    tested |= {(row["baseline"], row["metric"]): row["baseline_value"] for row in rows}
    here = {key: value for key, value in tested.items() if key[0] in systems}
    found = [
        f"{compared['n']} images there, {systems[name].scores['n']} in the scores of {name}"
        for name in dict.fromkeys(name for name, _ in here)
        if systems[name].scores["n"] != compared["n"]
    ]
    for (name, metric), value in here.items():
        score = systems[name].scores["metrics"].get(metric)
        if score is None:
            found.append(f"{metric} of {name} there, not in its scores")
        elif not math.isclose(score["value"], value, rel_tol=_SAME, abs_tol=_SAME):
            found.append(f"{metric} of {name} {value:.4f} there, {score['value']:.4f} now")
    return found
