"""A caption's words found again in the caption as it is written, and the script for both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["align", "script"]


def align(caption: str, words: Sequence[str]) -> list[tuple[int, int]] | None:
    """Find words in their caption, in order and whatever their case.

    A decoder's words are lower-cased and cut at punctuation; a page shows the caption as it is.

    Returns:
        (start, end) of each word, or None when a word is not found or letters are left over.

    >>> align("T2-weighted MRI.", ["t2", "-", "weighted", "mri", "."])
    [(0, 2), (2, 3), (3, 11), (12, 15), (15, 16)]
    """
    spans, end = [], 0
    folded = caption.lower()
    if len(folded) != len(caption):  # a few letters change length: positions would shift
        return None
    for word in words:
        start = folded.find(word.lower(), end)
        if start < 0 or caption[end:start].strip():
            return None
        end = start + len(word)
        spans.append((start, end))
    return spans if not caption[end:].strip() else None


def script() -> str:
    """Return `wordmaps.js`, to be put into a page as it is.

    The page has `<script id="maps" type="application/json">` with {system: {grid, images: {id:
    {peaks, data}}}}; a `.card[data-id]` with a `canvas` over the picture, `.scale`, `.peak` and
    `.where`; and in it `.words[data-system]` with a `button[data-index]` per word. A `select#scale`
    of `word` and `share` is optional.
    """
    return Path(__file__).with_name("wordmaps.js").read_text(encoding="utf-8")
