"""A run with what is explained of it: captioner, images, and the captions that it wrote."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medblip import config as configuration
from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, read_predictions

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["Opened", "open_run", "require_kept"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """Images of one split, their captions in the same order, and who wrote them."""

    folder: RunDir
    root: Path
    captioner: Captioner
    examples: list[Example]
    made: list[Prediction]


def open_run(
    run: Path | str, data: Path | str | None, *, split: str, ids: list[str] | None, limit: int,
    seed: int, device: str,
) -> Opened:  # fmt: skip
    """Load a run's captioner and some images that it captioned; see `explain`.

    Raises:
        RunError: There are no captions of that split, an id is not among them, or the data set is
            another one.
    """
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
    return Opened(
        folder=folder, root=root, captioner=load_captioner(model, device=pick_device(device)),
        examples=[by_id[name] for name in chosen], made=[made[name] for name in chosen],
    )  # fmt: skip


def require_kept(
    file: Path, there: Sequence[str], had: str, ids: Sequence[str], asked: str,
    *, do: str = "add --force to replace it",
) -> None:  # fmt: skip
    """Refuse to lose what an earlier call wrote: more images than this one has, or another view.

    As many others may take their place: new scores choose another gallery.

    Args:
        file: What would be replaced.
        there: The images that it is of.
        had: Their view, in words.
        ids: The images that are asked for.
        asked: The view that is asked for.
        do: What the user may do.

    Raises:
        RunError: Something would be lost.
    """
    if len(set(there)) <= len(set(ids)) and had == asked:
        return
    raise RunError(
        message(
            f"{file} is of more images or of another view, and would be replaced",
            got=f"images there: {len(there)} ({had}); asked for: {len(ids)} ({asked})",
            expected="as many images or more, in the same view",
            do=do,
        )
    )


def _choose(known: list[str], ids: list[str] | None, limit: int, seed: int) -> list[str]:
    if ids is None and (limit < 1 or seed < 0):
        raise RunError(
            message(
                "no images to explain",
                got=f"limit {limit}, seed {seed}",
                expected="at least 1 image, a seed from 0",
                do="correct it",
            )
        )
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
    return list(dict.fromkeys(ids))  # an image that is named twice is one image
