"""Kinds of statement that nobody makes: F1 of nothing against nothing is 1, which is no merit."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["FEW", "images_stating", "is_silent"]

#: Images below which an interval says nothing: resamples without any of them have an F1 of 1.
FEW = 10

_AUDITED = re.compile(r"audit-(.+)-(?:P|R|F1)")


def images_stating(scores: dict[str, Any], metric: str) -> int | None:
    """Return on how many images captions or references state what a metric of the audit is about.

    Args:
        scores: Content of scores/<split>.json.
        metric: Name; None is returned for one that is not the audit's, and where nobody counted.
    """
    found = _AUDITED.fullmatch(metric)
    counts = scores.get("clinical", {}).get("statements", {}).get(found[1]) if found else None
    return None if counts is None else int(counts["images"])


def is_silent(scores: dict[str, Any], metric: str) -> bool:
    """Whether a value is that of nothing against nothing, or may be.

    Scores of an older medblip have no counts. There a flawless F1 is taken for one of nothing: of
    the two mistakes, hiding a true one misleads nobody.
    """
    found = _AUDITED.fullmatch(metric)
    score = scores["metrics"].get(f"audit-{found[1]}-F1") if found else None
    if score is None:
        return False
    images = images_stating(scores, metric)
    if images is not None:
        return images == 0
    return bool(score["value"] == 1 and (score["ci"] is None or score["ci"][0] == 1))
