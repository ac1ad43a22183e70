"""What a folder named to `report` holds: one run, or a study, an ablation, a list's comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.files import read_json
from medblip.rundir import RunDir

__all__ = ["Opened", "opened"]


@dataclasses.dataclass(frozen=True)
class Opened:
    """Runs, and the files that belong to all of them.

    Args:
        home: Where a report lies unless it is told.
        runs: Run directories, in their order.
        comparison: JSON of `compare`.
        ablation: JSON of `ablate`.
        study: JSON of `reproduce`.
        title: As the study has it.
    """

    home: Path
    runs: tuple[Path, ...]
    comparison: Path | None = None
    ablation: Path | None = None
    study: Path | None = None
    title: str | None = None


def opened(paths: Sequence[Path]) -> Opened:
    """Return what is to be reported; a folder that is neither of the three counts as a run."""
    if len(paths) > 1:
        return Opened(paths[0], tuple(paths))
    root = paths[0]
    if RunDir(root).config.exists() or (root / "predictions").is_dir():  # a run, whatever lies by
        return Opened(root, (root,))
    study, ablation, comparison = (
        path if path.exists() else None
        for path in (root / "study.json", root / "ablation.json", root / "comparison.json")
    )
    if study is not None and "runs" in (record := read_json(study)):
        inner = root / "ablation" / "ablation.json"
        return Opened(
            root, tuple(root / run for run in record["runs"]), comparison,
            inner if inner.exists() else None, study, record.get("title"),
        )  # fmt: skip
    if ablation is not None:
        return Opened(root, _first_runs(root, read_json(ablation)), None, ablation)
    if comparison is not None:
        names = _compared(read_json(comparison))
        if names and all(any((root / name).glob("system*.json")) for name in names):
            return Opened(root, tuple(root / name for name in names), comparison)
    return Opened(root, (root,))


def _first_runs(root: Path, record: dict[str, Any]) -> tuple[Path, ...]:
    return tuple(root / variant["runs"][0] for variant in record["variants"])


def _compared(record: dict[str, Any]) -> list[str]:
    """Return the systems' short names, which are their folders': the baseline first."""
    rows = record.get("rows", [])
    return list(dict.fromkeys([record.get("baseline", ""), *(row["system"] for row in rows)]))
