"""What the splits of a data set share that they should not: patients, articles, images, captions.

A score on a test image whose twin was trained on is no score. Pure: rows and fingerprints in,
counts and ids out; reads no file and decodes nothing.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from medblip.data.duplicates import FINGERPRINT, near_pairs
from medblip.errors import DataError, explain
from medblip.schema import SPLITS, Example

__all__ = ["Leak", "Leaks", "find_leaks"]

#: Cases that are named, and ids per case.
_CASES, _IDS = 10, 6
#: What names one publication or one page; "ROCO" or "our hospital" does not.
_ARTICLE = re.compile(r"PMC\d+|10\.\d{4,9}/\S+|https?://\S+", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leak:
    """One kind of thing that is shared.

    Args:
        cases: How many things: groups, articles, pictures, pairs, captions.
        images: How many images they concern.
        held_out: How many of these are in the validation or test split: their scores are flattered.
        first: Ids of the first cases, each with its images, of different splits first.
    """

    cases: int = 0
    images: int = 0
    held_out: int = 0
    first: tuple[tuple[str, ...], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Leaks:
    """What was found; `dataclasses.asdict` of it is JSON.

    Args:
        groups: Patients, cases or articles (`Example.group`) in several splits.
        articles: Articles or pages (named in `Example.source`) in several splits.
        copies: Pictures with equal pixels in several splits.
        near_copies: Pairs of images across splits that are one picture, pixels apart.
        captions: Captions, but for case and spaces, in several splits.
        copies_within: Pictures with equal pixels in one split.
        captions_within: Captions that repeat in one split.
        compared: Images whose pixels were compared; those without a fingerprint were not.
        complete: False when so many near-copies were found that the search ended.
    """

    groups: Leak
    articles: Leak
    copies: Leak
    near_copies: Leak
    captions: Leak
    copies_within: Leak
    captions_within: Leak
    compared: int
    complete: bool = True


def find_leaks(examples: Sequence[Example], fingerprints: np.ndarray | None = None) -> Leaks:
    """Find what the splits share.

    Args:
        examples: Rows of a manifest.
        fingerprints: `FINGERPRINT` rows in the same order; None leaves pixels out.

    Raises:
        DataError: There are not as many fingerprints as examples.
    """
    if fingerprints is None:
        fingerprints = np.zeros(0, FINGERPRINT)
    elif len(fingerprints) != len(examples):
        raise DataError(
            explain(
                "fingerprints of another manifest",
                got=f"{len(fingerprints)} fingerprints",
                expected=f"{len(examples)}, one per row of manifest.jsonl",
                do="prepare the data again",
            )
        )
    groups = _cases((e.group, i) for i, e in enumerate(examples) if e.group is not None)
    articles = _cases((name, i) for i, e in enumerate(examples) for name in _articles(e.source))
    texts = _cases((_plain(c), i) for i, e in enumerate(examples) for c in e.captions)
    pixels = _cases((row["pixels"].tobytes(), i) for i, row in enumerate(fingerprints))
    near, complete = _near(examples, fingerprints)
    return Leaks(
        groups=_leak(examples, groups, across=True),
        articles=_leak(examples, articles, across=True),
        copies=_leak(examples, pixels, across=True),
        near_copies=_leak(examples, near, across=True),
        captions=_leak(examples, texts, across=True),
        copies_within=_leak(examples, pixels, across=False),
        captions_within=_leak(examples, texts, across=False),
        compared=len(fingerprints),
        complete=complete,
    )


def _cases(keys: Iterable[tuple[Hashable, int]]) -> list[list[int]]:
    """Return the rows of every key that several rows share."""
    rows: dict[Hashable, dict[int, None]] = defaultdict(dict)  # a row may say one thing twice
    for key, row in keys:
        rows[key][row] = None
    return [list(found) for found in rows.values() if len(found) > 1]


def _leak(examples: Sequence[Example], cases: Sequence[Sequence[int]], *, across: bool) -> Leak:
    """Count the cases that lie in several splits; or else those with several rows in one split."""
    chosen: list[list[int]] = []
    for case in cases:
        splits = Counter(examples[row].split for row in case)
        if across and len(splits) > 1:
            chosen.append(list(case))
        elif not across:
            repeated = [row for row in case if splits[examples[row].split] > 1]
            chosen += [repeated] if repeated else []
    rows = set(itertools.chain.from_iterable(chosen))
    return Leak(
        cases=len(chosen),
        images=len(rows),
        held_out=sum(examples[row].split != "train" for row in rows),
        first=tuple(tuple(_named(examples, case)) for case in chosen[:_CASES]),
    )


def _named(examples: Sequence[Example], case: Sequence[int]) -> list[str]:
    """Return a few ids of one case, in turn from each of its splits."""
    per_split = [[row for row in case if examples[row].split == split] for split in SPLITS]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*per_split))
    return [examples[row].id for row in turns if row is not None][:_IDS]


def _near(examples: Sequence[Example], fingerprints: np.ndarray) -> tuple[list[list[int]], bool]:
    """Return pairs across splits that are one picture; equal pixels are told elsewhere."""
    if not len(fingerprints):
        return [], True
    first: dict[tuple[bytes, str], int] = {}  # a thousand equal images need one comparison
    keys = [row.tobytes() for row in fingerprints["pixels"]]
    for row, (key, example) in enumerate(zip(keys, examples, strict=True)):
        first.setdefault((key, example.split), row)
    rows = np.fromiter(first.values(), np.int64, len(first))
    found = near_pairs(fingerprints[rows], [examples[row].split for row in rows])
    pairs = [[int(rows[a]), int(rows[b])] for a, b in found.rows]
    return [[a, b] for a, b in pairs if keys[a] != keys[b]], found.complete


def _articles(source: str | None) -> set[str]:
    return {name.casefold().rstrip(".,;)") for name in _ARTICLE.findall(source or "")}


def _plain(caption: str) -> str:
    return " ".join(caption.casefold().split())
