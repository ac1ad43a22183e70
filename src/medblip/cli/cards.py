"""Commands for publishing: card, push."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import AsJson, Data, Force, app, finish, print_table

Scored = Annotated[
    str | None, typer.Option("--split", help="Whose scores; default: test, if there are any.")
]
Comparison = Annotated[
    Path | None,
    typer.Option("--comparison", help="JSON of `compare`; default: beside the run."),
]
Licence = Annotated[
    str | None,
    typer.Option("--licence", help="Of the weights, as the hub names it; default: the base's."),
]


@app.command()
def card(
    source: Annotated[Path, typer.Argument(help="Run directory, or prepared data set.")],
    data: Data = None,
    split: Scored = None,
    comparison: Comparison = None,
    licence: Licence = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File; default: README.md in SOURCE.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the model card of a run or the data card of a data set, as the hub reads them."""
    from medblip import card as run_card

    result = run_card(source, data=data, split=split, comparison=comparison, licence=licence,
                      out=out, force=force)  # fmt: skip
    finish(result, as_json)
    if result.missing and not as_json:
        print_table("\n".join(["the card says what is missing:", *result.missing]))


@app.command()
def push(
    source: Annotated[Path, typer.Argument(help="Run directory, or prepared data set.")],
    repo_id: Annotated[str, typer.Argument(help="owner/name on the hub.")],
    data: Data = None,
    split: Scored = None,
    comparison: Comparison = None,
    licence: Licence = None,
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may see a new repository.")
    ] = True,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch; default: main.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List files and card; push nothing.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Push a run's captioner, card and scores to the Hugging Face hub; of a data set its card only.

    The token is that of HF_TOKEN or of `hf auth login`. No image and no caption leaves.
    """
    from medblip import push as run_push

    result = run_push(source, repo_id, data=data, split=split, comparison=comparison,
                      licence=licence, private=private, revision=revision, dry_run=dry_run,
                      force=force)  # fmt: skip
    if as_json:
        finish(result, as_json)
        return
    from medblip.tables import pushed_table

    print_table(pushed_table(result, dry_run))
    if dry_run:
        print(result.card)
        return
    finish({k: v for k, v in dataclasses.asdict(result).items() if k != "card"}, as_json)
