"""The paper's clinical table (arXiv 2505.14726: modality, side, anatomy, diagnosis), by the audit.

Per image and kind a status; over a test set the share that is right, with an interval; and what
captions invent or leave out most often. Rules read the texts; no radiologist does.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from medblip.metrics.audit import KINDS, best_reference, kind_counts
from medblip.metrics.audit.compare import audit_errors
from medblip.metrics.audit.extract import Audit, audit
from medblip.metrics.audit.pair import Error
from medblip.metrics.audit.terms import vocabulary
from medblip.metrics.base import Ratio, Statistics, mean_statistics
from medblip.metrics.ngrams import Ints
from medblip.metrics.resampling import scores

__all__ = ["ROWS", "STATUSES", "Stated", "clinical_row", "clinical_summary"]

#: Row of the table -> kind of the audit.
ROWS = {"modality": "modality", "side": "side", "anatomy": "anatomy", "diagnosis": "finding"}
Status = Literal[
    "right", "less specific", "partly", "wrong", "contradicted", "missing", "extra", "not stated"
]
STATUSES: tuple[Status, ...] = (
    "right", "less specific", "partly", "wrong", "contradicted", "missing", "extra", "not stated",
)  # fmt: skip
#: A part of an organ that is named without it -> what includes it, the narrowest first.
_PARTS = {"lobe of the lung": ("lung", "chest"), "lobe of the brain": ("brain", "head")}
#: Axis of a level, beside the word lobe -> whose lobe it is.
_LOBES = {"vertical": "lobe of the lung", "lobe": "lobe of the brain"}
#: Organs with lobes of their own: where one is named, an upper lobe may be its.
_LOBED = frozenset(("liver", "thyroid", "prostate", "parotid", "breast", "thymus", "kidney"))
#: Classes of errors that are something said which is not so, and something left out.
_INVENTED = ("false-finding", "wrong-location", "wrong-modality", "wrong-severity",
             "invented-comparison")  # fmt: skip
_MISSED = ("missed-finding", "omitted-comparison")
#: How many of the commonest are kept, and how many ids of each.
_KEPT, _EXAMPLES = 20, 5


@dataclasses.dataclass(frozen=True)
class Stated:
    """One cell of the table.

    Args:
        status: `right`: the caption states all that the reference states, in the same or narrower
            terms, and nothing else; `less specific`: all of it and nothing else, some of it in
            wider terms alone (lesion for metastasis, lung for left lower lobe); `partly`: some of
            it, or more besides; `wrong`: something else alone; `contradicted`: of diagnoses, the
            caption denies what the reference states, or states what it denies, whatever else is
            said; `missing`: nothing where the reference states something; `extra`: something where
            the reference says nothing, which nobody can judge from the text; `not stated`: neither
            states anything.
        said: What the caption states, and what it denies to the reference's face.
        true: What the reference states, and what it denies to the caption's.
        stated: Whether the reference states something, rather than nothing or a denial.
    """

    status: Status
    said: tuple[str, ...]
    true: tuple[str, ...]
    stated: bool


def clinical_row(caption: str, references: Sequence[str]) -> dict[str, Stated]:
    """Return the table's row of one image; the reference that agrees best is the one that counts.

    >>> row = clinical_row("CT: mass in the left lung", ["CT of the chest: mass in the right lung"])
    >>> {name: cell.status for name, cell in row.items()}
    {'modality': 'right', 'side': 'wrong', 'anatomy': 'partly', 'diagnosis': 'right'}
    """
    return _row(caption, references[best_reference(caption, references)])


def _row(caption: str, reference: str) -> dict[str, Stated]:
    said, true = audit(caption), audit(reference)
    row = {name: _stated(_items(said, kind), _items(true, kind)) for name, kind in ROWS.items()}
    return row | {"diagnosis": _against_denials(row["diagnosis"], said, true)}


def clinical_summary(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    ids: Sequence[str],
    *,
    resamples: int,
    seed: int,
    groups: Ints | None = None,
) -> dict[str, Any]:
    """Return what scores/<split>.json keeps as `clinical`.

    Args:
        captions: One per image.
        references: At least one per image.
        ids: Of the images.
        resamples: Behind each interval; 0: none.
        seed: Of the resampling.
        groups: As `medblip.metrics.resampling.scores`.

    Returns:
        `statements`: per kind of the audit how many items `captions` and `references` state, and on
        how many `images` either states any: where none does, F1 is 1 by definition, not by merit.
        `totals`: per row the number of images of each status, `stated` (the reference states
        something; a denial alone is no statement), `value` (right / stated) and its interval;
        `hallucinations` and `missed`, the
        commonest first: {kind, name, count, ids}.
    """
    chosen = [
        many[best_reference(one, many)] for one, many in zip(captions, references, strict=True)
    ]
    rows = [_row(one, reference) for one, reference in zip(captions, chosen, strict=True)]
    families = [
        Statistics(Ratio(name), _right_and_stated([row[name] for row in rows])) for name in ROWS
    ]
    values = scores(families, resamples=resamples, seed=seed, groups=groups)
    totals = {
        name: dict.fromkeys(STATUSES, 0)
        | Counter(row[name].status for row in rows)
        | {
            "stated": int(family.values[:, 1].sum()),
            "value": values[name].value,
            "ci": list(values[name].ci),
        }
        for name, family in zip(ROWS, families, strict=True)
    }
    found = [
        (image, error)
        for image, caption, reference in zip(ids, captions, chosen, strict=True)
        for error in audit_errors(caption, reference)
    ]
    return {
        "statements": _statements(captions, chosen),
        "totals": totals,
        "hallucinations": _commonest(found, _INVENTED),
        "missed": _commonest(found, _MISSED),
    }


def _statements(captions: Sequence[str], references: Sequence[str]) -> dict[str, dict[str, int]]:
    found = [kind_counts(one, [other]) for one, other in zip(captions, references, strict=True)]
    return {
        kind: {
            "captions": sum(counts[kind][1] for counts in found),
            "references": sum(counts[kind][2] for counts in found),
            "images": sum(counts[kind][1] + counts[kind][2] > 0 for counts in found),
        }
        for kind in KINDS
    }


def _items(found: Audit, kind: str) -> frozenset[str]:
    """Return what is stated of a kind, lobes among the structures; of modalities the narrowest.

    The audit adds to each modality the one that includes it: T1 and T2 would agree on MR.
    """
    items = found.items(kind)
    if kind == "anatomy":
        return items | _lobes(found)
    if kind == "modality" and len(items) > 1:
        return items.difference(*map(_wider, items))
    return items


def _lobes(found: Audit) -> frozenset[str]:
    """Return whose lobes are named, by the level beside the word: `left lower lobe`."""
    sentences = {m.sentence for m in found.of("word") if m.name == "lobe"}
    if not sentences:
        return frozenset()
    whose = {_LOBES.get(m.axis, "") for m in found.of("level") if m.sentence in sentences}
    if not _LOBED.isdisjoint(found.items("anatomy")):
        whose.discard("lobe of the lung")
    return frozenset(whose - {""})


def _stated(said: Iterable[str], true: Iterable[str]) -> Stated:
    mine, yours = tuple(sorted(said)), tuple(sorted(true))
    return Stated(_status(mine, yours), mine, yours, bool(yours))


def _status(mine: Sequence[str], yours: Sequence[str]) -> Status:
    if not yours:
        return "extra" if mine else "not stated"
    if not mine:
        return "missing"
    known = [any(_same(one, other) for other in yours) for one in mine]
    if all(known) and all(any(_same(one, other) for one in mine) for other in yours):
        met = [any(one == other or other in _wider(one) for one in mine) for other in yours]
        return "right" if all(met) else "less specific"
    if any(known):
        return "partly"
    return _by_region(mine, yours)


def _by_region(mine: Sequence[str], yours: Sequence[str]) -> Status:
    """Judge structures of which none is another's: the chest holds the lung, and is not wrong."""
    region = vocabulary().region
    regions = {region.get(other) for other in yours}
    if regions.issubset(mine):
        return "less specific" if regions.issuperset(mine) else "partly"
    near = not regions.isdisjoint(mine) or any(region.get(one) in yours for one in mine)
    return "partly" if near else "wrong"


