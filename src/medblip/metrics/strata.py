"""Groups of images, so that a mean hides none: modality, region, length, rare findings.

From known facts where all images have them, else from what the audit and the lexicon read in the
first reference. Exploratory: nothing is corrected for how many groups are looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medblip.metrics.audit import audit
from medblip.metrics.base import Means, Ratio, Statistics
from medblip.metrics.facts import read_facts
from medblip.metrics.ngrams import Ints
from medblip.metrics.resampling import scores

__all__ = ["LENGTHS", "RARE", "SMALLEST", "levels", "stratified"]

#: Words of the reference: up to the first short, up to the second medium, else long.
LENGTHS = (10, 25)
#: The rarest findings that together make up this share of all mentions in training are rare.
RARE = 0.2
#: Levels with fewer images become `other`.
SMALLEST = 10
_SILENT = "not stated"


def levels(
    references: Sequence[Sequence[str]],
    facts: Sequence[Mapping[str, Any]] | None,
    training: Sequence[Sequence[str]] = (),
    training_facts: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, list[str]]:
    """Return stratum -> the level of each image.

    Args:
        references: Of each image; the first is read.
        facts: Known facts of each image, with `modality`, `region` and `findings`; None: read.
        training: References of the training split, for what is rare; none: these images'.
        training_facts: As `facts`.
    """
    findings = [_findings(one, fact) for one, fact in _zipped(references, facts)]
    learned = [_findings(one, fact) for one, fact in _zipped(training, training_facts)]
    rare = _rare(learned or findings)
    found = {
        "modality": [_modality(one, fact) for one, fact in _zipped(references, facts)],
        "region": [_region(one, fact) for one, fact in _zipped(references, facts)],
        "length": [_length(one[0]) for one in references],
        "findings": [
            "none" if not names else "rare" if names & rare else "common" for names in findings
        ],
    }
    return {name: _merged(values) for name, values in found.items()}


def stratified(
    families: Sequence[Statistics],
    metrics: Sequence[str],
    strata: Mapping[str, Sequence[str]],
    *,
    resamples: int,
    seed: int,
    groups: Ints | None = None,
) -> list[dict[str, Any]]:
    """Return {stratum, level, n, metric, value, ci} of every group of images of one system.

    CIDEr keeps the idf of the whole set: the statistics were computed with it.

    Args:
        families: Of the system, on all images.
        metrics: Names.
        strata: As `levels` returns.
        resamples: Behind each interval.
        seed: Of the resampling.
        groups: Group number of each image; groups are drawn instead of images.
    """
    wanted = [one for one in families if not set(one.metric.names).isdisjoint(metrics)]
    rows = []
    for stratum, values in strata.items():
        labels = np.asarray(values)
        for level, count in Counter(values).most_common():
            inside = labels == level
            parts = [
                Statistics(f.metric, f.values[inside], f.context)
                for f in wanted
                if _counted(f, inside)
            ]
            own = None if groups is None else np.unique(groups[inside], return_inverse=True)[1]
            found = scores(parts, resamples=resamples, seed=seed, groups=own)
            rows += [
                {"stratum": stratum, "level": level, "n": count, "metric": name,
                 "value": found[name].value, "ci": list(found[name].ci)}
                for name in metrics if name in found
            ]  # fmt: skip
    return rows


def _counted(family: Statistics, inside: NDArray[np.bool_]) -> bool:
    """Whether any image of a group counts: "side" of images without a sided finding does not."""
    if not isinstance(family.metric, Ratio | Means):
        return True
    return bool((family.values[inside, -1] > 0).any())


def _zipped(
    references: Sequence[Sequence[str]], facts: Sequence[Mapping[str, Any]] | None
) -> list[tuple[Sequence[str], Mapping[str, Any] | None]]:
    nothing: list[Mapping[str, Any] | None] = [None] * len(references)
    known = nothing if facts is None else facts
    return list(zip(references, known, strict=True))


def _modality(references: Sequence[str], facts: Mapping[str, Any] | None) -> str:
    if facts is not None:
        return str(facts.get("modality") or _SILENT)
    named = sorted(audit(references[0]).items("modality"))
    return named[0] if len(named) == 1 else "several" if named else _SILENT


def _region(references: Sequence[str], facts: Mapping[str, Any] | None) -> str:
    found = facts if facts is not None else read_facts(references[0])
    return str(found.get("region") or _SILENT)


def _findings(references: Sequence[str], facts: Mapping[str, Any] | None) -> set[str]:
    if facts is not None:
        return {str(one["name"]) for one in facts.get("findings", [])}
    return set(audit(references[0]).items("finding"))


def _length(text: str) -> str:
    words = len(text.split())
    short, medium = LENGTHS
    if words <= short:
        return f"short (up to {short} words)"
    return f"medium (up to {medium} words)" if words <= medium else f"long (over {medium} words)"


def _rare(findings: Sequence[set[str]]) -> set[str]:
    counts = Counter(name for names in findings for name in sorted(names))
    left, rare = RARE * counts.total(), set()
    for name, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        left -= count
        if left < 0:
            break
        rare.add(name)
    return rare


def _merged(values: Sequence[str]) -> list[str]:
    counts = Counter(values)
    return [value if counts[value] >= SMALLEST else "other" for value in values]
