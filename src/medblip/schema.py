"""The records that stages hand to each other through files, and how they are read and written.

Knows JSON lines; knows nothing of images, models or metrics.

| file | record |
| --- | --- |
| `DATA/manifest.jsonl` | `Example` |
| `DATA/rejects.jsonl` | `Reject` |
| `RUN/predictions/<split>.jsonl` | `Prediction` |
| `RUN/scores/<split>.json` | `Score` per metric name |
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from medblip.errors import DataError, explain

__all__ = [
    "SCHEMA_VERSION",
    "SPLITS",
    "Example",
    "Prediction",
    "Reject",
    "Score",
    "Split",
    "check_version",
    "dump_jsonl",
    "iter_examples",
    "iter_split",
    "json_line",
    "read_examples",
    "read_jsonl",
    "read_predictions",
    "read_split",
]

#: Written into every JSON file; a reader refuses a number it does not know.
SCHEMA_VERSION = 1

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """One image with its reference captions.

    Args:
        id: Unique within the data set.
        image: Path of the image file, relative to the manifest's folder.
        captions: At least one reference caption, exactly as the source wrote it.
        group: Patient, case or article; images of one group never lie in two splits.
        targets: The captions after cleaning (`medblip.data.clean`), one per caption, where that
            was asked for: training may read them; scores never do.
        concepts: UMLS CUIs that the source gives.
        keywords: Words that the source gives.
        facts: What is known to be true of the image. Phantoms carry
            `{modality, plane, region, findings: [{name, side, zone, size, severity, mask}],
            devices: [{name, side, mask}]}`.
    """

    id: str
    image: str
    split: Split
    captions: tuple[str, ...]
    group: str | None = None
    licence: str | None = None
    source: str | None = None
    targets: tuple[str, ...] | None = None
    concepts: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reject:
    """One row of a source that did not become an `Example`, and why."""

    id: str
    file: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """One generated caption.

    Args:
        id: Of the image.
        caption: The words.
        logprob: Mean natural-log probability per generated token, the end token included.
        tokens: The tokenizer's pieces, the end token included where it was reached.
        token_logprobs: One per token.
        alternatives: Further captions, less likely: caption, logprob, tokens, token_logprobs.
    """

    id: str
    caption: str
    logprob: float | None = None
    tokens: tuple[str, ...] = ()
    token_logprobs: tuple[float, ...] = ()
    alternatives: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """A metric's value with its 95 % interval, the number of images and how it was computed."""

    value: float
    ci: tuple[float, float]
    n: int
    signature: str


def read_jsonl(path: Path, *, tolerate_torn_tail: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON-lines file.

    Args:
        path: The file.
        tolerate_torn_tail: Skip a last line that a killed writer left half written.

    Raises:
        DataError: The file is absent, not UTF-8, or a line is not a JSON object.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    if tolerate_torn_tail and not line.endswith("\n"):
                        return
                    raise DataError(
                        explain(
                            f"{path}, line {number}: not JSON ({error.msg})",
                            got=line.strip()[:80],
                            expected="one JSON object per line",
                            do="repair or delete that line",
                        )
                    ) from None
                if not isinstance(row, dict):
                    raise DataError(
                        explain(
                            f"{path}, line {number}: not a JSON object",
                            got=line.strip()[:80],
                            expected='an object such as {"id": ..., "caption": ...}',
                            do="write one object per line",
                        )
                    )
                yield row
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            explain(
                "file not found",
                got=path,
                expected="an existing JSON-lines file",
                do="check the path, or run the stage that writes it",
            )
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            explain(
                f"{path}: not UTF-8 text",
                got=f"byte {error.object[error.start]:#04x} at offset {error.start}",
                expected="UTF-8",
                do="convert the file, e.g. `iconv -f latin1 -t utf-8`",
            )
        ) from None


def dump_jsonl(rows: Iterable[Any]) -> str:
    """Return JSON lines for dataclasses or dicts; None and () are left out, non-ASCII is kept."""
    return "".join(json_line(_as_dict(row)) for row in rows)


