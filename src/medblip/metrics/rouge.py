"""ROUGE-L as COCO caption evaluation computes it (Lin, 2004): longest common subsequence."""

from __future__ import annotations

from collections.abc import Sequence

from rapidfuzz.distance import LCSseq

from medblip.metrics.base import Floats, Metric, Ratio, mean_statistics
from medblip.metrics.ngrams import TokenPairs

__all__ = ["RougeL"]

_BETA_SQUARED = 1.2**2  # recall counts more than precision


class RougeL(Ratio, Metric):
    """Mean over images; precision and recall are each the best over the references."""

    def __init__(self) -> None:
        super().__init__("ROUGE-L", "beta:1.2")

    def statistics(self, pairs: TokenPairs) -> Floats:
        """Return float64 (images, 2): value and 1."""
        rows = zip(pairs.hypotheses, pairs.references, strict=True)
        return mean_statistics([_one(hypothesis, references) for hypothesis, references in rows])


def _one(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    precision = recall = 0.0
    hypothesis = hypothesis or [""]  # the published code splits "" into one empty token
    for reference in references:
        reference = reference or [""]
        common = LCSseq.similarity(hypothesis, reference)
        precision = max(precision, common / len(hypothesis))
        recall = max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA_SQUARED) * precision * recall / (recall + _BETA_SQUARED * precision)
