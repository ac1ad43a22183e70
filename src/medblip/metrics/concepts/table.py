"""Agreement of UMLS concepts as ROCO's own linker would name them (`roco-concepts`).

Phrases of 1 to 3 words stand for the concepts (CUIs) that they come with in ROCO's `captions.txt`
and `cuis.txt`. The rules are learned from the user's own copy and stay with the user: they derive
from UMLS, whose licence does not let us, or you, pass them on. Keep the table out of git, of wheels
and of uploads. It imitates a noisy linker (`right` alone means three concepts), not a physician:
agreement here is no clinical correctness, and it must not be called clinical F1.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import DataError, MedblipError, MetricError, RunError, explain
from medblip.files import read_json, write_json
from medblip.metrics.base import Agreement, Floats, Ratio, Statistics, mean_statistics
from medblip.metrics.concepts.roco import roco_concepts, roco_folder, roco_rows
from medblip.metrics.concepts.rules import LIFT, learn, phrases_of

__all__ = [
    "ConceptTable",
    "concept_statistics",
    "fit_concepts",
    "load_concepts",
]

_KIND = "roco-concepts"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConceptTable:
    """Rules from phrases to concepts, and where they come from.

    Args:
        rules: Concepts by phrase; words of a phrase are lower case, without a plural s.
        together: Least number of captions that hold both phrase and concept.
        share: Least share of the phrase's captions that have the concept.
        cross_validated: Micro-F1 of these settings on the halves that were not learned from.
        splits: Which parts of ROCO were learned from.
        captions: How many captions that were.
        sources: SHA-256 by file read.
        seen: Hashes of the ids learned from.
    """

    rules: Mapping[str, frozenset[str]]
    together: int
    share: float
    cross_validated: float
    splits: tuple[str, ...]
    captions: int
    sources: Mapping[str, str]
    seen: frozenset[str]

    @functools.cached_property
    def size(self) -> int:
        """How many pairs of phrase and concept there are."""
        return sum(map(len, self.rules.values()))

    @functools.cached_property
    def signature(self) -> str:
        """What values depend on besides the captions: source, settings and the rules themselves."""
        lines = "\n".join(f"{phrase}\t{' '.join(sorted(self.rules[phrase]))}"
                          for phrase in sorted(self.rules))  # fmt: skip
        digest = hashlib.sha256(lines.encode()).hexdigest()[:12]
        settings = f"together:{self.together},share:{self.share:g},lift:{LIFT:g}"
        return f"fitted:{'+'.join(self.splits)}|{settings}|rules:{self.size},{digest}"

    def concepts(self, caption: str) -> set[str]:
        """Return the concepts that the phrases of a caption stand for."""
        rules = self.rules
        return set().union(*[rules[phrase] for phrase in phrases_of(caption) if phrase in rules])

    def refuse_seen(self, ids: Sequence[str], *, force: bool = False) -> None:
        """Refuse images whose captions the rules were learned from.

        Args:
            ids: Of the images to be scored; ROCO's own, or nothing is recognised.
            force: Let them pass.

        Raises:
            MetricError: Some of them were learned from.
        """
        known = [name for name in ids if _hash(name) in self.seen]
        if known and not force:
            raise MetricError(
                explain(
                    "the concept table was learned from images that it should score",
                    got=f"{len(known)} of {len(ids)}, e.g. {', '.join(known[:3])}",
                    expected=f"none (it was learned from: {', '.join(self.splits)})",
                    do="fit a table on another split, or force it and say so with the result",
                )
            )


def fit_concepts(
    roco: Path | str,
    *,
    splits: Sequence[str] = ("train",),
    out: Path | str | None = None,
    force: bool = False,
) -> ConceptTable:
    """Learn phrase -> concept rules from a copy of ROCO and write them as a JSON table.

    Least count and least share are chosen by 2-fold cross-validation (every other caption) inside
    the captions learned from. Choose a place for `out` that is not under version control.

    Args:
        roco: Folder that holds `train/`, `validation/` or `test/`, each with `captions.txt` and
            `cuis.txt`, directly or in `radiology/` (which is taken where it is there).
        splits: Which of them to learn from.
        out: The table, e.g. `concepts.json`; None: no file.
        force: Replace a table that is there.

    Raises:
        DataError: A file is absent or not in ROCO's layout, or nothing could be learned.
        RunError: `out` is there already or cannot be written.
    """
    target = None if out is None else Path(out)
    if target is not None and target.exists() and not force:
        raise RunError(
            explain(
                f"{target} is there already",
                got="an earlier table",
                expected="a new file",
                do="choose another --out, or add --force to replace it",
            )
        )
    captions, concepts, sources = _read(Path(roco), splits)
    learned = learn(
        [phrases_of(caption) for caption in captions.values()],
        [concepts.get(name, set()) for name in captions],
    )
    if not learned.rules:
        having = sum(bool(concepts.get(name)) for name in captions)
        raise DataError(
            explain(
                f"{roco}: no rule could be learned",
                got=f"{len(captions)} captions, {having} of them with concepts",
                expected="phrases that often come with the same concept",
                do="use a whole split of ROCO",
            )
        )
    table = ConceptTable(
        **vars(learned),
        splits=tuple(splits),
        captions=len(captions),
        sources=sources,
        seen=frozenset(map(_hash, captions)),
    )
    if target is not None:
        write_json(target, _record(table))
    return table


def load_concepts(path: Path | str) -> ConceptTable:
    """Read a table that `fit_concepts` wrote.

    Raises:
        MetricError: The file is absent, damaged or something else.
    """
    try:
        record: dict[str, Any] = read_json(Path(path))
        if (record["kind"], record["lift"]) != (_KIND, LIFT):
            raise ValueError("another kind of table")
        return ConceptTable(
            rules={phrase: frozenset(cuis.split()) for phrase, cuis in record["rules"].items()},
            together=record["together"],
            share=record["share"],
            cross_validated=record["cross_validated"],
            splits=tuple(record["splits"]),
            captions=record["captions"],
            sources=record["sources"],
            seen=frozenset(record["seen"].split()),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError, MedblipError) as error:
        raise MetricError(
            explain(
                f"{path}: no table of concepts",
                got=str(error).splitlines()[0] if str(error) else type(error).__name__,
                expected="the JSON file that fitting on ROCO writes",
                do="fit it again from your copy of ROCO",
            )
        ) from error


def concept_statistics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    table: ConceptTable,
    *,
    reference_concepts: Sequence[Collection[str]] | None = None,
) -> dict[str, Statistics]:
    """Compare the concepts of captions with those of their references, image by image.

    Args:
        hypotheses: One caption per image.
        references: At least one per image; of several, the one with the best F1 counts.
        table: From `fit_concepts` or `load_concepts`, learned from other images (`refuse_seen`).
        reference_concepts: Concepts that are known of each image, e.g. a row of ROCO's `cuis.txt`;
            adds `roco-concepts-given`, which is also how good the table itself is (give the
            references as captions).

    Returns:
        `roco-concepts`: precision, recall and micro-F1 of all concepts together;
        `roco-concepts-mean-F1`: mean over images, where nothing said of nothing known is 1.

    Raises:
        MetricError: The lists differ in length, or an image has no reference.
    """
    _check_lengths(hypotheses, references, reference_concepts)
    known: dict[str, set[str]] = {}

    def concepts(caption: str) -> set[str]:
        if caption not in known:  # captioners repeat themselves
            known[caption] = table.concepts(caption)
        return known[caption]

    said = [concepts(caption) for caption in hypotheses]
    counts = [
        max((_counts(mine, concepts(caption)) for caption in captions), key=_f1)
        for mine, captions in zip(said, references, strict=True)
    ]
    found = _families(_KIND, table.signature, counts)
    if reference_concepts is not None:
        given = [_counts(mine, set(t)) for mine, t in zip(said, reference_concepts, strict=True)]
        found |= _families(f"{_KIND}-given", table.signature, given)
    return found


def _families(
    name: str, signature: str, counts: Sequence[tuple[int, int, int]]
) -> dict[str, Statistics]:
    values: Floats = np.array(counts, dtype=np.float64)
    mean = f"{name}-mean-F1"
    return {
        name: Statistics(Agreement(name, signature), values),
        mean: Statistics(Ratio(mean, signature), mean_statistics([_f1(row) for row in counts])),
    }


def _counts(said: set[str], true: set[str]) -> tuple[int, int, int]:
    return len(said & true), len(said), len(true)


def _f1(counts: tuple[int, int, int]) -> float:
    both, said, true = counts
    return 2 * both / (said + true) if said + true else 1.0


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:12]


def _record(table: ConceptTable) -> dict[str, Any]:
    """Return the table as one JSON object, one line per phrase."""
    return {
        "kind": _KIND,
        "notice": "learned from ROCO's UMLS concepts: for your own use, not to be passed on",
        "splits": list(table.splits),
        "captions": table.captions,
        "sources": dict(table.sources),
        "together": table.together,
        "share": table.share,
        "lift": LIFT,
        "cross_validated": table.cross_validated,
        "seen": " ".join(sorted(table.seen)),
        "rules": {phrase: " ".join(sorted(cuis)) for phrase, cuis in table.rules.items()},
    }


def _read(
    roco: Path, splits: Sequence[str]
) -> tuple[dict[str, str], dict[str, set[str]], dict[str, str]]:
    """Return captions and concepts by id, and the SHA-256 of each file read."""
    captions: dict[str, str] = {}
    concepts: dict[str, set[str]] = {}
    sources: dict[str, str] = {}
    for split in splits:
        folder = roco_folder(roco, split)
        captions |= {name: " ".join(rest) for name, *rest in roco_rows(folder / "captions.txt")}
        concepts |= roco_concepts(folder)
        for name in ("captions.txt", "cuis.txt"):
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
            sources[f"{split}/{name}"] = digest
    return captions, concepts, sources


def _check_lengths(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    concepts: Sequence[Collection[str]] | None,
) -> None:
    sizes = {len(hypotheses), len(references), *([] if concepts is None else [len(concepts)])}
    bare = sum(not captions for captions in references)
    if len(sizes) > 1 or bare or not hypotheses:
        given = "none" if concepts is None else len(concepts)
        raise MetricError(
            explain(
                "captions, references and concepts do not belong together",
                got=f"{len(hypotheses)} captions, {len(references)} sets of references, {bare} of "
                f"them empty, {given} sets of concepts",
                expected="as many of each, at least one, and a reference for every image",
                do="give one per image, in the same order",
            )
        )
