"""Captions of any system from a file: predictions `{id, caption}`, references `{id, captions}`.

JSON lines, a JSON array, CSV or TSV. Whatever is wrong is counted and the first few are named;
nothing is ever left out in silence, because a smaller set has another score.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.errors import DataError, MetricError, explain
from medblip.schema import Example, read_jsonl, read_split

__all__ = ["References", "align", "read_captions", "read_references"]

#: Column names that are understood, best first; case does not matter.
_ID = ("id", "image_id", "image")
_CAPTION = ("caption", "captions", "text", "prediction", "hypothesis")
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")


@dataclasses.dataclass(frozen=True)
class References:
    """What captions are scored against; all in the same order.

    Args:
        ids: Image ids.
        captions: At least one reference per image, raw.
        groups: Patient, case or article per image, or None.
        facts: What is known of each image, or None unless known of all.
        images: Image file per image, or None where the references are a table of text.
    """

    ids: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...] | None = None
    facts: tuple[dict[str, Any], ...] | None = None
    images: tuple[Path, ...] | None = None


def read_captions(path: Path) -> dict[str, str]:
    """Read one caption per image id; an empty text is a caption, an absent one is not.

    Raises:
        DataError: The file is absent, not UTF-8 or no table of captions; a caption is missing; an
            id is missing or appears twice.
    """
    found, _ = _read(path)
    several = [name for name, captions in found.items() if len(captions) != 1]
    if several:
        raise DataError(
            explain(
                f"{path}: more than one caption for an image",
                got=_named(several, "images"),
                expected="one caption per image",
                do="keep one caption per id; several are for references only",
            )
        )
    return {name: captions[0] for name, captions in found.items()}


def read_references(source: Path, split: str = "test") -> References:
    """Read references from a table of captions, or those of one split of a prepared data set.

    Raises:
        DataError: As for `read_captions`; or a reference is empty, or the split is not there.
    """
    if source.is_dir():
        return _of_data_set(source, split)
    found, groups = _read(source)
    _no_blanks(found, source)
    named = _groups(list(zip(found, groups, strict=True)))
    return References(tuple(found), tuple(found.values()), named)


def align(captions: Mapping[str, str], ids: Sequence[str]) -> list[str]:
    """Return the captions in the order of `ids`.

    Raises:
        MetricError: An id is on one side only: a smaller set would give another score.
    """
    wanted = set(ids)
    missing = [name for name in ids if name not in captions]
    unknown = [name for name in captions if name not in wanted]
    if missing or unknown:
        parts = [
            _named(names, what)
            for names, what in ((missing, "images without a caption"), (unknown, "unknown ids"))
            if names
        ]
        raise MetricError(
            explain(
                "captions and references do not belong together",
                got="; ".join(parts),
                expected=f"one caption for each of the {len(wanted)} images and no others",
                do="caption this split of this data set again, or name its own references",
            )
        )
    return [captions[name] for name in ids]


def _read(path: Path) -> tuple[dict[str, tuple[str, ...]], list[Any]]:
    """Return all captions of each id, in the order of the file, and the group of each."""
    ids: list[str] = []
    groups: list[Any] = []
    captions: list[tuple[str, ...]] = []
    anonymous: list[str] = []
    empty: list[str] = []
    for where, row in _rows(path):
        name, texts = _value(row, _ID), _texts(_value(row, _CAPTION))
        if name is None or not str(name).strip():
            anonymous.append(where)
            continue
        ids.append(str(name))
        groups.append(row.get("group"))
        captions.append(texts or ())
        if not texts:
            empty.append(str(name))
    twice = [name for name, count in Counter(ids).items() if count > 1]
    for names, what, wanted, advice in (
        (anonymous, "rows without an id", "an id in every row", "give every image its id"),
        (twice, "ids that appear more than once", "unique ids", "remove the repeated rows; "
         "several references of an image go into one JSON line: {id, captions: [...]}"),
        (empty, "ids without a caption", "a caption in every row",
         'write an empty text ("") where a system said nothing'),
    ):  # fmt: skip
        if names:
            raise DataError(
                explain(f"{path}: {what}", got=_named(names, "rows"), expected=wanted, do=advice)
            )
    if not ids:
        raise DataError(
            explain(
                f"{path}: no captions", got="0 rows", expected="at least one", do="check the path"
            )
        )
    return dict(zip(ids, captions, strict=True)), groups


def _texts(value: Any) -> tuple[str, ...] | None:
    """Return captions of one cell; None when it holds none."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return tuple(value)
    return None


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield where a row is and its cells, under lower-case names.

    Raises:
        DataError: The file cannot be read as a table, or has no column of ids or captions.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise DataError(
            explain(
                f"{path}: not a table of captions",
                got="a folder" if path.is_dir() else f"a file ending in {suffix or 'nothing'}",
                expected=", ".join(_SUFFIXES),
                do="name a run directory, a prepared data set or a table of captions",
            )
        )
    if suffix in (".csv", ".tsv"):
        rows: Iterable[Mapping[str, Any]] = _csv_rows(path, "\t" if suffix == ".tsv" else ",")
    elif suffix == ".json":
        rows = _array(path)
    else:
        rows = read_jsonl(path)
    for number, row in enumerate(rows, start=1):
        lower = {str(key).strip().lower(): value for key, value in row.items()}
        lacking = [names[0] for names in (_ID, _CAPTION) if not set(names) & lower.keys()]
        if lacking and number == 1:  # in a later row it is a missing value, counted by the caller
            raise DataError(
                explain(
                    f"{path}: no column {' and no column '.join(lacking)}",
                    got=", ".join(str(key) for key in row) or "no columns",
                    expected=f"one of {', '.join(_ID)} and one of {', '.join(_CAPTION)}",
                    do="rename the columns; the first line of a CSV names them",
                )
            )
        yield f"row {number}", lower


