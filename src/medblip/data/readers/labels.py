"""What ROCOv2 and the ImageCLEFmedical challenge share: tables of labels, keyed by an image's id.

Captions in one table, concepts and licences in others, images in folders or still in archives.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from medblip.data.raw import Raw
from medblip.data.readers.names import ImageFinder, split_in
from medblip.data.readers.rows import read_rows
from medblip.errors import DataError, explain
from medblip.schema import Split

__all__ = ["read_labels"]

_SPLIT_FOLDERS = ("train", "valid", "val", "validation", "test", "dev")


def read_labels(root: Path, captions: Iterable[Path], concepts: Iterable[Path]) -> Iterator[Raw]:
    """Yield one row per caption; the split is the table's, else the id's, else the image folder's.

    Args:
        root: Folder of the tables; images are in it, in a folder per split, or in archives.
        captions: Tables with an id and a caption.
        concepts: Tables with an id and CUIs, joined by semicolons; several rows of an id add up.
    """
    known = _concepts(concepts)
    licences = _licences(root / "license_information.csv")
    folders = [root / f"{name}{end}" for name in _SPLIT_FOLDERS for end in ("", "_images")]
    present = [folder for folder in (*folders, root / "images") if folder.is_dir()]
    # train_images.zip holds train/, some releases train_images/train/
    inner = [path for folder in present for path in sorted(folder.iterdir()) if path.is_dir()]
    finder = ImageFinder(*present, *inner, root, archives=tuple(sorted(root.glob("*.zip"))))
    for table in captions:
        split = split_in(table.stem)
        for number, row in enumerate(read_rows(table), start=1):
            by_lower = {str(key).lower(): value for key, value in row.items()}
            if "id" not in by_lower or "caption" not in by_lower:
                raise DataError(
                    explain(
                        f"{table}, row {number}: no id or no caption",
                        got=", ".join(map(str, row)),
                        expected="the columns ID and Caption",
                        do="fetch the table again, or name --format table and the columns",
                    )
                )
            name = str(by_lower["id"] or "").strip()
            licence, article = licences.get(name, (None, None))
            image = finder.find(name)
            yield Raw(
                id=name,
                image=image,
                captions=(str(by_lower["caption"] or ""),),
                split=split or split_in(name) or _folder_split(image.path, root),
                group=article,
                licence=licence,
                source=article,
                concepts=tuple(known.get(name, ())),
            )


def _folder_split(image: Path, root: Path) -> Split | None:
    try:
        parts = image.relative_to(root).parts
    except ValueError:
        return None
    return next((split for part in parts if (split := split_in(part))), None)


def _concepts(tables: Iterable[Path]) -> dict[str, list[str]]:
    known: defaultdict[str, list[str]] = defaultdict(list)
    for table in tables:
        for row in read_rows(table):
            by_lower = {str(key).lower(): value for key, value in row.items()}
            cuis = str(by_lower.get("cuis") or by_lower.get("concepts") or "")
            name = str(by_lower.get("id") or "").strip()
            for cui in (text.strip() for text in cuis.split(";")):
                if cui and cui not in known[name]:
                    known[name].append(cui)
    return known


def _licences(table: Path) -> dict[str, tuple[str | None, str | None]]:
    """Return id -> licence and article of ROCOv2's license_information.csv."""
    if not table.is_file():
        return {}
    found = {}
    for row in read_rows(table):
        by_lower = {str(key).lower(): str(value or "").strip() for key, value in row.items()}
        licence = next(
            (
                v
                for k, v in by_lower.items()
                if v and k in ("license", "licence", "cc", "attribution")
            ),
            None,
        )
        article = by_lower.get("pmcid") or by_lower.get("link") or None
        found[by_lower.get("id", "")] = (licence, article)
    return found
