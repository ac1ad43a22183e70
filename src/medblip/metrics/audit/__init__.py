"""The clinical audit: what a caption says, and where it contradicts a reference. No model.

`audit` reads one caption; `audit_errors` compares two; `audit_statistics` scores a test set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medblip.errors import MetricError, explain
from medblip.metrics.audit.compare import ERRORS, Error, audit_errors
from medblip.metrics.audit.extract import KINDS, Audit, Mention, audit
from medblip.metrics.base import Agreement, Means, Statistics

__all__ = [
    "ERRORS",
    "KINDS",
    "Audit",
    "Error",
    "Mention",
    "audit",
    "audit_errors",
    "audit_statistics",
    "best_reference",
    "kind_counts",
]

#: Raised whenever the lexicon or a rule changes a value; part of every signature.
_SIGNATURE = "audit:2"

#: Counts of one kind: said by both, by the hypothesis, by the reference.
Counts = tuple[int, int, int]


def audit_statistics(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, Statistics]:
    """Score captions: precision, recall and F1 of every kind, and errors per caption.

    With several references an image is compared with the one that agrees best (see
    `best_reference`): each is one reader's complete statement, and their union would call
    everything missed that a single reader left out.

    Args:
        hypotheses: One caption per image; may be empty.
        references: At least one caption per image.

    Returns:
        `audit-<kind>` for every kind of KINDS, and `audit-errors`, mean counts per caption of
        `error-<class>` for every class of ERRORS.

    Raises:
        MetricError: Lengths differ, or an image has no reference.

    >>> table = audit_statistics(["CT: no mass"], [["CT: mass in the left lung"]])
    >>> table["audit-modality"].corpus()[2], table["audit-errors"].corpus()[1]
    (np.float64(1.0), np.float64(1.0))
    """
    if len(hypotheses) != len(references) or not all(references):
        empty = sum(not captions for captions in references)
        raise MetricError(
            explain(
                "the audit needs references for every caption",
                got=f"{len(hypotheses)} captions, {len(references)} sets, {empty} of them empty",
                expected="at least one reference per caption",
                do="give one list of references per image, in the same order",
            )
        )
    counts = np.zeros((len(KINDS), len(hypotheses), 3))
    errors = np.zeros((len(hypotheses), len(ERRORS) + 1))
    errors[:, -1] = 1.0
    column = {kind: i for i, kind in enumerate(ERRORS)}
    for i, (hypothesis, captions) in enumerate(zip(hypotheses, references, strict=True)):
        index, found = _best(hypothesis, captions)
        counts[:, i] = found
        for error in audit_errors(hypothesis, captions[index]):
            errors[i, column[error.kind]] += 1.0
    families = {
        f"audit-{kind}": Statistics(Agreement(f"audit-{kind}", _SIGNATURE), counts[j])
        for j, kind in enumerate(KINDS)
    }
    names = [f"error-{kind}" for kind in ERRORS]
    return {**families, "audit-errors": Statistics(Means(names, _SIGNATURE), errors)}


def best_reference(hypothesis: str, references: Sequence[str]) -> int:
    """Return which reference agrees best: the highest F1 over the items of all kinds together.

    The first of equals, so that the choice does not depend on anything else.

    >>> best_reference("CT: mass", ["MRI: cyst", "CT: mass in the lung"])
    1
    """
    return _best(hypothesis, references)[0]


def kind_counts(hypothesis: str, references: Sequence[str]) -> dict[str, Counts]:
    """Return per kind what both, the hypothesis and the best reference state: numbers of items.

    >>> kind_counts("CT: no mass", ["CT: mass in the left lung"])["side"]
    (0, 0, 1)
    """
    return dict(zip(KINDS, _best(hypothesis, references)[1], strict=True))


def _best(hypothesis: str, references: Sequence[str]) -> tuple[int, list[Counts]]:
    said = audit(hypothesis)
    found = [_counts(said, audit(reference)) for reference in references]
    index = max(range(len(found)), key=lambda i: _agreement(found[i]))
    return index, found[index]


def _agreement(counts: Sequence[Counts]) -> float:
    both, sides = sum(c[0] for c in counts), sum(c[1] + c[2] for c in counts)
    return 2 * both / sides if sides else 1.0


def _counts(said: Audit, true: Audit) -> list[Counts]:
    out = []
    for kind in KINDS:
        mine, yours = said.items(kind), true.items(kind)
        out.append((len(mine & yours), len(mine), len(yours)))
    return out
