"""What the page needs, read from run directories and the data set. No HTML, no pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import DataError, RunError, explain
from medblip.files import read_json, short_names
from medblip.power import charged
from medblip.rundir import RunDir
from medblip.schema import SPLITS, Example, read_examples, read_jsonl, read_predictions

__all__ = [
    "HEADLINE",
    "Case",
    "System",
    "best_system",
    "choose_cases",
    "data_root",
    "find_split",
    "gallery_ids",
    "read_split",
    "read_system",
    "read_systems",
]

#: The metric that ranks systems and images.
HEADLINE = "CIDEr-D"


@dataclasses.dataclass(frozen=True)
class System:
    """One run, as far as it has come; absent parts are empty.

    Args:
        name: Name of the run directory.
        scores: Content of scores/<split>.json; `ci` is None where none was computed.
        per_image: Image id -> metric -> value.
        captions: Image id -> caption.
        maps: Image id -> {words, maps} of the caption above; `grid` is their (rows, columns).
        curves: Records of metrics.jsonl.
        cost: Content of train.json, empty when nothing was trained, with `images_per_second` of
            captioning.
        settings: config.json, environment.json, trainable.json, predictions/<split>.json.
        view: Which maps, in words.
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
    view: str

    @property
    def intervals(self) -> bool:
        """Whether any score of this run has an interval."""
        return any(score["ci"] for score in self.scores["metrics"].values())

    @property
    def trained(self) -> bool:
        """Whether this run's captioner was fine-tuned, rather than used as it is."""
        return "steps" in self.cost

    def value(self, metric: str) -> float:
        """Return the score, minus infinity when the run lacks that metric."""
        score = self.scores["metrics"].get(metric)
        return float("-inf") if score is None else float(score["value"])


@dataclasses.dataclass(frozen=True)
class Case:
    """One image of the gallery and why it is there: best, median, worst or random."""

    example: Example
    kind: str


def find_split(runs: Sequence[RunDir], wanted: str | None) -> str:
    """Return `wanted`, or else the first of test, validation, train that every run has scores of.

    Raises:
        RunError: No run is named, or there is no split with scores of all of them.
    """
    candidates = [*([wanted] if wanted else []), *reversed(SPLITS)]
    for split in candidates:
        if runs and all(run.scores(split).exists() for run in runs):
            return split
    without = [str(run.path) for run in runs if not run.scores(candidates[0]).exists()]
    raise RunError(
        explain(
            "nothing to report",
            got=f"no scores of the {candidates[0]} split in {', '.join(without[:3])}"
            if runs
            else "no run directory",
            expected="runs that were captioned and evaluated on the same split",
            do="run `medblip caption` and `medblip evaluate` first",
        )
    )


def read_systems(runs: Sequence[RunDir], split: str) -> list[System]:
    """Read all runs; those of one name are called by as many parent folders as it takes."""
    names = short_names([run.path for run in runs])
    return [read_system(run, split, name) for run, name in zip(runs, names, strict=True)]


def read_system(run: RunDir, split: str, name: str) -> System:
    """Read everything that one run directory holds about a split.

    Raises:
        RunError: A file is damaged.
        DataError: A file was written by a newer medblip, or a line is not a record.
    """
    made = _json(run.predictions(split).with_suffix(".json"))
    predictions, per_image = run.predictions(split), _per_image(run, split)
    captions = (
        {p.id: p.caption for p in read_predictions(predictions)} if predictions.exists() else {}
    )
    maps, grid = _maps(run.maps(split), captions)
    curves = run.metrics.exists() and read_jsonl(run.metrics, tolerate_torn_tail=True)
    return System(
        name=name,
        scores=_scores(run.scores(split)),
        per_image=per_image,
        captions=captions,
        maps=maps,
        grid=grid,
        curves=list(curves or []),
        cost=_cost(_json(run.completion)) | {"images_per_second": made.get("images_per_second")},
        settings={
            "config": _json(run.config),
            "environment": _json(run.environment) or made.get("environment", {}),
            "trainable": _json(run.trainable),
            "captioned": made,
        },
        view=_json(run.maps(split)).get("view", "in a view that was not recorded"),
    )


