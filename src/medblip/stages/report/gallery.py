"""The gallery: for each chosen image its picture, its references and every system's words."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from medblip.errors import ImageError
from medblip.metrics.audit import audit
from medblip.metrics.tokenize import tokenize
from medblip.pictures import align, packed, strengths
from medblip.stages.report.cells import visible
from medblip.stages.report.clinical import clinical_card
from medblip.stages.report.collect import HEADLINE, Case, System
from medblip.stages.report.contents import Contents
from medblip.stages.report.figures import heat_tile, image_uri, outline_uri, thumbnail

__all__ = ["align", "build_card", "build_cards", "fit_maps", "pack_maps"]

#: Letters of cards and maps in one page; tables, charts and settings need little beside them.
MOST_BYTES = 14_000_000
#: Tiles of attention in one page: beyond, a card shows its first words only.
MOST_TILES = 5_000


class Detail(NamedTuple):
    """How fine the gallery is: longest side of image and tile in pixels, tiles per card."""

    image: int
    tile: int
    words: int


def detail(images: int) -> Detail:
    """Return what keeps a page of up to 200 images below 15 MB."""
    words = MOST_TILES // max(1, images)
    if images <= 40:
        return Detail(384, 72, words)
    return Detail(320, 56, words) if images <= 100 else Detail(256, 44, words)


def build_cards(contents: Contents) -> dict[str, Any]:
    """Return the cards and what they can be filtered by: case, modality, class of error."""
    fine = detail(len(contents.cases))
    cards = [
        build_card(case, contents.systems, contents.best, contents.root, fine)
        for case in contents.cases
    ]
    best = contents.best.name
    groups = (
        ("kind", "Show", "all cases", lambda card: [card["kind"]]),
        (
            "modality",
            "Modality",
            "all",
            lambda card: [card["modality"]] if card["modality"] else [],
        ),
        ("errors", f"Errors of {best}", "all", lambda card: card["errors"]),
    )
    filters = []
    for name, label, every, values in groups:
        found = sorted({value for card in cards for value in values(card)})
        if name == "kind":
            found = list(dict.fromkeys(card["kind"] for card in cards))
        tokens = {value: f"{name[0]}{index}" for index, value in enumerate(found)}
        for card in cards:
            card.setdefault("tokens", []).extend(tokens[value] for value in values(card))
        if found:
            options = [{"token": token, "text": value} for value, token in tokens.items()]
            filters.append({"id": name, "label": label, "all": every, "options": options})
    return {"cards": cards, "filters": filters}


def build_card(
    case: Case,
    systems: Sequence[System],
    best: System,
    root: Path,
    fine: Detail,
) -> dict[str, Any]:
    """Return one image of the gallery as plain values for the template.

    Args:
        case: The image and why it is shown.
        systems: All systems, in the order of the page.
        best: The system whose words also get a strip of attention tiles.
        root: Folder of the data set.
        fine: Sizes of the pictures.
    """
    example = case.example
    facts = example.facts or {}
    reference = {token for caption in example.captions for token in tokenize(caption)}
    written = {
        token for system in systems for token in tokenize(system.captions.get(example.id, ""))
    }
    try:
        image, problem = thumbnail(root / example.image, fine.image), None
    except ImageError as error:
        image, problem = None, str(error)
    clinical = clinical_card(case, systems)
    return {
        "id": example.id,
        "kind": case.kind,
        "modality": modality(case),
        "errors": sorted({error["kind"] for error in clinical["errors"].get(best.name, [])}),
        "clinical": clinical,
        "image": None if image is None else image_uri(image),
        "width": 1 if image is None else image.width,
        "height": 1 if image is None else image.height,
        "problem": problem,
        "outline": outline_uri(facts.get("findings", [])),
        "references": [_words(caption, caption.split(), written) for caption in example.captions],
        "alt": f"Image {example.id}. Reference: {example.captions[0]}",
        "licence": example.licence,
        "captions": [_caption(system, example.id, reference) for system in systems],
        "strip": [] if image is None else _strip(best, example.id, image, fine),
    }


def modality(case: Case) -> str | None:
    """Return the modality of an image: its facts say it, or else its first reference."""
    stated = (case.example.facts or {}).get("modality")
    if stated:
        return str(stated)
    found = (
        sorted(audit(case.example.captions[0]).items("modality")) if case.example.captions else []
    )
    return str(found[0]).replace("_", " ") if found else None


def _strip(best: System, name: str, image: Image.Image, fine: Detail) -> list[dict[str, str]]:
    mapped = best.maps.get(name)
    if mapped is None:
        return []
    spoken = (
        (word, strength)
        for word, strength in zip(mapped["words"], strengths(mapped["maps"])[0], strict=True)
        if any(letter.isalnum() for letter in word)
    )
    return [
        {"word": word, "tile": heat_tile(image, strength.reshape(best.grid), fine.tile)}
        for word, strength in itertools.islice(spoken, fine.words)
    ]


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
            images[visible(name)] = packed(system.maps[name]["maps"])
        if images:
            found[visible(system.name)] = {"grid": list(system.grid), "images": images}
    return found


def fit_maps(
    maps: dict[str, Any], cards: Sequence[dict[str, Any]], first: str, *, most: int = MOST_BYTES
) -> dict[str, Any]:
    """Return the maps of as many systems as the page can hold, `first` before all others.

    The captions of the systems that are left out are marked in `cards` as unmapped.
    """
    kept: dict[str, Any] = {}
    used = len(json.dumps(cards))  # what the cards become is about as long
    for name in sorted(maps, key=lambda name: name != visible(first)):
        size = sum(len(image["data"]) for image in maps[name]["images"].values())
        if not kept or used + size <= most:
            kept[name] = maps[name]
            used += size
    for card in cards:
        for caption in card["captions"]:
            caption["mapped"] &= visible(caption["system"]) in kept
    return {name: kept[name] for name in maps if name in kept}


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
