"""Stage `explain`: per-word cross-attention of the captions that a run really wrote.

The paper's view: last decoder layer, mean over heads, one map per generated word. Where a decoder
looks is not why it says so; the report repeats this beside the maps.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from medblip import config as configuration
from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.files import write_json
from medblip.progress import track
from medblip.rundir import RunDir
from medblip.schema import read_predictions

__all__ = ["Explained", "explain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explained:
    """Where the maps are, and of how many images."""

    maps_file: str
    images: int


def explain(
    run: Path | str,
    data: Path | str | None = None,
    *,
    split: str = "test",
    ids: list[str] | None = None,
    limit: int = 24,
    seed: int = 0,
    device: str = "auto",
) -> Explained:
    """Write `run/maps/<split>.json`: for some images, the caption's words and a map per word.

    Args:
        run: Run directory with captions of that split.
        data: Prepared data set; None: the one that was captioned.
        split: `train`, `validation` or `test`.
        ids: Images to explain; None: `limit` images drawn with `seed`.
        limit: How many when `ids` is None.
        seed: Of the draw.
        device: As `train.device`.

    Raises:
        RunError: There are no captions of that split, an id is not among them, or the data set is
            another one.
    """
    import torch

    from medblip.data.loader import Pixels, load_split
    from medblip.data.store import Resize
    from medblip.engine import pick_device
    from medblip.models.captioner import load_captioner

    folder = RunDir(run)
    if not folder.predictions(split).exists():
        raise RunError(
            message(
                f"no captions of the {split} split to explain",
                got=f"{folder.predictions(split)} is not there",
                expected="captions that the run wrote",
                do=f"run `medblip caption {folder.path} --split {split}` first",
            )
        )
    cfg = configuration.load(folder.config)
    captions = {p.id: p.caption for p in read_predictions(folder.predictions(split))}
    chosen = _choose(list(captions), ids, limit, seed)
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
    examples = [by_id[name] for name in chosen]
    model = cfg.model
    if folder.checkpoint.is_dir():
        model = dataclasses.replace(model, name=str(folder.path))
    captioner = load_captioner(model, device=pick_device(device))
    resize = Resize(*captioner.image_size, captioner.image_resample)
    pixels = Pixels(examples, root, resize, build=False)
    images, grid = [], (0, 0)
    size = 16
    starts = range(0, len(examples), size)
    with folder.lock():
        for start in track(starts, "attention maps", len(starts), unit="batch"):
            indices = list(range(start, min(start + size, len(examples))))
            batch = pixels.pixel_batch(indices, captioner.image_mean, captioner.image_std)
            texts = [captions[examples[index].id] for index in indices]
            with torch.inference_mode():
                explained = captioner.word_attention(captioner.encode(batch), texts)
            for index, (words, maps) in zip(indices, explained, strict=True):
                grid = (int(maps.shape[1]), int(maps.shape[2]))
                images.append(
                    {
                        "id": examples[index].id,
                        "caption": captions[examples[index].id],
                        "words": words,
                        "maps": np.round(maps.flatten(1).numpy().astype(float), 5).tolist(),
                    }
                )
        write_json(
            folder.maps(split),
            {
                "split": split,
                "view": "cross-attention of the last decoder layer, mean over heads",
                "grid": list(grid),
                "images": images,
            },
        )
    return Explained(maps_file=str(folder.maps(split)), images=len(images))


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
