"""A folder of images, each with its caption in a .txt or .caption file of the same name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medblip.data.raw import FileRef, Raw, ReadOptions
from medblip.data.readers.names import IMAGE_SUFFIXES, split_name

__all__ = ["matches", "read"]


def matches(source: Path) -> bool:
    """Whether there is an image anywhere below the folder."""
    return source.is_dir() and next(_images(source), None) is not None


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the images, sorted; folders of the first level that are named like splits are splits.

    The id is the path without its suffix, or with it where two images differ in nothing else.
    """
    for folder, names in _images(source):
        stems = Counter(os.path.splitext(name)[0] for name in names)
        for name in names:
            image = folder / name
            relative = image.relative_to(source)
            alone = stems[os.path.splitext(name)[0]] == 1
            yield Raw(
                id="/".join((relative.with_suffix("") if alone else relative).parts),
                image=FileRef(image),
                captions=_captions(image),
                split=split_name(relative.parts[0]) if len(relative.parts) > 1 else None,
            )


def _images(source: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield folder and names of its images, in one order on every machine."""
    for folder, folders, names in os.walk(source):
        folders.sort()
        images = sorted(n for n in names if os.path.splitext(n)[1].lower() in IMAGE_SUFFIXES)
        if images:
            yield Path(folder), images


def _captions(image: Path) -> tuple[str, ...]:
    for suffix in (".txt", ".caption"):
        try:
            return (image.with_suffix(suffix).read_text(encoding="utf-8-sig"),)
        except (FileNotFoundError, UnicodeDecodeError):
            continue
    return ()
