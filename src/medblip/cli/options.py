"""What commands share: the Typer apps, common options, and how a result is printed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = [
    "AsJson",
    "Data",
    "Device",
    "Force",
    "Overrides",
    "Seed",
    "Split",
    "app",
    "data_app",
    "finish",
    "models_app",
    "print_table",
]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune captioners for radiology images, compare them honestly, show why they say "
    "what they say. Research use only; not a medical device.",
)
data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make prepared data sets.")
app.add_typer(data_app, name="data")
models_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")

Data = Annotated[
    Path | None, typer.Option("--data", help="Prepared data set; default: the run's own.")
]
Split = Annotated[str, typer.Option("--split", help="train, validation or test.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a setting, e.g. --set train.epochs=5 (repeatable)."),
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Random seed.")]
AllowUpload = Annotated[
    bool, typer.Option("--allow-upload", help="A remote captioner: images may leave this machine.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def finish(result: Any, as_json: bool) -> None:
    """Print what a stage returned: one JSON object, or `name: value` lines."""
    record = result if isinstance(result, dict) else dataclasses.asdict(result)
    if as_json:
        print(json.dumps(record, ensure_ascii=False, default=str))
        return
    for name, value in record.items():
        if isinstance(value, str | int | float):
            print(f"{name}: {value}")


def print_table(table: Any) -> None:
    """Print a table or lines; nothing for None."""
    from medblip.progress import console

    if isinstance(table, str):  # as it is: `medblip[meteor]` is no markup, a command one line
        console().print(table, markup=False, highlight=False, soft_wrap=True)
    elif table is not None:
        console().print(table)
