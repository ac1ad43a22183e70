"""One image's figure (PNG) and all its attention (NPZ)."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medblip.data.sheet import Tile, contact_sheet
from medblip.pictures import heat, strengths

if TYPE_CHECKING:
    from medblip.stages.explain.look import Seen

__all__ = ["arrays", "figure", "legend"]

_TILE = 384


def figure(
    image: Image.Image, caption: str, seen: Seen, *, system: str, view: str, given: bool
) -> bytes:
    """Return a PNG: what it is, the original with its caption, then a heat tile per word.

    Args:
        image: The original.
        caption: As it is shown.
        seen: Its words and maps.
        system: The captioner, as a reader knows it.
        view: In words.
        given: Whether the caption is somebody else's.
    """
    levels, peaks = strengths(seen.maps)
    tiles = [Tile(image, caption, f"given to {system}" if given else f"written by {system}")]
    for word, level, peak in zip(seen.replay.words, levels, peaks, strict=True):
        over = heat(image, level.reshape(seen.replay.grid), _TILE)
        tiles.append(Tile(over, word, f"{100 * peak:.1f} % in the strongest patch"))
    notes = legend(system, view, seen.replay.grid, given=given)
    return contact_sheet(tiles, columns=6, lines=4, notes=notes)


def legend(system: str, view: str, grid: tuple[int, int], *, given: bool) -> list[str]:
    """Return what a figure must say of itself: it goes into slides without its page."""
    even = 100 / (grid[0] * grid[1])
    return [
        f"{system}: {view}.",
        *([f"This caption was given to {system}, which did not write it."] if given else []),
        "The colours of each word run up to that word's own strongest patch: compare words by the "
        f"shares below them, not by colour. An even map would have {even:.1f} % in every patch.",
        "Research use only. Not a medical device.",
    ]


def arrays(image: Image.Image, caption: str, seen: Seen) -> bytes:
    """Return an NPZ without pickles.

    ```
    attention  float32 (L, H, T, P)   every layer and head, row t predicts piece t
    maps       float32 (W, rows, columns)   the view; sum 1
    pieces (T), words (W), spans (W, 2)     texts, and the pieces of each word
    logprobs   float32 (T)
    caption, grid (rows, columns), size (width, height of the original), unplaced: the first image
               tokens that are no patches
    gradient   float32 (L or 1, H, T, K)   of the view `gradient`: all layers, or the last one
    answers    float32 (L, H, T, Q), looked float32 (L, H, Q, P)   of a Q-Former: the two parts
    ```
    """
    one = seen.replay
    found: dict[str, Any] = {
        "attention": one.on_image.numpy(),
        "maps": seen.maps,
        "pieces": np.array(one.pieces, dtype=np.str_),
        "words": np.array(one.words, dtype=np.str_),
        "spans": np.array(one.spans, dtype=np.int64).reshape(-1, 2),
        "logprobs": one.logprobs.numpy(),
        "caption": np.array(caption),
        "grid": np.array(one.grid),
        "size": np.array(image.size),
        "unplaced": np.array(one.unplaced),
    }
    if one.gradient is not None:
        found["gradient"] = one.gradient.numpy()
    if one.bridge is not None:
        found["answers"] = one.cross.numpy()
        found["looked"] = one.bridge.numpy()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **found)
    return buffer.getvalue()
