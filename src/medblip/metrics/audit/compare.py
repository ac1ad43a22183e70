"""Two captions to errors, in the classes of ReXVal and one for the modality.

ReXVal (Yu et al. 2023, physionet.org/content/rexval-dataset) counts false findings, missed
findings, wrong location, wrong severity, invented comparisons and omitted changes. Captions of
single images also name the modality, so `wrong-modality` is a class of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medblip.metrics.audit.attributes import attribute_errors, structure_errors
from medblip.metrics.audit.extract import Audit, Mention, audit
from medblip.metrics.audit.pair import ERRORS, HEADS, NEAR, SAME, Error, Pair, span, surplus
from medblip.metrics.audit.terms import vocabulary

__all__ = ["ERRORS", "Error", "audit_errors"]

Key = tuple[str, str]


def audit_errors(hypothesis: str | Audit, reference: str | Audit) -> list[Error]:
    """Return the errors of a hypothesis; none when both say the same.

    >>> [error.kind for error in audit_errors("Mass in the left lung.", "Mass in the right lung.")]
    ['wrong-location']
    """
    said = hypothesis if isinstance(hypothesis, Audit) else audit(hypothesis)
    true = reference if isinstance(reference, Audit) else audit(reference)
    if said.tokens == true.tokens:
        return []
    pair = Pair(said, true)
    return [
        *_polarity_errors(pair),
        *_finding_errors(pair),
        *attribute_errors(pair, "wrong-location", ("side", "level")),
        *structure_errors(pair),
        *attribute_errors(pair, "wrong-severity", ("severity", "measurement")),
        *_change_errors(pair),
        *_modality_errors(pair),
    ]


def _polarity_errors(pair: Pair) -> list[Error]:
    """Find what one side asserts and the other denies; one error per denying cue.

    Words that the lexicon does not know take part when the captions are near to each other. When
    they say the same in another order with as many denials, only what stands at a cue is trusted:
    the reach of a cue depends on punctuation.
    """
    said, true = pair.said, pair.true
    if not said.tight and not true.tight:
        return []
    if pair.overlap >= SAME and len(said.tight) == len(true.tight):
        return _tight_errors(said, true)
    kinds = HEADS if pair.overlap >= NEAR else ("finding", "device")
    out: list[Error] = []
    for kind, denying, other in (("missed-finding", said, true), ("false-finding", true, said)):
        found: dict[int, Mention] = {}
        about = {m.denied for m in denying.of("finding", "device")}
        for mention in denying.of(*kinds):
            if mention.kind == "anatomy" and mention.denied in about:
                continue  # `no fracture of the femur` does not deny the femur
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
            at = (span(mention), span(there))
            if kind == "missed-finding":
                out.append(Error(kind, f"{mention.name} is denied", *at))
            else:
                out.append(Error(kind, f"{mention.name} is asserted", at[1], at[0]))
    return out


def _flipped(denying: Audit, other: Audit, key: Key) -> bool:
    counts = [
        (sum(1 for m in found if m.denied), sum(1 for m in found if not m.denied))
        for found in (
            [m for m in caption.mentions if (m.kind, m.name) == key] for caption in (denying, other)
        )
    ]
    return counts[0][0] > counts[1][0] and counts[1][1] > counts[0][1]


def _tight_errors(said: Audit, true: Audit) -> list[Error]:
    more, less = (
        Counter(said.tight) - Counter(true.tight),
        Counter(true.tight) - Counter(said.tight),
    )
    new = [key for key in more if _flipped(said, true, key)]
    gone = [key for key in less if _flipped(true, said, key)]
    if not new or not gone:
        return []
    return [
        *(Error("missed-finding", f"{name} is denied") for _, name in new),
        *(Error("false-finding", f"{name} is asserted") for _, name in gone),
    ]


def _finding_errors(pair: Pair) -> list[Error]:
    """Find asserted findings and devices that the other side does not mention.

    A wider or a narrower term counts as a mention where it is asserted: a cyst is a lesion, but no
    lesion is no cyst. What one side denies by name is an error of polarity.
    """
    out: list[Error] = []
    wider = vocabulary().wider
    for kind, here, there, verb in (
        ("false-finding", pair.said, pair.true, "is not in the reference"),
        ("missed-finding", pair.true, pair.said, "is not mentioned"),
    ):
        mentions = there.of("finding", "device")
        asserted = {m.name for m in mentions if not m.denied}
        known = {m.name for m in mentions} | {w for name in asserted for w in wider(name)}
        done: set[str] = set()
        for mention in here.of("finding", "device"):
            name = mention.name
            if mention.denied or name in done or name in known:
                continue
            done.add(name)
            if asserted.isdisjoint(wider(name)):
                at = span(mention)
                spans = (at, None) if here is pair.said else (None, at)
                out.append(Error(kind, f"{name} {verb}", *spans))
    return out


def _change_errors(pair: Pair) -> list[Error]:
    """Find temporal statements that only one side makes; one error per sentence."""
    out: list[Error] = []
    for kind, here, there in (
        ("invented-comparison", pair.said, pair.true),
        ("omitted-comparison", pair.true, pair.said),
    ):
        mine, yours = here.of("comparison"), there.of("comparison")
        if pair.overlap >= NEAR:
            extra = surplus(mine, yours)
        else:
            known = {m.name for m in yours}
            extra = [m for m in mine if m.name not in known]
        for mention in {m.sentence: m for m in reversed(extra)}.values():
            at = span(mention)
            spans = (at, None) if here is pair.said else (None, at)
            out.append(Error(kind, f"{mention.name}: {here.text(*at)}", *spans))
    return out


def _modality_errors(pair: Pair) -> list[Error]:
    """Find a modality that only the hypothesis names where the reference names another."""
    mine, yours = pair.said.of("modality"), pair.true.of("modality")
    parents = vocabulary().parents
    if pair.overlap >= NEAR:
        extra = surplus(mine, yours), surplus(yours, mine)
    else:
        extra = _only(mine, yours), _only(yours, mine)
    out = []
    free = list(extra[1])
    for value in extra[0]:
        for other in free:
            if value.name != parents.get(other.name) and other.name != parents.get(value.name):
                text = f"{value.name} instead of {other.name}"
                out.append(Error("wrong-modality", text, span(value), span(other)))
                free.remove(other)
                break
    return out


def _only(here: Sequence[Mention], there: Sequence[Mention]) -> list[Mention]:
    known = {m.name for m in there}
    return list({m.name: m for m in here if m.name not in known}.values())
