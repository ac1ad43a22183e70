"""Text to statements: what one caption says, with polarity, doubt and place in the sentence.

No comparison of captions here; that is `compare.py`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

from medblip.metrics.audit.normalise import PUNCTUATION, tokens
from medblip.metrics.audit.polarity import Polarity, polarity
from medblip.metrics.audit.slices import slice_levels
from medblip.metrics.audit.terms import Hit, Term, vocabulary

__all__ = ["KINDS", "Audit", "Mention", "audit"]

#: What is read from a caption and scored, in the order of a table.
KINDS = (
    "modality",
    "plane",
    "anatomy",
    "side",
    "level",
    "finding",
    "negation",
    "uncertainty",
    "severity",
    "measurement",
    "comparison",
    "device",
)

_ROMAN = {
    "i": 1,
    "ii": 2,
    "iii": 3,
    "iv": 4,
    "v": 5,
    "vi": 6,
    "vii": 7,
    "viii": 8,
    "ix": 9,
    "x": 10,
}
#: What values are given in, by dimension.
_BASE = {
    "length": "mm", "area": "mm2", "volume": "ml", "density": "HU", "percent": "%", "angle": "deg",
    "pressure": "mmHg", "velocity": "cm/s", "duration": "days", "age": "days of age",
}  # fmt: skip
_LINKS = frozenset(("and", "plus", "or", "nor", "but", "with", "et", "avec"))
#: Words of time that figures use of one examination alone: the initial CT.
_USUAL = frozenset(("first", "initial", "preoperative", "old", "outside", "last", "recent"))


class Mention(NamedTuple):
    """A statement or a content word.

    Args:
        kind: One of KINDS, or `word` for content words that the lexicon does not know.
        name: The concept; the token itself for words and numbers.
        axis: Values of one kind and axis exclude each other; structures of a slice's level have
            their own.
        start: First token.
        stop: Token after the last.
        segment: Number of the phrase between links and punctuation.
        sentence: Number of the sentence.
        denied: Number of the cue that denies it; 0: asserted.
        unsure: Whether it is in doubt.
    """

    kind: str
    name: str
    axis: str
    start: int
    stop: int
    segment: int
    sentence: int
    denied: int
    unsure: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """All that one caption says.

    Args:
        tokens: Canonical tokens.
        mentions: In order of kind and place.
        tight: (kind, name) that stands nearest to each denying cue.
    """

    tokens: tuple[str, ...]
    mentions: tuple[Mention, ...]
    tight: tuple[tuple[str, str], ...]

    def text(self, start: int, stop: int) -> str:
        """Return the tokens of a span as text."""
        return " ".join(self.tokens[start:stop])

    def of(self, *kinds: str) -> list[Mention]:
        """Return the mentions of some kinds."""
        if len(kinds) == 1:
            return self._by_kind.get(kinds[0], [])
        return [mention for kind in kinds for mention in self._by_kind.get(kind, ())]

    def items(self, kind: str) -> frozenset[str]:
        """Return what is scored for one of KINDS.

        `finding` and `device` hold what is asserted, in doubt or not; `negation` what is denied;
        `uncertainty` what is asserted in doubt; the other kinds every value named.
        """
        return self._items[kind]

    @functools.cached_property
    def _by_kind(self) -> dict[str, list[Mention]]:
        out: dict[str, list[Mention]] = {}
        for mention in self.mentions:
            out.setdefault(mention.kind, []).append(mention)
        return out

    @functools.cached_property
    def _items(self) -> dict[str, frozenset[str]]:
        out = {kind: frozenset(m.name for m in self.of(kind)) for kind in KINDS}
        heads = self.of("finding", "device")
        for kind in ("finding", "device"):
            out[kind] = frozenset(m.name for m in self.of(kind) if not m.denied)
        denied = [m.name for m in heads if m.denied]
        denied += [name for kind, name in self.tight if kind == "word"]
        out["negation"] = frozenset(denied)
        out["uncertainty"] = frozenset(
            m.name for m in self.of("finding") if m.unsure and not m.denied
        )
        parents = vocabulary().parents
        out["modality"] |= {parents[name] for name in out["modality"] if name in parents}
        return out


@functools.lru_cache(maxsize=65536)
def audit(text: str) -> Audit:
    """Return what a caption says.

    >>> said = audit("Chest X-ray: small left pleural effusion, no pneumothorax.")
    >>> sorted(said.items("finding")), sorted(said.items("negation"))
    (['effusion'], ['pneumothorax'])
    """
    found = tokens(text)
    words = vocabulary()
    concepts = [hit for hit in words.concepts.find(found) if hit.term.kind != "ignore"]
    heads = {hit.start for hit in concepts if hit.term.kind in ("finding", "device")}
    changes = words.changes.find(found)
    scope = polarity(found, changes, heads)
    segments, sentences = _places(found)
    hits = [*concepts, *words.planes.find(found)]
    hits += [hit for hit in words.attributes.find(found) if hit.term.kind != "ignore"]
    hits = slice_levels(found, hits)
    hits += _numbers(found)
    hits += _changes(found, changes)
    covered = [cue or token[0] == "#" for cue, token in zip(scope.cue, found, strict=True)]
    for hit in hits:
        for i in range(hit.start, hit.stop):
            covered[i] = True
    for i, token in enumerate(found):
        if not covered[i] and len(token) > 2 and token not in words.plain and token[0].isalpha():
            hits.append(Hit(Term("word", token, "word"), i, i + 1))
    mentions = tuple(
        Mention(
            hit.term.kind,
            hit.term.name,
            hit.term.axis,
            hit.start,
            hit.stop,
            segments[hit.start],
            sentences[hit.start],
            scope.denied[hit.stop - 1],
            scope.unsure[hit.start],
        )
        for hit in hits
    )
    return Audit(tuple(found), mentions, _tight(mentions, scope))


def _places(found: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return per token the number of its segment and of its sentence."""
    show = vocabulary().show
    segments, sentences = [], []
    segment = sentence = 0
    for token in found:
        if token in PUNCTUATION or token in _LINKS or token in show:
            segment += 1
            sentence += token in ".;"
        segments.append(segment)
        sentences.append(sentence)
    return segments, sentences


