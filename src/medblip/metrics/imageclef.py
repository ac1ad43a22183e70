"""The ImageCLEFmedical Caption protocol: its text rules, ROUGE-1, and its means of components.

Follows the organisers' evaluation code of 2025 and 2026 and their published tables. The components
that need models come from elsewhere as one value per image; a mean with a component missing is not
computed. Everything is named ImageCLEF-style: only the organisers' own run is the official score.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Floats, Ratio, Statistics, mean_statistics
from medblip.metrics.ngrams import Ints, TokenPairs, owners
from medblip.metrics.words import Pieces, Words

__all__ = [
    "COMPONENTS",
    "Rouge1",
    "Year",
    "imageclef_statistics",
    "normalise",
    "rouge1_statistics",
    "with_empty_captions",
]

Year = Literal[2025, 2026]

#: Which components make up which mean; the keys that callers use.
COMPONENTS: dict[int, dict[str, tuple[str, ...]]] = {
    2025: {
        "relevance": ("BERTScore-F1(imageclef)", "ROUGE-1", "similarity"),
        "factuality": ("MedCAT-F1", "AlignScore"),
    },
    2026: {
        "relevance": ("BERTScore-F1(imageclef)", "ROUGE-1", "similarity", "BLEURT"),
        "factuality": ("MedCAT-F1", "AlignScore"),
    },
}
#: What a component scores where caption and reference are both empty; BLEURT has no such rule.
_BOTH_EMPTY = {
    "BERTScore-F1(imageclef)": 1.0, "ROUGE-1": 1.0, "MedCAT-F1": 1.0, "AlignScore": 1.0,
}  # fmt: skip

_NUMBER = re.compile(r"\d+")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile("[a-z0-9]+")


def normalise(text: str) -> str:
    """Return text as the organisers compare it: lower case, numbers as a word, no punctuation.

    Punctuation beyond ASCII stays.

    >>> normalise("CT: a 3.5-cm mass (arrow)")
    'ct a numbernumbercm mass arrow'
    """
    return _NUMBER.sub("number", text.lower()).translate(_NO_PUNCTUATION)


class Rouge1(Ratio):
    """ROUGE-1 F1 of normalised text: unigrams of a-z and 0-9, no stemmer, mean over images."""

    def __init__(self) -> None:
        super().__init__("ROUGE-1", "imageclef|tok:a-z0-9|stem:none|best-reference")


def rouge1_statistics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    pieces: Pieces | None = None,
) -> Statistics:
    """Score ROUGE-1 from raw captions; caption and reference both the empty string count 1.

    Args:
        hypotheses: One caption per image.
        references: At least one caption per image; of several, the best counts.
        pieces: Of all captions, then of all references, where they are known already.

    Raises:
        MetricError: Lengths differ, there is no image, or an image has no reference.
    """
    texts = [*hypotheses, *(caption for captions in references for caption in captions)]
    images = len(hypotheses)
    owner = owners(hypotheses, references)
    words = (pieces or Pieces(texts)).words(_words)
    common, sizes = _common(words, owner), words.lengths
    values = 2 * common / np.maximum(1, sizes[owner] + sizes[images:])
    silent = np.array([not text for text in texts])
    values[silent[owner] & silent[images:]] = 1
    best = np.maximum.reduceat(values, np.searchsorted(owner, np.arange(images)))
    return Statistics(Rouge1(), mean_statistics(best))


def imageclef_statistics(
    components: Mapping[str, Floats], year: Year
) -> tuple[dict[str, Statistics], list[str]]:
    """Combine components image by image: every component is a plain mean, so are their means.

    Args:
        components: Value per image (images,) by component, with the keys of `COMPONENTS` and the
            rules for empty captions applied (`with_empty_captions`); others are ignored.
        year: Whose rules.

    Returns:
        Statistics by name, `ImageCLEF-style <year> relevance` and so on, as far as their
        components are there; and the components that are missing.

    Raises:
        MetricError: The year is unknown, lengths differ, or a value is not a finite number.
    """
    parts = _parts(year)
    names = [name for members in parts.values() for name in members]
    given = {name: np.asarray(components[name], np.float64) for name in names if name in components}
    _check(given)
    means = {
        part: (np.mean([given[name] for name in members], axis=0), "+".join(members))
        for part, members in parts.items()
        if all(name in given for name in members)
    }
    if len(means) == len(parts):
        values = np.mean([mean for mean, _ in means.values()], axis=0)
        means["overall"] = (values, "+".join(means))
    found = {}
    for part, (values, signature) in means.items():
        name = f"{_label(year)} {part}"
        found[name] = Statistics(Ratio(name, f"mean:{signature}"), mean_statistics(values))
    return found, [name for name in names if name not in given]


def with_empty_captions(
    component: str,
    values: Floats,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    year: Year,
) -> Floats:
    """Return values per image with the organisers' rules for empty captions applied.

    Caption and reference both empty: 1, except BLEURT, which has no rule. Similarity: 1 in 2025;
    in 2026 an empty caption scores 0, whatever the reference. Empty means the empty string.

    Args:
        component: A key of `COMPONENTS`.
        values: As the scorer gave them, (images,).
        hypotheses: Raw captions.
        references: Raw; of several, one that is empty counts as empty.
        year: Whose rules.

    Raises:
        MetricError: The year or the component is unknown, or lengths differ.
    """
    names = [name for members in _parts(year).values() for name in members]
    if component not in names or not len(values) == len(hypotheses) == len(references):
        raise MetricError(
            explain(
                "values do not belong to these captions",
                got=f"{len(values)} of {component!r}, {len(hypotheses)} captions, "
                f"{len(references)} sets of references",
                expected=f"as many of each; one of {', '.join(names)}",
                do="score the same captions",
            )
        )
    silent = np.array([not caption for caption in hypotheses], dtype=bool)
    both = silent & np.array([any(not text for text in texts) for texts in references], dtype=bool)
    rule = _BOTH_EMPTY.get(component)
    if component == "similarity":
        rule, both = (1.0, both) if year == 2025 else (0.0, silent)
    result = np.array(values, dtype=np.float64)
    if rule is not None:
        result[both] = rule
    return result


def _words(piece: str) -> Sequence[str]:
    """Return the words of a piece of text, normalised; white space only parts them."""
    if piece.isascii() and piece.isalpha():
        return (piece.lower(),)
    return _WORD.findall(normalise(piece))


def _common(words: Words, owner: Ints) -> Ints:
    """Return how many words of each reference its caption has, each as often as both have it.

    Args:
        words: Of captions, then of references.
        owner: Number of the caption of each reference, (references,).
    """
    order = TokenPairs.of_words(words, owner).orders_up_to(1)[0]
    hit = order.shared >= 0
    both = np.minimum(order.hypothesis.count[order.shared[hit]], order.reference.count[hit])
    return np.bincount(order.reference.caption[hit], both, len(owner)).astype(np.int64)


def _label(year: Year) -> str:
    return f"ImageCLEF-style {year}"


def _parts(year: int) -> dict[str, tuple[str, ...]]:
    if year not in COMPONENTS:
        raise MetricError(
            explain(
                "no rules of that year",
                got=year,
                expected=", ".join(map(str, COMPONENTS)),
                do="choose one of these years",
            )
        )
    return COMPONENTS[year]


def _check(given: Mapping[str, Floats]) -> None:
    shapes = {name: values.shape for name, values in given.items()}
    broken = [name for name, values in given.items() if not np.isfinite(values).all()]
    if (
        broken
        or len(set(shapes.values())) > 1
        or any(len(s) != 1 or not s[0] for s in shapes.values())
    ):
        raise MetricError(
            explain(
                "components do not belong together",
                got=", ".join(f"{name}: {shape}" for name, shape in shapes.items())
                + (f"; not finite: {', '.join(broken)}" if broken else ""),
                expected="one finite number per image, for the same images",
                do="score all components on the same captions",
            )
        )
