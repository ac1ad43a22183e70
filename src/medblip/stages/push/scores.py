"""The scores of a run as strangers may see them: numbers, and names that are medblip's own.

The run's own file also says which images a hallucination is in, and what a caption says instead:
ids are file names, which may be patients' names, and such a name is a piece of a caption. So what
leaves is made from a list of what may, not from what is there less what may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medblip.files import json_text, read_json
from medblip.metrics.audit import KINDS
from medblip.metrics.audit.clinical import ROWS, STATUSES
from medblip.rundir import RunDir
from medblip.schema import SPLITS

__all__ = ["published_scores", "score_texts"]

_SCORE = ("value", "ci", "n", "signature")
_SIGNS = (
    "unique_captions", "most_frequent_share", "mean_words", "repeated_bigrams", "repeated_4grams",
    "seen_in_training",
)  # fmt: skip


def score_texts(run: RunDir) -> dict[str, str]:
    """Return path in the repository -> text, for every split that has scores.

    Raises:
        RunError: A file of scores is damaged.
    """
    there = [split for split in SPLITS if run.scores(split).exists()]
    return {
        f"scores/{split}.json": json_text(published_scores(read_json(run.scores(split))))
        for split in there
    }


def published_scores(scores: dict[str, Any]) -> dict[str, Any]:
    """Return what may leave of scores/<split>.json: metrics, intervals, counts, signatures."""
    clinical = scores.get("clinical", {})
    counted = {
        "totals": _tables(clinical.get("totals", {}), ROWS, (*STATUSES, "stated", "value", "ci")),
        "statements": _tables(
            clinical.get("statements", {}), KINDS, ("captions", "references", "images")
        ),
    }
    kept = {
        "degeneration": _picked(scores.get("degeneration", {}), _SIGNS),
        "corpus": {name: one for name, one in scores.get("corpus", {}).items() if _is_number(one)},
        "clinical": {name: table for name, table in counted.items() if table},
    }
    return {
        **_picked(scores, ("split", "n", "protocol")),
        "metrics": {name: _picked(one, _SCORE) for name, one in scores["metrics"].items()},
        **{name: part for name, part in kept.items() if part},
    }


def _tables(
    table: Mapping[str, Mapping[str, Any]], rows: Iterable[str], columns: Iterable[str]
) -> dict[str, Any]:
    """Return the rows of a table that are known by name, each with its numbers alone."""
    return {row: _picked(table[row], columns, words=False) for row in rows if row in table}


def _picked(record: Mapping[str, Any], names: Iterable[str], *, words: bool = True) -> Any:
    return {
        name: record[name]
        for name in names
        if name in record and (_is_number(record[name]) or (words and _is_word(record[name])))
    }


def _is_number(value: Any) -> bool:
    """Whether it is a number, or an interval of two."""
    ends = value if isinstance(value, list) else [value]
    return all(isinstance(end, int | float) for end in ends)


def _is_word(value: Any) -> bool:
    return isinstance(value, str)
