"""Signs that a captioner has collapsed: what overlap metrics cannot see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from medblip.errors import MetricError, explain
from medblip.metrics.tokenize import tokenize

__all__ = ["degeneration"]


def degeneration(captions: Sequence[str]) -> dict[str, float]:
    """Return indicators over all captions of a split; captions that differ in tokens are distinct.

    Returns:
        unique_captions: distinct captions / captions (1 is best, near 0 is mode collapse).
        most_frequent_share: share of the commonest caption.
        mean_words: tokens per caption.
        repeated_bigrams: share of bigrams that repeat an earlier one of the same caption.

    Raises:
        MetricError: There is no caption.
    """
    if not captions:
        raise MetricError(
            explain("no captions", got="0", expected="at least one", do="caption a split first")
        )
    tokens = [tokenize(caption) for caption in captions]
    keys = Counter(" ".join(words) for words in tokens)
    bigrams = [list(pairwise(words)) for words in tokens]
    total = sum(map(len, bigrams))
    repeated = sum(len(pairs) - len(set(pairs)) for pairs in bigrams)
    return {
        "unique_captions": round(len(keys) / len(captions), 4),
        "most_frequent_share": round(keys.most_common(1)[0][1] / len(captions), 4),
        "mean_words": round(sum(map(len, tokens)) / len(tokens), 2),
        "repeated_bigrams": round(repeated / total, 4) if total else 0.0,
    }
