"""The paper's clinical table (arXiv 2505.14726: modality, side, anatomy, diagnosis), by the audit.

Per image and kind a status; over a test set the share that is right, with an interval; and what
captions invent or leave out most often. Rules read the texts; no radiologist does.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from medblip.metrics.audit import KINDS, best_reference, kind_counts
from medblip.metrics.audit.compare import audit_errors
from medblip.metrics.audit.extract import audit
from medblip.metrics.audit.pair import Error
from medblip.metrics.audit.terms import vocabulary
from medblip.metrics.base import Ratio, Statistics, mean_statistics
from medblip.metrics.ngrams import Ints
from medblip.metrics.resampling import scores

__all__ = ["ROWS", "STATUSES", "Stated", "clinical_row", "clinical_summary"]

#: Row of the table -> kind of the audit.
ROWS = {"modality": "modality", "side": "side", "anatomy": "anatomy", "diagnosis": "finding"}
Status = Literal["right", "partly", "wrong", "missing", "extra", "not stated"]
STATUSES: tuple[Status, ...] = ("right", "partly", "wrong", "missing", "extra", "not stated")
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
        status: `right`: the caption says all that the reference says and nothing else; `partly`:
            some of it, or more besides; `wrong`: something else alone; `missing`: nothing where
            the reference says something; `extra`: something where the reference says nothing, which
            nobody can judge from the text; `not stated`: neither says anything.
        said: What the caption says.
        true: What the reference says.
    """

    status: Status
    said: tuple[str, ...]
    true: tuple[str, ...]


def clinical_row(caption: str, references: Sequence[str]) -> dict[str, Stated]:
    """Return the table's row of one image; the reference that agrees best is the one that counts.

    >>> row = clinical_row("CT: mass in the left lung", ["CT of the chest: mass in the right lung"])
    >>> {name: cell.status for name, cell in row.items()}
    {'modality': 'right', 'side': 'wrong', 'anatomy': 'partly', 'diagnosis': 'right'}
    """
    said, true = audit(caption), audit(references[best_reference(caption, references)])
    return {name: _stated(said.items(kind), true.items(kind)) for name, kind in ROWS.items()}


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
        `totals`: per row the number of images of each status, `stated` (the reference says
        something), `value` (right / stated) and its interval; `hallucinations` and `missed`, the
        commonest first: {kind, name, count, ids}.
    """
    rows = [clinical_row(one, many) for one, many in zip(captions, references, strict=True)]
    families = [
        Statistics(Ratio(name), _right_and_stated([row[name] for row in rows])) for name in ROWS
    ]
    values = scores(families, resamples=resamples, seed=seed, groups=groups)
    totals = {
        name: {status: sum(row[name].status == status for row in rows) for status in STATUSES}
        | {
            "stated": int(family.values[:, 1].sum()),
            "value": values[name].value,
            "ci": list(values[name].ci),
        }
        for name, family in zip(ROWS, families, strict=True)
    }
    found = [
        (image, error)
        for image, caption, many in zip(ids, captions, references, strict=True)
        for error in audit_errors(caption, many[best_reference(caption, many)])
    ]
    return {
        "statements": _statements(captions, references),
        "totals": totals,
        "hallucinations": _commonest(found, _INVENTED),
        "missed": _commonest(found, _MISSED),
    }


def _statements(
    captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, dict[str, int]]:
    found = [kind_counts(one, many) for one, many in zip(captions, references, strict=True)]
    return {
        kind: {
            "captions": sum(counts[kind][1] for counts in found),
            "references": sum(counts[kind][2] for counts in found),
            "images": sum(counts[kind][1] + counts[kind][2] > 0 for counts in found),
        }
        for kind in KINDS
    }


def _stated(said: Iterable[str], true: Iterable[str]) -> Stated:
    mine, yours = tuple(sorted(said)), tuple(sorted(true))
    if not yours:
        return Stated("extra" if mine else "not stated", mine, yours)
    if not mine:
        return Stated("missing", mine, yours)
    known = [any(_same(one, other) for other in yours) for one in mine]
    met = [any(_same(one, other) for one in mine) for other in yours]
    if all(known) and all(met):
        return Stated("right", mine, yours)
    return Stated("partly" if any(known) else "wrong", mine, yours)


def _same(one: str, other: str) -> bool:
    """Whether two names are one, or one includes the other: pneumonia, lobar pneumonia."""
    return one == other or other in _wider(one) or one in _wider(other)


def _wider(name: str) -> list[str]:
    words, out = vocabulary(), []
    while (wider := words.broader.get(name) or words.parents.get(name)) is not None:
        name = wider
        out.append(name)
    return out


def _right_and_stated(cells: Sequence[Stated]) -> Any:
    table = mean_statistics([float(cell.status == "right") for cell in cells])
    table[:, 1] = [float(bool(cell.true)) for cell in cells]
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
