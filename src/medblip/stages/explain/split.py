"""Images of a split: per-word maps of the captions that a run really wrote.

Where a decoder looks is not why it says so; the report repeats this beside the maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.data.images import open_image
from medblip.files import read_json, write_json
from medblip.progress import console, track
from medblip.schema import Example, Prediction
from medblip.stages.explain.look import View, look
from medblip.stages.explain.opened import open_run, require_kept
from medblip.stages.explain.own_words import is_cut, require_own, says

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["explain_split"]

_BATCH = 16


def explain_split(
    run: Path | str,
    data: Path | str | None,
    *,
    view: View,
    split: str,
    ids: list[str] | None,
    limit: int,
    seed: int,
    device: str,
    force: bool,
) -> tuple[Path, int]:
    """Write `run/maps/<split>.json`; return it and the number of images. See `explain`."""
    opened = open_run(run, data, split=split, ids=ids, limit=limit, seed=seed, device=device)
    folder = opened.folder
    with folder.lock():
        if not force and folder.maps(split).exists():
            there = read_json(folder.maps(split))
            require_kept(
                folder.maps(split), [image["id"] for image in there["images"]], there["view"],
                [example.id for example in opened.examples], view.words,
                do="add --force to replace it, or name image files: those go into their own folder",
            )  # fmt: skip
        images, grid = _looked(opened.captioner, opened.examples, opened.root, opened.made, view)
        record = {"split": split, **view.record(), "grid": list(grid), "images": images}
        write_json(folder.maps(split), record)
    return folder.maps(split), len(images)


def _looked(
    captioner: Captioner, examples: list[Example], root: Path, made: list[Prediction], view: View
) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """Return the record of each image, and rows and columns of the maps."""
    from medblip.data.loader import Pixels
    from medblip.data.store import Resize

    resize = Resize(*captioner.image_size, captioner.image_resample)
    pixels = Pixels(examples, root, resize, build=False)
    images: list[dict[str, Any]] = []
    grid, without, others = (0, 0), 0, 0
    starts = range(0, len(examples), _BATCH)
    for start in track(starts, "attention maps", len(starts), unit="batch"):
        indices = list(range(start, min(start + _BATCH, len(examples))))
        batch = pixels.pixel_batch(indices, captioner.image_mean, captioner.image_std)
        own = [made[index] for index in indices]
        found = look(captioner, batch, [one.tokens or one.caption for one in own], view)
        for row, (index, prediction) in enumerate(zip(indices, own, strict=True)):
            seen, tokens = found[row], prediction.tokens
            if not tokens:
                without += 1
            elif says(seen, prediction.caption):
                require_own(seen, prediction)
            else:  # the words that a reader will see
                (seen,) = look(captioner, batch[row : row + 1], [prediction.caption], view)
                tokens, others = (), others + 1
            with open_image(root / examples[index].image) as image:
                record = seen.record(prediction.id, prediction.caption, image.size)
            record |= {"origin": "generated" if tokens else "text", "cut": is_cut(seen, tokens)}
            images.append(record)
            grid = seen.replay.grid
    for count, how in (
        (without, "without the pieces that they were generated in"),
        (others, "with pieces that spell another text"),
    ):
        if count:
            console().print(
                f"{count} of {len(images)} captions are stored {how}: their maps are those of the "
                "text, whoever wrote it",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
    return images, grid
