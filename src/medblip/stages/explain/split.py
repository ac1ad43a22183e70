"""Images of a split: per-word maps of the captions that a run really wrote.

Where a decoder looks is not why it says so; the report repeats this beside the maps.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medblip import config as configuration
from medblip.data.images import open_image
from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.files import write_json
from medblip.progress import console, track
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, read_predictions
from medblip.stages.explain.look import View, look
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
) -> tuple[Path, int]:
    """Write `run/maps/<split>.json`; return it and the number of images. See `explain`."""
    from medblip.data.loader import load_split
    from medblip.engine import pick_device
    from medblip.models.captioner import load_captioner

    folder = RunDir(run)
    if not folder.predictions(split).exists():
        raise RunError(
            message(
                f"no captions of the {split} split to explain",
                got=f"{folder.predictions(split)} is not there",
                expected="captions that the run wrote",
                do=f"run `medblip caption {folder.path} --split {split}` first, or name images",
            )
        )
    cfg = configuration.load(folder.config)
    made = {p.id: p for p in read_predictions(folder.predictions(split))}
    chosen = _choose(list(made), ids, limit, seed)
    root = Path(data) if data is not None else Path(cfg.data.root)
    by_id = {example.id: example for example in load_split(root, split)}
    absent = [name for name in chosen if name not in by_id]
    if absent:
        raise RunError(
            message(
                f"{root} lacks images that were captioned",
                got=f"{len(absent)} absent, first {absent[0]}",
                expected=f"the data set whose {split} split this run captioned",
                do="name it with --data",
            )
        )
    model = cfg.model
    if folder.checkpoint.is_dir():
        model = dataclasses.replace(model, name=str(folder.path))
    captioner = load_captioner(model, device=pick_device(device))
    with folder.lock():
        images, grid = _looked(
            captioner, [by_id[name] for name in chosen], root, [made[name] for name in chosen], view
        )
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
    grid, from_text = (0, 0), 0
    starts = range(0, len(examples), _BATCH)
    for start in track(starts, "attention maps", len(starts), unit="batch"):
        indices = list(range(start, min(start + _BATCH, len(examples))))
        batch = pixels.pixel_batch(indices, captioner.image_mean, captioner.image_std)
        own = [made[index] for index in indices]
        found = look(captioner, batch, [one.tokens or one.caption for one in own], view)
        for row, (index, prediction) in enumerate(zip(indices, own, strict=True)):
            seen, tokens = found[row], prediction.tokens
            if not tokens or not says(seen, prediction.caption):  # no or other pieces: its text
                (seen,) = look(captioner, batch[row : row + 1], [prediction.caption], view)
                tokens, from_text = (), from_text + 1
            else:
                require_own(seen, prediction)
            with open_image(root / examples[index].image) as image:
                record = seen.record(prediction.id, prediction.caption, image.size)
            record |= {"origin": "generated" if tokens else "text", "cut": is_cut(seen, tokens)}
            images.append(record)
            grid = seen.replay.grid
    if from_text:
        console().print(
            f"{from_text} of {len(images)} captions are stored without the pieces that they were "
            "generated in: their maps are those of the text, whoever wrote it",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
    return images, grid


def _choose(known: list[str], ids: list[str] | None, limit: int, seed: int) -> list[str]:
    if ids is None:
        order = np.random.default_rng(seed).permutation(len(known))[:limit]
        return [known[index] for index in sorted(order)]
    unknown = [name for name in ids if name not in set(known)]
    if unknown:
        raise RunError(
            message(
                "unknown image ids",
                got=", ".join(unknown[:5]),
                expected="ids among the captions of this split",
                do="check the spelling; the first column of the predictions holds the ids",
            )
        )
    return ids
