"""The scores of one system: values with intervals, values per image, and the statistics behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Floats, Metric, Ratio, Statistics
from medblip.metrics.bleu import Bleu
from medblip.metrics.cider import Cider
from medblip.metrics.imageclef import rouge1_statistics
from medblip.metrics.ngrams import Ints, TokenPairs, owners
from medblip.metrics.resampling import group_numbers, scores
from medblip.metrics.rouge import RougeL
from medblip.metrics.stored import StoredStatistics, references_digest
from medblip.metrics.tokenize import tokenize_all
from medblip.metrics.words import Pieces
from medblip.schema import Score

__all__ = [
    "DEFINITIONS",
    "LEXICAL",
    "TOKENIZERS",
    "Table",
    "Tokenizer",
    "evaluate_captions",
    "fact_families",
    "lexical_families",
    "references_note",
    "score_families",
    "token_pairs",
]

#: Families computed from tokens.
LEXICAL: tuple[type[Metric], ...] = (Bleu, RougeL, Cider)

#: Raised whenever a definition or a tokenizer rule changes a value; part of every signature.
DEFINITIONS = "medblip-metrics:2"
TOKENIZERS = {"ptb": "ptb-compat", "none": "none"}
Tokenizer = Literal["ptb", "none"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Table:
    """Result of `evaluate_captions`.

    Args:
        scores: By metric name.
        per_image: float64 (images,) by metric name; NaN-free. BLEU of one image is smoothed; a fact
            that is not scored on an image gives 0 there and is not part of the mean.
        families: Sufficient statistics by family name.
        groups: Number of each image's group, int64 (images,), or None.
    """

    scores: dict[str, Score]
    per_image: dict[str, Floats]
    families: dict[str, Statistics]
    groups: Ints | None

    def stored(
        self, ids: Sequence[str], references: Sequence[Sequence[str]] = ()
    ) -> StoredStatistics:
        """Return what paired tests need."""
        digest = references_digest(references)
        return StoredStatistics(tuple(ids), self.families, self.groups, digest)


def evaluate_captions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    facts: Sequence[dict[str, Any]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
    metrics: Sequence[type[Metric]] = LEXICAL,
) -> Table:
    """Score captions against references by all that needs neither a model nor a file.

    Args:
        hypotheses: One caption per image; may be empty strings.
        references: At least one caption per image, raw.
        facts: Known facts per image; adds the `fact-*` accuracies.
        resamples: Bootstrap resamples; 0 leaves the intervals out (equal to the value).
        seed: Of the resampling.
        groups: Patient or case per image; groups are resampled instead of images.
        metrics: Families to compute from tokens.

    Raises:
        MetricError: Lengths differ, the set is empty, or an image has no reference.
    """
    families = lexical_families(hypotheses, references, metrics)
    if facts is not None:
        families |= fact_families(hypotheses, _as_many(facts, hypotheses, "sets of facts"))
    if groups is not None:
        _as_many(groups, hypotheses, "groups")
    return score_families(families, resamples=resamples, seed=seed, groups=groups)


def score_families(
    families: Mapping[str, Statistics],
    *,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Table:
    """Give every metric its value, interval and values per image, from one set of resamples."""
    numbers = None if groups is None else group_numbers(groups)
    found = scores(list(families.values()), resamples=resamples, seed=seed, groups=numbers)
    per_image = {
        name: values
        for family in families.values()
        for name, values in zip(family.metric.names, family.per_image().T, strict=True)
    }
    return Table(found, per_image, dict(families), numbers)


def lexical_families(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[type[Metric]] = LEXICAL,
    tokenizer: Tokenizer = "ptb",
) -> dict[str, Statistics]:
    """Return the statistics of the families computed from tokens, and of ROUGE-1.

    Args:
        hypotheses: One caption per image.
        references: At least one per image.
        metrics: Families computed from tokens.
        tokenizer: `ptb`, or `none` for captions that are tokens with one blank between.
    """
    pieces = _pieces(hypotheses, references)
    rouge1 = rouge1_statistics(hypotheses, references, pieces)
    note = f"{references_note(references)}|{DEFINITIONS}"
    found = {}
    if metrics:
        pairs = token_pairs(hypotheses, references, tokenizer, pieces)
        context = f"tok:{TOKENIZERS[tokenizer]}|{note}"
        for metric in (kind() for kind in metrics):
            name = type(metric).__name__
            found[name] = Statistics(metric, metric.statistics(pairs), context)
    return found | {"Rouge1": Statistics(rouge1.metric, rouge1.values, note)}


def token_pairs(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenizer: Tokenizer = "ptb",
    pieces: Pieces | None = None,
) -> TokenPairs:
    """Return the tokens of captions and references."""
    if tokenizer == "none":
        return TokenPairs(
            [caption.split(" ") for caption in hypotheses],
            [[caption.split(" ") for caption in captions] for captions in references],
        )
    image = owners(hypotheses, references)
    return TokenPairs.of_words(tokenize_all(pieces or _pieces(hypotheses, references)), image)


def _pieces(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Pieces:
    return Pieces([*hypotheses, *(caption for captions in references for caption in captions)])


def references_note(references: Sequence[Sequence[Any]]) -> str:
    """Return how many references an image has, as signatures write it: `refs:1`, `refs:1-5`."""
    counts = sorted({len(captions) for captions in references})
    return f"refs:{counts[0]}" if len(counts) == 1 else f"refs:{counts[0]}-{counts[-1]}"


def fact_families(
    hypotheses: Sequence[str], facts: Sequence[dict[str, Any]]
) -> dict[str, Statistics]:
    """Return the accuracy of facts that are known to be true of the images."""
    from medblip.metrics.facts import fact_statistics

    return {
        name: Statistics(
            Ratio(name, "lexicon"), np.column_stack([numerator, denominator]), DEFINITIONS
        )
        for name, (numerator, denominator) in fact_statistics(hypotheses, facts).items()
    }


def _as_many(values: Sequence[T], hypotheses: Sequence[str], what: str) -> Sequence[T]:
    if len(values) != len(hypotheses):
        raise MetricError(
            explain(
                f"captions and {what} do not belong together",
                got=f"{len(hypotheses)} captions, {len(values)} {what}",
                expected="as many of both",
                do="give one per image, in the same order",
            )
        )
    return values
