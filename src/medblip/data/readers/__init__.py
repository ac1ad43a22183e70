"""Every format that medblip reads, one file each; all yield `medblip.data.raw.Raw`.

A reader is a module with two functions: `matches(source)` tells, quickly and without an error,
whether a file or folder is of its format; `read(source, options)` yields the rows as they stand.
What is wrong with one row is the stage's to count (`medblip.stages.prepare`); a reader raises
`DataError` only when the source as a whole cannot be read.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.data.raw import Raw, ReadOptions
from medblip.errors import DataError, explain, nearest

__all__ = ["FORMATS", "detect_format", "read_source"]

#: Name -> what it is, in the order in which they are tried: the most telling layout first.
FORMATS: dict[str, str] = {
    "roco": "ROCO v1: captions.txt, licences.txt, ... and images/ per split",
    "rocov2": "ROCOv2: train_captions.csv, train_concepts.csv, ... and images, packed or not",
    "imageclef": "ImageCLEFmedical Caption: a caption table (ID, Caption) per split, and images",
    "r2gen": "annotation.json of R2Gen (IU X-ray, MIMIC-CXR)",
    "coco": "captions in COCO's or Karpathy's JSON",
    "webdataset": "tar shards with an image and a text per sample",
    "parquet": "Parquet files with images inside, as the Hugging Face hub publishes data sets",
    "dicom": "DICOM files, with captions from a table (--captions) or report texts beside them",
    "table": "a CSV, TSV or JSONL table with an image and a caption column",
    "folder": "images with a .txt caption of the same name",
}


def read_source(
    source: Path, *, format: str | None = None, options: ReadOptions | None = None
) -> Iterator[Raw]:
    """Yield the rows of a source.

    Args:
        source: File or folder.
        format: One of `FORMATS`; None recognises it.
        options: What the user told about it.

    Raises:
        DataError: Nothing readable is there, or a column is missing.
    """
    reader = _reader(format or detect_format(source))
    rows: Iterator[Raw] = reader.read(source, options or ReadOptions())
    return rows


def detect_format(source: Path) -> str:
    """Return the first of `FORMATS` that matches.

    Raises:
        DataError: There is nothing, or none matches.
    """
    if not source.exists():
        raise DataError(
            explain(
                "source not found",
                got=source,
                expected="a table (.csv, .tsv, .jsonl) or a folder of images",
                do="check the path",
            )
        )
    for name in FORMATS:
        if _reader(name).matches(source):
            return name
    if source.is_file():
        got = f"a file ending in {source.suffix or 'nothing'}"
    else:
        names = sorted(path.name for path in source.iterdir())
        got = "an empty folder" if not names else f"a folder with {', '.join(names[:5])}"
    raise DataError(
        explain(
            f"{source}: no data set recognised",
            got=got,
            expected="; ".join(FORMATS.values()),
            do="name the table itself, or see docs/data-formats.md for the layouts",
        )
    )


def _reader(name: str) -> Any:
    if name not in FORMATS:
        raise DataError(
            explain(
                "unknown format",
                got=name,
                expected=", ".join(FORMATS),
                do=f"use {nearest(name, FORMATS)}, or leave --format out",
            )
        )
    return importlib.import_module(f"medblip.data.readers.{name}")
