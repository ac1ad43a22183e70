"""A prepared split as batches: pixels from the store, normalised per batch.

Sample order is a pure function of (seed, epoch), so that it depends on no worker, device or run.
torch is imported only where a tensor is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medblip.data.chunk import Chunk, run_chunks
from medblip.data.images import open_image
from medblip.data.raw import FileRef
from medblip.data.store import (
    SHARD_ROWS,
    PixelStore,
    Resize,
    Shard,
    ids_digest,
    normalised,
    write_index,
)
from medblip.errors import DataError, LockedError, RunError, explain
from medblip.files import require_space, resumable_directory
from medblip.progress import track
from medblip.schema import Example, read_jsonl, read_split

if TYPE_CHECKING:
    import torch

__all__ = [
    "Pixels",
    "epoch_order",
    "length_bucketed_batches",
    "load_split",
    "open_store",
    "require_images",
]


def load_split(root: Path, split: str) -> list[Example]:
    """Return the examples of one split of a prepared data set.

    Raises:
        DataError: There is no manifest, the split is empty, or an image file is missing.
    """
    examples = read_split(root, split)
    require_images(root, (example.image for example in examples))
    return examples


def require_images(root: Path, names: Iterable[str]) -> None:
    """Refuse a data set that lacks images.

    Raises:
        DataError: A file is missing.
    """
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        raise DataError(
            explain(
                f"{root}: the manifest names images that are not there",
                got=f"{len(missing)} missing: {', '.join(missing[:3])}",
                expected=f"every image below {root}",
                do="copy the folder again, or prepare the data again",
            )
        )


class Pixels:
    """Model-size pixels of some images of one split, normalised per batch.

    They come from the data set's pixel store. A size that is not there yet is made first, once, for
    the images of this split: training opens no test image. Where the folder cannot be written, or
    only a few images are wanted, they are decoded when they are asked for: the same values, more
    slowly.

    Args:
        examples: Of one split of one data set.
        root: Its folder.
        resize: What the captioner expects.
        build: Make the store if it is absent.
    """

    def __init__(
        self, examples: Sequence[Example], root: Path, resize: Resize, *, build: bool = True
    ) -> None:
        self._paths = [root / example.image for example in examples]
        self._resize = resize
        self._rows: list[int] = []
        found = open_store(root, resize, examples[0].split, build=build) if examples else None
        self._store = found[0] if found else None
        if found is not None:
            place = {name: row for row, name in enumerate(found[1])}
            self._rows = [place[example.id] for example in examples]

    def __len__(self) -> int:
        return len(self._paths)

    def digest(self) -> str:
        """Return a hash of the images in their order: of their stored pixels, or of their files."""
        digest = hashlib.sha256(self._resize.name.encode())
        if self._store is not None:
            digest.update(json.dumps([s.crc32 for s in self._store.shards]).encode())
            digest.update(json.dumps(self._rows).encode())
        else:
            for path in self._paths:
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:32]

    def raw_batch(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return uint8 (B, 1, H, W) when every image is grey, else (B, 3, H, W)."""
        if self._store is not None:
            return self._store.batch([self._rows[int(index)] for index in indices])
        decoded = [self._resize.apply(open_image(self._paths[int(index)])) for index in indices]
        shape = (len(decoded), max(map(len, decoded)), self._resize.height, self._resize.width)
        batch = np.empty(shape, np.uint8)
        for place, pixels in enumerate(decoded):
            batch[place] = pixels
        return batch

    def pixel_batch(
        self,
        indices: Sequence[int] | np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> torch.Tensor:
        """Return normalised pixels, float32 (B, 3, H, W)."""
        return normalised(self.raw_batch(indices), mean, std)


def open_store(
    root: Path, resize: Resize, split: str, *, build: bool = True, workers: int | None = None
) -> tuple[PixelStore, list[str]] | None:
    """Return a pixel store that holds a split, and the ids of its rows; None if there is none.

    That is the one that `prepare` has made, of every split, or one of this split alone. What is
    damaged, or of another manifest, is made anew.

    Args:
        root: The data set.
        resize: Which size.
        split: Which split.
        build: Make the store if it is absent.
        workers: Threads that decode; None: one per core.

    Raises:
        DataError: An image of the split cannot be decoded.
    """
    rows = [(str(row["id"]), row.get("split")) for row in read_jsonl(root / "manifest.jsonl")]
    everything = [name for name, _ in rows]
    own = [name for name, of in rows if of == split]
    whole, part = (root / "pixels" / f"{resize.name}{end}" for end in ("", f"-{split}"))
    while True:
        for folder, ids in ((whole, everything), (part, own)):
            with contextlib.suppress(DataError):
                return PixelStore(folder, ids), ids
        if not build or not os.access(root, os.W_OK):
            return None
        try:
            with resumable_directory(part) as (partial, notes):
                _build(root, resize, split, partial, notes, workers)
        except LockedError:
            time.sleep(0.2)  # another run is making it
        except RunError:
            return None  # no room for it


def _build(
    root: Path, resize: Resize, split: str, partial: Path, notes: Path, workers: int | None
) -> None:
    examples = read_split(root, split)
    require_space(root, len(examples) * resize.height * resize.width)
    images = [FileRef(root / example.image) for example in examples]
    spans = range(0, len(images), SHARD_ROWS)
    chunks = (
        Chunk(number, images[start : start + SHARD_ROWS]) for number, start in enumerate(spans)
    )
    shards: list[Shard] = []
    done_chunks = run_chunks(chunks, {resize: partial}, journal=notes, workers=workers)
    label = f"{split} to {resize.name}"
    for done in track(done_chunks, label, len(spans), unit="x 256 img"):
        for image, outcome in zip(images[done.number * SHARD_ROWS :], done.outcomes, strict=False):
            if outcome.reason is not None:
                raise DataError(
                    explain(
                        f"{image.path} cannot be used any more",
                        got=outcome.reason,
                        expected="the image that was prepared",
                        do="copy the folder again, or prepare the data again",
                    )
                )
        shards += done.shards[resize.name]
    write_index(partial, resize, ids_digest(example.id for example in examples), shards)


def epoch_order(count: int, *, seed: int, epoch: int) -> np.ndarray:
    """Return the order of the samples of one epoch: a permutation of range(count)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def length_bucketed_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[np.ndarray]:
    """Cut one epoch into batches of captions of nearly equal length.

    Samples are sorted by length within windows of at least 4,096 of the epoch's order, and the
    batches are shuffled: random, and at most a tenth of the tokens is padding (held by a test on
    ROCO's captions; batches as they come pad a batch of 64 to 3 times its tokens). A function of
    its arguments alone: no process, worker or earlier epoch changes it.
    """
    order = epoch_order(len(lengths), seed=seed, epoch=epoch)
    size = np.asarray(lengths)
    batches: list[np.ndarray] = []
    window = batch_size * max(16, -(-4096 // batch_size))
    for start in range(0, len(order), window):
        part = order[start : start + window]
        by_length = part[np.argsort(size[part], kind="stable")]
        batches += [by_length[at : at + batch_size] for at in range(0, len(part), batch_size)]
    shuffled = np.random.default_rng([seed, epoch, 1]).permutation(len(batches))
    return [batches[index] for index in shuffled]
