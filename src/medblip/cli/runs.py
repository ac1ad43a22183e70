"""Commands that run a captioner: train, doctor, caption, explain, report, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import (
    AllowUpload,
    AsJson,
    Data,
    Device,
    Force,
    Overrides,
    Seed,
    Split,
    app,
    finish,
    print_table,
)


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML or a run's config.json.")
    ] = None,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="New run directory.")] = Path("runs/train"),
    overrides: Overrides = None,
    seed: Seed = None,
    device: Device = None,
    feature_cache: Annotated[
        str | None,
        typer.Option(
            "--feature-cache",
            help="Where a frozen encoder's output is kept: auto, off or a folder.",
        ),
    ] = None,
    resume: Annotated[
        str, typer.Option("--resume", help="auto: go on with an interrupted run; off: refuse it.")
    ] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and how long it takes.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a captioner; keep the best checkpoint by a metric on the validation split.

    Settings live in sections: data, model, freeze, lora, optim, train, track, decode, eval. Several
    GPUs: `torchrun --nproc-per-node 4 -m medblip train ...`.
    """
    settings = list(overrides or [])
    if feature_cache is not None:
        settings.append(f"train.feature_cache={feature_cache!r}")
    if dry_run:
        from medblip import plan

        planned = plan(config, data, overrides=settings, seed=seed, device=device)
        if not as_json:
            from medblip.models.freeze import Match, match_table
            from medblip.tables import training_table

            print_table(match_table([Match(**rule) for rule in planned.rules]))
            print_table(training_table(planned))
        finish(planned, as_json)
        return
    from medblip import train as run

    result = run(
        config, data, out, overrides=settings, seed=seed, device=device, resume=resume,
        force=force,
    )  # fmt: skip
    finish(result, as_json)


@app.command()
def doctor(
    config: Annotated[Path | None, typer.Argument(help="TOML or a run's config.json.")] = None,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="Where the run would be written.")] = Path(
        "runs/train"
    ),
    overrides: Overrides = None,
    device: Device = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="An error ends with exit code 2.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what will go wrong with a training, before it starts; changes nothing."""
    from medblip import doctor as run_doctor

    result = run_doctor(config, data, out, overrides=overrides or [], device=device, strict=strict)
    if not as_json:
        from medblip.models.freeze import Match, match_table
        from medblip.tables import diagnosis_table

        if result.rules:
            print_table(match_table([Match(**rule) for rule in result.rules]))
        print_table(diagnosis_table(result))
    finish(result, as_json)


