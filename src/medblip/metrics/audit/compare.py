"""Two captions to errors, in the classes of ReXVal and one for the modality.

ReXVal (Yu et al. 2023, physionet.org/content/rexval-dataset) counts false findings, missed
findings, wrong location, wrong severity, invented comparisons and omitted changes. Captions of
single images also name the modality, so `wrong-modality` is a class of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from medblip.metrics.audit.extract import Audit, Mention, audit
from medblip.metrics.audit.terms import vocabulary

__all__ = ["ERRORS", "Error", "audit_errors"]

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
_NEAR, _SAME = 0.6, 0.8

_HEADS = ("finding", "device", "anatomy", "word")
_VALUES = ("side", "level", "severity", "measurement")
_SIZES = frozenset(
    ("length", "area", "volume", "percent", "angle", "density", "pressure", "velocity")
)

Key = tuple[str, str]


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


def audit_errors(hypothesis: str | Audit, reference: str | Audit) -> list[Error]:
    """Return the errors of a hypothesis; none when both say the same.

    >>> [error.kind for error in audit_errors("Mass in the left lung.", "Mass in the right lung.")]
    ['wrong-location']
    """
    said = hypothesis if isinstance(hypothesis, Audit) else audit(hypothesis)
    true = reference if isinstance(reference, Audit) else audit(reference)
    if said.tokens == true.tokens:
        return []
    pair = _Pair(said, true)
    return [
        *_polarity_errors(pair),
        *_finding_errors(pair),
        *_attribute_errors(pair, "wrong-location", ("side", "level")),
        *_anatomy_errors(pair),
        *_attribute_errors(pair, "wrong-severity", ("severity", "measurement")),
        *_change_errors(pair),
        *_modality_errors(pair),
    ]


class _Pair:
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


def _span(mention: Mention) -> tuple[int, int]:
    return mention.start, mention.stop


def _polarity_errors(pair: _Pair) -> list[Error]:
    """Find what one side asserts and the other denies; one error per denying cue.

    Words that the lexicon does not know take part when the captions are near to each other. When
    they say the same in another order with as many denials, only what stands at a cue is trusted:
    the reach of a cue depends on punctuation.
    """
    said, true = pair.said, pair.true
    if not said.tight and not true.tight:
        return []
    if pair.overlap >= _SAME and len(said.tight) == len(true.tight):
        return _tight_errors(said, true)
    kinds = _HEADS if pair.overlap >= _NEAR else ("finding", "device")
    out: list[Error] = []
    for kind, denying, other in (("missed-finding", said, true), ("false-finding", true, said)):
        found: dict[int, Mention] = {}
        for mention in denying.of(*kinds):
            key = mention.kind, mention.name
            if mention.denied and _flipped(denying, other, key):
                best = found.get(mention.denied)
                if best is None or (best.kind != "finding" and mention.kind == "finding"):
                    found[mention.denied] = mention
        for mention in found.values():
            there = next(
                m for m in other.mentions
                if (m.kind, m.name) == (mention.kind, mention.name) and not m.denied
            )  # fmt: skip
            at = (_span(mention), _span(there))
            if kind == "missed-finding":
                out.append(Error(kind, f"{mention.name} is denied", *at))
            else:
                out.append(Error(kind, f"{mention.name} is asserted", at[1], at[0]))
    return out


def _flipped(denying: Audit, other: Audit, key: Key) -> bool:
    counts = [
        (sum(1 for m in found if m.denied), sum(1 for m in found if not m.denied))
        for found in (
            [m for m in caption.mentions if (m.kind, m.name) == key]
            for caption in (denying, other)
        )
    ]
    return counts[0][0] > counts[1][0] and counts[1][1] > counts[0][1]


def _tight_errors(said: Audit, true: Audit) -> list[Error]:
    more, less = Counter(said.tight) - Counter(true.tight), Counter(true.tight) - Counter(said.tight)
    new = [key for key in more if _flipped(said, true, key)]
    gone = [key for key in less if _flipped(true, said, key)]
    if not new or not gone:
        return []
    return [
        *(Error("missed-finding", f"{name} is denied") for _, name in new),
        *(Error("false-finding", f"{name} is asserted") for _, name in gone),
    ]


def _finding_errors(pair: _Pair) -> list[Error]:
    """Find asserted findings and devices that the other side does not mention at all."""
    out: list[Error] = []
    for kind, here, there, verb in (
        ("false-finding", pair.said, pair.true, "is not in the reference"),
        ("missed-finding", pair.true, pair.said, "is not mentioned"),
    ):
        named = {m.name for m in there.of("finding", "device")}
        known = named | {wider for name in named for wider in _wider(name)}
        done: set[str] = set()
        for mention in here.of("finding", "device"):
            name = mention.name
            if mention.denied or name in done or name in known:
                continue
            done.add(name)
            if named.isdisjoint(_wider(name)):
                at = _span(mention)
                spans = (at, None) if here is pair.said else (None, at)
                out.append(Error(kind, f"{name} {verb}", *spans))
    return out


def _wider(name: str) -> list[str]:
    broader = vocabulary().broader
    out = []
    while name in broader:
        name = broader[name]
        out.append(name)
    return out


def _attribute_errors(pair: _Pair, error: str, kinds: Sequence[str]) -> list[Error]:
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
        found += [
            (m, y) for m, y in _leftovers(pair, mine, yours) if {m.name, y.name} not in seen
        ]
        out.extend(
            Error(error, f"{m.name} instead of {y.name}", _span(m), _span(y)) for m, y in found
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
    pair: _Pair, mine: Sequence[Mention], yours: Sequence[Mention]
) -> list[tuple[Mention, Mention]]:
    """Pair contradicting values that stand in a phrase with the same word.

    Where near captions hold the same values, only the word right after each value is trusted:
    what shares a phrase depends on punctuation.
    """
    if pair.aligned:
        there = {m.start: m for m in yours}
        return [(m, there[m.start]) for m in mine if m.start in there and _differ(m, there)]
    same = pair.overlap >= _SAME and not _surplus(mine, yours) and not _surplus(yours, mine)
    find = _by_next if same else _by_head
    places = [find(pair.said, mine), find(pair.true, yours)]
    found: dict[frozenset[str], tuple[Mention, Mention]] = {}
    for head, here in places[0].items():
        there_ = places[1].get(head)
        if not there_:
            continue
        names = {m.name for m in here}, {m.name for m in there_}
        if names[0] & names[1] or not _exclude(_values(here), _values(there_)):
            continue
        found.setdefault(frozenset((here[0].name, there_[0].name)), (here[0], there_[0]))
    return list(found.values())


def _differ(mention: Mention, there: dict[int, Mention]) -> bool:
    other = there[mention.start].name
    return _exclude(frozenset((mention.name,)), frozenset((other,)))


def _by_next(caption: Audit, values: Sequence[Mention]) -> dict[Key, list[Mention]]:
    """Return, for every finding, structure or word, the values right before it."""
    heads = {head.start: head for head in caption.of(*_HEADS)}
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
    for head in caption.of(*_HEADS):
        if head.segment in segments:
            out.setdefault((head.kind, head.name), []).extend(segments[head.segment])
    return out


def _leftovers(
    pair: _Pair, mine: Sequence[Mention], yours: Sequence[Mention]
) -> list[tuple[Mention, Mention]]:
    """Pair values that only the hypothesis holds with values that only the reference holds."""
    surplus = _surplus(mine, yours), _surplus(yours, mine)
    if not _exclude(_values(surplus[0]), _values(surplus[1])):
        return []
    out = []
    free = list(surplus[1])
    for value in surplus[0]:
        for other in free:
            if pair.overlap >= _NEAR or _shares_finding(pair, value, other):
                out.append((value, other))
                free.remove(other)
                break
    return out


def _surplus(here: Sequence[Mention], there: Sequence[Mention]) -> list[Mention]:
    left = Counter(m.name for m in there)
    out = []
    for mention in here:
        if left[mention.name] > 0:
            left[mention.name] -= 1
        else:
            out.append(mention)
    return out


def _shares_finding(pair: _Pair, mine: Mention, yours: Mention) -> bool:
    names = [
        {m.name for m in caption.of("finding", "device") if m.sentence == value.sentence}
        for caption, value in ((pair.said, mine), (pair.true, yours))
    ]
    return not names[0].isdisjoint(names[1])


def _anatomy_errors(pair: _Pair) -> list[Error]:
    """Find a shared finding in another structure."""
    mine, yours = pair.said.of("anatomy"), pair.true.of("anatomy")
    surplus = _surplus(mine, yours), list(_surplus(yours, mine))
    out = []
    for value in surplus[0]:
        for other in surplus[1]:
            if _apart(value.name, other.name) and _shares_finding(pair, value, other):
                text = f"{value.name} instead of {other.name}"
                out.append(Error("wrong-location", text, _span(value), _span(other)))
                surplus[1].remove(other)
                break
    return out


def _apart(one: str, other: str) -> bool:
    """Whether neither structure holds the other; tissues of no region only differ among them."""
    region = vocabulary().region
    general = [region[name] == "general" for name in (one, other)]
    if general[0] != general[1]:
        return False
    return one != other and region[one] != other and region[other] != one


def _change_errors(pair: _Pair) -> list[Error]:
    """Find temporal statements that only one side makes; one error per sentence."""
    out: list[Error] = []
    for kind, here, there in (
        ("invented-comparison", pair.said, pair.true),
        ("omitted-comparison", pair.true, pair.said),
    ):
        mine, yours = here.of("comparison"), there.of("comparison")
        if pair.overlap >= _NEAR:
            extra = _surplus(mine, yours)
        else:
            known = {m.name for m in yours}
            extra = [m for m in mine if m.name not in known]
        for mention in {m.sentence: m for m in reversed(extra)}.values():
            at = _span(mention)
            spans = (at, None) if here is pair.said else (None, at)
            out.append(Error(kind, f"{mention.name}: {here.text(*at)}", *spans))
    return out


def _modality_errors(pair: _Pair) -> list[Error]:
    """Find a modality that only the hypothesis names where the reference names another."""
    mine, yours = pair.said.of("modality"), pair.true.of("modality")
    parents = vocabulary().parents
    related: Callable[[str, str], bool] = lambda a, b: parents.get(a) == b or parents.get(b) == a
    if pair.overlap >= _NEAR:
        surplus = _surplus(mine, yours), _surplus(yours, mine)
    else:
        surplus = _only(mine, yours), _only(yours, mine)
    out = []
    free = [y for y in surplus[1]]
    for value in surplus[0]:
        for other in free:
            if not related(value.name, other.name):
                text = f"{value.name} instead of {other.name}"
                out.append(Error("wrong-modality", text, _span(value), _span(other)))
                free.remove(other)
                break
    return out


def _only(here: Sequence[Mention], there: Sequence[Mention]) -> list[Mention]:
    known = {m.name for m in there}
    return list({m.name: m for m in here if m.name not in known}.values())
