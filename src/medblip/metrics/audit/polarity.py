"""Which tokens a caption denies or doubts: the scope of the cues of `lexicon/negation.toml`.

The idea is that of NegEx (Chapman et al. 2001, doi:10.1006/jbin.2001.1029): a cue reaches to the
end of its clause, forward or backward. Two cues in a row cancel out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from medblip.metrics.audit.normalise import PUNCTUATION
from medblip.metrics.audit.terms import Hit, vocabulary

__all__ = ["Polarity", "polarity"]

_FURTHEST = 15  # tokens; a longer reach is a missed clause end
_PARTICIPLES = ("ed", "en", "able", "ible", "ent", "found", "shown", "there", "known")
_HARD = PUNCTUATION - {","}


@dataclasses.dataclass
class Polarity:
    """What the cues of one caption do.

    Args:
        denied: Per token the number (from 1) of the cue that denies it; 0 where none does.
        unsure: Per token whether it is in doubt.
        forward: Per cue number whether it reaches forward.
        cue: Per token whether it belongs to a cue.
    """

    denied: list[int]
    unsure: list[bool]
    forward: dict[int, bool]
    cue: list[bool]


def polarity(
    text: Sequence[str], changes: Sequence[Hit], heads: frozenset[int] | set[int]
) -> Polarity:
    """Find the scopes.

    Args:
        text: Canonical tokens.
        changes: Temporal phrases: `no change` denies nothing.
        heads: Tokens at which a finding or device begins.
    """
    out = Polarity([0] * len(text), [False] * len(text), {}, [False] * len(text))
    words = vocabulary()
    kinds: dict[tuple[int, int], set[str]] = {}
    for hit in words.cues.find(text):
        kinds.setdefault((hit.start, hit.stop), set()).add(hit.term.kind)
    if not kinds:
        return out
    settled = {
        i for hit in changes if hit.term.name == "stable" for i in range(hit.start, hit.stop)
    }
    run = 0  # cues that follow each other without a word between
    previous, ahead = -1, True
    for (start, stop), kind in kinds.items():
        if "ignore" in kind or start in settled or ("prefix" in kind and start in heads):
            continue
        for i in range(start, stop):
            out.cue[i] = True
        if "unsure_before" in kind or "unsure_after" in kind:
            doubts = "unsure_before" in kind
            for i in _forward(text, stop, heads) if doubts else _backward(text, start):
                out.unsure[i] = True
            continue
        follows = start == previous and "prefix" not in kind
        run = run + 1 if follows and (ahead or text[start - 1] == "not") else 1
        previous = stop
        ahead = _reaches_forward(text, kind, stop, heads)
        if "prefix" in kind:
            scope = range(stop, min(stop + 1, len(text)))
        else:
            scope = _forward(text, stop, heads) if ahead else _backward(text, start)
        number = len(out.forward) + 1
        if run > 1:  # `no absence of`: takes the denial back
            taken_back = out.denied[start - 1] or (number - 1)
            out.denied = [0 if n == taken_back else n for n in out.denied]
            out.forward.pop(taken_back, None)
            if run % 2 == 0:
                continue
        out.forward[number] = ahead
        for i in scope:
            out.denied[i] = out.denied[i] or number
    for i, is_cue in enumerate(out.cue):
        if is_cue:
            out.denied[i] = 0
    return out


def _reaches_forward(
    text: Sequence[str], kind: set[str], stop: int, heads: frozenset[int] | set[int]
) -> bool:
    """Whether a cue denies what follows: `absent callosum`, but `callosum absent in`.

    `Is not` denies what follows unless that is a participle: `is not depicted`.
    """
    if "before" not in kind or "after" not in kind:
        return "after" not in kind
    if stop == len(text) or text[stop] in PUNCTUATION:
        return False
    if text[stop] in vocabulary().plain and stop not in heads:
        return False
    return stop in heads or not text[stop].endswith(_PARTICIPLES)


def _forward(text: Sequence[str], start: int, heads: frozenset[int] | set[int]) -> range:
    words = vocabulary()
    for i in range(start, min(len(text), start + _FURTHEST)):
        token = text[i]
        if token in _HARD or (i > start and (token in words.ends or token in words.show)):
            return range(start, i)
        if token == "and" and i + 1 not in heads:
            return range(start, i)
        if token == "," and not _list_goes_on(text, i):
            return range(start, i)
    return range(start, min(len(text), start + _FURTHEST))


def _list_goes_on(text: Sequence[str], comma: int) -> bool:
    """Whether an `or` follows in the clause, as in `no effusion, nodule or fracture`."""
    words = vocabulary()
    for token in text[comma + 1 : comma + _FURTHEST]:
        if token in _HARD or token in words.ends or token in words.show or token == "no":
            return False
        if token in ("or", "nor"):
            return True
    return False


def _backward(text: Sequence[str], stop: int) -> range:
    words = vocabulary()
    linked = False
    for i in range(stop - 1, max(-1, stop - 1 - _FURTHEST), -1):
        token = text[i]
        linked = linked or token in ("or", "and", "nor")
        if token in _HARD or token in words.show or token in words.ends:
            return range(i + 1, stop)
        if token == "," and not linked:
            return range(i + 1, stop)
    return range(max(0, stop - _FURTHEST), stop)
