"""The interactive page: pointing at a word lights its region. Loads nothing, sends nothing."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from medblip.pictures import align, data_uri, heat, packed, script, strengths

if TYPE_CHECKING:
    from medblip.stages.explain.look import Seen

__all__ = ["Card", "card", "page"]

_PICTURE, _TILE = 512, 96


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """One image of the page, all of it texts and data URIs.

    Args:
        name: Of the image.
        image: Data URI; `width` and `height` are its pixels.
        caption: As it is.
        words: {before, text} of each: what stands between it and the word before.
        tiles: {word, tile}: a picture per word, for readers without scripts and for print.
        notes: What must be said of this caption.
        grid: Rows and columns.
        maps: {peaks, data} for the script.
    """

    name: str
    image: str
    width: int
    height: int
    caption: str
    words: list[dict[str, str]]
    tiles: list[dict[str, str]]
    notes: list[str]
    grid: tuple[int, int]
    maps: dict[str, Any]


def card(
    name: str, image: Image.Image, caption: str, seen: Seen, notes: Sequence[str] = ()
) -> Card:
    """Return what the page shows of one image."""
    shown = image.copy()
    shown.thumbnail((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    levels, _ = strengths(seen.maps)
    words = list(seen.replay.words)
    tiles = [
        {"word": word, "tile": data_uri(heat(shown, level.reshape(seen.replay.grid), _TILE), 62)}
        for word, level in zip(words, levels, strict=True)
    ]
    return Card(
        name=name, image=data_uri(shown), width=shown.width, height=shown.height, caption=caption,
        words=_spaced(caption, words), tiles=tiles, notes=list(notes), grid=seen.replay.grid,
        maps=packed(seen.maps),
    )  # fmt: skip


def page(cards: Sequence[Card], *, system: str, view: str, given: bool = False) -> str:
    """Return the page as HTML.

    Args:
        cards: At least one.
        system: The captioner, as a reader knows it.
        view: What the maps are, in words.
        given: Whether the captions are somebody else's.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medblip.stages.explain", "."), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    code = script()
    images = {one.name: one.maps for one in cards}
    return environment.get_template("page.html").render(
        cards=cards,
        system=system,
        view=view,
        given=given,
        maps={system: {"grid": list(cards[0].grid), "images": images}},
        style=style,
        script=code,
        style_hash=_hash(style),
        script_hash=_hash(code),
    )


def _spaced(caption: str, words: Sequence[str]) -> list[dict[str, str]]:
    """Return the words as the caption writes them, with what stands before each."""
    spans = align(caption, words)
    if spans is None:
        return [{"before": " " * bool(at), "text": word} for at, word in enumerate(words)]
    starts = [0, *(end for _, end in spans)]
    return [
        {"before": caption[before:start], "text": caption[start:end]}
        for before, (start, end) in zip(starts, spans, strict=False)
    ]


def _hash(text: str) -> str:
    """Return what a content security policy asks of an inline script or style (CSP 3, 2.3.1)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
