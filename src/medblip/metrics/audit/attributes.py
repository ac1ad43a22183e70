"""Errors of place and degree: side, level, structure, severity, size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medblip.metrics.audit.extract import Audit, Mention
from medblip.metrics.audit.pair import HEADS, NEAR, SAME, Error, Pair, span, surplus
from medblip.metrics.audit.terms import vocabulary

__all__ = ["attribute_errors", "structure_errors"]

#: Dimensions that say how large or how much; ages, dates and settings of a machine do not.
_SIZES = frozenset(
    ("length", "area", "volume", "percent", "angle", "density", "pressure", "velocity")
)

Key = tuple[str, str]


def attribute_errors(pair: Pair, error: str, kinds: Sequence[str]) -> list[Error]:
    """Find values of one axis that contradict each other on something both captions name.

    First what stands in one phrase with the value (left lung, lower lobe); then values that only
    one caption holds, when their sentences share a finding or the captions are near to each other.
    """
    ours, theirs = pair.said.of(*kinds), pair.true.of(*kinds)
    if not ours or not theirs:
        return []
    out: list[Error] = []
    for axis in dict.fromkeys(m.axis for m in ours):
        mine = [m for m in ours if m.axis == axis]
        yours = [m for m in theirs if m.axis == axis]
        if not yours or (kinds[-1] == "measurement" and _uncounted(mine[0])):
            continue
        found = _in_phrases(pair, mine, yours)
        seen = {frozenset((m.name, y.name)) for m, y in found}
        found += [(m, y) for m, y in _leftovers(pair, mine, yours) if {m.name, y.name} not in seen]
        out.extend(
            Error(error, f"{m.name} instead of {y.name}", span(m), span(y)) for m, y in found
        )
    return out


def _uncounted(mention: Mention) -> bool:
    return mention.kind == "measurement" and mention.axis not in _SIZES


def _values(mentions: Iterable[Mention]) -> frozenset[str]:
    names = {m.name for m in mentions}
    if {"left", "right"} <= names:
        names = (names - {"left", "right"}) | {"bilateral"}
    return frozenset(names)


def _exclude(mine: frozenset[str], yours: frozenset[str]) -> bool:
    """Whether no value of one side fits one of the other."""
    if not mine.isdisjoint(yours):
        return False
    both = mine | yours
    return not (
        ("unilateral" in both and "bilateral" not in both) and not {"left", "right"} <= both
    )


def _in_phrases(
    pair: Pair, mine: Sequence[Mention], yours: Sequence[Mention]
) -> list[tuple[Mention, Mention]]:
    """Pair contradicting values that stand in a phrase with the same word.

    Where near captions hold the same values, only the word right after each value is trusted:
    what shares a phrase depends on punctuation.
    """
    if pair.aligned:
        places = {m.start: m for m in yours}
        return [(m, places[m.start]) for m in mine if m.start in places and _differ(m, places)]
    same = pair.overlap >= SAME and not surplus(mine, yours) and not surplus(yours, mine)
    find = _by_next if same else _by_head
    heads = [find(pair.said, mine), find(pair.true, yours)]
    found: dict[frozenset[str], tuple[Mention, Mention]] = {}
    for head, here in heads[0].items():
        there = heads[1].get(head)
        if not there:
            continue
        names = {m.name for m in here}, {m.name for m in there}
        if names[0] & names[1] or not _exclude(_values(here), _values(there)):
            continue
        found.setdefault(frozenset((here[0].name, there[0].name)), (here[0], there[0]))
    return list(found.values())


def _differ(mention: Mention, places: dict[int, Mention]) -> bool:
    other = places[mention.start].name
    return _exclude(frozenset((mention.name,)), frozenset((other,)))


def _by_next(caption: Audit, values: Sequence[Mention]) -> dict[Key, list[Mention]]:
    """Return, for every finding, structure or word, the values right before it."""
    heads = {head.start: head for head in caption.of(*HEADS)}
    out: dict[Key, list[Mention]] = {}
    for value in values:
        for place in range(value.stop, value.stop + 3):
            head = heads.get(place)
            if head is not None and head.segment == value.segment:
                out.setdefault((head.kind, head.name), []).append(value)
                break
    return out


def _by_head(caption: Audit, values: Sequence[Mention]) -> dict[Key, list[Mention]]:
    """Return, for every finding, structure or word, the values in its phrases."""
    segments: dict[int, list[Mention]] = {}
    for value in values:
        segments.setdefault(value.segment, []).append(value)
    out: dict[Key, list[Mention]] = {}
    for head in caption.of(*HEADS):
        if head.segment in segments:
            out.setdefault((head.kind, head.name), []).extend(segments[head.segment])
    return out


def _leftovers(
    pair: Pair, mine: Sequence[Mention], yours: Sequence[Mention]
) -> list[tuple[Mention, Mention]]:
    """Pair values that only the hypothesis holds with values that only the reference holds."""
    extra = surplus(mine, yours), surplus(yours, mine)
    if not _exclude(_values(extra[0]), _values(extra[1])):
        return []
    out = []
    free = list(extra[1])
    for value in extra[0]:
        for other in free:
            if pair.overlap >= NEAR or _shares_finding(pair, value, other):
                out.append((value, other))
                free.remove(other)
                break
    return out


def _shares_finding(pair: Pair, mine: Mention, yours: Mention) -> bool:
    names = [
        {m.name for m in caption.of("finding", "device") if m.sentence == value.sentence}
        for caption, value in ((pair.said, mine), (pair.true, yours))
    ]
    # a haematoma is a haemorrhage: the same finding, in a narrower term
    kin = [own | {wider for name in own for wider in vocabulary().wider(name)} for own in names]
    return not (names[0].isdisjoint(kin[1]) and names[1].isdisjoint(kin[0]))


def structure_errors(pair: Pair) -> list[Error]:
    """Find a shared finding in another structure.

    What is denied lies nowhere, and the level of a slice contradicts only that of another.
    """
    mine, yours = pair.said.of("anatomy"), pair.true.of("anatomy")
    extra = surplus(mine, yours), list(surplus(yours, mine))
    out = []
    for value in extra[0]:
        for other in extra[1]:
            alike = value.axis == other.axis and not value.denied and not other.denied
            near = pair.overlap >= NEAR or _shares_finding(pair, value, other)
            if alike and near and _apart(value.name, other.name):
                text = f"{value.name} instead of {other.name}"
                out.append(Error("wrong-location", text, span(value), span(other)))
                extra[1].remove(other)
                break
    return out


def _apart(one: str, other: str) -> bool:
    """Whether neither structure holds the other; tissues of no region only differ among them."""
    region = vocabulary().region
    if one.endswith(other) or other.endswith(one):  # small bowel and bowel
        return False
    general = [region[name] == "general" for name in (one, other)]
    if general[0] != general[1]:
        return False
    return one != other and region[one] != other and region[other] != one
