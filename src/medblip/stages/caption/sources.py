"""Which images: a split of a prepared data set, or files, folders, DICOM and lists of them.

A million images are kept as bytes, not as objects: about a hundred bytes each.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from PIL import Image

from medblip.data.dicom.parent import look
from medblip.data.dicom.ref import DicomRef
from medblip.data.images import open_image
from medblip.data.loader import open_store, require_images
from medblip.data.raw import stamp
from medblip.data.readers.dicom import is_dicom
from medblip.data.readers.names import IMAGE_SUFFIXES
from medblip.data.store import Resize
from medblip.errors import DataError, ImageError, explain
from medblip.progress import console
from medblip.schema import iter_split

__all__ = ["OWN", "FileSource", "Names", "Source", "SplitSource"]


#: Stands for the captioner's own prompt where other images bring theirs.
OWN = "\0"


class Names:
    """Many short texts in little memory: their bytes, and where each one ends."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one at the end."""
        self._bytes += text.encode("utf-8", "surrogateescape")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        part = self._bytes[self._ends[index] : self._ends[index + 1]]
        return part.decode("utf-8", "surrogateescape")

    def digest(self) -> str:
        """Return a hash of all of them."""
        digest = hashlib.sha256(self._ends.tobytes())
        digest.update(self._bytes)
        return digest.hexdigest()[:32]


class Source(Protocol):
    """Images in an order, with ids."""

    ids: Names
    #: Words that each caption begins with; None: the captioner's own.
    prompts: Names | None

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Return uint8 (B, 1 or 3, H, W) of those that can be read, and why others cannot."""

    def picture(self, index: int) -> Image.Image:
        """Return one image as it is, L or RGB; an `ImageError` says why it cannot be read."""

    def digest(self) -> str:
        """Return a hash of what is captioned."""


class SplitSource:
    """A split of a prepared data set, from its pixel store where there is one.

    Args:
        root: The data set.
        split: `train`, `validation` or `test`.
        resize: What the captioner expects; None: only `picture` will be called.

    Raises:
        DataError: There is no such split, or an image is missing.
    """

    prompts: Names | None = None

    def __init__(self, root: Path, split: str, resize: Resize | None) -> None:
        self.ids, self._paths = Names(), Names()
        positions, self._resize, self._root = array("q"), resize, root
        for position, example in iter_split(root, split):
            self.ids.append(example.id)
            self._paths.append(example.image)
            positions.append(position)
        require_images(root, map(self._paths.__getitem__, range(len(self._paths))))
        found = open_store(root, resize, split) if resize else None
        self._store = found[0] if found else None
        own = self._store is not None and len(self._store) == len(self.ids)
        self._rows = np.arange(len(self.ids)) if own else np.asarray(positions, np.int64)

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Return the pixels; an image of a prepared data set that cannot be read is an error."""
        if self._store is not None:
            return self._store.batch(self._rows[list(indices)]), {}
        assert self._resize is not None
        images = [self._resize.apply(self.picture(index)) for index in indices]
        return stacked(images, self._resize), {}

    def picture(self, index: int) -> Image.Image:
        """Decode the image's file."""
        return open_image(self._root / self._paths[index])

    def digest(self) -> str:
        """Return a hash of ids, image names, and pixels (or sizes and times of the files)."""
        if self._store is not None:
            state = Names(f"{shard.file} {shard.crc32}" for shard in self._store.shards)
        else:
            files = (self._root / self._paths[i] for i in range(len(self._paths)))
            state = Names(map(stamp, files))
        return self.ids.digest() + self._paths.digest() + state.digest()


