"""ROUGE-L as COCO caption evaluation computes it (Lin, 2004): longest common subsequence, beta 1.2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq

from medblip.metrics.base import Ratio

__all__ = ["RougeL"]

_BETA_SQUARED = 1.2**2


class RougeL(Ratio):
    """Mean over images; precision and recall are each the best over the references."""

    def __init__(self) -> None:
        super().__init__("ROUGE-L", "beta:1.2")

    def statistics(
        self, hypotheses: Sequence[list[str]], references: Sequence[Sequence[list[str]]]
    ) -> np.ndarray:
        """Return float64 (images, 2): value and 1."""
        values = [_one(h, refs) for h, refs in zip(hypotheses, references, strict=True)]
        return np.column_stack([values, np.ones(len(values))])


def _one(hypothesis: list[str], references: Sequence[list[str]]) -> float:
    precision = recall = 0.0
    hypothesis = hypothesis or [""]  # an empty caption counts as one empty token
    for reference in references:
        reference = reference or [""]
        common = LCSseq.similarity(hypothesis, reference)
        precision = max(precision, common / len(hypothesis))
        recall = max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)
