"""ROCO v1 (https://github.com/razorx89/roco-dataset), as its repository lays it out.

```
data/{train,validation,test}/{radiology,non-radiology}/
├── captions.txt   id, tab, blank, caption
├── keywords.txt   id, tabs, words          cuis.txt   id, tabs, CUIs; no row where there are none
├── semtypes.txt   (not read)               dlinks.txt (not read)
├── licences.txt   a CSV among TSVs: ROCO_ID, PMC_ID (the file's name), CC
└── images/        as scripts/fetch.py leaves them: named by ROCO_ID or by PMC_ID
```

Published figures are on radiology: the non-radiology folders are read only when one of them is
named as the source itself.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.names import ImageFinder, split_name
from medblip.errors import DataError, explain

__all__ = ["matches", "read"]


def matches(source: Path) -> bool:
    """Whether there is a captions.txt anywhere below the folder."""
    return source.is_dir() and bool(_folders(source))


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield every caption, with keywords, concepts, licence and article where the files have them.

    Lines end at line feeds only: captions hold other characters that Python takes for line ends.
    """
    for folder in _folders(source):
        licences = _licences(folder)
        concepts = {name: words for name, words in _tabbed(folder / "cuis.txt")}
        keywords = {name: words for name, words in _tabbed(folder / "keywords.txt")}
        finder = ImageFinder(folder / "images", folder)
        split = next((s for s in map(split_name, reversed(folder.parts)) if s), None)
        for line in _lines(folder / "captions.txt"):
            name, _, caption = line.partition("\t")
            file_name, licence = licences.get(name, ("", None))
            image = finder.find(name)
            if file_name and not image.stamp():
                image = finder.find(file_name)
            article = file_name.split("_")[0] if file_name.startswith("PMC") else None
            yield Raw(
                id=name,
                image=image,
                captions=(caption,),
                split=split,
                group=article,
                licence=licence,
                source=article or "ROCO",
                concepts=concepts.get(name, ()),
                keywords=keywords.get(name, ()),
            )


def _folders(source: Path) -> list[Path]:
    """Return the folders with captions; of radiology only, unless another was named."""
    found = []
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(set(folders) - {"images"})
        if "captions.txt" in names:
            found.append(Path(folder))
    inner = [path for path in found if path != source and path.name.startswith("non-radiology")]
    return [path for path in found if path not in inner]


def _licences(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Return id -> file name and licence; some images have none."""
    path = folder / "licences.txt"
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"ROCO_ID", "PMC_ID", "CC"} <= set(rows.fieldnames or ()):
            raise DataError(
                explain(
                    f"{path}: not ROCO's table of licences",
                    got=", ".join(rows.fieldnames or ()) or "an empty file",
                    expected="a CSV with ROCO_ID, PMC_ID and CC",
                    do="fetch the file again, or remove it",
                )
            )
        return {row["ROCO_ID"]: (row["PMC_ID"] or "", row["CC"] or None) for row in rows}


def _tabbed(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield id and words of a tab-separated file; some rows have an empty first word."""
    for line in _lines(path) if path.is_file() else ():
        name, *words = line.split("\t")
        yield name, tuple(word for text in words if (word := text.strip()))


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                if stripped := line.rstrip("\r\n"):
                    yield stripped
    except UnicodeDecodeError as error:
        raise DataError(
            explain(
                f"{path}: not UTF-8 text",
                got=f"byte {error.object[error.start]:#04x} at offset {error.start}",
                expected="the file as it is published",
                do="fetch it again",
            )
        ) from None
