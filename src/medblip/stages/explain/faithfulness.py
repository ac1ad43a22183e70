"""Are the maps true? Against masks where there are some, by deletion and insertion, and by weights.

| measure | of which caption | value |
| --- | --- | --- |
| pointing-game, mass-in-mask | the reference, replayed word for word | per finding named |
| found-and-pointed | the captioner's own | share of all findings that it names and points at |
| deletion, insertion | own | area under the curve (`curves.py`) |
| similarity | own | rank correlation of a content word's map with another map |

The reference is the same for every captioner, so zero-shot, which names no finding, has a value as
well, and two captioners are compared on the same words. What is said of it, sentence by sentence,
is `conclusions.py`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.files import read_json, write_json
from medblip.metrics.base import Floats
from medblip.metrics.map_tables import compared, measures, paired_tests, stored
from medblip.metrics.stored import load_statistics, save_statistics
from medblip.progress import console, track
from medblip.rundir import RunDir
from medblip.schema import SCHEMA_VERSION
from medblip.stages.explain.conclusions import compared_sentences, sentences
from medblip.stages.explain.curves import FRACTIONS, WORDS, passes
from medblip.stages.explain.look import settled_view
from medblip.stages.explain.measured import MAPS, ImageMeasures, measure_images
from medblip.stages.explain.opened import open_run, require_kept

__all__ = ["Compared", "Faithful", "compare_faithfulness", "faithfulness"]

_RESAMPLES = 10_000
#: What is tested: (measure, map, baseline).
_TESTED = [
    (measure, "attention", baseline)
    for measure in ("pointing-game", "mass-in-mask", "deletion", "insertion")
    for baseline in ("random", "centre", "randomised-weights")
    if measure in ("pointing-game", "mass-in-mask") or baseline != "randomised-weights"
] + [("pointing-game", "randomised-weights", "random")]  # what pointing is left without learning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Faithful:
    """What came of it.

    Args:
        faithfulness_file: JSON: measures, tests, curves, conclusions.
        images: How many.
        encoder_passes: What it cost.
        conclusions: Sentences.
    """

    faithfulness_file: str
    images: int
    encoder_passes: int
    conclusions: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Two captioners' maps on the same images: a row per measure, a sentence per row."""

    n: int
    rows: list[dict[str, Any]]
    conclusions: tuple[str, ...]


def faithfulness(
    run: Path | str,
    data: Path | str | None = None,
    *,
    split: str = "test",
    ids: list[str] | None = None,
    limit: int = 100,
    seed: int = 0,
    view: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    tolerance: float = 0.5,
    device: str = "auto",
    force: bool = False,
) -> Faithful:
    """Write `run/maps/<split>.faithfulness.json`, and statistics per image beside it (`.npz`).

    Args:
        run: Run directory with captions of that split.
        data: Prepared data set; None: the one that was captioned.
        split: `train`, `validation` or `test`.
        ids: Images; None: `limit` images drawn with `seed`.
        limit: How many when `ids` is None.
        seed: Of the draw, of random maps and weights, and of the resampling.
        view: As `explain`.
        layer: As `explain`.
        head: As `explain`.
        tolerance: Of the pointing game, in patches: a map's peak lies no finer than its patch, so
            half of one by default; 0: the peak's own pixel must lie in the mask.
        device: As `train.device`.
        force: Replace measures of more images, of another view or tolerance.

    Raises:
        ConfigError: There is no such view, layer or head.
        CheckpointError: The captioner cannot give this view.
        RunError: There are no captions of that split, an id is not among them, the data set is
            another one, other weights wrote the captions, or measures of more images, or
            measures made in another way, would be lost.
    """
    chosen = settled_view(view, layer, head)
    opened = open_run(run, data, split=split, ids=ids, limit=limit, seed=seed, device=device)
    count, file = len(opened.examples), _file(opened.folder, split)
    tolerated = f"{tolerance:g} of a patch" if tolerance else "none"
    if not force and file.exists() and file.with_suffix(".npz").exists():
        there = read_json(file)
        require_kept(
            file, load_statistics(file.with_suffix(".npz")).ids,
            f"{there['view']}; tolerance {there['tolerance']}",
            [example.id for example in opened.examples], f"{chosen.words}; tolerance {tolerated}",
        )  # fmt: skip
    console().print(
        f"{count} images, at most {count * passes(WORDS, 2)} passes through the image encoder",
        markup=False, highlight=False,
    )  # fmt: skip
    with opened.folder.lock():
        found = list(track(measure_images(opened, chosen, tolerance, seed), "faithfulness", count))
        record: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION, "split": split, "view": chosen.words, "n": count,
            "words": sum(one.words_read for one in found), "seed": seed, "maps": list(MAPS),
            "tolerance": tolerated,
        } | _summary(found, seed)  # fmt: skip
        record["conclusions"] = sentences(record)
        table = _table(found)
        signature = f"view:{chosen.words}|tolerance:{tolerance:g}|words:{WORDS}"
        save_statistics(file.with_suffix(".npz"), stored(table, [e.id for e in opened.examples],
                                                         signature))  # fmt: skip
        write_json(file, record)
    return Faithful(
        faithfulness_file=str(file), images=count,
        encoder_passes=sum(one.passes for one in found), conclusions=tuple(record["conclusions"]),
    )  # fmt: skip


