"""Commands about captioners themselves: models, models convert."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import AsJson, Force, finish, models_app, print_table


@models_app.callback()
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the captioners that have a name: where they are, how large, on which terms."""
    if context.invoked_subcommand is not None:
        return
    from medblip import list_models

    found = list_models()
    if as_json:
        finish({"models": [dataclasses.asdict(one) for one in found]}, as_json)
        return
    from medblip.tables import models_table

    print_table(models_table(found))


@models_app.command("convert")
def models_convert(
    source: Annotated[
        str, typer.Argument(help="BLIP's or LAVIS's .pth; or a BLIP: folder, run, name, hub id.")
    ],
    target: Annotated[Path, typer.Argument(help="New folder; or new .pth.")],
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            help="Vocabulary for a .pth: folder or hub id. Default: what medblip stored in it, "
            "else Salesforce/blip-image-captioning-base.",
        ),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Convert a captioner of the original BLIP or LAVIS to a transformers folder, or back."""
    from medblip import convert_checkpoint

    result = convert_checkpoint(source, target, tokenizer=tokenizer, force=force)
    finish(result, as_json)
    if result.left_out and not as_json:
        print_table(f"left out, no part of a captioner: {', '.join(result.left_out)}")
