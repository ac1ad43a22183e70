"""The paired tests and weak groups of one run, of a comparison of the scores that it has now.

A comparison is a file beside the runs, and outlives their scores: what it says of others than the
run's own of today is left out, and that is said.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import read_json
from medblip.markdown import escape
from medblip.rundir import RunDir

__all__ = ["Against", "read_against"]

_NONE = "there is no comparison of this run"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Against:
    """What a comparison says of one run.

    Args:
        tests: Its paired tests as it against another, whichever was the baseline.
        weakest: Its groups of images that score below the whole.
        test: How was tested.
        correction: For how many tests.
        stale: How many rows were left out, as they are of other scores than the run's.
        why_none: Why there are no tests; "" where there are some.
    """

    tests: list[dict[str, Any]]
    weakest: list[dict[str, Any]]
    test: str = ""
    correction: str = ""
    stale: int = 0
    why_none: str = ""


def read_against(
    run: RunDir, split: str | None, scores: dict[str, Any], comparison: Path | None = None
) -> Against:
    """Return what the comparison says of the run's scores.

    Args:
        run: The run.
        split: Of its scores.
        scores: Content of scores/<split>.json, {} where there is none.
        comparison: JSON file of `compare`; None: that of the study that the run is part of, else
            `comparison.json` beside the run, if it is there.

    Raises:
        RunError: `comparison` is no comparison, or a file is damaged.
    """
    found = _named(comparison) if comparison is not None else _beside(run)
    if not found:
        return Against(tests=[], weakest=[], why_none=_NONE)
    if found.get("split") != split:
        told = f"the comparison there is of the {escape(found.get('split'))} split"
        return Against(tests=[], weakest=[], why_none=told)
    tests = _tests(run, found["rows"])
    weakest = [row for row in found.get("weakest", []) if _is_called(run, row["system"])]
    same = found.get("n") == scores.get("n")
    theirs = {name: _other(run, name, str(split)) for name in {row["baseline"] for row in tests}}
    kept = [row for row in tests if same and _is_of(row, "value", scores)
            and _is_of(row, "baseline_value", theirs[row["baseline"]])]  # fmt: skip
    groups = [row for row in weakest if same and _is_of(row, "overall", scores)]
    why = "" if kept else _stale_or_others(found["rows"], bool(tests))
    return Against(
        tests=kept, weakest=groups, test=str(found.get("test", "")),
        correction=str(found.get("correction", "")), why_none=why,
        stale=len(tests) - len(kept) + len(weakest) - len(groups),
    )  # fmt: skip


def _named(file: Path) -> dict[str, Any]:
    record = read_json(file)
    if isinstance(record.get("rows"), list):
        return record
    raise RunError(
        explain(
            f"{file} is no comparison",
            got=", ".join(list(record)[:5]) or "an empty object",
            expected="a JSON file that `medblip compare` wrote, with rows",
            do="name another, or leave --comparison out",
        )
    )


def _beside(run: RunDir) -> dict[str, Any]:
    """Return the comparison that nobody had to name, or {}; one that names the run comes first."""
    there = [read_json(file) for file in _places(run) if file.exists()]
    there = [record for record in there if isinstance(record.get("rows"), list)]
    about = [record for record in there if _tests(run, record["rows"])]
    return next(iter([*about, *there]), {})


def _places(run: RunDir) -> list[Path]:
    """Return where a comparison of a run lies: of `reproduce`, in the folder above `ablation`."""
    beside = run.path.resolve().parent
    study = beside.parent
    of_study = beside.name == "ablation" and (study / "reproduce.json").exists()
    return [*([study / "comparison.json"] if of_study else []), beside / "comparison.json"]


def _is_of(row: dict[str, Any], key: str, scores: dict[str, Any] | None) -> bool:
    """Whether a value is that of the scores; of a system whose scores are elsewhere none is known.

    Values are sums in another order, of the same numbers: equal but for their last digits.
    """
    if scores is None:
        return True
    score = scores.get("metrics", {}).get(row["metric"])
    return score is not None and math.isclose(row[key], score["value"], rel_tol=1e-9, abs_tol=1e-12)


def _other(run: RunDir, name: str, split: str) -> dict[str, Any] | None:
    """Return the scores of another system, where it lies beside the run; else None."""
    parts = name.split("/")
    around = run.path.resolve().parents
    if len(parts) > len(around) or ".." in parts:
        return None
    file = RunDir(around[len(parts) - 1].joinpath(*parts)).scores(split)
    return read_json(file) if file.exists() else None


def _is_called(run: RunDir, name: str) -> bool:
    """Whether `compare` calls the run so: by as many of its path's last parts as tell it apart."""
    parts = name.split("/")
    return list(run.path.resolve().parts[-len(parts) :]) == parts


def _tests(run: RunDir, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the tests of the run against others; where it is the baseline, with the sign turned.

    A paired test has two sides, and its p is that of both.
    """
    found = []
    for row in rows:
        if _is_called(run, row["system"]):
            found.append(row)
        elif _is_called(run, row["baseline"]):
            low, high = row["ci"]
            found.append(
                row
                | {
                    "system": row["baseline"], "baseline": row["system"],
                    "value": row["baseline_value"], "baseline_value": row["value"],
                    "difference": 0.0 - row["difference"], "ci": [0.0 - high, 0.0 - low],
                }
            )  # fmt: skip
    return found


def _stale_or_others(rows: Sequence[dict[str, Any]], mine: bool) -> str:
    if mine:
        return "those of the comparison there are of other scores than the run's"
    names = dict.fromkeys(row[side] for row in rows for side in ("baseline", "system"))
    if not names:
        return _NONE
    return f"the comparison there is names other systems ({escape(', '.join(names))})"
