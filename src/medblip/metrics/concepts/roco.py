"""ROCO's own text files of captions and concepts, as `fit_concepts` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medblip.errors import DataError, explain
from medblip.schema import SPLITS

__all__ = ["given_concepts", "roco_concepts", "roco_folder", "roco_rows", "splits_without"]


def splits_without(roco: Path | str, ids: Sequence[str]) -> list[str]:
    """Return the splits of a copy of ROCO that hold none of these images: fit for learning from.

    Raises:
        DataError: There is none.
    """
    known = set(ids)
    apart: list[str] = []
    tried: list[str] = []
    for split in SPLITS:
        try:
            folder = roco_folder(Path(roco), split)
        except DataError:
            continue
        tried.append(split)
        if known.isdisjoint(name for name, *_ in roco_rows(folder / "captions.txt")):
            apart.append(split)
    if not apart:
        raise DataError(
            explain(
                f"{roco}: no split to learn concepts from",
                got=f"{', '.join(tried)}, with images that are to be scored" if tried else "none",
                expected="a split with captions.txt and cuis.txt, of other images",
                do="name a copy of ROCO that has a further split",
            )
        )
    return apart


def given_concepts(roco: Path | str, ids: Sequence[str]) -> list[set[str]] | None:
    """Return the concepts that a copy of ROCO gives these images; None unless it has them all."""
    known: dict[str, set[str]] = {}
    for split in SPLITS:
        try:
            folder = roco_folder(Path(roco), split)
        except DataError:
            continue
        known |= {name: set() for name, *_ in roco_rows(folder / "captions.txt")}
        known |= roco_concepts(folder)
    return [known[name] for name in ids] if known.keys() >= set(ids) else None


def roco_folder(roco: Path, split: str) -> Path:
    """Return the folder of one split that holds captions and concepts; radiology first."""
    tried = [roco / split / "radiology", roco / split, roco / "data" / split / "radiology"]
    for folder in tried:
        if (folder / "captions.txt").is_file() and (folder / "cuis.txt").is_file():
            return folder
    there = sorted(path.name for path in roco.iterdir()) if roco.is_dir() else []
    raise DataError(
        explain(
            f"{roco}: no captions and concepts of the {split} split",
            got=", ".join(there[:5]) or "no such folder, or an empty one",
            expected=f"{split}/radiology/captions.txt and cuis.txt, as ROCO has them",
            do="name the folder that holds train, validation and test, and splits that are there",
        )
    )


def roco_concepts(folder: Path) -> dict[str, set[str]]:
    """Return the concepts of each image that has a row."""
    rows = roco_rows(folder / "cuis.txt")
    return {name: {cui.strip() for cui in cuis} - {""} for name, *cuis in rows}


def roco_rows(path: Path) -> list[list[str]]:
    """Return the tab-separated cells of each line; only a line feed ends a line."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            explain(
                f"{path}: not UTF-8 text",
                got=f"byte {error.object[error.start]:#04x} at offset {error.start}",
                expected="UTF-8",
                do="get ROCO's own file again",
            )
        ) from None
    rows = [line.split("\t") for line in lines if line.strip()]
    bare = [number for number, cells in enumerate(rows, start=1) if len(cells) < 2]
    if bare or not rows:
        raise DataError(
            explain(
                f"{path}: not in ROCO's layout",
                got=f"{len(bare)} lines without a tab, first: {bare[0]}" if bare else "no line",
                expected="id, tab, caption or concepts",
                do="get ROCO's own file again",
            )
        )
    return rows
