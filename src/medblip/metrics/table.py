"""The scores of one system: values with intervals, values per image, and the statistics behind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.base import Metric, Ratio, Statistics, check_pairs, group_numbers
from medblip.metrics.bleu import Bleu
from medblip.metrics.cider import CiderD
from medblip.metrics.rouge import RougeL
from medblip.metrics.tokenize import tokenize
from medblip.rundir import staged_file
from medblip.schema import Score

__all__ = ["StoredStatistics", "Table", "evaluate_captions", "load_statistics"]

_LEXICAL: tuple[type[Metric], ...] = (Bleu, RougeL, CiderD)


@dataclasses.dataclass(frozen=True)
class StoredStatistics:
    """What paired tests need of one system: no captions.

    Args:
        ids: Image ids.
        families: Statistics by family name.
        groups: Number of each image's group, or None when every image stands alone.
    """

    ids: tuple[str, ...]
    families: dict[str, Statistics]
    groups: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Table:
    """Result of `evaluate_captions`.

    Args:
        scores: By metric name.
        per_image: float64 (images,) by metric name; NaN-free. BLEU of one image is smoothed.
        families: Sufficient statistics by family name.
        groups: Number of each image's group, or None.
    """

    scores: dict[str, Score]
    per_image: dict[str, np.ndarray]
    families: dict[str, Statistics]
    groups: np.ndarray | None

    def save_statistics(self, path: Path, ids: Sequence[str]) -> None:
        """Write the statistics (npz, no pickle) for later paired tests."""
        arrays: dict[str, Any] = {f"family:{n}": s.values for n, s in self.families.items()}
        arrays["ids"] = np.array(json.dumps(list(ids)))
        if self.groups is not None:
            arrays["groups"] = self.groups
        with staged_file(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, **arrays)


def evaluate_captions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    facts: Sequence[dict[str, Any]] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> Table:
    """Score captions against references.

    Args:
        hypotheses: One caption per image; may be empty strings.
        references: At least one caption per image, raw.
        facts: Known facts per image; adds the `fact-*` accuracies.
        resamples: Bootstrap resamples; 0 leaves the intervals out (equal to the value).
        seed: Of the resampling.
        groups: Patient or case per image; groups are resampled instead of images.

    Raises:
        MetricError: Lengths differ, the set is empty, or an image has no reference.
    """
    check_pairs(hypotheses, references)
    tokens = [tokenize(caption) for caption in hypotheses]
    reference_tokens = [[tokenize(caption) for caption in captions] for captions in references]
    families: dict[str, Statistics] = {}
    for kind in _LEXICAL:
        metric = kind()
        families[kind.__name__] = Statistics(metric, metric.statistics(tokens, reference_tokens))
    if facts is not None:
        families |= _fact_families(hypotheses, facts)
    numbers = None if groups is None else group_numbers(groups)
    scores: dict[str, Score] = {}
    per_image: dict[str, np.ndarray] = {}
    for family in families.values():
        scores |= family.scores(resamples, seed, numbers)
        values = family.per_image()
        per_image |= {name: values[:, index] for index, name in enumerate(family.metric.names)}
    return Table(scores, per_image, families, numbers)


def load_statistics(path: Path) -> StoredStatistics:
    """Read what `Table.save_statistics` wrote.

    Raises:
        MetricError: The file is absent or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise MetricError(
            explain(
                f"{path}: statistics cannot be read",
                got=type(error).__name__,
                expected="the .npz that `medblip evaluate` writes beside the scores",
                do="evaluate this run again with --force",
            )
        ) from error
    metrics: dict[str, Metric] = {kind.__name__: kind() for kind in _LEXICAL}
    families = {}
    for key, values in stored.items():
        if key.startswith("family:"):
            name = key.removeprefix("family:")
            families[name] = Statistics(metrics.get(name) or Ratio(name), values)
    ids = tuple(json.loads(str(stored["ids"])))
    return StoredStatistics(ids, families, stored.get("groups"))


def _fact_families(
    hypotheses: Sequence[str], facts: Sequence[dict[str, Any]]
) -> dict[str, Statistics]:
    from medblip.metrics.facts import fact_statistics

    return {
        name: Statistics(Ratio(name, "lexicon"), np.column_stack([numerator, denominator]))
        for name, (numerator, denominator) in fact_statistics(hypotheses, facts).items()
    }
