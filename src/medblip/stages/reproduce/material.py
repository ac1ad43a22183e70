"""What a study says of its data: `study-data.json`, counted from the manifest."""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from medblip.files import write_json
from medblip.schema import SPLITS, read_examples

__all__ = ["describe_data"]


def describe_data(data: Path, target: Path) -> dict[str, Any]:
    """Count a prepared data set and write what the methods paragraph needs.

    Args:
        data: Prepared data set.
        target: JSON file.

    Raises:
        DataError: There is no manifest, or a line of it is damaged.
    """
    splits: Counter[str] = Counter()
    words: list[int] = []
    masks = synthetic = False
    for example in read_examples(data / "manifest.jsonl"):
        splits[example.split] += 1
        words += [len(caption.split()) for caption in example.captions]
        synthetic = synthetic or "findings" in (example.facts or {})
        masks = masks or any("mask" in one for one in (example.facts or {}).get("findings", []))
    rejects = data / "rejects.jsonl"
    record = {
        "name": "medblip phantoms" if synthetic else data.resolve().name,
        "splits": {split: splits[split] for split in SPLITS if splits[split]},
        "rejects": len(rejects.read_text(encoding="utf-8").splitlines()) if rejects.exists() else 0,
        "median_words": statistics.median(words) if words else 0,
        "synthetic": synthetic,
        "masks": masks,
    }
    write_json(target, record)
    return record
