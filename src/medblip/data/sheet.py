"""A contact sheet: pictures in a grid, each with lines of text below, as one image."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["Tile", "contact_sheet"]

_WIDTH, _PAD, _LINE = 1600, 12, 17
_PAPER, _INK, _PALE = (250, 250, 248), (24, 24, 24), (110, 110, 110)


@dataclasses.dataclass(frozen=True)
class Tile:
    """One picture.

    Args:
        image: Mode L or RGB; shown whole, with its own proportions.
        text: Below it, wrapped; cut after `lines` lines.
        small: One pale line below that.
    """

    image: Image.Image
    text: str
    small: str


def contact_sheet(
    tiles: Sequence[Tile], *, columns: int = 6, lines: int = 6, notes: Sequence[str] = ()
) -> bytes:
    """Return a PNG, 1,600 pixels wide; `notes` stand whole above the pictures."""
    columns = max(1, min(columns, len(tiles)))
    side = (_WIDTH - _PAD) // columns - _PAD
    height = side + (lines + 1) * _LINE + _PAD
    rows = -(-len(tiles) // columns)
    font, fine = ImageFont.load_default(14), ImageFont.load_default(11)
    said = [line for note in notes for line in _wrap(note, font, _WIDTH - 2 * _PAD)]
    head = _PAD + len(said) * _LINE
    sheet = Image.new("RGB", (_WIDTH, head + rows * (height + _PAD)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(said):
        draw.text((_PAD, _PAD + number * _LINE - 4), line, fill=_INK, font=font)
    for number, tile in enumerate(tiles):
        left = _PAD + (number % columns) * (side + _PAD)
        top = head + (number // columns) * (height + _PAD)
        _place(sheet, tile.image, left, top, side)
        wrapped = _wrap(tile.text, font, side)
        if len(wrapped) > lines:
            wrapped = [*wrapped[: lines - 1], _fit(wrapped[lines - 1] + " …", font, side)]
        y = top + side + 4
        for line in wrapped:
            draw.text((left, y), line, fill=_INK, font=font)
            y += _LINE
        draw.text((left, y + 2), _fit(tile.small, fine, side), fill=_PALE, font=fine)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _place(sheet: Image.Image, image: Image.Image, left: int, top: int, side: int) -> None:
    """Paste an image into a square, whole, on black."""
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    fitted = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste((0, 0, 0), (left, top, left + side, top + side))
    sheet.paste(fitted, (left + (side - size[0]) // 2, top + (side - size[1]) // 2))


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break text at blanks; a word that is wider than the tile is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fit(word, font, width))
    return lines


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Return the text, shortened to the width."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
