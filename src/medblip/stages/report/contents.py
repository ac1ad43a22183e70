"""All that a report is made of, read from files once and shared by every format."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.rundir import RunDir
from medblip.stages.report.collect import (
    Case,
    System,
    best_system,
    choose_cases,
    data_root,
    find_split,
    read_split,
    read_systems,
)
from medblip.stages.report.compared import read_comparison
from medblip.stages.report.records import read_record

__all__ = ["MOST_IMAGES", "Contents", "gather"]

#: More would not be read, and one page could not hold them.
MOST_IMAGES = 200

#: What each file must hold: key -> keys of every entry of a list, or none for other values.
_ABLATION = {"split": (), "headline": (), "baseline": (), "n": (),
             "variants": ("name", "set", "metrics")}  # fmt: skip
_STUDY = {"claims": ("claim", "verdict", "reason")}
#: Which command writes each.
_OF_ABLATE, _OF_REPRODUCE = "ablation.json of `ablate`", "study.json of `reproduce`"
_FAITHFULNESS = {"measures": ("measure", "map", "value", "ci", "n"), "curves": ()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What was found; absent parts are None or empty.

    Args:
        title: Headline.
        split: The split that is shown.
        wanted: The split that was asked for.
        systems: The runs, in the order given.
        cases: Images of the gallery.
        synthetic: Whether the images are drawn, those outside of the gallery included.
        root: Folder of the data set.
        compared: Content of the comparison's file.
        ablation: Content of the ablation's file.
        study: Content of the study's file: claims and methods paragraph.
        faithfulness: System -> content of its maps/<split>.faithfulness.json.
    """

    title: str
    split: str
    wanted: str | None
    systems: list[System]
    cases: list[Case]
    synthetic: bool
    root: Path
    compared: dict[str, Any] | None
    ablation: dict[str, Any] | None
    study: dict[str, Any] | None
    faithfulness: dict[str, dict[str, Any]]

    @property
    def best(self) -> System:
        """The system with the highest CIDEr-D."""
        return best_system(self.systems)


def gather(
    runs: Sequence[Path],
    *,
    data: Path | None,
    split: str | None,
    comparison: Path | None,
    ablation: Path | None,
    study: Path | None,
    title: str | None,
    limit: int,
) -> Contents:
    """Read everything; see `report` for the arguments.

    Raises:
        RunError: The runs share no scored split, a file is damaged or of another split, or
            `limit` is out of range.
        DataError: The data set is not where the run says it was.
    """
    if not 0 <= limit <= MOST_IMAGES:
        raise RunError(
            explain(
                "bad limit",
                got=limit,
                expected=f"0 or more images, at most {MOST_IMAGES}",
                do="leave --limit out",
            )
        )
    folders = [RunDir(path) for path in runs]
    found = find_split(folders, split)
    systems = read_systems(folders, found)
    root = data if data is not None else data_root(systems[0])
    ablated = None if ablation is None else read_record(ablation, _ABLATION, kind=_OF_ABLATE)
    if ablated is not None and ablated.get("split", found) != found:
        raise RunError(
            explain(
                f"{ablation} does not belong to this report",
                got=f"an ablation on the {ablated['split']} split",
                expected=f"one on the {found} split",
                do="name the split with --split",
            )
        )
    examples = read_split(root, found)
    return Contents(
        title=title or (systems[0].name if len(systems) == 1 else "Captioners compared"),
        split=found,
        wanted=split,
        systems=systems,
        cases=choose_cases(examples, systems, limit=limit),
        # only phantoms have findings as exact facts
        synthetic=any("findings" in (example.facts or {}) for example in examples),
        root=root,
        compared=None if comparison is None else read_comparison(comparison, found, systems),
        ablation=ablated,
        study=None if study is None else read_record(study, _STUDY, kind=_OF_REPRODUCE),
        faithfulness=_faithfulness(folders, systems, found),
    )


def _faithfulness(
    folders: Sequence[RunDir], systems: Sequence[System], split: str
) -> dict[str, dict[str, Any]]:
    """Return what is known about the maps of each system, in the order of the systems."""
    paths = [run.maps(split).with_name(f"{split}.faithfulness.json") for run in folders]
    return {
        system.name: read_record(
            path, _FAITHFULNESS, kind="what `explain --faithfulness` writes beside the maps"
        )
        for system, path in zip(systems, paths, strict=True)
        if path.exists()
    }
