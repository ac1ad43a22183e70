"""Commands that read captions only: evaluate, compare, submit."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import (
    AllowUpload,
    AsJson,
    Device,
    Force,
    Seed,
    Split,
    app,
    finish,
    print_table,
)
from medblip.errors import ConfigError, explain


class Protocol(enum.StrEnum):
    """Sets of metrics."""

    caption = "caption"
    imageclef = "imageclef"
    all = "all"


class Tokenizer(enum.StrEnum):
    """How captions become tokens."""

    ptb = "ptb"
    none = "none"


class Test(enum.StrEnum):
    """Paired tests."""

    bootstrap = "bootstrap"
    randomisation = "randomisation"


@app.command()
def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="Captions of any system (.jsonl, .json, .csv, .tsv), or a run.")
    ],
    references: Annotated[
        Path | None,
        typer.Option("--references", "--data", help="Table or data set; default: the run's own."),
    ] = None,
    split: Split = "test",
    protocol: Annotated[Protocol, typer.Option(help="Which metrics.")] = Protocol.caption,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file of the scores.")] = None,
    tokenizer: Annotated[
        Tokenizer, typer.Option(help="`none`: captions are tokens, with one blank between.")
    ] = Tokenizer.ptb,
    meteor: Annotated[
        bool | None, typer.Option("--meteor/--no-meteor", help="Default: when installed.")
    ] = None,
    bertscore: Annotated[
        str | None, typer.Option(help="BERTScore by this encoder: preset, folder, hub id.")
    ] = None,
    idf: Annotated[bool, typer.Option("--idf", help="BERTScore with idf weights.")] = False,
    cosine: Annotated[
        str | None, typer.Option(help="Cosine of sentence embeddings by this encoder.")
    ] = None,
    scorer: Annotated[
        list[str] | None, typer.Option(help="External scorer, NAME=PYTHON (repeatable).")
    ] = None,
    scorer_config: Annotated[
        Path | None, typer.Option(help="TOML file that names scorers and their environments.")
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option(help="Table of an earlier --fit-concepts.")
    ] = None,
    fit_concepts: Annotated[
        Path | None, typer.Option(help="Learn concepts from this copy of ROCO, then score them.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="Training captions: which were merely repeated?")
    ] = None,
    year: Annotated[int, typer.Option(help="Of the ImageCLEF rules: 2025 or 2026.")] = 2026,
    resamples: Annotated[int | None, typer.Option(help="Behind each interval.")] = None,
    seed: Seed = None,
    device: Device = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score captions against references, with 95 % intervals."""
    from medblip import evaluate as run_evaluate

    result = run_evaluate(
        predictions, references, split=split, out=out, training=training, force=force,
        fit_concepts=fit_concepts, resamples=resamples, seed=seed, protocol=protocol.value,
        tokenizer=tokenizer.value,
        year=year, meteor=meteor, bertscore=bertscore, idf=idf, cosine=cosine, concepts=concepts,
        scorers=tuple(scorer or ()), scorer_config=scorer_config, device=device or "auto",
    )  # fmt: skip
    if not as_json:
        from medblip import tables

        for part in (
            tables.score_table(result.scores, title=f"{predictions}, n = {result.n}"),
            tables.audit_table(result.scores, result.stating),
            tables.error_table(result.scores),
            tables.signature_lines(result.scores),
            tables.degeneration_line(result.degeneration, result.n),
            tables.missing_lines(result.unavailable, result.notes),
        ):
            print_table(part)
    finish(result, as_json)


@app.command()
def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(help="Runs, scores.json files, tables of captions; or one list, a .toml."),
    ],
    baseline: Annotated[
        Path | None, typer.Option(help="A path, or a name as tables have it. Default: the first.")
    ] = None,
    split: Split = "test",
    references: Annotated[
        Path | None,
        typer.Option("--references", "--data", help="For tables of captions: table or data set."),
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="Repeatable; `all`; default: the headlines.")
    ] = None,
    test: Annotated[Test, typer.Option(help="Which paired test.")] = Test.bootstrap,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="JSON file; default: comparison.json beside the baseline, replaced. "
            "Of a list: a folder.",
        ),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Or swaps, of each test.")] = 10_000,
    seed: Seed = None,
    meteor: Annotated[
        bool | None, typer.Option("--meteor/--no-meteor", help="Of a list; as `evaluate`.")
    ] = None,
    device: Device = None,
    allow_upload: AllowUpload = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Of a list: say what would be done.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Test paired differences against a baseline, corrected for many tests.

    With a list of systems (configs/compare_paper.toml): caption a split of --data with each of
    them, score, test against the first, and write a report; a repeated call goes on.
    """
    if len(systems) == 1 and systems[0].suffix == ".toml":
        from medblip import compare_systems

        study = compare_systems(
            systems[0], references or Path("data"), out or Path("runs/compare"), split=split,
            metrics=metric, test=test.value, baseline=None if baseline is None else str(baseline),
            resamples=resamples, seed=seed or 0, meteor=meteor,
            device=device or "auto", allow_upload=allow_upload, dry_run=dry_run, force=force,
        )  # fmt: skip
        if not as_json:
            from medblip.tables import systems_table

            print_table(systems_table(study))
        if as_json or not dry_run:
            finish(study, as_json)
        return
    only = {"--meteor": meteor is not None, "--device": device is not None,
            "--allow-upload": allow_upload, "--dry-run": dry_run, "--force": force}  # fmt: skip
    if asked := [name for name, given in only.items() if given]:
        raise ConfigError(
            explain(
                "an option that belongs to a list of systems",
                got=", ".join(asked),
                expected="a .toml with [[system]] tables",
                do="leave it out: what is scored already is only compared",
            )
        )
    from medblip import compare as run_compare

    result = run_compare(
        systems, baseline, split=split, references=references, metrics=metric, test=test.value,
        out=out, resamples=resamples, seed=seed or 0,
    )  # fmt: skip
    if not as_json:
        from medblip.tables import comparison_tables
        from medblip.tables_compare import detail_tables

        for part in [*comparison_tables(result), *detail_tables(result)]:
            print_table(part)
    finish(result, as_json)


@app.command()
def submit(
    predictions: Annotated[
        Path, typer.Argument(help="Run or table of captions; with --check: a submission.")
    ],
    ids: Annotated[
        Path | None,
        typer.Option("--ids", "--data", help="Official ids in their order: CSV, text, data set."),
    ] = None,
    split: Split = "test",
    out: Annotated[
        Path, typer.Option("--out", help="File to write: .csv, or .zip for the platform.")
    ] = Path("submission.csv"),
    year: Annotated[int, typer.Option(help="Of the challenge: 2025 or 2026.")] = 2026,
    check: Annotated[bool, typer.Option("--check", help="Only check PREDICTIONS.")] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write captions as ImageCLEFmedical takes them, checked as the organisers check."""
    from medblip import submit as run_submit
    from medblip import validate_submission

    if check:
        result = validate_submission(predictions, ids, split=split)
    else:
        result = run_submit(predictions, ids=ids, split=split, out=out, year=year, force=force)
    finish(result, as_json)