def _scores(path: Path) -> dict[str, Any]:
    """Return the scores; an interval that was not computed (`--resamples 0`) is None.

    The file has the value as both ends then, which would read as perfect certainty.
    """
    record = read_json(path)
    for score in record["metrics"].values():
        if "|ci:none" in f"|{score['signature']}":
            score["ci"] = None
    if not any(score["ci"] for score in record["metrics"].values()):
        for total in record.get("clinical", {}).get("totals", {}).values():
            total["ci"] = None
    return record


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _per_image(run: RunDir, split: str) -> dict[str, dict[str, float]]:
    path = run.scores(split).with_name(f"{split}.per_image.jsonl")
    return {str(row.pop("id")): row for row in read_jsonl(path)} if path.exists() else {}


def _maps(
    path: Path, captions: dict[str, str]
) -> tuple[dict[str, dict[str, Any]], tuple[int, int]]:
    """Return the maps that belong to `captions`; those of older captions would mislead.

    Raises:
        RunError: The number of maps or patches is not what words and grid say.
    """
    record = _json(path)
    rows, columns = record.get("grid", (1, 1))
    found = {}
    for image in record.get("images", []):
        sizes = {len(row) for row in image["maps"]}
        if len(image["maps"]) != len(image["words"]) or not sizes <= {rows * columns}:
            raise RunError(
                explain(
                    f"{path}: damaged map of {image['id']}",
                    got=f"{len(image['maps'])} maps of {sorted(sizes)} patches",
                    expected=f"{len(image['words'])} maps, one per word, of {rows} x {columns}",
                    do="run `medblip explain` again",
                )
            )
        if captions.get(image["id"]) == image["caption"]:
            found[str(image["id"])] = image
    return found, (int(rows), int(columns))


def _cost(done: dict[str, Any]) -> dict[str, Any]:
    """Return train.json with the time that its training would have taken alone."""
    return done | {"seconds": charged(done).seconds} if "seconds" in done else done


def data_root(system: System) -> Path:
    """Return the folder of the data set that the run was captioned on.

    Raises:
        RunError: The run does not say.
    """
    root = system.settings["captioned"].get("data") or (
        system.settings["config"].get("data", {}).get("root")
    )
    if root is None:
        raise RunError(
            explain(
                f"{system.name} does not say which data it was captioned on",
                got="no predictions/<split>.json and no config.json",
                expected="the folder of a prepared data set",
                do="name it with --data",
            )
        )
    return Path(root)


def read_split(root: Path, split: str) -> list[Example]:
    """Return the examples of one split.

    Raises:
        DataError: There is no manifest.
    """
    manifest = root / "manifest.jsonl"
    if not manifest.exists():
        raise DataError(
            explain(
                "the data set is not there",
                got=f"no {manifest}",
                expected="the prepared data set that was captioned",
                do="name it with --data",
            )
        )
    return [example for example in read_examples(manifest) if example.split == split]


def best_system(systems: Sequence[System]) -> System:
    """Return the system with the highest CIDEr-D, the first of equals."""
    return max(systems, key=lambda system: system.value(HEADLINE))


def choose_cases(
    examples: Sequence[Example], systems: Sequence[System], *, limit: int = 24, seed: int = 0
) -> list[Case]:
    """Choose images by rule, never by hand: best, median, worst by CIDEr-D, then by seed.

    The system that decides is the one with the highest CIDEr-D; ties fall by id. A sixth of
    `limit`, at least one, goes to each of the three kinds, the rest to images drawn with `seed`.
    Without values per image all are drawn.
    """
    values = best_system(systems).per_image
    by_id = {example.id: example for example in examples}
    ranked = sorted(
        (name for name in by_id if name in values),
        key=lambda name: (-values[name].get(HEADLINE, 0.0), name),
    )
    each = max(1, limit // 6)
    middle = max(0, len(ranked) // 2 - each // 2)
    pool = ranked or sorted(by_id)
    parts = {
        "best": ranked[:each],
        "median": ranked[middle : middle + each],
        "worst": ranked[-each:],
        "random": [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))],
    }
    chosen: dict[str, str] = {}
    for kind, names in parts.items():
        for name in names:
            if len(chosen) < limit:
                chosen.setdefault(name, kind)
    return [Case(by_id[name], kind) for name, kind in chosen.items()]


def gallery_ids(
    data: Path, split: str, runs: Sequence[Path], *, limit: int = 24, seed: int = 0
) -> list[str]:
    """Return the ids of the images that the report will show, so that `explain` draws these."""
    systems = read_systems([RunDir(run) for run in runs], split)
    cases = choose_cases(read_split(data, split), systems, limit=limit, seed=seed)
    return [case.example.id for case in cases]
