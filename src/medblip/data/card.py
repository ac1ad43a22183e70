"""What a prepared data set says of itself: `stats.json`, and the same in words, `README.md`."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from medblip.schema import SCHEMA_VERSION, SPLITS, Example, Reject

__all__ = ["Tally", "card"]


class Tally:
    """Counts while the rows stream by; what it keeps per row is a few numbers."""

    def __init__(self) -> None:
        self._splits: Counter[str] = Counter()
        self._licences: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()
        self._cleaned: Counter[str] = Counter()
        self._shapes: Counter[tuple[int, int]] = Counter()
        self._captions: Counter[bytes] = Counter()
        self._groups: defaultdict[str, set[str]] = defaultdict(set)
        self._words = array("L")
        self._grey = 0
        self._with_concepts = 0
        self._concepts: Counter[str] = Counter()

    def add(self, example: Example, *, width: int, height: int, grey: bool) -> None:
        """Count one usable row."""
        self._splits[example.split] += 1
        self._licences[example.licence or "unknown"] += 1
        self._sources[example.source or "unknown"] += 1
        self._shapes[width, height] += 1
        self._grey += grey
        self._with_concepts += bool(example.concepts)
        self._concepts.update(example.concepts)
        if example.group is not None:
            self._groups[example.group].add(example.split)
        for caption in example.captions:
            self._words.append(len(caption.split()))
            self._captions[hashlib.blake2b(caption.encode(), digest_size=8).digest()] += 1

    def reject(self, reject: Reject) -> None:
        """Count one row that was left out, by the kind of its reason: the part before a colon."""
        self._rejects[reject.reason.split(":")[0]] += 1

    def cleaned(self, rule: str) -> None:
        """Count one caption that a cleaning rule changed."""
        self._cleaned[rule] += 1

    @property
    def images(self) -> int:
        """How many rows are usable."""
        return self._splits.total()

    @property
    def rejects(self) -> Counter[str]:
        """Kind of reason -> rows."""
        return self._rejects

    def statistics(self, **more: Any) -> dict[str, Any]:
        """Return what `stats.json` holds."""
        words = np.array(self._words)
        leaks = sorted(group for group, splits in self._groups.items() if len(splits) > 1)
        sides = np.array([max(shape) for shape in self._shapes.elements()])
        return {
            "schema_version": SCHEMA_VERSION,
            "images": self.images,
            "splits": {split: self._splits[split] for split in SPLITS if self._splits[split]},
            "missing_splits": [split for split in SPLITS if not self._splits[split]],
            "groups": len(self._groups),
            "groups_in_several_splits": {"count": len(leaks), "first": leaks[:10]},
            "grey_images": self._grey,
            "longer_side": {
                "min": int(sides.min()),
                "median": float(np.median(sides)),
                "max": int(sides.max()),
            },
            "caption_words": {
                "mean": round(float(words.mean()), 2),
                "median": float(np.median(words)),
                "p90": float(np.percentile(words, 90)),
                "max": int(words.max()),
            },
            "captions": len(words),
            "repeated_captions": sum(count - 1 for count in self._captions.values()),
            "cleaned_captions": dict(self._cleaned.most_common()),
            "images_with_concepts": self._with_concepts,
            "distinct_concepts": len(self._concepts),
            "licences": dict(self._licences.most_common()),
            "sources": {
                "count": len(self._sources),
                "first": dict(self._sources.most_common(20)),
            },
            "rejects": dict(self._rejects.most_common()),
            **more,
        }


def card(name: str, stats: Mapping[str, Any]) -> str:
    """Return the data card: the statistics, in words."""
    splits = ", ".join(f"{split} {count}" for split, count in stats["splits"].items())
    words, sides = stats["caption_words"], stats["longer_side"]
    lines = [f"# Prepared data: {name}", "", f"{stats['images']} images. Splits: {splits}."]
    if stats["missing_splits"]:
        lines.append(f"There is no {' and no '.join(stats['missing_splits'])} split.")
    leaks = stats["groups_in_several_splits"]
    if leaks["count"]:
        lines.append(
            f"**{leaks['count']} groups lie in several splits** ({', '.join(leaks['first'])}): "
            "scores will flatter a captioner that has seen the patient or the article."
        )
    lines += [
        f"Images: {stats['grey_images']} grey, longer side {sides['min']} to {sides['max']} pixels "
        f"(median {sides['median']:.0f}).",
        f"Captions: median {words['median']:.0f} words, 90 % below {words['p90']:.0f}, "
        f"longest {words['max']}; {stats['repeated_captions']} repeated.",
    ]
    if stats["images_with_concepts"]:
        lines.append(
            f"Concepts: {stats['distinct_concepts']} UMLS concepts on "
            f"{stats['images_with_concepts']} images."
        )
    if stats["cleaned_captions"]:
        told = ", ".join(f"{rule} {count}" for rule, count in stats["cleaned_captions"].items())
        lines.append(
            f"Cleaned for training: {told}. The captions themselves are as the source wrote them, "
            "and scores are computed on those."
        )
    lines += ["", f"Prepared from `{stats['source']}` as `{stats['format']}`"
              + (f", commit `{stats['commit']}`" if stats.get("commit") else "") + "."]  # fmt: skip
    lines += _table("licence", stats["licences"])
    lines += ["", "Licences are per image, as the source states them; keep them with the images."]
    sources = stats["sources"]
    if set(sources["first"]) != {"unknown"}:
        more = sources["count"] - len(sources["first"])
        lines += _table("source", sources["first"])
        lines += ["", f"and {more} more sources, per image in manifest.jsonl."] if more else []
    if stats["rejects"]:
        lines += ["", "Left out (each in rejects.jsonl, with its reason):", ""]
        lines += [f"- {reason}: {count}" for reason, count in stats["rejects"].items()]
    lines += [
        "", "Nothing here was de-identified: pictures and captions can name a patient. "
        "`medblip data check` flags text that is burnt into pixels.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(name: str, counts: Mapping[str, int]) -> list[str]:
    rows = (f"| {str(key).replace('|', '/')} | {count} |" for key, count in counts.items())
    return ["", f"| {name} | images |", "| --- | --- |", *rows]