class FileSource:
    """Image files, folders of them, DICOM, and lists on standard input (`-`).

    Args:
        inputs: Paths; `-` reads one path per line, or JSON lines with `image` and, if wanted,
            `id` and `prompt`.
        resize: What the captioner expects; None: only `picture` will be called.
        lines: Standard input.

    Raises:
        DataError: Something is not there, nothing is an image, or two would have one id.
    """

    def __init__(self, inputs: Sequence[str], resize: Resize | None, lines: TextIO) -> None:
        self.ids, self._paths, self.prompts = Names(), Names(), None
        prompts, self._resize, hidden = Names(), resize, 0
        seen: set[int] = set()
        several = len(inputs) > 1
        for row in _listed(inputs, lines, several=several):
            path, name = Path(row["image"]), row["id"]
            if is_dicom(path) and look(path, name).betrays:
                name, hidden = f"image-{len(self.ids) + 1:05d}", hidden + 1
            if hash(name) in seen:
                raise DataError(
                    explain(
                        "two images would have one id",
                        got=name,
                        expected="each image once",
                        do='name it once, or give ids: {"id": ..., "image": ...} lines to `-`',
                    )
                )
            seen.add(hash(name))
            self.ids.append(name)
            self._paths.append(str(path))
            prompts.append(row.get("prompt", OWN))
            if "prompt" in row:
                self.prompts = prompts
        if not len(self.ids):
            raise DataError(
                explain(
                    "no image there",
                    got=", ".join(inputs),
                    expected="image files, DICOM files, folders of them, or - for a list",
                    do="check the paths",
                )
            )
        if hidden:
            console().print(
                f"{hidden} names hold what identifies a patient: these images are called "
                "image-<place in the list>",
                markup=False,
            )

    def read(self, indices: Sequence[int]) -> tuple[np.ndarray, dict[int, str]]:
        """Return the pixels, and reasons for what cannot be read."""
        assert self._resize is not None
        images, reasons = [], {}
        for index in indices:
            try:
                images.append(self._resize.apply(self.picture(index)))
            except ImageError as error:
                reasons[index] = str(error)
        return stacked(images, self._resize), reasons

    def picture(self, index: int) -> Image.Image:
        """Decode the file, or render it if it is DICOM."""
        path = Path(self._paths[index])
        return DicomRef(path, "").open()[0] if is_dicom(path) else open_image(path)

    def digest(self) -> str:
        """Return a hash of ids, paths, sizes, times and prompts."""
        stamps = Names(stamp(Path(self._paths[i])) for i in range(len(self.ids)))
        parts = (self.ids, self._paths, stamps, *([self.prompts] if self.prompts else []))
        return hashlib.sha256("".join(part.digest() for part in parts).encode()).hexdigest()[:32]


def stacked(images: list[np.ndarray], resize: Resize) -> np.ndarray:
    """Return uint8 (B, 1, H, W) when every image is grey, else (B, 3, H, W)."""
    channels = max(map(len, images), default=1)
    batch = np.empty((len(images), channels, resize.height, resize.width), np.uint8)
    for place, pixels in enumerate(images):
        batch[place] = pixels
    return batch


def _listed(inputs: Sequence[str], lines: TextIO, *, several: bool) -> Iterator[dict[str, Any]]:
    """Yield {image, id, prompt?} of every image, folders in sorted order."""
    for text in inputs:
        path = Path(text)
        if text == "-":
            yield from _rows(lines)
        elif path.is_dir():
            for file in _below(path):
                name = file.relative_to(path).as_posix()
                yield {"image": str(file), "id": f"{text.rstrip('/')}/{name}" if several else name}
        elif path.exists():
            yield {"image": text, "id": text}
        else:
            raise DataError(
                explain(
                    "image not found",
                    got=text,
                    expected="an image file, a DICOM file, a folder, or -",
                    do="check the path",
                )
            )


def _rows(lines: TextIO) -> Iterator[dict[str, Any]]:
    """Read a list: a path per line, or an object per line."""
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        if not text.startswith("{"):
            yield {"image": text, "id": text}
            continue
        try:
            row = json.loads(text)
            row = {"id": str(row.get("id", row["image"])), **row}
        except (ValueError, KeyError, AttributeError):
            raise DataError(
                explain(
                    f"line {number} of the list is not an image",
                    got=text[:80],
                    expected='a path, or {"image": path, "id": text, "prompt": text}',
                    do="correct that line",
                )
            ) from None
        yield row | {"image": str(row["image"]), "id": str(row["id"])}


def _below(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, in one order on every machine."""
    for name, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(name) / file
            if path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path):
                yield path
