"""ImageCLEFmedical Caption, as its releases of 2022 to 2026 name their files.

Any table whose name holds `caption`, with the columns ID and Caption (comma, tab or bar), such as
`caption_prediction_train.csv`, `ImageCLEFmedical_Caption_2023_caption_valid_labels.csv` or
`train_captions.csv`; concepts in tables whose name holds `concept`; images in `train/`, `valid/`,
`test/`, `train_images/`, ..., or still in .zip files. Test images without captions are not rows:
caption them with `medblip caption`, send them with `medblip submit --ids`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.labels import read_labels
from medblip.data.readers.names import split_in
from medblip.data.readers.rows import read_rows
from medblip.errors import DataError

__all__ = ["matches", "read"]


def matches(source: Path) -> bool:
    """Whether a table of captions with an ID column is there, named or kept by split."""
    return source.is_dir() and bool(_captions(source))


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield every caption with its concepts."""
    concepts = [path for path in _tables(source, "concept") if "manual" not in path.stem.lower()]
    return read_labels(source, _captions(source), concepts)


def _captions(source: Path) -> list[Path]:
    tables = [path for path in _tables(source, "caption") if "concept" not in _core(path)]
    return [
        path
        for path in tables
        if _columns(path) >= {"id", "caption"}
        and (split_in(path.stem) or any(split_in(p.name) for p in source.iterdir() if p.is_dir()))
    ]


def _tables(source: Path, word: str) -> list[Path]:
    """Return tables of the folder and of folders in it that are no images, by name."""
    found = [p for pattern in ("*.csv", "*.tsv", "*/*.csv") for p in source.glob(pattern)]
    return sorted(path for path in found if word in _core(path))


def _core(path: Path) -> str:
    """Return the name without the challenge's own, which holds `caption` in every file."""
    return path.stem.lower().replace("imageclefmedical_caption", "").replace("imageclef", "")


def _columns(table: Path) -> set[str]:
    try:
        return {str(name).lower() for name in next(read_rows(table), {})}
    except DataError:
        return set()
