"""Stage `evaluate`: captions of one split against the references. Needs files only, no model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medblip import config as configuration
from medblip.config import EvalConfig
from medblip.errors import MetricError, RunError, explain
from medblip.rundir import RunDir, json_text, staged_texts
from medblip.schema import Example, Prediction, Score, dump_jsonl, read_predictions

if TYPE_CHECKING:
    from medblip.metrics import Table

__all__ = ["Evaluated", "evaluate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The scores of one run on one split."""

    scores_file: str
    n: int
    scores: dict[str, Score]


def evaluate(
    run: Path | str,
    data: Path | str | None = None,
    *,
    split: str = "test",
    eval_config: EvalConfig | None = None,
    force: bool = False,
) -> Evaluated:
    """Score `run/predictions/<split>.jsonl` and write `run/scores/<split>.json`.

    Beside it: `<split>.per_image.jsonl` (values per image) and `<split>.npz` (sufficient statistics
    per image, from which `compare` tests differences without captions).

    Args:
        run: Run directory with predictions of that split.
        data: Prepared data set with the references; None: the one that was captioned.
        split: `train`, `validation` or `test`.
        eval_config: Resamples and seed of the intervals; None: the run's.
        force: Replace scores that are there.

    Raises:
        MetricError: Predictions and references do not have the same ids.
        RunError: There are no predictions, or scores are there already.
    """
    from medblip.data.loader import load_split
    from medblip.metrics import evaluate_captions
    from medblip.metrics.degeneration import degeneration

    folder = RunDir(run)
    cfg = configuration.load(folder.config) if folder.config.exists() else configuration.RunConfig()
    predictions_file, target = folder.predictions(split), folder.scores(split)
    if not predictions_file.exists():
        raise RunError(
            explain(
                f"no captions of the {split} split",
                got=f"{predictions_file} is not there",
                expected="captions to score",
                do=f"run `medblip caption {folder.path} --split {split}` first",
            )
        )
    if target.exists() and not force:
        raise RunError(
            explain(
                f"{target} is there already",
                got="scores of an earlier call",
                expected="a split that was not scored yet",
                do="add --force to replace them",
            )
        )
    settings = eval_config or cfg.eval
    examples = load_split(Path(data) if data is not None else Path(cfg.data.root), split)
    captions = pair(read_predictions(predictions_file), examples)
    with_facts = all(example.facts is not None for example in examples)
    with folder.lock():
        table = evaluate_captions(
            captions,
            [list(example.captions) for example in examples],
            facts=[example.facts or {} for example in examples] if with_facts else None,
            resamples=settings.resamples,
            seed=settings.seed,
            groups=_groups(examples),
        )
        _write(table, examples, captions, target, split, degeneration(captions))
    return Evaluated(scores_file=str(target), n=len(examples), scores=dict(table.scores))


def pair(predictions: Sequence[Prediction], examples: Sequence[Example]) -> list[str]:
    """Return the captions in the order of the examples.

    Raises:
        MetricError: An id is on one side only: a smaller set would give another score.
    """
    by_id = {prediction.id: prediction.caption for prediction in predictions}
    wanted = {example.id for example in examples}
    missing = [example.id for example in examples if example.id not in by_id]
    unknown = [name for name in by_id if name not in wanted]
    if missing or unknown:
        parts = [
            f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for names, what in ((missing, "images without a caption"), (unknown, "unknown ids"))
            if names
        ]
        raise MetricError(
            explain(
                "captions and references do not belong together",
                got="; ".join(parts),
                expected=f"one caption for each of the {len(examples)} images and no others",
                do="caption this split of this data set again",
            )
        )
    return [by_id[example.id] for example in examples]


def _groups(examples: Sequence[Example]) -> list[str] | None:
    """Resample by patient where the data set says which images belong together."""
    if all(example.group is None for example in examples):
        return None
    return [example.group or example.id for example in examples]


def _write(
    table: Table,
    examples: Sequence[Example],
    captions: Sequence[str],
    target: Path,
    split: str,
    degenerate: dict[str, float],
) -> None:
    """Write all or none, the scores last: who finds the scores finds the rest."""
    from medblip.metrics import save_statistics

    rows = [
        {"id": example.id}
        | {name: round(float(values[index]), 6) for name, values in table.per_image.items()}
        for index, example in enumerate(examples)
    ]
    record = {
        "split": split,
        "n": len(examples),
        "metrics": {name: dataclasses.asdict(score) for name, score in table.scores.items()},
        "degeneration": degenerate,
    }
    per_image = target.with_name(f"{split}.per_image.jsonl")
    with staged_texts({target: json_text(record), per_image: dump_jsonl(rows)}):
        save_statistics(target.with_suffix(".npz"), table.stored([e.id for e in examples]))