def json_line(record: dict[str, Any]) -> str:
    """Return one line of JSON; a name that is no UTF-8 is escaped, and read back as it was."""
    line = json.dumps(record, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(record)
    return line + "\n"


def read_examples(manifest: Path) -> list[Example]:
    """Read `manifest.jsonl`; errors as `iter_examples`."""
    return list(iter_examples(manifest))


def iter_examples(manifest: Path) -> Iterator[Example]:
    """Yield the rows of `manifest.jsonl`.

    Raises:
        DataError: A row lacks a field, names an unknown split, or repeats an id.
    """
    seen: set[str] = set()
    for number, row in enumerate(read_jsonl(manifest), start=1):
        where = f"{manifest}, row {number}"
        missing = [key for key in ("id", "image", "split", "captions") if not row.get(key)]
        if missing:
            raise DataError(
                explain(
                    f"{where}: incomplete",
                    got=f"no {', '.join(missing)}",
                    expected="id, image, split and captions",
                    do="prepare the data again with `medblip data prepare`",
                )
            )
        if row["split"] not in SPLITS:
            raise DataError(
                explain(
                    f"{where}: unknown split",
                    got=row["split"],
                    expected=", ".join(SPLITS),
                    do="correct the split, or prepare the data again",
                )
            )
        if row["id"] in seen:
            raise DataError(
                explain(
                    f"{where}: id appears twice",
                    got=row["id"],
                    expected="unique ids",
                    do="remove the second row, or prepare the data again",
                )
            )
        seen.add(row["id"])
        fields = _known_fields(Example, row)
        for name in ("captions", "targets", "concepts", "keywords"):
            if fields.get(name) is not None:
                fields[name] = tuple(fields[name])
        yield Example(**fields)


def read_split(root: Path, split: str) -> list[Example]:
    """Return the examples of one split of a prepared data set; errors as `iter_split`."""
    return [example for _, example in iter_split(root, split)]


def iter_split(root: Path, split: str) -> Iterator[tuple[int, Example]]:
    """Yield (row of the manifest, example) of one split of a prepared data set.

    Raises:
        DataError: There is no manifest, or it has no such split.
    """
    manifest = root / "manifest.jsonl"
    if not manifest.exists():
        raise DataError(
            explain(
                f"{root} is not a prepared data set",
                got="no manifest.jsonl there",
                expected="a folder that `medblip data prepare` or `data phantoms` wrote",
                do="prepare the data, or correct the path",
            )
        )
    counts: Counter[str] = Counter()
    for row, example in enumerate(iter_examples(manifest)):
        counts[example.split] += 1
        if example.split == split:
            yield row, example
    if not counts[split]:
        there = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        raise DataError(
            explain(
                f"{manifest}: no {split} split",
                got=there or "an empty manifest",
                expected=f"images of the {split} split",
                do="choose a split that is there, or prepare the data with other splits",
            )
        )


def read_predictions(path: Path) -> list[Prediction]:
    """Read `predictions/<split>.jsonl`, or any JSON lines with `id` and `caption`.

    Raises:
        DataError: A row lacks `id` or `caption`, or repeats an id.
    """
    predictions: list[Prediction] = []
    seen: set[str] = set()
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(row.get("id"), str) or not isinstance(row.get("caption"), str):
            raise DataError(
                explain(
                    f"{path}, row {number}: not a prediction",
                    got=sorted(row),
                    expected='{"id": text, "caption": text}',
                    do="rename the columns",
                )
            )
        if row["id"] in seen:
            raise DataError(
                explain(
                    f"{path}, row {number}: id appears twice",
                    got=row["id"],
                    expected="one caption per image",
                    do="remove the repeated row",
                )
            )
        seen.add(row["id"])
        fields = _known_fields(Prediction, row)
        for name in ("tokens", "token_logprobs", "alternatives"):
            fields[name] = tuple(fields.get(name) or ())
        predictions.append(Prediction(**fields))
    return predictions


def check_version(record: dict[str, Any], path: Path) -> None:
    """Refuse a JSON file written by a newer medblip.

    Raises:
        DataError: `schema_version` is absent or unknown.
    """
    if record.get("schema_version") != SCHEMA_VERSION:
        raise DataError(
            explain(
                f"{path}: unknown file version",
                got=record.get("schema_version"),
                expected=str(SCHEMA_VERSION),
                do="upgrade medblip, or run the stage that wrote this file again",
            )
        )


def _as_dict(row: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {
            key: value
            for key, value in dataclasses.asdict(row).items()
            if value is not None and value != ()
        }
    return dict(row)


def _known_fields(kind: type, row: dict[str, Any]) -> dict[str, Any]:
    """Keep what `kind` knows: a manifest may carry columns of its owner's."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {key: value for key, value in row.items() if key in names}
