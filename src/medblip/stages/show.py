"""Stage `show`: a contact sheet of a prepared data set, drawn by seed or by id."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medblip.data.images import open_image
from medblip.data.sheet import Tile, contact_sheet
from medblip.errors import DataError, ImageError, explain, nearest
from medblip.files import write_bytes
from medblip.schema import Example, read_examples, read_split

__all__ = ["Shown", "show"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shown:
    """What was drawn: the PNG, and how many images of how many are on it."""

    sheet: str
    images: int
    of: int


def show(
    data: Path | str,
    *,
    split: str | None = None,
    ids: Sequence[str] | None = None,
    limit: int = 24,
    seed: int = 0,
    out: Path | str | None = None,
    force: bool = False,
) -> Shown:
    """Write a contact sheet: each image whole, its captions, id, split and licence.

    Args:
        data: Prepared data set.
        split: Only this one; None: all.
        ids: These images, in this order, whatever `limit` is.
        limit: How many to draw otherwise.
        seed: Of the draw.
        out: PNG file; None: `contact-sheet.png` in the data set, replaced each time.
        force: Replace `out`.

    Raises:
        DataError: There is no such data set, split or image, or `out` is taken.
    """
    root = Path(data)
    target = Path(out) if out is not None else root / "contact-sheet.png"
    if out is not None and target.exists() and not force:
        raise DataError(
            explain(
                f"{target} is taken",
                got="a file that is there",
                expected="a new file",
                do="choose another --out, or add --force to replace it",
            )
        )
    examples = read_split(root, split) if split else read_examples(root / "manifest.jsonl")
    chosen = _named(examples, ids) if ids else _drawn(examples, limit, seed)
    write_bytes(target, contact_sheet([_tile(root, example) for example in chosen]))
    return Shown(sheet=str(target), images=len(chosen), of=len(examples))


def _tile(root: Path, example: Example) -> Tile:
    """Return image, captions, split, licence and id; an image that is damaged is told, not hidden.

    The id comes last: where the line is too long, it is what is cut.
    """
    small = f"{example.split} · {example.licence or 'no licence'} · {example.id}"
    try:
        image = open_image(root / example.image)
    except ImageError as error:
        return Tile(Image.new("L", (1, 1)), f"{example.image}: {error}", small)
    return Tile(image, " · ".join(example.captions), small)


def _drawn(examples: Sequence[Example], limit: int, seed: int) -> list[Example]:
    order = np.random.default_rng(seed).permutation(len(examples))[: max(1, limit)]
    return [examples[index] for index in sorted(order)]


def _named(examples: Sequence[Example], ids: Sequence[str]) -> list[Example]:
    by_id = {example.id: example for example in examples}
    for name in ids:
        if name not in by_id:
            raise DataError(
                explain(
                    "no such image",
                    got=name,
                    expected="an id of manifest.jsonl",
                    do=f"perhaps {nearest(name, by_id)[:80]}",
                )
            )
    return [by_id[name] for name in ids]
