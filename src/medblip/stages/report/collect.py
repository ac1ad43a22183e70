"""What the page needs, read from run directories and the data set. No HTML, no pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import RunError, explain
from medblip.rundir import RunDir, read_json
from medblip.schema import SPLITS, Example, read_examples, read_jsonl, read_predictions

__all__ = ["Case", "System", "choose_cases", "find_split", "gallery_ids", "read_system"]

#: How many best, median and worst images the gallery shows; random ones fill it up.
_PER_KIND = 4


@dataclasses.dataclass(frozen=True)
class System:
    """One run, as far as it has come; absent parts are empty.

    Args:
        name: Name of the run directory.
        scores: Content of scores/<split>.json.
        per_image: Image id -> metric -> value.
        captions: Image id -> caption.
        maps: Image id -> {words, maps}; `grid` is their (rows, columns).
        curves: Records of metrics.jsonl.
        cost: Content of train.json, with `images_per_second` of captioning.
        settings: config.json and environment.json.
    """

    name: str
    scores: dict[str, Any]
    per_image: dict[str, dict[str, float]]
    captions: dict[str, str]
    maps: dict[str, dict[str, Any]]
    grid: tuple[int, int]
    curves: list[dict[str, Any]]
    cost: dict[str, Any]
    settings: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One image of the gallery and why it is there."""

    example: Example
    kind: str


def find_split(runs: Sequence[RunDir], wanted: str) -> str:
    """Return `wanted`, or the split that every run was scored on.

    Raises:
        RunError: There is no split with scores of all runs.
    """
    for split in (wanted, *SPLITS):
        if all(run.scores(split).exists() for run in runs):
            return split
    without = [str(run.path) for run in runs if not run.scores(wanted).exists()]
    raise RunError(
        explain(
            "nothing to report",
            got=f"no scores of the {wanted} split in {', '.join(without[:3])}",
            expected="runs that were captioned and evaluated",
            do="run `medblip caption` and `medblip evaluate` first",
        )
    )


def read_system(run: RunDir, split: str) -> System:
    """Read everything that one run directory holds about a split."""
    maps = read_json(run.maps(split)) if run.maps(split).exists() else {"images": [], "grid": [1, 1]}
    made = run.predictions(split).with_suffix(".json")
    caption_facts = read_json(made) if made.exists() else {}
    cost = read_json(run.completion) if run.completion.exists() else {}
    per_image = run.scores(split).with_name(f"{split}.per_image.jsonl")
    return System(
        name=run.path.name,
        scores=read_json(run.scores(split)),
        per_image={row.pop("id"): row for row in read_jsonl(per_image)},
        captions={p.id: p.caption for p in read_predictions(run.predictions(split))},
        maps={image["id"]: image for image in maps["images"]},
        grid=(int(maps["grid"][0]), int(maps["grid"][1])),
        curves=list(read_jsonl(run.metrics, tolerate_torn_tail=True)) if run.metrics.exists() else [],
        cost=cost | {"images_per_second": caption_facts.get("images_per_second")},
        settings={
            "config": read_json(run.config) if run.config.exists() else {},
            "environment": (
                read_json(run.environment)
                if run.environment.exists()
                else caption_facts.get("environment", {})
            ),
            "captioned": caption_facts,
        },
    )


def choose_cases(
    examples: Sequence[Example], systems: Sequence[System], *, limit: int = 24, seed: int = 0
) -> list[Case]:
    """Choose images by rule, never by hand: best, median, worst by CIDEr-D, then by seed.

    The system that decides is the one with the highest CIDEr-D; ties fall by id.
    """
    judge = max(systems, key=lambda system: _cider(system.scores))
    by_id = {example.id: example for example in examples}
    order = sorted(
        (name for name in judge.per_image if name in by_id),
        key=lambda name: (-judge.per_image[name].get("CIDEr-D", 0.0), name),
    )
    chosen: dict[str, str] = {}
    middle = max(0, len(order) // 2 - _PER_KIND // 2)
    parts = {
        "best": order[:_PER_KIND],
        "median": order[middle : middle + _PER_KIND],
        "worst": order[-_PER_KIND:],
        "random": [order[i] for i in np.random.default_rng(seed).permutation(len(order))],
    }
    for kind, names in parts.items():
        for name in names:
            if len(chosen) < limit:
                chosen.setdefault(name, kind)
    return [Case(by_id[name], kind) for name, kind in chosen.items()]


def gallery_ids(
    data: Path, split: str, runs: Sequence[Path], *, limit: int = 24, seed: int = 0
) -> list[str]:
    """Return the ids of the images that the report will show, so that `explain` draws these."""
    examples = [e for e in read_examples(data / "manifest.jsonl") if e.split == split]
    systems = [read_system(RunDir(run), split) for run in runs]
    return [case.example.id for case in choose_cases(examples, systems, limit=limit, seed=seed)]


def _cider(scores: dict[str, Any]) -> float:
    return float(scores["metrics"].get("CIDEr-D", {}).get("value", 0.0))