@app.command()
def caption(
    run: Annotated[
        str,
        typer.Argument(help="Run directory (with --model: a new one); with IMAGES any captioner."),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Image or DICOM files, folders, - for a list; default: a data set."),
    ] = None,
    data: Data = None,
    split: Split = "test",
    model: Annotated[
        str | None,
        typer.Option(
            help="This captioner as it is: bundled, folder, hub id, gemini, openai:MODEL."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for captions; default: the run, or stdout.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv or txt; default: as --out ends.")
    ] = None,
    num_captions: Annotated[
        int | None, typer.Option("--num-captions", help="Per image: the best beams, or draws.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML, for a captioner as it is.")
    ] = None,
    overrides: Overrides = None,
    device: Device = None,
    allow_upload: AllowUpload = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a caption for every image of a split, or for any images; goes on after a kill.

    Several GPUs: `torchrun --nproc-per-node 4 -m medblip caption ...`.
    """
    from medblip import caption as run_caption

    settings = list(overrides or [])
    if num_captions is not None:
        settings.append(f"decode.num_captions={num_captions}")
    result = run_caption(
        run,
        data,
        images=images or (),
        split=split,
        model=model,
        overrides=settings,
        out=out,
        form=form,
        config=config,
        device=device or "auto",
        force=force,
        allow_upload=allow_upload,
    )
    if result.predictions:  # else standard output holds the captions, and nothing else
        finish(result, as_json)


@app.command()
def explain(
    run: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Run directory with captions; with IMAGES any captioner."
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(help="Image or DICOM files, folders; default: a split of a data set."),
    ] = None,
    data: Data = None,
    split: Split = "test",
    image: Annotated[list[str] | None, typer.Option(help="Id of an image (repeatable).")] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="How many images; default: 24 of the report, --faithfulness 100."),
    ] = None,
    seed: Seed = None,
    faithful: Annotated[
        bool,
        typer.Option(
            "--faithfulness",
            help="Measure whether the maps are true: masks, deletion and insertion, weights.",
        ),
    ] = False,
    view: Annotated[
        str | None,
        typer.Option(help="last-mean (the default), layer, mean, rollout or gradient."),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Of the decoder, from 0 or, from its end, -1.")
    ] = None,
    head: Annotated[int | None, typer.Option(help="From 0; default: the mean over heads.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for named IMAGES; default: in the run, or explained."),
    ] = None,
    caption: Annotated[
        str | None, typer.Option(help="Explain this caption instead of a generated one.")
    ] = None,
    overrides: Overrides = None,
    device: Device = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show what a captioner looked at for each word, of a run's captions or of any images."""
    if faithful:
        from medblip import faithfulness

        _require_split({"IMAGES": images, "--out": out, "--caption": caption, "--set": overrides})
        measured = faithfulness(
            run, data, split=split, ids=image, limit=100 if limit is None else limit,
            seed=seed or 0, view=view, layer=layer, head=head, device=device or "auto",
            force=force,
        )  # fmt: skip
        if not as_json:
            print_table("\n".join(measured.conclusions))
        finish(measured, as_json)
        return
    from medblip import explain as run_explain

    result = run_explain(
        run,
        data,
        images=images or (),
        split=split,
        ids=image,
        limit=24 if limit is None else limit,
        seed=seed or 0,
        view=view,
        layer=layer,
        head=head,
        out=out,
        caption=caption,
        overrides=overrides or [],
        device=device or "auto",
        force=force,
    )
    if result.page or as_json:
        finish(result, as_json)
        return
    finish({"maps_file": result.maps_file, "images": result.images, "view": result.view}, as_json)
    print_table(f"`medblip report {run}` shows them, where its captions are scored")


def _require_split(given: dict[str, object]) -> None:
    """Refuse what belongs to named images: masks and many images belong to a split."""
    from medblip.errors import ConfigError
    from medblip.errors import explain as message

    if lone := [name for name, value in given.items() if value]:
        raise ConfigError(
            message(
                "--faithfulness measures a split that a run has captioned",
                got=", ".join(lone),
                expected="a run directory, and --split, --image or --limit",
                do="leave the rest out",
            )
        )


@app.command()
def report(
    runs: Annotated[
        list[Path], typer.Argument(help="Runs; or the folder of a study, an ablation, or a list.")
    ],
    data: Data = None,
    split: Split = "test",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File; for md, latex and csv a folder. Default: in the run."),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="html, pdf-ready (to be printed), md, latex or csv.")
    ] = "html",
    comparison: Annotated[Path | None, typer.Option(help="JSON file of `compare`.")] = None,
    ablation: Annotated[Path | None, typer.Option(help="JSON file of `ablate`.")] = None,
    study: Annotated[Path | None, typer.Option(help="study.json of `reproduce`.")] = None,
    title: Annotated[str | None, typer.Option(help="Headline; default: the run's name.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Images in the gallery.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained page, or the same tables as Markdown, LaTeX or CSV."""
    from medblip import report as run_report

    page = run_report(
        runs if len(runs) > 1 else runs[0], data=data, split=split, out=out, format=form,
        comparison=comparison, ablation=ablation, study=study, title=title, limit=limit,
    )  # fmt: skip
    finish({"report": str(page)}, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for data, runs and report.")] = Path(
        "runs/demo"
    ),
    images: Annotated[int, typer.Option("--images", help="Phantoms to draw.")] = 4000,
    epochs: Annotated[int, typer.Option("--epochs", help="Of each fine-tuning.")] = 3,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run the whole study in miniature on synthetic images: minutes on a laptop, no download."""
    from medblip import demo as run_demo

    result = run_demo(out, images=images, epochs=epochs, seed=seed or 0, force=force)
    if not as_json:
        from medblip.tables import demo_table

        print_table(demo_table(result))
    finish(result, as_json)
