"""The paper's clinical table as totals, errors per caption, and what is invented most often."""

from __future__ import annotations

from typing import Any

from medblip.metrics.audit.clinical import STATUSES
from medblip.stages.report.cells import SYSTEM, Column, Table
from medblip.stages.report.contents import Contents

__all__ = ["clinical", "errors", "hallucinations", "missed", "statuses"]

_TITLES = {"right": "correct"}  # a side is right or left: the word would mean two things
#: A status that scores of an older medblip lack.
_NEW = "less specific"
_WORDS = {
    "right": "Correct: all that the reference states, in the same or narrower terms, and nothing "
    "else.",
    "less specific": "Less specific: the same in wider terms (lesion for metastasis, lung for left "
    "lower lobe).",
    "partly": "Partly: some of it, or more besides.",
    "wrong": "Wrong: something else alone.",
    "contradicted": "Contradicted (diagnoses): the caption denies what the reference states, or "
    "states what it denies.",
    "missing": "Missing: nothing.",
    "extra": "Extra: a statement where the reference makes none.",
}


def clinical(contents: Contents) -> Table | None:
    """Return how many of the images that a reference says something of are right, per row."""
    totals = _totals(contents)
    names = dict.fromkeys(row for total in totals.values() for row in total)
    if not names:
        return None
    columns = [SYSTEM, *(Column(key=name, title=name, kind="score") for name in names)]
    rows = [{"system": system} | total for system, total in totals.items()]
    note = (
        "Share of the images whose reference states something of the kind where the caption states "
        "all of it, in the same or narrower terms, and nothing else. Read from the texts with a "
        "lexicon; no radiologist read them."
    )
    if not all(_NEW in row for total in totals.values() for row in total.values()):
        note += (" Some of these scores are of an older medblip, which took wider terms (lesion "
                 "for metastasis) for correct.")  # fmt: skip
    return Table(name="clinical", title="Stated correctly, of what the reference states",
                 columns=columns, rows=rows, note=note)  # fmt: skip


def statuses(contents: Contents) -> Table | None:
    """Return the number of images of each status, per system and row of the table."""
    rows = [
        {"system": system, "row": name} | counts
        for system, total in _totals(contents).items()
        for name, counts in total.items()
    ]
    counted = [status for status in STATUSES if any(status in row for row in rows)]
    columns = [
        SYSTEM,
        Column(key="row", title="statement"),
        *(
            Column(key=status, title=_TITLES.get(status, status), kind="count")
            for status in counted  # scores of an older medblip know fewer
        ),
    ]
    note = " ".join(words for status, words in _WORDS.items() if status in counted)
    return Table(name="statuses", keys=2, title="Images by status", columns=columns, rows=rows,
                 note=note)  # fmt: skip


def _totals(contents: Contents) -> dict[str, dict[str, Any]]:
    found = {s.name: s.scores.get("clinical", {}).get("totals", {}) for s in contents.systems}
    return {name: totals for name, totals in found.items() if totals}


def errors(contents: Contents) -> Table | None:
    """Return the mean number of errors per caption, by class."""
    present = [name for s in contents.systems for name in s.scores["metrics"]]
    names = [name for name in dict.fromkeys(present) if name.startswith("error-")]
    if not names:
        return None
    columns = [
        SYSTEM,
        *(
            Column(key=name, title=name.removeprefix("error-").replace("-", " "), kind="score")
            for name in names
        ),
    ]
    rows = [
        {"system": s.name} | {name: s.scores["metrics"].get(name) for name in names}
        for s in contents.systems
    ]
    return Table(name="errors", title="Errors per caption", columns=columns, rows=rows,
                 note="Mean number per caption: lower is better.")  # fmt: skip


def hallucinations(contents: Contents) -> Table | None:
    """Return what captions state most often although the reference does not."""
    return _commonest(contents, "hallucinations", "Commonest hallucinations",
                      "stated, but not in the reference")  # fmt: skip


def missed(contents: Contents) -> Table | None:
    """Return what references state and captions leave out most often."""
    return _commonest(contents, "missed", "Most often left out", "in the reference, but not stated")


def _commonest(contents: Contents, name: str, title: str, head: str) -> Table | None:
    rows = [
        {"system": system.name, **row, "kind": row["kind"].replace("-", " "),
         "examples": ", ".join(row.get("ids", [])[:3]) or None}
        for system in contents.systems
        for row in system.scores.get("clinical", {}).get(name, [])
    ]  # fmt: skip
    columns = [
        SYSTEM,
        Column(key="kind", title="error"),
        Column(key="name", title=head, kind="long"),
        Column(key="count", title="images", kind="count"),
        Column(key="examples", title="for example", kind="long"),
    ]
    return Table(name=name, title=title, columns=columns, rows=rows,
                 note="At most 20 per system; an image counts once.")  # fmt: skip
