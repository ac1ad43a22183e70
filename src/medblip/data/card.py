"""What a prepared data set says of itself: `stats.json`, and the same in words, `README.md`.

The latter is a data card in the format of the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medblip.data.licences import as_metadata
from medblip.markdown import code, escape, front_matter, table
from medblip.schema import SCHEMA_VERSION, SPLITS, Example, Reject

__all__ = [
    "MARK",
    "Tally",
    "card",
    "count_table",
    "findings",
    "hub_data_name",
    "metadata",
    "size_category",
]


#: Last line of every card: what carries it may be replaced.
MARK = "<!-- made by medblip card -->"


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


def card(name: str, stats: Mapping[str, Any], checked: Mapping[str, Any] | None = None) -> str:
    """Return the data card in the hub's format: front matter, then the statistics in words.

    Args:
        name: Of the data set.
        stats: Content of `stats.json`.
        checked: Content of `check.json`; None: `medblip data check` was not run.
    """
    lines = [f"# Prepared data: {escape(name)}", *_counts(stats), *_origin(stats)]
    lines += ["", "## What was left out", "", *_rejects(stats["rejects"])]
    lines += ["", "## What was looked for", "", *findings(checked)]
    lines += ["", "## Limits and intended use", "", *_LIMITS]
    about = metadata(
        name, images=stats["images"], licences=stats["licences"], commit=stats.get("commit"),
        source=stats.get("source"),
    )  # fmt: skip
    return front_matter(about) + "\n" + "\n".join([*lines, "", MARK]) + "\n"


def metadata(
    name: str,
    *,
    images: int,
    licences: Mapping[str, int],
    commit: str | None = None,
    source: str | None = None,
    tags: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the front matter of a data card."""
    return {
        **as_metadata(licences),
        "language": ["en"],
        "pretty_name": name,
        "task_categories": ["image-to-text"],
        "size_categories": [size_category(images)],
        "tags": ["radiology", "medical", "image-captioning", "medblip", *tags],
        "source_datasets": [hub_name] if (hub_name := hub_data_name(source, commit)) else [],
    }


def size_category(images: int) -> str:
    """Return the hub's word for a size: `n<1K`, `1K<n<10K` and so on."""
    if images < 1_000:
        return "n<1K"
    names = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")
    power = min(len(str(images)) - 1, 8)
    return f"{names[power - 3]}<n<{names[power - 2]}"


def hub_data_name(source: object, commit: object) -> str | None:
    """Return `owner/name` of a data set that was fetched from the hub; None for any other."""
    found = re.fullmatch(r"(?:hf:)?([\w.-]+/[\w.-]+)", str(source or ""))
    return found[1] if found and commit else None


def findings(checked: Mapping[str, Any] | None) -> list[str]:
    """Return what `medblip data check` found, leaks first among it; or that it was not run."""
    if checked is None:
        return ["Not checked: run `medblip data check` for damage, leaks between splits, cut "
                "captions and text burnt into pixels."]  # fmt: skip
    if not checked["findings"]:
        return ["`medblip data check` found nothing."]
    rows = [
        (one["level"], escape(one["what"]), str(one["count"]), escape(one["do"]))
        for one in sorted(checked["findings"], key=lambda one: not one.get("leak"))
    ]
    return table(("level", "found", "how many", "what to do"), rows)[1:]


_LIMITS = (
    "For research on captioning. Not for diagnosis, treatment, or any decision about a patient.",
    "",
    "- Nothing here was de-identified: pictures and captions can name a patient. "
    "`medblip data check` flags text that is burnt into pixels; some is missed.",
    "- Licences are per image, as the source states them; keep them with the images, and ask "
    "before you publish what has none.",
    "- Captions of figures say what their authors wanted to show; the rest may be there too.",
    "- Frequencies of modalities and findings are those of the source, not of a clinic.",
)


def _counts(stats: Mapping[str, Any]) -> list[str]:
    splits = ", ".join(f"{split} {count}" for split, count in stats["splits"].items())
    words, sides = stats["caption_words"], stats["longer_side"]
    lines = ["", f"{stats['images']} images. Splits: {splits}."]
    if stats["missing_splits"]:
        lines.append(f"There is no {' and no '.join(stats['missing_splits'])} split.")
    leaks = stats["groups_in_several_splits"]
    if leaks["count"]:
        lines.append(  # the groups themselves, in stats.json, may be called by patients
            f"**{leaks['count']} groups lie in several splits** (named in stats.json): "
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
    return lines


def _origin(stats: Mapping[str, Any]) -> list[str]:
    commit = f", commit {code(stats['commit'])}" if stats.get("commit") else ""
    lines = ["", "## Where it is from", ""]
    lines.append(f"Prepared from {code(stats['source'])} as {code(stats['format'])}{commit}.")
    lines += count_table("licence", stats["licences"])
    sources = stats["sources"]
    if set(sources["first"]) != {"unknown"}:
        more = sources["count"] - len(sources["first"])
        lines += count_table("source", sources["first"])
        lines += ["", f"and {more} more sources, per image in manifest.jsonl."] if more else []
    return lines


def _rejects(rejects: Mapping[str, int]) -> list[str]:
    if not rejects:
        return ["Nothing."]
    rows = [f"- {escape(reason)}: {count}" for reason, count in rejects.items()]
    return ["Each is in rejects.jsonl, with its reason:", "", *rows]


def count_table(name: str, counts: Mapping[str, int]) -> list[str]:
    """Return the lines of a table of how many images are what."""
    return table((name, "images"), ((escape(key), str(count)) for key, count in counts.items()))
