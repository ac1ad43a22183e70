"""What a study asks before it writes or trains: its folder, its numbers, its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, RunError, explain
from medblip.files import read_json, write_json
from medblip.schema import SPLITS, read_split

__all__ = ["claim", "require_data", "require_numbers"]

#: Below this a split of the phantoms would be empty.
_FEWEST = 20


def claim(root: Path, settings: dict[str, Any], force: bool) -> None:
    """Note the settings in `reproduce.json`; refuse to mix two studies in one folder.

    Raises:
        RunError: The folder holds another study, or files that are no study's (force or not).
    """
    if root.is_file():
        raise RunError(
            explain(f"{root} is a file", got="--out FILE", expected="a folder",
                    do="choose another --out")
        )  # fmt: skip
    note = root / "reproduce.json"
    before = read_json(note) if note.exists() else {}
    differing = [key for key in settings if note.exists() and before.get(key) != settings[key]]
    torn = f"{note.name}.partial"  # of a study that was killed as it began
    foreign = (
        not note.exists() and root.exists() and any(one.name != torn for one in root.iterdir())
    )
    if foreign or (differing and not force):  # what is not a study's is never written over
        told = ", ".join(f"{key} {_shown(before.get(key))}" for key in differing)
        raise RunError(
            explain(
                f"{root} is taken",
                got=f"a study with {told}" if differing else "files that are not a study's",
                expected=", ".join(f"{key} {_shown(settings[key])}" for key in differing)
                or "a new or empty folder, or an unfinished study",
                do="choose another --out" + (", or add --force to start over" if differing else ""),
            )
        )
    write_json(note, settings)


def _shown(value: object) -> object:
    return "as the scale has them" if value is None else value


def require_numbers(images: int | None, explained: int, jobs: int | str) -> None:
    """Refuse numbers that no study can be made with.

    Raises:
        ConfigError: One of them is out of range.
    """
    good_jobs = jobs == "auto" or (str(jobs).isdecimal() and int(jobs) >= 1)
    if (images is not None and images < _FEWEST) or explained < 1 or not good_jobs:
        raise ConfigError(
            explain(
                "a study that cannot be made",
                got=f"images {images}, explained {explained}, jobs {jobs}",
                expected=f"at least {_FEWEST} images and 1 explained; jobs auto, or from 1",
                do="correct it",
            )
        )


def require_data(data: Path | str | None, scale: str, images: int | None) -> None:
    """Refuse a data set that is not there or lacks a split, or a number of phantoms beside one.

    Raises:
        DataError: It does.
        ConfigError: Phantoms are to be counted where none are drawn.
        RunError: None is named where phantoms will not do.
    """
    if data is not None and images is not None:
        raise ConfigError(
            explain(
                "--images belongs to phantoms that are drawn",
                got=f"--images {images} with --data {data}",
                expected="one of them; a study takes every image of a data set",
                do="leave one out, or prepare a smaller data set",
            )
        )
    if data is not None:
        for split in SPLITS:
            read_split(Path(data), split)
    elif scale != "demo":
        raise RunError(
            explain(
                "no data set",
                got=f"scale {scale} without --data",
                expected="a prepared data set with images, captions and three splits",
                do="make one with `medblip data prepare`, then name it with --data",
            )
        )
