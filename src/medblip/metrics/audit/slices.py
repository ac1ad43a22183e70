"""Structures that say where a slice was taken: `CT through the ventricles` puts nothing in them."""

from __future__ import annotations

from collections.abc import Sequence

from medblip.metrics.audit.normalise import PUNCTUATION
from medblip.metrics.audit.terms import Hit, Term, vocabulary

__all__ = ["SLICE", "slice_levels"]

#: Axis of such a structure.
SLICE = "slice"
#: What opens the place of a slice; articles are gone: `at the level of the`.
_CUES = (("through",), ("at", "level", "of"), ("at", "level"))
_FIRST = frozenset(cue[0] for cue in _CUES)
#: What names an image besides its modality and plane.
_IMAGES = frozenset(("slice", "section", "image", "scan", "view", "cut", "cross"))
#: What ends it besides punctuation and verbs of seeing.
_ENDS = frozenset(("with", "without", "where", "which", "but", "in"))


def slice_levels(found: Sequence[str], hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits, the structures of a slice's level on an axis of their own.

    Only where the words belong to the image (`axial CT of the head through the ventricles`); a
    fracture through the femoral neck and a mass at the level of the carina are where they are.

    Args:
        found: Tokens.
        hits: Of concepts, planes and attributes.
    """
    inside: set[int] = set()
    for place, token in enumerate(found):
        if token not in _FIRST:
            continue
        cue = next((one for one in _CUES if tuple(found[place : place + len(one)]) == one), ())
        if cue and _of_image(found, hits, place):
            inside.update(_reach(found, hits, place + len(cue)))
    return [
        Hit(Term("anatomy", hit.term.name, SLICE), hit.start, hit.stop)
        if hit.term.kind == "anatomy" and hit.start in inside
        else hit
        for hit in hits
    ]


def _of_image(found: Sequence[str], hits: Sequence[Hit], place: int) -> bool:
    """Whether the nearest thing before is an image, with nothing but structures between."""
    kinds = {
        i: hit.term.kind for hit in hits if hit.stop <= place for i in range(hit.start, hit.stop)
    }
    words = vocabulary()
    for i in range(place - 1, -1, -1):
        token, kind = found[i], kinds.get(i)
        if kind in ("modality", "plane") or (kind is None and token in _IMAGES):
            return True
        if kind is not None and kind != "anatomy":
            return False
        if kind is None and token != "," and (token in words.show or token not in words.plain):
            return False
    return False


def _reach(found: Sequence[str], hits: Sequence[Hit], start: int) -> range:
    """Return the tokens up to the end of the phrase, or to what is no structure."""
    seen = {hit.start for hit in hits if hit.term.kind in ("finding", "device", "modality")}
    show = vocabulary().show
    for stop in range(start, len(found)):
        token = found[stop]
        if token in PUNCTUATION or token in show or token in _ENDS or stop in seen:
            return range(start, stop)
    return range(start, len(found))
