"""The command line: parse, call one function, print. No logic.

Results go to standard output (with `--json`: one JSON object, last); progress and tables go to
standard error. Exit codes: 0 done, 2 the user can mend it, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from medblip.errors import MedblipError

__all__ = ["app", "main"]

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
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


@data_app.command("prepare")
def data_prepare(
    source: Annotated[Path, typer.Argument(help="Table (CSV, TSV, JSONL) or folder of images.")],
    out: Annotated[Path, typer.Option("--out", help="New data set.")],
    format: Annotated[str | None, typer.Option("--format", help="Default: recognised.")] = None,
    image_column: Annotated[str | None, typer.Option(help="Column with the image path.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column with the caption.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column with the id.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Column with the split.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Patient, case or article.")] = None,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check your images and captions and turn them into one prepared data set."""
    from medblip import prepare

    result = prepare(
        source,
        out,
        format=format,
        seed=seed or 0,
        image_column=image_column,
        caption_column=caption_column,
        id_column=id_column,
        split_column=split_column,
        group_column=group_column,
        force=force,
    )
    _finish(result, as_json)


@data_app.command("phantoms")
def data_phantoms(
    out: Annotated[Path, typer.Option("--out", help="New data set.")],
    images: Annotated[int, typer.Option("--images", help="How many.")] = 3000,
    size: Annotated[int, typer.Option("--size", help="Side in pixels.")] = 128,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Draw synthetic radiology-like images with exact captions, facts and masks."""
    from medblip import phantoms

    folder = phantoms(
        out, images=images, seed=seed or 0, size=size, workers=os.cpu_count(), force=force
    )
    _finish({"data": str(folder), "images": images, "seed": seed or 0}, as_json)


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
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a captioner; keep the best checkpoint by a metric on the validation split.

    Settings live in sections: data, model, freeze, lora, optim, train, decode, eval.
    """
    from medblip import train as run

    result = run(
        config, data, out, overrides=overrides or [], seed=seed, device=device, force=force
    )
    _finish(result, as_json)


@app.command()
def caption(
    run: Annotated[Path, typer.Argument(help="Run directory (with --model: a new one).")],
    data: Data = None,
    split: Split = "test",
    model: Annotated[
        str | None,
        typer.Option(help="Caption with this captioner as it is: bundled, folder, hub id."),
    ] = None,
    overrides: Overrides = None,
    device: Device = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a caption for every image of a split."""
    from medblip import caption as run_caption

    result = run_caption(
        run,
        data,
        split=split,
        model=model,
        overrides=overrides or [],
        device=device or "auto",
        force=force,
    )
    _finish(result, as_json)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run directory with captions.")],
    data: Data = None,
    split: Split = "test",
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score captions against the references, with 95 % intervals."""
    from medblip import evaluate as run_evaluate

    result = run_evaluate(run, data, split=split, force=force)
    if not as_json:
        from medblip.tables import score_table

        _print_table(score_table(result.scores, title=f"{run}, {split}, n = {result.n}"))
    _finish(result, as_json)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories with scores.")],
    baseline: Annotated[Path | None, typer.Option(help="Default: the first run.")] = None,
    split: Split = "test",
    metric: Annotated[list[str] | None, typer.Option(help="Default: all.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="JSON file to write.")] = None,
    seed: Seed = None,
    as_json: AsJson = False,
) -> None:
    """Test paired differences against a baseline, corrected for many tests."""
    from medblip import compare as run_compare

    result = run_compare(runs, baseline, split=split, metrics=metric, out=out, seed=seed or 0)
    if not as_json:
        from medblip.tables import comparison_table

        _print_table(comparison_table(result.rows))
    _finish(result, as_json)


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run directory with captions.")],
    data: Data = None,
    split: Split = "test",
    image: Annotated[list[str] | None, typer.Option(help="Id of an image (repeatable).")] = None,
    limit: Annotated[int, typer.Option(help="How many images, drawn by seed.")] = 24,
    seed: Seed = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Write per-word cross-attention maps of captions that the run wrote."""
    from medblip import explain as run_explain

    result = run_explain(
        run, data, split=split, ids=image, limit=limit, seed=seed or 0, device=device or "auto"
    )
    _finish(result, as_json)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="One or more run directories.")],
    data: Data = None,
    split: Split = "test",
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file; default: in the run.")
    ] = None,
    comparison: Annotated[Path | None, typer.Option(help="JSON file of `compare`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page: scores, costs, captions and attention maps."""
    from medblip import report as run_report

    page = run_report(
        runs if len(runs) > 1 else runs[0], data=data, split=split, out=out, comparison=comparison
    )
    _finish({"report": str(page)}, as_json)


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

        _print_table(demo_table(result))
    _finish(result, as_json)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.exit(_guard(lambda: app(args=arguments, standalone_mode=False)))


def _guard(call: Callable[[], Any]) -> int:
    """Turn errors that a user can mend into a message and exit code 2."""
    # ClickException of the click that typer carries: its own copy, or the package
    usage_error: Any = typer.BadParameter.__mro__[2]
    try:
        code = call()
    except MedblipError as error:
        print(f"medblip: {error}", file=sys.stderr)
        return 2
    except usage_error as error:
        error.show()
        return 2
    except _Stopped as stop:
        print("medblip: interrupted; earlier results are whole", file=sys.stderr)
        return 128 + stop.number  # as a shell does: 130 and 143
    return int(code or 0)


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; `with` blocks clean up. Typer swallows KeyboardInterrupt, but not this."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: Any) -> NoReturn:
    raise _Stopped(number)


def _finish(result: Any, as_json: bool) -> None:
    """Print what a stage returned: one JSON object, or `name: value` lines."""
    record = result if isinstance(result, dict) else dataclasses.asdict(result)
    if as_json:
        print(json.dumps(record, ensure_ascii=False, default=str))
        return
    for name, value in record.items():
        if isinstance(value, str | int | float):
            print(f"{name}: {value}")


def _print_table(table: Any) -> None:
    from medblip.progress import console

    console().print(table)


if __name__ == "__main__":
    main()
