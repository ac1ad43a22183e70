"""Stage `compare`: is a difference between systems more than chance? Paired, on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.progress import track
from medblip.rundir import RunDir, read_json, write_json

__all__ = ["Compared", "compare"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Rows of `{system, baseline, metric, value, baseline_value, difference, ci, p, p_holm}`."""

    comparison_file: str
    rows: list[dict[str, Any]]


def compare(
    runs: Sequence[Path | str],
    baseline: Path | str | None = None,
    *,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    out: Path | str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Compared:
    """Test every run against a baseline by the paired bootstrap, Holm-corrected over all tests.

    Args:
        runs: Run directories with scores of that split, from the same images.
        baseline: One of them; None: the first.
        split: `train`, `validation` or `test`.
        metrics: Names to test; None: all that every run has.
        out: JSON file; None: `comparison.json` beside the baseline's run directory.
        resamples: Bootstrap resamples.
        seed: Of the resampling; both systems get the same weights.

    Raises:
        RunError: A run has no scores, or there is nothing to compare.
        MetricError: The runs were not scored on the same images.
    """
    from medblip.metrics import load_statistics
    from medblip.metrics.significance import holm, paired_bootstrap

    folders = [RunDir(run) for run in runs]
    base = RunDir(baseline if baseline is not None else runs[0])
    systems = [folder for folder in folders if folder.path.resolve() != base.path.resolve()]
    if not systems:
        raise RunError(
            explain(
                "nothing to compare",
                got=", ".join(str(folder.path) for folder in folders) or "no run",
                expected="a baseline and at least one other run",
                do="name two or more run directories",
            )
        )
    scores = {folder.path: read_json(folder.scores(split)) for folder in [base, *systems]}
    statistics = {
        path: load_statistics(RunDir(path).scores(split).with_suffix(".npz")) for path in scores
    }
    rows: list[dict[str, Any]] = []
    for folder in track(systems, "paired tests", len(systems), unit="system"):
        tests = paired_bootstrap(
            statistics[folder.path], statistics[base.path], resamples=resamples, seed=seed
        )
        for name, test in tests.items():
            if metrics is not None and name not in metrics:
                continue
            rows.append(
                {
                    "system": folder.path.name,
                    "baseline": base.path.name,
                    "metric": name,
                    "value": scores[folder.path]["metrics"][name]["value"],
                    "baseline_value": scores[base.path]["metrics"][name]["value"],
                    "difference": test.difference,
                    "ci": list(test.ci),
                    "p": test.p,
                }
            )
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    target = Path(out) if out is not None else base.path.parent / "comparison.json"
    write_json(
        target,
        {
            "split": split,
            "baseline": base.path.name,
            "test": f"paired bootstrap, {resamples} resamples, seed {seed}",
            "correction": f"Holm over {len(rows)} tests",
            "n": scores[base.path]["n"],
            "rows": rows,
        },
    )
    return Compared(comparison_file=str(target), rows=rows)
