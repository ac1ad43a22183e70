"""Stage `evaluate`: captions of any system against references. Needs files only, no captioner."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip import config as configuration
from medblip.config import EvalConfig
from medblip.errors import MetricError, RunError, explain
from medblip.files import json_text, staged_texts
from medblip.rundir import RunDir
from medblip.schema import Score, dump_jsonl

if TYPE_CHECKING:
    from medblip.data.captions import References
    from medblip.metrics.suite import Computed, Material, Suite
    from medblip.metrics.table import Table

__all__ = ["Evaluated", "evaluate"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The scores of one system on one set of images.

    Args:
        scores_file: Where they were written; None when no file was asked for.
        n: Number of images.
        scores: Value, interval and signature by metric name.
        stating: Kind of the audit -> images on which the caption or its reference states any; where
            none does, an F1 of 1 is one of nothing against nothing.
        degeneration: Signs of a collapsed captioner.
        unavailable: Part of the protocol -> why it was not computed.
        notes: What a reader of the scores must know.
    """

    scores_file: str | None
    n: int
    scores: dict[str, Score]
    stating: dict[str, int]
    degeneration: dict[str, float]
    unavailable: dict[str, str]
    notes: list[str]


def evaluate(
    predictions: Path | str,
    references: Path | str | None = None,
    *,
    split: str = "test",
    suite: Suite | None = None,
    out: Path | str | None = None,
    training: Path | str | None = None,
    fit_concepts: Path | str | None = None,
    resamples: int | None = None,
    seed: int | None = None,
    force: bool = False,
    **options: Any,
) -> Evaluated:
    """Score captions, with 95 % intervals; write `OUT`, values per image and statistics beside it.

    Beside `scores.json`: `scores.per_image.jsonl` (values per image) and `scores.npz` (sufficient
    statistics per image, from which `compare` tests differences without captions).

    Args:
        predictions: Run directory with captions of that split, or a table `{id, caption}` of any
            system (.jsonl, .json, .csv, .tsv).
        references: Prepared data set, or a table `{id, captions}`; None: the data set that the run
            was captioned on.
        split: Which split of a run or a data set.
        suite: Which metrics; None: made of `options`, e.g. `protocol="imageclef"`.
        out: JSON file; None: `RUN/scores/<split>.json` for a run, no file for a table.
        training: Training captions (data set or table): adds the share of captions seen there.
        fit_concepts: Folder of a ROCO copy: learn n-gram -> concept from it, then score concepts.
        resamples: Behind each interval; None: the run's setting, else 1,000.
        seed: Of the resampling; None: the run's setting, else 0.
        force: Replace scores that are there.
        options: Fields of `medblip.metrics.suite.Suite`.

    Raises:
        MetricError: Captions and references do not have the same ids, or a metric that was asked
            for by name cannot be computed here.
        DataError: A table is not what it should be.
        RunError: There are no captions, or scores are there already.
    """
    from medblip.data.captions import align, read_captions, read_references
    from medblip.metrics.suite import Material, Suite, compute
    from medblip.metrics.table import score_families

    source = _source(Path(predictions), references, split, out)
    _check_numbers(resamples, seed)
    _refuse_overwriting(source, force)
    known = read_references(source.references, split)
    captions = align(read_captions(source.predictions), known.ids)
    suite = suite or Suite(force=force, **options)
    material = Material(known.ids, captions, known.captions, known.facts, known.images)
    if fit_concepts is not None:
        suite, material = _learn_concepts(Path(fit_concepts), suite, material, source.target)
    with contextlib.nullcontext() if source.run is None else source.run.lock():
        computed = compute(suite, material)
        table = score_families(
            computed.families,
            resamples=source.eval.resamples if resamples is None else resamples,
            seed=source.eval.seed if seed is None else seed,
            groups=known.groups,
        )
        result = Evaluated(
            scores_file=None if source.target is None else str(source.target),
            n=len(known.ids),
            scores={
                name: dataclasses.replace(score, n=computed.scored.get(name, score.n))
                for name, score in table.scores.items()
            },
            stating=_stating(computed),
            degeneration=_degeneration(captions, training),
            unavailable=computed.unavailable,
            notes=computed.notes,
        )
        if source.target is not None:
            record = _record(result, computed, split, suite.protocol)
            if "audit-errors" in computed.families:
                record["clinical"] = _clinical(captions, known, source.eval, resamples, seed)
            _write(source.target, record, table, known)
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """Where everything is: captions, references, settings, and the file to write."""

    predictions: Path
    references: Path
    target: Path | None
    run: RunDir | None
    eval: EvalConfig


def _source(
    predictions: Path, references: Path | str | None, split: str, out: Path | str | None
) -> _Source:
    target = None if out is None else Path(out)
    if not predictions.is_dir():
        if references is None:
            raise RunError(
                explain(
                    "nothing to score against",
                    got=f"the captions {predictions}, and no references",
                    expected="a table of references, or a prepared data set",
                    do="name it with --references",
                )
            )
        return _Source(
            predictions=predictions, references=Path(references), target=target, run=None,
            eval=EvalConfig(),
        )  # fmt: skip
    run = RunDir(predictions)
    captions = run.predictions(split)
    if not captions.exists():
        raise RunError(
            explain(
                f"no captions of the {split} split",
                got=f"{captions} is not there",
                expected="captions to score",
                do=f"run `medblip caption {run.path} --split {split}` first",
            )
        )
    cfg = configuration.load(run.config) if run.config.exists() else configuration.RunConfig()
    return _Source(
        predictions=captions,
        references=Path(references if references is not None else cfg.data.root),
        target=target or run.scores(split),
        run=run,
        eval=cfg.eval,
    )


