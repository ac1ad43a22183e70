"""The gallery: for each chosen image its picture, its references and every system's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medblip.errors import ImageError
from medblip.metrics.audit import audit
from medblip.metrics.tokenize import tokenize
from medblip.pictures import align, strengths
from medblip.stages.report.clinical import clinical_card
from medblip.stages.report.collect import HEADLINE, Case, System
from medblip.stages.report.contents import Contents
from medblip.stages.report.figures import heat_tile, image_uri, outline_uri, thumbnail

__all__ = ["align", "build_card", "build_cards"]

#: Letters of all pictures and tiles in one page: what remains of 15 MB is for words, maps, tables.
PICTURE_BYTES = 9_000_000
#: Tiles of attention in one page: beyond, a card shows its first words only.
MOST_TILES = 5_000


class Detail(NamedTuple):
    """How fine the gallery is.

    Args:
        image: Longest side of a picture, pixels.
        tile: Width of a tile of attention, pixels.
        words: Tiles of a card, at most.
        letters: Of a card's picture and tiles together, as data URIs.
    """

    image: int
    tile: int
    words: int
    letters: int


def detail(images: int) -> Detail:
    """Return what keeps a page of up to 200 images below 15 MB, whatever is on them."""
    words, letters = MOST_TILES // max(1, images), PICTURE_BYTES // max(1, images)
    if images <= 40:
        return Detail(384, 72, words, letters)
    if images <= 100:
        return Detail(320, 56, words, letters)
    return Detail(256, 44, words, letters)


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
    uri, reduced = (None, False) if image is None else image_uri(image, fine.letters // 2)
    left = fine.letters - len(uri or "")
    spoken = [] if image is None else _spoken(best, example.id)
    clinical = clinical_card(case, systems)
    return {
        "id": example.id,
        "kind": case.kind,
        "modality": modality(case),
        "errors": sorted({error["kind"] for error in clinical["errors"].get(best.name, [])}),
        "clinical": clinical,
        "image": uri,
        "reduced": reduced,
        "width": 1 if image is None else image.width,
        "height": 1 if image is None else image.height,
        "problem": problem,
        "outline": outline_uri(facts.get("findings", [])),
        "references": [_words(caption, caption.split(), written) for caption in example.captions],
        "alt": f"Image {example.id}. Reference: {example.captions[0]}",
        "licence": example.licence,
        "captions": [_caption(system, example.id, reference) for system in systems],
        "strip": [] if image is None else _strip(spoken, best.grid, image, fine, left),
        "spoken": len(spoken),
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


def _spoken(best: System, name: str) -> list[tuple[str, NDArray[np.uint8]]]:
    """Return the words of a mapped caption that are more than a sign, each with its map."""
    mapped = best.maps.get(name)
    if mapped is None:
        return []
    return [
        (word, strength)
        for word, strength in zip(mapped["words"], strengths(mapped["maps"])[0], strict=True)
        if any(letter.isalnum() for letter in word)
    ]


def _strip(
    spoken: Sequence[tuple[str, NDArray[np.uint8]]],
    grid: tuple[int, int],
    image: Image.Image,
    fine: Detail,
    letters: int,
) -> list[dict[str, str]]:
    """Return the tiles of the first words, as many as `letters` are enough for."""
    tiles = []
    for word, strength in spoken[: fine.words]:
        tile = heat_tile(image, strength.reshape(grid), fine.tile)
        letters -= len(tile)
        if letters < 0:
            break
        tiles.append({"word": word, "tile": tile})
    return tiles


def _caption(system: System, name: str, reference: set[str]) -> dict[str, Any]:
    text = system.captions.get(name)
    mapped = system.maps.get(name)
    words = None if mapped is None else mapped["words"]
    return {
        "system": system.name,
        "absent": text is None,
        "words": _words(text or "", words or (text or "").split(), reference),
        "mapped": False,  # until the page is known to have room for the map
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
