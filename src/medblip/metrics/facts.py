"""Fact accuracy: are modality, region, findings and sides of a caption those of the image?

`read_facts` finds what a caption asserts, with the lexicon, the scope of negation and the nearest
side; `fact_statistics` compares it with known facts, one numerator and denominator per image, so
that intervals and paired tests resample images. It is meant for phantoms, whose facts are exact;
on free text it sees only what the lexicon knows. Nothing here needs a model.

Negation follows the idea of NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029): a cue denies
the findings up to the end of its clause.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medblip.errors import MetricError, explain
from medblip.lexicon import Mention, lexicon, words

__all__ = ["FACT_METRICS", "asserted", "fact_statistics", "read_facts"]

#: Names of the metrics, in the order of a table.
FACT_METRICS = ("fact-modality", "fact-region", "fact-finding", "fact-side")

_CLAUSE_END = frozenset((".", ";", ":", "but", "however", "although", "while", "where", "which"))
_SCOPE_END = _CLAUSE_END | {"with", "showing", "shows", "demonstrating", "demonstrates", "reveals"}
_LINKS = frozenset(("and", "or", "nor", ",", "as", "together", "with", "plus", "no", "without"))


def read_facts(caption: str) -> dict[str, Any]:
    """Return what a caption asserts.

    Returns:
        `modality` and `region` (None when not named), `findings` as `[{name, side}]` in order of
        mention without those denied, `devices` (names), and `sides`: every side named anywhere.

    >>> read_facts("Chest X-ray with a small left effusion, no pneumothorax.")["findings"]
    [{'name': 'pleural effusion', 'side': 'left'}]
    """
    tokens = words(caption)
    mentions = lexicon().mentions(tokens)
    covered = _covered(tokens, mentions)
    heads = [mention for mention in mentions if mention.kind in ("finding", "device")]
    denied = _denied(covered, mentions, heads)
    sides = _sides(covered, mentions, heads)
    found: dict[str, str | None] = {}
    devices: list[str] = []
    for head, side in zip(heads, sides, strict=True):
        if head in denied:
            continue
        if head.kind == "device":
            if head.name not in devices:
                devices.append(head.name)
            continue
        if not lexicon()["finding", head.name].sided:
            side = None
        before = found.get(head.name)
        both = before is not None and side is not None and before != side
        found[head.name] = "bilateral" if both else side or before
    return {
        "modality": _first(mentions, "modality"),
        "region": _first(mentions, "region"),
        "findings": [{"name": name, "side": side} for name, side in found.items()],
        "devices": devices,
        "sides": sorted({mention.name for mention in mentions if mention.kind == "side"}),
    }


def asserted(tokens: Sequence[str]) -> list[Mention]:
    """Return where a caption asserts findings and devices; those denied are left out.

    Args:
        tokens: From `medblip.lexicon.words`.
    """
    mentions = lexicon().mentions(tokens)
    heads = [mention for mention in mentions if mention.kind in ("finding", "device")]
    denied = _denied(_covered(tokens, mentions), mentions, heads)
    return [head for head in heads if head not in denied]


def fact_statistics(
    captions: Sequence[str], facts: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Compare captions with facts, image by image.

    * modality, region: named and right.
    * finding: the set of asserted findings equals the true set; none for a normal study.
    * side: of images with a sided finding, every such finding has its side. Where the caption
      names other findings but exactly one side, that side counts: side is scored apart from name.

    Args:
        captions: One caption per image.
        facts: `Example.facts` in the same order; what an image's facts do not hold is not scored.

    Returns:
        Per metric name the numerator and the denominator, each (n,): accuracy is the ratio of sums.

    Raises:
        MetricError: The two lists differ in length.
    """
    if len(captions) != len(facts):
        raise MetricError(
            explain(
                "captions and facts do not belong together",
                got=f"{len(captions)} captions, {len(facts)} facts",
                expected="one caption per image",
                do="caption the same split again",
            )
        )
    numerators = np.zeros((len(FACT_METRICS), len(captions)))
    denominators = np.zeros((len(FACT_METRICS), len(captions)))
    for i, (caption, truth) in enumerate(zip(captions, facts, strict=True)):
        for j, verdict in enumerate(_verdicts(read_facts(caption), truth)):
            if verdict is not None:
                denominators[j, i] = 1.0
                numerators[j, i] = float(verdict)
    return {name: (numerators[j], denominators[j]) for j, name in enumerate(FACT_METRICS)}


