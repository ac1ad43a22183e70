"""The gallery: for each chosen image its picture, its references and every system's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import ImageError
from medblip.metrics.audit import audit_errors, best_reference
from medblip.metrics.tokenize import tokenize
from medblip.pictures import align, packed, strengths
from medblip.stages.report.collect import HEADLINE, Case, System
from medblip.stages.report.figures import heat_tile, image_uri, outline_uri, thumbnail

__all__ = ["build_card", "pack_maps"]


def build_card(case: Case, systems: Sequence[System], best: System, root: Path) -> dict[str, Any]:
    """Return one image of the gallery as plain values for the template.

    Args:
        case: The image and why it is shown.
        systems: All systems, in the order of the page.
        best: The system whose words also get a printed strip of attention tiles.
        root: Folder of the data set.
    """
    example = case.example
    facts = example.facts or {}
    reference = {token for caption in example.captions for token in tokenize(caption)}
    written = {
        token for system in systems for token in tokenize(system.captions.get(example.id, ""))
    }
    try:
        image, problem = thumbnail(root / example.image), None
    except ImageError as error:
        image, problem = None, str(error)
    mapped = best.maps.get(example.id)
    return {
        "id": example.id,
        "kind": case.kind,
        "modality": facts.get("modality"),
        "image": None if image is None else image_uri(image),
        "width": 1 if image is None else image.width,
        "height": 1 if image is None else image.height,
        "problem": problem,
        "outline": outline_uri(facts.get("findings", [])),
        "references": [_words(caption, caption.split(), written) for caption in example.captions],
        "alt": f"Image {example.id}. Reference: {example.captions[0]}",
        "licence": example.licence,
        "errors": sorted(set(_errors(best.captions.get(example.id, ""), example.captions))),
        "captions": [_caption(system, example.id, reference) for system in systems],
        "strip": []
        if mapped is None or image is None
        else [
            {"word": word, "tile": heat_tile(image, strength.reshape(best.grid))}
            for word, strength in zip(mapped["words"], strengths(mapped["maps"])[0], strict=True)
            if any(letter.isalnum() for letter in word)
        ],
    }


def _errors(caption: str, references: Sequence[str]) -> list[str]:
    """Return the classes of errors that the audit finds in the best system's caption."""
    reference = references[best_reference(caption, references)]
    return [error.kind for error in audit_errors(caption, reference)]


def pack_maps(systems: Sequence[System], cases: Sequence[Case]) -> dict[str, Any]:
    """Return the maps for the page's script, a byte per patch.

    Returns:
        System -> {grid: [rows, columns], images: {id: {peaks: share of the attention that the
        strongest patch of each word has, data: base64 of uint8 (words, rows * columns), where 255
        is that patch}}}; systems without maps are left out.
    """
    shown = {case.example.id for case in cases}
    found: dict[str, Any] = {}
    for system in systems:
        images = {}
        for name in sorted(shown & set(system.maps)):
            images[name] = packed(system.maps[name]["maps"])
        if images:
            found[system.name] = {"grid": list(system.grid), "images": images}
    return found


def _caption(system: System, name: str, reference: set[str]) -> dict[str, Any]:
    text = system.captions.get(name)
    mapped = system.maps.get(name)
    words = None if mapped is None else mapped["words"]
    return {
        "system": system.name,
        "absent": text is None,
        "words": _words(text or "", words or (text or "").split(), reference),
        "mapped": words is not None,
        "score": system.per_image.get(name, {}).get(HEADLINE),
    }


def _words(caption: str, words: Sequence[str], known: set[str]) -> list[dict[str, Any]]:
    """Return the words with what stands before each and whether the other side lacks it.

    A word is judged as a part of what stands between two spaces, as the metrics see it: the "t2"
    of "T2-weighted" is known when "t2-weighted" is.
    """
    spans = align(caption, words)
    if spans is None:
        return [
            {"before": " " if index else "", "text": word, "other": _differs(word, known)}
            for index, word in enumerate(words)
        ]
    pieces = [(piece.end(), _differs(piece[0], known)) for piece in re.finditer(r"\S+", caption)]
    found, last = [], 0
    for start, end in spans:
        other = next(other for stop, other in pieces if start < stop)
        text = caption[start:end]
        other &= any(letter.isalnum() for letter in text)
        found.append({"before": caption[last:start], "text": text, "other": other})
        last = end
    return found


def _differs(text: str, known: set[str]) -> bool:
    """Whether a token is not known; brackets (-lrb- ...) and other signs do not count."""
    return any(token not in known for token in tokenize(text) if token[0].isalnum())