def _same(one: str, other: str) -> bool:
    """Whether two names are one, or one includes the other: pneumonia, lobar pneumonia."""
    return one == other or other in _wider(one) or one in _wider(other)


@functools.cache
def _wider(name: str) -> tuple[str, ...]:
    words, out = vocabulary(), list(_PARTS.get(name, ()))
    while (wider := words.broader.get(name) or words.parents.get(name)) is not None:
        name = wider
        out.append(name)
    return tuple(out)


def _against_denials(cell: Stated, said: Audit, true: Audit) -> Stated:
    """Return the diagnosis, `contradicted` where one text denies what the other states."""
    mine, yours = _denials(said, true), _denials(true, said)
    if not mine and not yours:
        return cell
    return dataclasses.replace(
        cell, status="contradicted", said=cell.said + mine, true=cell.true + yours
    )


def _denials(denying: Audit, other: Audit) -> tuple[str, ...]:
    """Return what one text denies although the other asserts it, or a kind of it.

    Not what it asserts as well: in `a metastasis, no other lesion` no metastasis is denied.
    """
    if not denying.items("negation"):
        return ()
    denied = {m.name for m in denying.of("finding") if m.denied}
    own = denying.items("finding")
    open_to_denial = [
        name for name in other.items("finding") if not any(_same(name, one) for one in own)
    ]
    told = {wider for name in open_to_denial for wider in (name, *_wider(name))}
    return tuple(f"no {name}" for name in sorted(denied & told))


def _right_and_stated(cells: Sequence[Stated]) -> Any:
    table = mean_statistics([float(cell.status == "right") for cell in cells])
    table[:, 1] = [float(cell.stated) for cell in cells]
    return table


def _commonest(found: Iterable[tuple[str, Error]], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """Return the errors of some classes by what they are about; an image counts once for each."""
    images: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for image, error in found:
        if error.kind in kinds:
            images[error.kind, _about(error)][image] = None
    order = sorted(images.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        {"kind": kind, "name": name, "count": len(where), "ids": list(where)[:_EXAMPLES]}
        for (kind, name), where in order[:_KEPT]
    ]


def _about(error: Error) -> str:
    """Return an error's text without what its class says already."""
    text = error.text
    for ending in (" is not in the reference", " is not mentioned", " is asserted", " is denied"):
        text = text.removesuffix(ending)
    return text
