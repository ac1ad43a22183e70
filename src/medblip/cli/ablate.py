"""Command ablate: variants times seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import AsJson, Device, Force, Split, app, finish, print_table


@app.command()
def ablate(
    config: Annotated[
        Path, typer.Argument(help="TOML with [[variant]] tables or a [grid]; configs/ has two.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Prepared data set.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of all runs.")] = Path("runs/ablation"),
    seed: Annotated[
        list[int] | None,
        typer.Option("--seed", help="Seed of training (repeatable). Default: the file's."),
    ] = None,
    split: Split = "test",
    metric: Annotated[
        list[str] | None, typer.Option(help="Compare by this metric (repeatable).")
    ] = None,
    jobs: Annotated[
        str, typer.Option(help="Trainings at once: auto (one per GPU) or a number.")
    ] = "auto",
    device: Device = None,
    meteor: Annotated[
        bool | None, typer.Option("--meteor/--no-meteor", help="Default: when installed.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.")] = 10_000,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained, and how long it takes.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train variants of a recipe with several seeds; set quality against cost, with intervals.

    Runs that are done stay; killed, the same command goes on.
    """
    from medblip import ablate as run
    from medblip.tables_ablation import ablation_tables

    result = run(
        config, data, out, seeds=seed, split=split, metrics=metric, jobs=jobs, device=device,
        meteor=meteor, resamples=resamples, dry_run=dry_run, force=force,
    )  # fmt: skip
    if not as_json:
        for table in ablation_tables(result):
            print_table(table)
    if as_json or not dry_run:
        finish(result, as_json)
