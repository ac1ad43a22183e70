"""Stage `prepare`: any supported source becomes one prepared data set, checked image by image.

```
DATA/
├── manifest.jsonl   one `Example` per image; captions as the source wrote them
├── images/          copies of the source files, each decoded in full once
├── rejects.jsonl    id, file, reason: what was left out
├── stats.json       counts, caption lengths, licences, leakage
└── README.md        the same for people
```
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from medblip.data.images import open_image
from medblip.data.readers import Raw, read_source
from medblip.data.split import assign_split, leaking_groups
from medblip.errors import DataError, ImageError, explain
from medblip.progress import track
from medblip.rundir import require_space, staged_directory
from medblip.schema import SCHEMA_VERSION, SPLITS, Example, Reject, dump_jsonl

__all__ = ["Prepared", "prepare"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """What was made: the folder, the images in it by split, and the rows left out."""

    data: str
    images: int
    rejects: int
    splits: dict[str, int]


def prepare(
    source: Path | str,
    out: Path | str,
    *,
    format: str | None = None,
    seed: int = 0,
    image_column: str | None = None,
    caption_column: str | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    group_column: str | None = None,
    force: bool = False,
) -> Prepared:
    """Check a source and write a prepared data set.

    A split that the source names is kept; rows without one are split 80/10/10 by group (patient,
    case, article), or by image where no group is known. A bad row never stops the others: it is
    counted, with its reason, in `rejects.jsonl`.

    Args:
        source: Table (CSV, TSV, JSONL), folder of images with .txt captions, or ROCO's layout.
        out: New folder.
        format: `table`, `folder` or `roco`; None recognises it.
        seed: Of the split.
        image_column: Column with the image path, where it has an unusual name.
        caption_column: Column with the caption.
        id_column: Column with the id.
        split_column: Column with the split.
        group_column: Column with patient, case or article.
        force: Replace a data set that is there.

    Raises:
        DataError: The source cannot be read, `out` is taken, or no row is usable.
        RunError: The disk is full; nothing was changed.
    """
    source, out = Path(source), Path(out)
    if out.exists() and any(out.iterdir()) and not force:
        raise DataError(
            explain(
                f"{out} is taken",
                got="a folder with files in it",
                expected="a new or empty folder",
                do="choose another --out, or add --force to replace it",
            )
        )
    columns = {
        "image": image_column, "caption": caption_column, "id": id_column,
        "split": split_column, "group": group_column,
    }  # fmt: skip
    rows = list(read_source(source, format=format, columns=columns))
    require_space(out, sum(row.image.stat().st_size for row in rows if row.image.is_file()))
    rejects: list[Reject] = []
    usable = list(_without_bad_rows(rows, rejects))
    with staged_directory(out) as partial:
        (partial / "images").mkdir()
        examples = list(_copy_images(usable, partial, seed, rejects))
        if not examples:
            raise DataError(_nothing_usable(source, rows, rejects))
        stats = _statistics(examples, rejects)
        (partial / "manifest.jsonl").write_text(dump_jsonl(examples), encoding="utf-8")
        (partial / "rejects.jsonl").write_text(dump_jsonl(rejects), encoding="utf-8")
        (partial / "stats.json").write_text(json.dumps(stats, indent=1, ensure_ascii=False) + "\n")
        (partial / "README.md").write_text(_card(source, stats), encoding="utf-8")
    return Prepared(
        data=str(out), images=len(examples), rejects=len(rejects), splits=stats["splits"]
    )


def _without_bad_rows(rows: Iterable[Raw], rejects: list[Reject]) -> Iterator[Raw]:
    """Yield rows with a caption and an id of their own; strip outer white space only."""
    seen: set[str] = set()
    for row in rows:
        captions = tuple(text.strip() for text in row.captions if text.strip())
        reason = "no caption" if not captions else "id appears twice" if row.id in seen else None
        if reason:
            rejects.append(Reject(id=row.id, file=str(row.image), reason=reason))
            continue
        seen.add(row.id)
        yield dataclasses.replace(row, captions=captions)


def _copy_images(
    rows: list[Raw], folder: Path, seed: int, rejects: list[Reject]
) -> Iterator[Example]:
    """Decode each image in full, copy its bytes, and yield the example."""
    names = _file_names(rows)

    def copy(pair: tuple[Raw, str]) -> str | None:
        row, name = pair
        try:
            open_image(row.image)
            shutil.copyfile(row.image, folder / name)
        except ImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        # a window of tasks at a time: memory stays flat however long the source is
        pairs = iter(zip(rows, names, strict=True))
        results = _windowed(pool, copy, pairs)
        for row, name, reason in track(results, "check and copy images", len(rows)):
            if reason is not None:
                rejects.append(Reject(id=row.id, file=str(row.image), reason=reason))
                continue
            split = row.split or assign_split(row.group or row.id, seed)
            fields = {k: getattr(row, k) for k in ("id", "captions", "group", "licence", "source")}
            yield Example(image=name, split=split, **fields)


def _windowed(pool: ThreadPoolExecutor, copy: Any, pairs: Iterator[tuple[Raw, str]]) -> Any:
    while window := list(islice(pairs, 256)):
        for (row, name), reason in zip(window, pool.map(copy, window), strict=True):
            yield row, name, reason


def _file_names(rows: list[Raw]) -> list[str]:
    """Return a safe, unique file name below images/ per row, told by its id."""
    names: list[str] = []
    used: set[str] = set()
    for row in rows:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", row.id).strip("._") or "image"
        name, number = f"{stem[:120]}{row.image.suffix.lower()}", 1
        while name.lower() in used:  # two ids may look alike once sanitised
            number += 1
            name = f"{stem[:120]}-{number}{row.image.suffix.lower()}"
        used.add(name.lower())
        names.append(f"images/{name}")
    return names


def _statistics(examples: list[Example], rejects: list[Reject]) -> dict[str, Any]:
    words = np.array([len(caption.split()) for e in examples for caption in e.captions])
    captions = Counter(caption for example in examples for caption in example.captions)
    leaks = leaking_groups([(example.group, example.split) for example in examples])
    found = Counter(example.split for example in examples)
    return {
        "schema_version": SCHEMA_VERSION,
        "images": len(examples),
        "splits": {split: found[split] for split in SPLITS if found[split]},
        "missing_splits": [split for split in SPLITS if not found[split]],
        "groups": len({example.group for example in examples if example.group is not None}),
        "groups_in_several_splits": {"count": len(leaks), "first": leaks[:10]},
        "caption_words": {
            "mean": round(float(words.mean()), 2),
            "median": float(np.median(words)),
            "p90": float(np.percentile(words, 90)),
            "max": int(words.max()),
        },
        "repeated_captions": sum(count - 1 for count in captions.values()),
        "licences": dict(Counter(e.licence or "unknown" for e in examples).most_common()),
        "rejects": dict(Counter(_kind(reject.reason) for reject in rejects).most_common()),
    }


def _kind(reason: str) -> str:
    return reason.split(":")[0]


def _nothing_usable(source: Path, rows: list[Raw], rejects: list[Reject]) -> str:
    reasons = Counter(_kind(reject.reason) for reject in rejects).most_common(3)
    told = ", ".join(f"{count} x {reason}" for reason, count in reasons)
    return explain(
        f"{source}: no usable image",
        got=f"{len(rows)} rows; {told}" if rows else "no rows",
        expected="at least one image that can be decoded, with a caption",
        do="check image paths (relative to the table) and captions (column, or .txt beside images)",
    )


def _card(source: Path, stats: dict[str, Any]) -> str:
    """Return the data card: the statistics, in words."""
    lines = [
        f"# Prepared data: {source.name}",
        "",
        f"{stats['images']} images. Splits: "
        + ", ".join(f"{split} {count}" for split, count in stats["splits"].items())
        + ".",
    ]
    if stats["missing_splits"]:
        lines.append(f"There is no {' and no '.join(stats['missing_splits'])} split.")
    leaks = stats["groups_in_several_splits"]
    if leaks["count"]:
        lines.append(
            f"**{leaks['count']} groups lie in several splits** ({', '.join(leaks['first'])}): "
            "scores will flatter a captioner that has seen the patient."
        )
    words = stats["caption_words"]
    lines += [
        f"Captions: median {words['median']:.0f} words, 90 % below {words['p90']:.0f}, "
        f"longest {words['max']}; {stats['repeated_captions']} repeated.",
        "",
        "| licence | images |",
        "| --- | --- |",
        *(f"| {licence} | {count} |" for licence, count in stats["licences"].items()),
        "",
        "Licences are per image, as the source states them; keep them with the images.",
    ]
    if stats["rejects"]:
        lines += ["", "Left out (rejects.jsonl): "]
        lines += [f"- {reason}: {count}" for reason, count in stats["rejects"].items()]
    return "\n".join(lines) + "\n"
