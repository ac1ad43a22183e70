"""Commands that make and examine prepared data sets: data prepare, check, show, phantoms."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from medblip.cli.options import AsJson, Force, Seed, data_app, finish, print_table


@data_app.command("prepare")
def data_prepare(
    source: Annotated[
        str, typer.Argument(help="Folder, table, archive, DICOM files, or hf:owner/name.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New data set.")],
    format: Annotated[str | None, typer.Option("--format", help="Default: recognised.")] = None,
    size: Annotated[
        list[int] | None,
        typer.Option(help="Side of the pixels to keep (repeatable; 0: none). Default: 384."),
    ] = None,
    image_column: Annotated[str | None, typer.Option(help="Column with the image path.")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Column with the caption.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column with the id.")] = None,
    split_column: Annotated[str | None, typer.Option(help="Column with the split.")] = None,
    group_column: Annotated[str | None, typer.Option(help="Patient, case or article.")] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Table of captions, where the source has none (DICOM).")
    ] = None,
    window: Annotated[
        str, typer.Option(help="CT window of DICOM files: auto, lung, bone, brain, ...")
    ] = "auto",
    clean: Annotated[
        str, typer.Option(help="Cleaning rules for training: all, or e.g. arrows,history.")
    ] = "",
    licence: Annotated[
        list[str] | None, typer.Option(help="Keep only this licence (repeatable).")
    ] = None,
    validation_share: Annotated[
        float, typer.Option(help="Make this share of the training groups the validation split.")
    ] = 0.0,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub data set.")] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Hard links instead of copies of the source's files.")
    ] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="Read only so many rows.")] = None,
    max_rejects: Annotated[
        int | None, typer.Option(help="More bad rows than this are an error.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Default: one per core.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what was recognised; write nothing.")
    ] = False,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check your images and captions and turn them into one prepared data set.

    Interrupted or killed, the same command goes on where it stopped. Bad rows are left out, counted
    and listed in rejects.jsonl.
    """
    from medblip import prepare
    from medblip.stages.prepare import Plan
    from medblip.tables import plan_lines, prepared_table

    result = prepare(
        source,
        out,
        format=format,
        size=[384] if size is None else size,
        seed=seed or 0,
        captions=captions,
        window=window,
        clean=clean,
        licences=licence,
        validation_share=validation_share,
        revision=revision,
        image_column=image_column,
        caption_column=caption_column,
        id_column=id_column,
        split_column=split_column,
        group_column=group_column,
        link=link,
        limit=limit,
        max_rejects=max_rejects,
        workers=workers,
        dry_run=dry_run,
        force=force,
    )
    if not as_json:
        print_table(plan_lines(result) if isinstance(result, Plan) else prepared_table(result))
    finish(result, as_json)


@data_app.command("check")
def data_check(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    model: Annotated[
        str, typer.Option(help="What will see it: bundled, folder, hub id.")
    ] = "bundled",
    max_tokens: Annotated[int, typer.Option(help="Longer captions are cut in training.")] = 64,
    strict: Annotated[
        bool, typer.Option("--strict", help="Leaks and damage are errors (exit code 2).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Examine a prepared data set: damage, leaks between splits, what a model will really see.

    Writes check.json and seen.png into it.
    """
    from medblip import check
    from medblip.tables import check_table, label_lines

    result = check(data, model=model, max_tokens=max_tokens, strict=strict)
    if not as_json:
        print_table(check_table(result))
        print_table(label_lines(result))
    finish(result, as_json)


@data_app.command("show")
def data_show(
    data: Annotated[Path, typer.Argument(help="Prepared data set.")],
    split: Annotated[str | None, typer.Option("--split", help="Default: all.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="Id of an image (repeatable).")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many images, drawn by seed.")] = 24,
    out: Annotated[
        Path | None, typer.Option("--out", help="PNG file; default: in the data set.")
    ] = None,
    seed: Seed = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write a contact sheet: images with their captions, as one PNG."""
    from medblip import show

    result = show(data, split=split, ids=image, limit=limit, seed=seed or 0, out=out, force=force)
    finish(result, as_json)


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
    finish({"data": str(folder), "images": images, "seed": seed or 0}, as_json)
