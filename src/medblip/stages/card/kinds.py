"""Which kinds of the audit were stated at all: F1 of nothing against nothing is 1, no merit."""

from __future__ import annotations

from typing import Any

__all__ = ["FEW", "images_stating", "unstated"]

#: Images below which an interval says nothing: resamples without any of them have an F1 of 1.
FEW = 10


def images_stating(scores: dict[str, Any], metric: str) -> int | None:
    """Return on how many images captions or references state a kind; None where nobody counted.

    Args:
        scores: Content of scores/<split>.json.
        metric: `audit-<kind>-F1`; any other has no such number.
    """
    kind = metric.removeprefix("audit-").removesuffix("-F1")
    counts = scores.get("clinical", {}).get("statements", {}).get(kind)
    return int(counts["images"]) if counts and metric == f"audit-{kind}-F1" else None


def unstated(scores: dict[str, Any], metric: str) -> bool:
    """Whether the F1 of a kind is that of nothing against nothing, or may be.

    Scores of an older medblip have no counts. A flawless F1 is taken for one of nothing there: of
    the two mistakes, hiding a true one misleads nobody.
    """
    if not (metric.startswith("audit-") and metric.endswith("-F1")):
        return False
    images = images_stating(scores, metric)
    if images is not None:
        return images == 0
    score = scores["metrics"][metric]
    return bool(score["value"] == 1 and score["ci"][0] == 1)
