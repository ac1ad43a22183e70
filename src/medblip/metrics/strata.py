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
from medblip.metrics.base import Agreement, Means, Ratio, Statistics
from medblip.metrics.facts import read_facts
from medblip.metrics.ngrams import Ints
from medblip.metrics.resampling import scores

__all__ = ["LENGTHS", "RARE", "SMALLEST", "counted", "levels", "stratified"]

#: Words of the reference: up to the first short, up to the second medium, else long.
LENGTHS = (10, 25)
#: The rarest findings that together make up this share of all mentions in training are rare.
RARE = 0.2
#: Levels with fewer images become one, and no interval is made of fewer images that count, or of
#: fewer patients where images belong to some: it would say how alike they are, not how sure we are.
SMALLEST = 10
_SILENT = "not stated"
#: How many of the levels in `other` are named there.
_NAMED = 3


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
        training: References of the training split, for what is rare; none: nobody knows what is.
        training_facts: As `facts`.
    """
    findings = [_findings(one, fact) for one, fact in _zipped(references, facts)]
    learned = [_findings(one, fact) for one, fact in _zipped(training, training_facts)]
    common = _common(learned) if learned else None
    found = {
        "modality": [_modality(one, fact) for one, fact in _zipped(references, facts)],
        "region": [_region(one, fact) for one, fact in _zipped(references, facts)],
        "length": [_length(one[0]) for one in references],
        "findings": [_frequency(names, common) for names in findings],
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

    `n` counts the images that have a value: "side" has none where nothing has a side. `ci` is None
    where fewer than SMALLEST of them, or of their patients, are there. CIDEr keeps the idf of the
    whole set: the statistics were computed with it.

    Args:
        families: Of the system, on all images.
        metrics: Names.
        strata: As `levels` returns.
        resamples: Behind each interval.
        seed: Of the resampling.
        groups: Group number of each image; groups are drawn instead of images.
    """
    rows = []
    for stratum, values in strata.items():
        labels = np.asarray(values)
        for level, _ in Counter(values).most_common():
            found: dict[str, tuple[int, float, list[float] | None]] = {}
            for inside, parts in _alike(families, metrics, labels == level):
                found |= _valued(parts, inside, resamples, seed, groups)
            for name in metrics:
                if name in found:
                    n, value, ci = found[name]
                    rows.append({"stratum": stratum, "level": level, "n": n, "metric": name,
                                 "value": value, "ci": ci})  # fmt: skip
    return rows


def _alike(
    families: Sequence[Statistics], metrics: Sequence[str], level: NDArray[np.bool_]
) -> list[tuple[NDArray[np.bool_], list[Statistics]]]:
    """Return the families of the metrics by which images of a level count: one bootstrap each."""
    found: dict[bytes, tuple[NDArray[np.bool_], list[Statistics]]] = {}
    for family in families:
        if set(family.metric.names).isdisjoint(metrics):
            continue
        inside = level & counted(family)
        if inside.any():
            part = Statistics(family.metric, family.values[inside], family.context)
            found.setdefault(inside.tobytes(), (inside, []))[1].append(part)
    return list(found.values())


def _valued(
    parts: Sequence[Statistics], inside: NDArray[np.bool_], resamples: int, seed: int,
    groups: Ints | None,
) -> dict[str, tuple[int, float, list[float] | None]]:  # fmt: skip
    """Return n, value and interval by metric, of the images that count alone.

    So every resample has such images: one without any would be a 0, or for agreement a 1.
    """
    own = None if groups is None else np.unique(groups[inside], return_inverse=True)[1]
    n = int(inside.sum())
    enough = (n if own is None else int(own.max()) + 1) >= SMALLEST
    found = scores(parts, resamples=resamples if enough else 0, seed=seed, groups=own)
    return {name: (n, one.value, list(one.ci) if enough else None) for name, one in found.items()}


def counted(family: Statistics) -> NDArray[np.bool_]:
    """Return which images have a value: "side" has none where nothing has a side."""
    if isinstance(family.metric, Agreement):  # both, said, true: nothing said of nothing there
        return np.asarray(family.values[:, 1:].sum(axis=1) > 0)
    if isinstance(family.metric, Ratio | Means):
        return np.asarray(family.values[:, -1] > 0)
    return np.ones(len(family.values), dtype=np.bool_)


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
    if words <= medium:
        return f"medium (up to {medium} words)"
    return f"long (more than {medium} words)"


def _common(findings: Sequence[set[str]]) -> set[str]:
    """Return the findings that training has and that are not rare there."""
    counts = Counter(name for names in findings for name in sorted(names))
    left, rare = RARE * counts.total(), set()
    for name, count in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        left -= count
        if left < 0:
            break
        rare.add(name)
    return counts.keys() - rare


def _frequency(names: set[str], common: set[str] | None) -> str:
    """Return the level of an image by its rarest finding; one that training lacks is the rarest."""
    if not names:
        return "none"
    if common is None:
        return "frequency unknown"
    return "common" if names <= common else "rare"


def _merged(values: Sequence[str]) -> list[str]:
    """Put small levels together, under their names; one alone keeps its own."""
    counts = Counter(values)
    small = [value for value, count in counts.most_common() if count < SMALLEST]
    if len(small) < 2:
        return list(values)
    more = f", {len(small) - _NAMED} more" if len(small) > _NAMED else ""
    other = f"other: {', '.join(small[:_NAMED])}{more}"
    return [value if counts[value] >= SMALLEST else other for value in values]
