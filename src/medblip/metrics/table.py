"""The scores of one system: values with intervals, values per image, and the statistics behind."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Aggregation, Floats, Metric, Ratio, Statistics
from medblip.metrics.bleu import Bleu
from medblip.metrics.cider import Cider, CiderD
from medblip.metrics.ngrams import Ints, TokenPairs
from medblip.metrics.resampling import group_numbers, scores
from medblip.metrics.rouge import RougeL
from medblip.metrics.tokenize import tokenize
from medblip.rundir import staged_file
from medblip.schema import Score

__all__ = ["LEXICAL", "StoredStatistics", "Table", "evaluate_captions", "load_statistics"]

#: What `evaluate_captions` computes unless told otherwise; plain `Cider` is there for who asks.
LEXICAL: tuple[type[Metric], ...] = (Bleu, RougeL, CiderD)

_KNOWN: dict[str, type[Metric]] = {
    "Bleu": Bleu, "RougeL": RougeL, "CiderD": CiderD, "Cider": Cider,
}  # fmt: skip

#: Raised whenever a definition or a tokenizer rule changes a value; part of every signature.
_DEFINITIONS = "medblip-metrics:1"
_TOKENIZER = "tok:ptb-compat"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class StoredStatistics:
    """What paired tests need of one system: no captions.

    Args:
        ids: Image ids.
        families: Statistics by family name.
        groups: Number of each image's group, int64 (images,), or None when each stands alone.
        signatures: How each family was computed.
    """

    ids: tuple[str, ...]
    families: dict[str, Statistics]
    groups: Ints | None
    signatures: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
    """Result of `evaluate_captions`.

    Args:
        scores: By metric name.
        per_image: float64 (images,) by metric name; NaN-free. BLEU of one image is smoothed; a fact
            that is not scored on an image gives 0 there and is not part of the mean.
        families: Sufficient statistics by family name.
        groups: Number of each image's group, int64 (images,), or None.
        signatures: How each family was computed.
    """

    scores: dict[str, Score]
    per_image: dict[str, Floats]
    families: dict[str, Statistics]
    groups: Ints | None
    signatures: dict[str, str]

    def save_statistics(self, path: Path, ids: Sequence[str]) -> None:
        """Write the statistics (npz, no pickle) for later paired tests.

        Raises:
            RunError: The folder cannot be written.
        """
        arrays: dict[str, Any] = {f"family:{n}": s.values for n, s in self.families.items()}
        arrays["ids"] = np.array(json.dumps(list(ids)))
        arrays["signatures"] = np.array(json.dumps(self.signatures))
        if self.groups is not None:
            arrays["groups"] = self.groups
        with staged_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)

    def stored(self, ids: Sequence[str]) -> StoredStatistics:
        """Return what `save_statistics` would write, for tests without a file."""
        return StoredStatistics(tuple(ids), self.families, self.groups, self.signatures)


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
    """Score captions against references.

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
    pairs = TokenPairs(
        [tokenize(caption) for caption in hypotheses],
        [[tokenize(caption) for caption in captions] for captions in references],
    )
    numbers = None if groups is None else group_numbers(_as_many(groups, hypotheses, "groups"))
    counts = sorted({len(captions) for captions in references})
    span = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    how = f"{_TOKENIZER}|refs:{span}|{_DEFINITIONS}"
    families: dict[str, Statistics] = {}
    for kind in metrics:
        metric = kind()
        families[kind.__name__] = Statistics(metric, metric.statistics(pairs))
    found = scores(
        list(families.values()), resamples=resamples, seed=seed, groups=numbers, context=how
    )
    signatures = {name: f"{how}|{family.metric.signature}" for name, family in families.items()}
    if facts is not None:
        known = _fact_families(hypotheses, _as_many(facts, hypotheses, "sets of facts"))
        found |= scores(
            list(known.values()),
            resamples=resamples,
            seed=seed,
            groups=numbers,
            context=_DEFINITIONS,
        )
        families |= known
        signatures |= {name: f"{_DEFINITIONS}|{s.metric.signature}" for name, s in known.items()}
    per_image = {
        name: values
        for family in families.values()
        for name, values in zip(family.metric.names, family.per_image().T, strict=True)
    }
    return Table(found, per_image, families, numbers, signatures)


def load_statistics(path: Path) -> StoredStatistics:
    """Read what `Table.save_statistics` wrote.

    Raises:
        MetricError: The file is absent or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        ids = tuple(json.loads(str(stored["ids"])))
        signatures = json.loads(str(stored.get("signatures", "{}")))
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise MetricError(
            explain(
                f"{path}: statistics cannot be read",
                got=type(error).__name__,
                expected="the .npz that `medblip evaluate` writes beside the scores",
                do="evaluate this run again with --force",
            )
        ) from error
    families = {}
    for key, values in stored.items():
        name = key.removeprefix("family:")
        if name != key:
            metric: Aggregation = _KNOWN[name]() if name in _KNOWN else Ratio(name)
            families[name] = Statistics(metric, values)
    return StoredStatistics(ids, families, stored.get("groups"), signatures)


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


def _fact_families(
    hypotheses: Sequence[str], facts: Sequence[dict[str, Any]]
) -> dict[str, Statistics]:
    from medblip.metrics.facts import fact_statistics

    return {
        name: Statistics(Ratio(name, "lexicon"), np.column_stack([numerator, denominator]))
        for name, (numerator, denominator) in fact_statistics(hypotheses, facts).items()
    }
