"""What the comparison of two captions is made of: the pair, its errors, what one side has more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from medblip.metrics.audit.extract import Audit, Mention

__all__ = ["ERRORS", "HEADS", "NEAR", "SAME", "Error", "Pair", "span", "surplus"]

#: Classes of errors, in the order of a table.
ERRORS = (
    "false-finding",
    "missed-finding",
    "wrong-location",
    "wrong-severity",
    "invented-comparison",
    "omitted-comparison",
    "wrong-modality",
)

#: Captions that share this much of their content are taken as two wordings of one statement.
NEAR, SAME = 0.6, 0.8

#: What a side, a level, a severity or a denial can belong to.
HEADS = ("finding", "device", "anatomy", "word")

_VALUES = ("side", "level", "severity", "measurement")


class Error(NamedTuple):
    """One error of a hypothesis.

    Args:
        kind: One of ERRORS.
        text: What is wrong, for a reader.
        hypothesis: First and last (exclusive) token in the hypothesis, or None.
        reference: First and last (exclusive) token in the reference, or None.
    """

    kind: str
    text: str
    hypothesis: tuple[int, int] | None = None
    reference: tuple[int, int] | None = None


class Pair:
    """Both captions and how much content they share (0 to 1)."""

    def __init__(self, said: Audit, true: Audit) -> None:
        self.said, self.true = said, true
        counts = [
            Counter((m.kind, m.name) for m in caption.mentions if m.kind != "comparison")
            for caption in (said, true)
        ]
        longest = max(counts[0].total(), counts[1].total())
        self.overlap = (counts[0] & counts[1]).total() / longest if longest else 1.0
        self.aligned = _aligned(said, true)


def _aligned(said: Audit, true: Audit) -> bool:
    """Whether the captions differ in nothing but words of side, level and severity."""
    if len(said.tokens) != len(true.tokens):
        return False
    places = [
        {i for m in caption.of(*_VALUES) for i in range(m.start, m.stop)}
        for caption in (said, true)
    ]
    return all(
        i in places[0] and i in places[1]
        for i, (mine, yours) in enumerate(zip(said.tokens, true.tokens, strict=True))
        if mine != yours
    )


def span(mention: Mention) -> tuple[int, int]:
    """Return the first and the last (exclusive) token."""
    return mention.start, mention.stop


def surplus(here: Sequence[Mention], there: Sequence[Mention]) -> list[Mention]:
    """Return the mentions of `here` whose names `there` holds fewer times."""
    left = Counter(m.name for m in there)
    out = []
    for mention in here:
        if left[mention.name] > 0:
            left[mention.name] -= 1
        else:
            out.append(mention)
    return out
