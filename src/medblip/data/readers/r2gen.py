"""R2Gen's annotation.json (IU X-ray, MIMIC-CXR), the common format of report generation.

`{"train": [{"id", "image_path": [...], "report", "subject_id"?, "study_id"?}, ...], "val", "test"}`
beside a folder `images/`. A study with several views becomes one row per view, all with the same
report and the same group, so that no study is parted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers.names import ImageFinder, split_name
from medblip.data.readers.rows import read_json
from medblip.errors import DataError, explain

__all__ = ["matches", "read"]


def matches(source: Path) -> bool:
    """Whether an annotation file of this kind is there, or is the source itself."""
    path = _file(source)
    if path is None:
        return False
    try:
        content = read_json(path)
    except DataError:
        return False
    parts = content.values() if isinstance(content, dict) else ()
    first = next((part[0] for part in parts if isinstance(part, list) and part), None)
    return isinstance(first, dict) and {"image_path", "report"} <= first.keys()


def read(source: Path, options: ReadOptions) -> Iterator[Raw]:
    """Yield one row per view of every study.

    Raises:
        DataError: The file is not of this format, or names an unknown split.
    """
    path = _file(source)
    content = read_json(path) if path else None
    if path is None or not isinstance(content, dict):
        raise _refused(source, "no annotation.json", "the folder or the file")
    finder = ImageFinder(path.parent / "images", path.parent)
    for part, studies in content.items():
        split = split_name(part)
        if split is None or not isinstance(studies, list):
            raise _refused(path, f"a part named {part!r}", "lists named train, val and test")
        for number, study in enumerate(studies, start=1):
            if not isinstance(study, dict) or not {"id", "image_path", "report"} <= study.keys():
                got = (
                    f"{part}, entry {number}: {sorted(study) if isinstance(study, dict) else study}"
                )
                raise _refused(path, got, "id, image_path and report in every entry")
            yield from _views(study, split, finder)


def _views(study: dict[str, Any], split: Any, finder: ImageFinder) -> Iterator[Raw]:
    views = study["image_path"] if isinstance(study["image_path"], list) else [study["image_path"]]
    name = str(study["id"])
    group = study.get("subject_id") or study.get("study_id") or name
    for index, view in enumerate(views):
        yield Raw(
            id=name if len(views) == 1 else f"{name}-{index}",
            image=finder.find(str(view)),
            captions=(str(study["report"] or ""),),
            split=split,
            group=str(group),
        )


def _file(source: Path) -> Path | None:
    if source.is_file():
        return source if source.suffix.lower() == ".json" else None
    found = sorted(source.glob("*annotation*.json"))
    return found[0] if len(found) == 1 else None


def _refused(path: Path, got: str, expected: str) -> DataError:
    return DataError(
        explain(
            f"{path}: not an R2Gen annotation file",
            got=got,
            expected=expected,
            do="correct the file, or name another --format",
        )
    )
