"""COCO captions: one JSON file per split, or Karpathy's single file with a split per image.

- `captions_train2014.json`: `{"images": [{"id", "file_name", "license"?}], "annotations":
  [{"image_id", "caption"}], "licenses": [{"id", "name", "url"}]}`; images below a folder
  named like the file (`train2014/`), `images/`, or beside it.
- `dataset_coco.json`: `{"images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}]}]}`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.names import ImageFinder, split_in, split_name
from medblip.data.readers.rows import read_json
from medblip.errors import DataError, explain
from medblip.schema import Split

__all__ = ["matches", "read"]


def matches(source: Path) -> bool:
    """Whether the file, or a .json in the folder or in its annotations/, is of this kind."""
    return bool(_files(source))


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield the images of all files, each with all its captions.

    Raises:
        DataError: A file is not of this format.
    """
    files = _files(source)
    if not files:
        raise _refused(source, "no such file", 'a JSON file with "images" and captions')
    ids: set[str] = set()
    for path in files:
        content = read_json(path)
        if not isinstance(content.get("images"), list):
            raise _refused(path, ", ".join(content), 'a list "images"')
        rows = _published(path, content) if "annotations" in content else _karpathy(path, content)
        for row in rows:
            # ids are unique within one file; two files of one set may count from 1 again
            name = row.id if row.id not in ids else f"{path.stem}-{row.id}"
            ids.add(name)
            yield row if name == row.id else Raw(**{**vars(row), "id": name})


def _published(path: Path, content: dict[str, Any]) -> Iterator[Raw]:
    captions: defaultdict[object, list[str]] = defaultdict(list)
    for number, note in enumerate(content["annotations"], start=1):
        if not isinstance(note, dict) or not {"image_id", "caption"} <= note.keys():
            raise _refused(path, f"annotation {number}: {note}", "image_id and caption")
        captions[note["image_id"]].append(str(note["caption"]))
    licences = {
        row.get("id"): row.get("name") or row.get("url") for row in content.get("licenses") or ()
    }
    split = split_in(path.stem)
    finder = _finder(path)
    for number, image in enumerate(content["images"], start=1):
        if not isinstance(image, dict) or not {"id", "file_name"} <= image.keys():
            raise _refused(path, f"image {number}: {image}", "id and file_name")
        licence = licences.get(image.get("license"))
        group = image.get("patient_id") or image.get("group")
        yield Raw(
            id=str(image["id"]),
            image=finder.find(str(image["file_name"])),
            captions=tuple(captions[image["id"]]),
            split=_split(path, image.get("split")) or split,
            group=str(group) if group is not None else None,
            licence=str(licence) if licence else None,
            source=image.get("coco_url") or image.get("url"),
        )


def _karpathy(path: Path, content: dict[str, Any]) -> Iterator[Raw]:
    finder = _finder(path)
    for number, image in enumerate(content["images"], start=1):
        if not isinstance(image, dict) or not {"filename", "sentences"} <= image.keys():
            raise _refused(path, f"image {number}: {image}", "filename and sentences")
        name = str(image["filename"])
        below = str(Path(image.get("filepath") or "", name))
        found = finder.find(below)
        yield Raw(
            id=str(image.get("cocoid") or image.get("imgid", Path(name).stem)),
            image=found if found.stamp() else finder.find(name),
            captions=tuple(str(sentence["raw"]) for sentence in image["sentences"]),
            split=_split(path, image.get("split")),
        )


def _finder(path: Path) -> ImageFinder:
    """Look where COCO keeps images: a folder named like the file's split, images/, or beside it."""
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    tail = path.stem.rpartition("_")[2]
    folders = (root / tail, root / "images" / tail, root / "images", root, path.parent)
    return ImageFinder(*folders)


def _split(path: Path, value: object) -> Split | None:
    split = split_name(value)
    if value and split is None:
        raise _refused(path, f"split {value!r}", "train, restval, val or test")
    return split


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" and _is_coco(source) else []
    found = [*source.glob("*.json"), *(source / "annotations").glob("*.json")]
    return [path for path in sorted(found) if _is_coco(path)]


def _is_coco(path: Path) -> bool:
    """Whether the file has images with captions; instances and key points have none."""
    try:
        content = read_json(path)
    except DataError:
        return False
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list):
        return False
    notes = content.get("annotations")
    first = next(iter(notes if isinstance(notes, list) else images), None)
    wanted = "caption" if isinstance(notes, list) else "sentences"
    return isinstance(first, dict) and wanted in first


def _refused(path: Path, got: str, expected: str) -> DataError:
    return DataError(
        explain(
            f"{path}: not a COCO caption file",
            got=got[:200],
            expected=expected,
            do="correct the file, or name another --format",
        )
    )