def _csv_rows(path: Path, delimiter: str) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, delimiter=delimiter):
                extra = row.pop(None, None)
                if extra:
                    raise DataError(
                        explain(
                            f"{path}: a row with more cells than columns",
                            got=f"{row} and then {extra}"[:160],
                            expected=f"columns separated by {delimiter!r}",
                            do='put captions that hold the separator in quotes ("...")',
                        )
                    )
                yield row
    except FileNotFoundError:
        raise _absent(path) from None
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except csv.Error as error:
        raise DataError(
            explain(
                f"{path}: not a table", got=str(error), expected="CSV with a header", do="repair it"
            )
        ) from None


def _array(path: Path) -> list[Mapping[str, Any]]:
    """Read a JSON array of objects, as COCO results are, or COCO's own file of references."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise _absent(path) from None
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except json.JSONDecodeError as error:
        rows = f"no JSON ({error.msg}, line {error.lineno})"
    if isinstance(rows, dict) and isinstance(rows.get("annotations"), list):
        rows = _annotations(rows["annotations"])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            explain(
                f"{path}: not an array of captions",
                got=rows if isinstance(rows, str) else type(rows).__name__,
                expected='[{"id": ..., "caption": ...}, ...], or COCO captions',
                do="write such an array, or JSON lines",
            )
        )
    return rows


def _annotations(notes: list[Any]) -> list[Any]:
    """Return one row per image of COCO's {images, annotations}, in the order of first captions."""
    captions: dict[str, list[str]] = {}
    for note in notes:
        if not isinstance(note, dict) or not {"image_id", "caption"} <= note.keys():
            return [note]  # refused by the caller: not an object, or no caption column
        captions.setdefault(str(note["image_id"]), []).append(str(note["caption"]))
    return [{"id": name, "captions": texts} for name, texts in captions.items()]


def _of_data_set(root: Path, split: str) -> References:
    examples = read_split(root, split)
    captions = {example.id: example.captions for example in examples}
    _no_blanks(captions, root)
    return References(
        tuple(captions),
        tuple(captions.values()),
        _groups([(example.id, example.group) for example in examples]),
        _facts(examples),
        tuple(root / example.image for example in examples),
    )


def _facts(examples: Sequence[Example]) -> tuple[dict[str, Any], ...] | None:
    facts = [example.facts or {} for example in examples]
    # a phantom's are complete; what a DICOM header tells is no list of findings
    return tuple(facts) if all("findings" in known for known in facts) else None


def _groups(rows: Sequence[tuple[str, Any]]) -> tuple[str, ...] | None:
    """Return a group per image; an image without one is its own; None when no image has one."""
    if all(group in (None, "") for _, group in rows):
        return None
    return tuple(name if group in (None, "") else f"group {group}" for name, group in rows)


def _no_blanks(captions: Mapping[str, Sequence[str]], path: Path) -> None:
    blank = [name for name, texts in captions.items() if not all(text.strip() for text in texts)]
    if blank:
        raise DataError(
            explain(
                f"{path}: empty references",
                got=_named(blank, "images"),
                expected="at least one word in every reference",
                do="leave these images out of the split, for captions and references alike",
            )
        )


def _value(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _named(names: Sequence[str], what: str) -> str:
    """Return how many and the first three, e.g. `5 unknown ids (a, b, c, ...)`."""
    return f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _absent(path: Path) -> DataError:
    return DataError(
        explain("file not found", got=path, expected="a table of captions", do="check the path")
    )


def _not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    return DataError(
        explain(
            f"{path}: not UTF-8 text",
            got=f"byte {error.object[error.start]:#04x} at offset {error.start}",
            expected="UTF-8",
            do=f"convert the file, e.g. `iconv -f {_encoding(error.object)} -t utf-8`",
        )
    )


def _encoding(content: bytes) -> str:
    return "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