def _numbers(found: Sequence[str]) -> list[Hit]:
    """Return measurements, vertebrae, ordinals, nouns with a number (`segment 4`), and `both`."""
    numbered = vocabulary().numbered
    out = []
    for i, token in enumerate(found):
        if token == "both" and "and" not in found[i + 1 : i + 6]:
            out.append(Hit(Term("side", "bilateral", "side"), i, i + 1))
        if token[0] == "#":
            axis, _, value = token[1:].partition(":")
            if axis in ("vertebra", "ordinal"):
                name = value if axis == "vertebra" else f"number {value}"
                out.append(Hit(Term("level", name, axis), i, i + 1))
            else:
                out.append(
                    Hit(Term("measurement", f"{value} {_BASE.get(axis, axis)}", axis), i, i + 1)
                )
        elif token in numbered and i + 1 < len(found):
            value = found[i + 1]
            number = _ROMAN.get(value) or (value if value.isdigit() else None)
            if number is not None:
                kind = numbered[token]
                out.append(Hit(Term(kind, f"{token} {number}", token), i, i + 2))
    return out


def _changes(found: Sequence[str], phrases: Sequence[Hit]) -> list[Hit]:
    """Return temporal statements: phrases, an earlier examination, `has increased`."""
    out = [hit for hit in phrases if hit.term.kind == "comparison"]
    taken = {i for hit in phrases for i in range(hit.start, hit.stop)}
    rules = vocabulary().rules
    earlier, examination, comparing = (
        rules["earlier"],
        rules["examination"],
        rules["comparing"],
    )
    prior = Term("comparison", "prior", "comparison")
    for i, token in enumerate(found):
        if i in taken:
            continue
        if token in comparing:
            near = _until_stop(found[i + 1 : i + 8])
            if any(
                word in earlier and (word not in _USUAL or j < 4) for j, word in enumerate(near)
            ):
                out.append(Hit(prior, i, i + 1))
            continue
        if token in earlier:
            near = _until_stop(found[i + 1 : i + 4])
            alone = token not in _USUAL or _is_compared(found, i)
            if token == "earlier" or (alone and not examination.isdisjoint(near)):
                out.append(Hit(prior, i, i + 1))
            continue
        if token == "interval" and i + 1 < len(found) and found[i + 1].isalpha():
            if found[i + 1] not in ("of", "between", "is", "was"):
                out.append(Hit(prior, i, i + 1))
            continue
        for name in ("increase", "decrease", "resolved", "progression", "improvement"):
            if token in rules[name] and _is_change(found, i):
                out.append(Hit(Term("comparison", name, "comparison"), i, i + 1))
    return out


def _until_stop(near: Sequence[str]) -> list[str]:
    show = vocabulary().show
    for i, token in enumerate(near):
        if token in PUNCTUATION or token in show:
            return list(near[:i])
    return list(near)


def _is_compared(found: Sequence[str], i: int) -> bool:
    """Whether a comparing word stands before, as in `compared with the initial CT`."""
    rules = vocabulary().rules
    near = found[max(0, i - 4) : i]
    return not rules["comparing"].isdisjoint(near) or "since" in near or "from" in near


def _is_change(found: Sequence[str], i: int) -> bool:
    before, after = found[max(0, i - 3) : i], found[i + 1 : i + 4]
    return (
        any(word in ("has", "have", "had", "having", "interval", "further") for word in before)
        or any(word in ("since", "compared", "comparison", "previous", "prior") for word in after)
        or after[:2] in (["in", "size"], ["in", "extent"], ["in", "number"], ["in", "volume"])
    )


def _tight(mentions: Sequence[Mention], scope: Polarity) -> tuple[tuple[str, str], ...]:
    """Return per denying cue the finding, else the word, that stands nearest to it."""
    out = []
    for number, ahead in scope.forward.items():
        denied = [m for m in mentions if m.denied == number]
        for kinds in (("finding", "device"), ("anatomy", "word")):
            own = [m for m in denied if m.kind in kinds]
            if own:
                nearest = min(own, key=lambda m: m.start if ahead else -m.start)
                out.append((nearest.kind, nearest.name))
                break
        else:
            out.append(("", ""))
    return tuple(out)