def compare_faithfulness(
    system: Path | str, baseline: Path | str, *, split: str = "test", seed: int = 0
) -> Compared:
    """Compare the attention maps of two runs, before and after fine-tuning for example.

    Paired by image: pointing game and mass on the same words of the references; deletion and
    insertion on the words that each captioner wrote; a finding that one does not name is none that
    it points at.

    Args:
        system: Run directory with `maps/<split>.faithfulness.npz`.
        baseline: The other.
        split: Of both.
        seed: Of the resampling.

    Raises:
        RunError: One was not measured.
        MetricError: They were not measured on the same images, or not in the same way.
    """
    both = []
    for run in (system, baseline):
        file = _file(RunDir(run), split).with_suffix(".npz")
        if not file.exists():
            raise RunError(
                message(
                    f"the maps of {run} were not measured",
                    got=f"{file} is not there",
                    expected="what `medblip explain --faithfulness` writes",
                    do=f"run `medblip explain {run} --faithfulness --split {split}` first",
                )
            )
        both.append(load_statistics(file))
    rows = compared(both[0], both[1], "attention", resamples=_RESAMPLES, seed=seed)
    names = (RunDir(system).path.name, RunDir(baseline).path.name)
    return Compared(
        n=len(both[0].ids), rows=rows, conclusions=tuple(compared_sentences(rows, *names))
    )


def _summary(found: list[ImageMeasures], seed: int) -> dict[str, Any]:
    """Return all that the file says of the images together."""
    table = _table(found)
    own = {key: value for key, value in table.items() if key[0] in _OWN}
    rest = {key: value for key, value in table.items() if key not in own}
    rows = measures(rest, resamples=_RESAMPLES, seed=seed)
    return {
        "measures": [row for row in rows if row["value"] is not None],
        "tests": paired_tests(rest, _TESTED, resamples=_RESAMPLES, seed=seed),
        "curves": _curves(found),
        "reference": {
            "named": sum(one.named for one in found),
            "missed": sum(one.missed for one in found),
        },
        "own_caption": {
            "named": sum(one.own_named for one in found),
            "false": sum(one.own_false for one in found),
            "measures": [
                row | {"measure": _OWN[row["measure"]]}
                for row in measures(own, resamples=_RESAMPLES, seed=seed)
            ],
        },
        "words_per_caption": WORDS,
        "encoder_passes": sum(one.passes for one in found),
    }


#: Measures of own captions -> as the file calls them, in their own list.
_OWN = {
    "own-pointing-game": "pointing-game", "own-mass-in-mask": "mass-in-mask",
    "found-and-pointed": "found-and-pointed",
}  # fmt: skip


def _table(found: list[ImageMeasures]) -> dict[tuple[str, str], Floats]:
    """Return per (measure, map) a numerator and a denominator of each image."""
    keys = dict.fromkeys(key for one in found for key in one.sums)
    return {key: np.array([one.sums.get(key, (0.0, 0.0)) for one in found]) for key in keys}


def _curves(found: list[ImageMeasures]) -> dict[str, Any]:
    """Return the mean curves: 1 is the image as it is, 0 the image blurred all over."""
    total = sum(one.falls for one in found)
    curves: dict[str, Any] = {"fractions": list(FRACTIONS), "deletion": {}, "insertion": {}}
    if total:
        for measure, kind in dict.fromkeys(key for one in found for key in one.curves):
            summed = sum(one.curves[measure, kind] for one in found if one.curves)
            curves[measure][kind] = np.round(summed / total, 5).tolist()
    return curves


def _file(folder: RunDir, split: str) -> Path:
    return Path(folder.maps(split)).with_suffix(".faithfulness.json")
