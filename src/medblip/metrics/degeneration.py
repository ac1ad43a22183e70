"""Signs that a captioner has collapsed or copies: what overlap metrics cannot see."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from medblip.errors import MetricError, explain
from medblip.metrics.tokenize import tokenize

__all__ = ["degeneration"]

_BRACKETS = re.compile(r"\b[lr][rsc]b\b")
_NOT_LETTERS = re.compile(r"[^a-z]+")


def degeneration(
    captions: Sequence[str],
    *,
    tokens: Sequence[Sequence[str]] | None = None,
    training: Sequence[str] | None = None,
) -> dict[str, float]:
    """Return indicators over all captions of a split; captions that differ in tokens are distinct.

    Args:
        captions: As the captioner wrote them.
        tokens: Their tokens, where they are known already.
        training: Captions that the captioner was trained on; adds `seen_in_training`.

    Returns:
        unique_captions: distinct captions / captions (1 is best, near 0 is mode collapse).
        most_frequent_share: share of the commonest caption.
        mean_words: tokens per caption.
        repeated_bigrams, repeated_4grams: share of runs of 2 and of 4 tokens that repeat an
            earlier one of the same caption.
        seen_in_training: share of captions that are, token by token, a training caption. Some are
            to be expected: short captions such as `chest x-ray` repeat in real data, too.

    Raises:
        MetricError: There is no caption, or tokens of another number of captions.
    """
    if not captions or (tokens is not None and len(tokens) != len(captions)):
        raise MetricError(
            explain(
                "no captions" if not captions else "captions and tokens do not belong together",
                got=f"{len(captions)} captions"
                + ("" if tokens is None else f", tokens of {len(tokens)}"),
                expected="at least one caption" if not captions else "as many of both",
                do="caption a split first" if not captions else "give the tokens of each caption",
            )
        )
    if tokens is None:
        tokens = [tokenize(caption) for caption in captions]
    keys = Counter(" ".join(words) for words in tokens)
    found = {
        "unique_captions": round(len(keys) / len(captions), 4),
        "most_frequent_share": round(max(keys.values()) / len(captions), 4),
        "mean_words": round(sum(map(len, tokens)) / len(tokens), 2),
        "repeated_bigrams": _repeated(tokens, 2),
        "repeated_4grams": _repeated(tokens, 4),
    }
    if training is not None:
        known = _known(keys, training)
        found["seen_in_training"] = round(sum(keys[key] for key in known) / len(captions), 4)
    return found


def _repeated(tokens: Sequence[Sequence[str]], length: int) -> float:
    """Return the share of runs of tokens that repeat an earlier one of the same caption."""
    total = distinct = 0
    for words in tokens:
        many = len(words) - length + 1
        if many > 0:
            total += many
            distinct += len(set(zip(*(words[start:] for start in range(length)), strict=False)))
    return round((total - distinct) / total, 4) if total else 0.0


def _known(keys: Counter[str], training: Sequence[str]) -> set[str]:
    """Return which token strings are those of a training caption.

    Texts with the same tokens have the same letters in the same order, and comparing letters costs
    a tenth: only candidates are tokenised.
    """
    letters = set(map(_letters, keys))
    candidates = {text for text in training if _letters(text) in letters}
    return {" ".join(tokenize(text)) for text in candidates} & keys.keys()


def _letters(text: str) -> str:
    """Return what tokenising does not change; it turns brackets into words such as -lrb-."""
    return _NOT_LETTERS.sub("", _BRACKETS.sub("", text.lower()))