def _verdicts(said: Mapping[str, Any], truth: Mapping[str, Any]) -> list[bool | None]:
    """Return right, wrong or not applicable, in the order of FACT_METRICS."""
    out: list[bool | None] = [
        said[key] == truth[key] if truth.get(key) is not None else None
        for key in ("modality", "region")
    ]
    if truth.get("findings") is None:
        return [*out, None, None]
    stated = {finding["name"]: finding["side"] for finding in said["findings"]}
    out.append(set(stated) == {finding["name"] for finding in truth["findings"]})
    sided = [finding for finding in truth["findings"] if finding.get("side") is not None]
    if not sided:
        return [*out, None]
    lone = said["sides"][0] if len(said["sides"]) == 1 else None
    out.append(all(stated.get(f["name"], lone) == f["side"] for f in sided))
    return out


def _first(mentions: Sequence[Mention], kind: str) -> str | None:
    return next((mention.name for mention in mentions if mention.kind == kind), None)


def _covered(tokens: Sequence[str], mentions: Sequence[Mention]) -> list[str]:
    """Blank the words inside mentions, so that `mass with oedema` holds no link word."""
    out = list(tokens)
    for mention in mentions:
        if mention.kind in ("finding", "device", "ignore"):
            out[mention.start : mention.stop] = [""] * (mention.stop - mention.start)
    return out


def _denied(
    tokens: Sequence[str], mentions: Sequence[Mention], heads: Sequence[Mention]
) -> set[Mention]:
    out: set[Mention] = set()
    starts = {head.start for head in heads}
    for cue in mentions:
        if cue.kind == "before":
            stop = _scope_stop(tokens, cue.stop, starts)
            out.update(head for head in heads if cue.stop <= head.start < stop)
        elif cue.kind == "after":
            start = cue.start
            while start > 0 and tokens[start - 1] not in _SCOPE_END and tokens[start - 1] != ",":
                start -= 1
            out.update(head for head in heads if start <= head.start < cue.start)
    return out


def _scope_stop(tokens: Sequence[str], start: int, heads: set[int]) -> int:
    """Return where the scope of a negation ends that begins at `start`."""
    for position in range(start, len(tokens)):
        token = tokens[position]
        if token in _SCOPE_END:
            return position
        if token == "and" and position + 1 not in heads:  # "no effusion and a left nodule"
            return position
        if token == "," and not _list_goes_on(tokens, position):
            return position
    return len(tokens)


def _list_goes_on(tokens: Sequence[str], comma: int) -> bool:
    """Whether an `or` follows in the clause, as in `no effusion, nodule or fracture`."""
    for token in tokens[comma + 1 :]:
        if token in _SCOPE_END:
            return False
        if token in ("or", "nor"):
            return True
    return False


def _sides(
    tokens: Sequence[str], mentions: Sequence[Mention], heads: Sequence[Mention]
) -> list[str | None]:
    """Give every finding or device the nearest side of its own stretch of the sentence.

    The stretch between two heads is split at the last clause end, else at the last link word. A
    head without a side takes the only side that lies in no head's sentence, if there is just one.
    """
    named = [mention for mention in mentions if mention.kind == "side"]
    stops = [-1, *(i for i, token in enumerate(tokens) if token in (".", ";")), len(tokens)]
    out: list[str | None] = []
    claimed: set[Mention] = set()
    for i, head in enumerate(heads):
        after_stop = bisect.bisect_right(stops, head.start)
        first, last = stops[after_stop - 1] + 1, stops[after_stop]
        if i > 0:
            first = max(first, _border(tokens, heads[i - 1], head))
        if i + 1 < len(heads):
            last = min(last, _border(tokens, head, heads[i + 1]))
        own = [side for side in named if first <= side.start < last]
        claimed.update(own)
        nearest = min(own, key=lambda side: _distance(side, head), default=None)
        out.append(nearest.name if nearest else None)
    free = {side.name for side in named if side not in claimed}
    lone = next(iter(free)) if len(free) == 1 else None
    return [side or lone for side in out]


def _border(tokens: Sequence[str], before: Mention, after: Mention) -> int:
    between = range(after.start - 1, before.stop - 1, -1)
    for separators in (_CLAUSE_END, _LINKS):
        for position in between:
            if tokens[position] in separators:
                return position
    return (before.stop + after.start) // 2


def _distance(side: Mention, head: Mention) -> int:
    return side.start - head.stop if side.start >= head.stop else head.start - side.stop