def _stating(computed: Computed) -> dict[str, int]:
    """Return per kind of the audit on how many images either side states any."""
    return {
        name.removeprefix("audit-"): int((family.values[:, 1:].sum(axis=1) > 0).sum())
        for name, family in computed.families.items()
        if name.startswith("audit-") and name != "audit-errors"
    }


def _degeneration(captions: Sequence[str], training: Path | str | None) -> dict[str, float]:
    from medblip.data.captions import read_references
    from medblip.metrics.degeneration import degeneration

    if training is None:
        return degeneration(captions)
    seen = read_references(Path(training), "train").captions
    return degeneration(captions, training=[text for texts in seen for text in texts])


def _check_numbers(resamples: int | None, seed: int | None) -> None:
    for name, value in (("resamples", resamples), ("seed", seed)):
        if value is not None and value < 0:
            raise MetricError(
                explain(
                    f"{name} cannot be negative",
                    got=value,
                    expected="0 or more; without resamples there are no intervals",
                    do="choose another number",
                )
            )


def _refuse_overwriting(source: _Source, force: bool) -> None:
    """Refuse to write over what is read, ever, and over anything else without --force."""
    if source.target is None:
        return
    written = _files(source.target)
    read = {path.resolve() for path in (source.predictions, source.references)}
    over = [path for path in written if path.resolve() in read]
    if over or source.target.is_dir():
        raise RunError(
            explain(
                f"{source.target}: scores cannot be written there",
                got=f"{over[0]}, which is read" if over else "a folder",
                expected="a new file, e.g. scores.json",
                do="choose another --out",
            )
        )
    ours = written[:1] if source.run is not None else written  # the rest of a run is not a user's
    there = [path for path in ours if path.exists()]
    if there and not force:
        raise RunError(
            explain(
                f"{there[0]} is there already",
                got="scores of an earlier call, or a file of yours",
                expected="captions that were not scored yet",
                do="add --force to replace it, or choose another --out",
            )
        )


def _files(target: Path) -> list[Path]:
    """Return all that is written: scores, values per image, statistics."""
    return [target, target.with_suffix(".per_image.jsonl"), target.with_suffix(".npz")]


def _learn_concepts(
    roco: Path, suite: Suite, material: Material, target: Path | None
) -> tuple[Suite, Material]:
    """Learn from the splits of the user's ROCO that hold none of these images.

    The table is written beside the scores, where there are any: it may not be passed on.
    """
    from medblip.metrics.concepts import fit_concepts
    from medblip.metrics.concepts.roco import given_concepts, splits_without

    out = None if target is None else target.with_suffix(".roco-concepts.json")
    splits = splits_without(roco, material.ids)
    table = fit_concepts(roco, splits=splits, out=out, force=suite.force)
    given = given_concepts(roco, material.ids)
    return (
        dataclasses.replace(suite, concepts=table),
        dataclasses.replace(material, concepts=given),
    )


def _record(result: Evaluated, computed: Computed, split: str, protocol: str) -> dict[str, Any]:
    """Return the content of the scores file."""
    optional = {
        "corpus": computed.corpus,
        "unavailable": computed.unavailable,
        "failed": computed.failed,
        "notes": computed.notes,
    }
    return {
        "split": split,
        "n": result.n,
        "protocol": protocol,
        "metrics": {name: dataclasses.asdict(score) for name, score in result.scores.items()},
        "degeneration": result.degeneration,
        **{name: value for name, value in optional.items() if value},
    }


def _clinical(
    captions: Sequence[str],
    known: References,
    settings: EvalConfig,
    resamples: int | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return the paper's clinical table in totals, and what is invented or missed most often."""
    from medblip.metrics.audit.clinical import clinical_summary
    from medblip.metrics.resampling import group_numbers

    return clinical_summary(
        captions, known.captions, known.ids,
        resamples=settings.resamples if resamples is None else resamples,
        seed=settings.seed if seed is None else seed,
        groups=None if known.groups is None else group_numbers(known.groups),
    )  # fmt: skip


def _write(target: Path, record: dict[str, Any], table: Table, known: References) -> None:
    """Write all or none, the scores last: who finds the scores finds the rest."""
    from medblip.metrics import save_statistics

    shown = {
        name: values
        for name, values in table.per_image.items()
        if not name.endswith(("-P", "-R"))  # F1 says it for one image
    }
    rows = [
        {"id": image} | {name: float(values[index]) for name, values in shown.items()}
        for index, image in enumerate(known.ids)
    ]
    _, per_image, statistics = _files(target)
    with staged_texts({target: json_text(record), per_image: dump_jsonl(rows)}):
        save_statistics(statistics, table.stored(known.ids, known.captions))
