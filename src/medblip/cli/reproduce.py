"""Command reproduce: the paper's study by one command."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import AllowUpload, AsJson, Device, Force, app, finish, print_table


@app.command()
def reproduce(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared data set; default: phantoms, at the scale demo."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the study.")] = Path("runs/paper"),
    scale: Annotated[
        str,
        typer.Option(help="demo: the bundled captioner, on a CPU; base: BLIP-base, on a GPU."),
    ] = "demo",
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Seed of training (repeatable). Default: the scale's."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option("--images", help="How many phantoms to draw, without --data. Default: 4000."),
    ] = None,
    explained: Annotated[
        int, typer.Option("--explained", help="Images whose maps are tested.")
    ] = 100,
    jobs: Annotated[
        str, typer.Option("--jobs", help="Trainings at once: auto (one per GPU) or a number.")
    ] = "auto",
    device: Device = None,
    allow_upload: AllowUpload = False,
    meteor: Annotated[
        bool | None, typer.Option("--meteor/--no-meteor", help="Default: when installed.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and captioned.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run the paper's study on your data: ablation, comparison, maps, claims, report, tables, card.

    Killed or interrupted, the same command goes on where it stopped.
    """
    from medblip import reproduce as run
    from medblip.tables_study import study_tables

    result = run(
        data, out, scale=scale, seeds=seed, images=images, explained=explained, jobs=jobs,
        device=device or "auto", allow_upload=allow_upload, meteor=meteor,
        dry_run=dry_run, force=force,
    )  # fmt: skip
    if not as_json:
        for table in study_tables(result):
            print_table(table)
    if as_json:
        finish(result, as_json)
    elif not dry_run:  # the methods paragraph is long, and stands in the report
        finish({k: v for k, v in dataclasses.asdict(result).items() if k != "methods"}, as_json)
