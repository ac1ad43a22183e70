"""What every reader yields: one unchecked row of a source, and where its image is.

A reader never decodes a pixel: it says where the bytes are, and a worker opens them there. So a
source of any size is read as a stream, and workers get rows, not pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from PIL import Image

from medblip.data.images import decode_image, read_bytes
from medblip.schema import Split

__all__ = ["FileRef", "ImageRef", "Raw", "ReadOptions", "SliceRef", "stamp"]


class ImageRef(Protocol):
    """Where one image is; frozen and picklable, because it travels to the workers."""

    @property
    def path(self) -> Path:
        """The file that holds it; rows of one container follow each other."""

    @property
    def label(self) -> str:
        """How `rejects.jsonl` names it: a path, a member, a row; never a patient's data."""

    @property
    def suffix(self) -> str:
        """Suffix of the copy in `images/`, with its dot, lower case."""

    def stamp(self) -> str:
        """Return a text that changes when the bytes change (size and time, cheap); "" if absent."""

    def open(self) -> tuple[Image.Image, bytes]:
        """Return the image (mode L or RGB, decoded in full) and the bytes to keep in `images/`.

        Raises:
            ImageError: It cannot be had, with the reason in a few words.
        """


@dataclasses.dataclass(frozen=True)
class FileRef:
    """An image file."""

    path: Path

    @property
    def label(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def suffix(self) -> str:
        """Of the file."""
        return self.path.suffix.lower()

    def stamp(self) -> str:
        """Size and time of the file."""
        return stamp(self.path)

    def open(self) -> tuple[Image.Image, bytes]:
        """Decode the file."""
        data = read_bytes(self.path)
        return decode_image(data), data


@dataclasses.dataclass(frozen=True)
class SliceRef:
    """An image inside an uncompressed container, such as a tar shard: `size` bytes at `offset`."""

    path: Path
    name: str
    offset: int
    size: int

    @property
    def label(self) -> str:
        """Container and member."""
        return f"{self.path}:{self.name}"

    @property
    def suffix(self) -> str:
        """Of the member."""
        return Path(self.name).suffix.lower()

    def stamp(self) -> str:
        """Size and time of the container, and the place in it."""
        return f"{stamp(self.path)}:{self.offset}:{self.size}"

    def open(self) -> tuple[Image.Image, bytes]:
        """Decode the slice."""
        data = read_bytes(self.path, self.offset, self.size)
        return decode_image(data), data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw:
    """One row of a source, unchecked.

    Args:
        id: As the source names it; need not be unique yet.
        image: Where the image is.
        captions: Exactly as the source wrote them.
        split: What the source says; None where it says nothing.
        group: Patient, case or article; for DICOM a pseudonym.
        licence: Of this image.
        source: Of this image: a URL, an article, a data set.
        concepts: UMLS CUIs (`C0040405`), where the source gives them.
        keywords: Of ROCO and the like.
        facts: Structured facts about the image, as `Example.facts`.
    """

    id: str
    image: ImageRef
    captions: tuple[str, ...]
    split: Split | None = None
    group: str | None = None
    licence: str | None = None
    source: str | None = None
    concepts: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    facts: dict[str, object] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a user may tell a reader.

    Args:
        columns: Role (`image`, `caption`, `id`, `split`, `group`, `licence`, `source`) -> column.
        captions: A table of captions, for sources that hold images only (DICOM).
        window: Name of a CT window, or `auto` (what the file says).
    """

    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    captions: Path | None = None
    window: str = "auto"


def stamp(path: Path) -> str:
    """Return size and modification time of a file; "" if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"
