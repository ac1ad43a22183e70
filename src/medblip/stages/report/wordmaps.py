"""The attention maps of a page: as fine as it has room for; what it has no room for is said."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medblip.pictures import packed
from medblip.remote.names import remote_of
from medblip.stages.report.cells import visible
from medblip.stages.report.collect import Case, System

__all__ = ["Fitted", "drawing_command", "fit_maps", "pack_maps", "pooled", "undrawn"]

#: Letters that a word takes more when it is a button than when it is text.
_BUTTON = 70
#: Patches along each side below which a map says hardly more than left, right, top, bottom.
_COARSEST = 4


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Maps for the page's script, as `pack_maps` returns them; what a reader must know of them."""

    maps: dict[str, Any]
    notes: list[str]


def pack_maps(
    systems: Sequence[System], cases: Sequence[Case], factor: int = 1
) -> dict[str, Any]:  # fmt: skip
    """Return the maps for the page's script, a byte per patch.

    Args:
        systems: Whose maps.
        cases: The images that are shown.
        factor: So many patches along each side become one; must divide the grid.

    Returns:
        System -> {grid: [rows, columns], images: {id: {peaks: share of the attention that the
        strongest patch of each word has, data: base64 of uint8 (words, rows * columns), where 255
        is that patch}}}; systems without maps are left out.
    """
    shown = {case.example.id for case in cases}
    found: dict[str, Any] = {}
    for system in systems:
        rows, columns = system.grid
        images = {
            visible(name): packed(pooled(system.maps[name]["maps"], system.grid, factor))
            for name in sorted(shown & set(system.maps))
        }
        if images:
            grid = [rows // factor, columns // factor]
            found[visible(system.name)] = {"grid": grid, "images": images}
    return found


def pooled(maps: Any, grid: tuple[int, int], factor: int) -> NDArray[np.float64]:
    """Return maps of `factor` times fewer rows and columns: attention is a share, so it adds up."""
    values = np.asarray(maps, dtype=np.float64)
    rows, columns = grid[0] // factor, grid[1] // factor
    blocks = values.reshape(len(values), rows, factor, columns, factor)
    sums: NDArray[np.float64] = blocks.sum(axis=(2, 4))
    return sums.reshape(len(values), rows * columns)


def fit_maps(
    systems: Sequence[System],
    cases: Sequence[Case],
    cards: Sequence[dict[str, Any]],
    best: System,
    *,
    room: int,
) -> Fitted:
    """Return the maps that fit in `room` letters, those of `best` before all others.

    A system's maps are as fine as fits. Where even the coarsest of `best` do not, it has those of
    the first cards; others have none. The captions that get maps are marked in `cards`.
    """
    kept: dict[str, Any] = {}
    notes = []
    for system in sorted(systems, key=lambda system: system is not best):
        found, factor = _finest(system, cases, room)
        if found is None and system is best:
            found, factor = _first(system, cases, room)
        if found is None:
            continue
        name = visible(system.name)
        kept[name] = found
        room -= _size(found)
        if factor > 1:
            rows, columns = system.grid
            notes.append(
                f"Maps of {system.name} are shown with {found['grid'][0]} x {found['grid'][1]} "
                f"patches instead of {rows} x {columns}: all would make the page too large."
            )
    for card in cards:
        for caption in card["captions"]:
            images = kept.get(visible(caption["system"]), {"images": {}})["images"]
            caption["mapped"] = visible(card["id"]) in images
    ordered = {visible(s.name): kept[visible(s.name)] for s in systems if visible(s.name) in kept}
    return Fitted(ordered, [*notes, *_left_out(systems, cases, ordered)])


def _finest(
    system: System, cases: Sequence[Case], room: int
) -> tuple[dict[str, Any] | None, int]:  # fmt: skip
    """Return the finest maps of a system that fit, and by which factor they are coarser."""
    for factor in _factors(system.grid):
        found = pack_maps([system], cases, factor).get(visible(system.name))
        if found is None or _size(found) <= room:
            return found, factor
    return None, 1


def _first(system: System, cases: Sequence[Case], room: int) -> tuple[dict[str, Any] | None, int]:
    """Return the coarsest maps of as many cards as fit, in the page's order."""
    factor = _factors(system.grid)[-1]
    images: dict[str, Any] = {}
    for case in cases:
        one = pack_maps([system], [case], factor).get(visible(system.name))
        if one is None:
            continue
        room -= _size(one)
        if room < 0:
            break
        images |= one["images"]
    grid = [side // factor for side in system.grid]
    return ({"grid": grid, "images": images} if images else None), factor


def _factors(grid: tuple[int, int]) -> list[int]:
    """Return 1 and what divides both sides and leaves enough of them."""
    most = min(grid) // _COARSEST
    return [1, *(f for f in range(2, most + 1) if grid[0] % f == 0 and grid[1] % f == 0)]


def _size(found: dict[str, Any]) -> int:
    words = sum(len(image["peaks"]) for image in found["images"].values())
    return len(json.dumps(found)) + _BUTTON * words


def _left_out(
    systems: Sequence[System], cases: Sequence[Case], kept: dict[str, Any]
) -> list[str]:  # fmt: skip
    """Return, per system, how many of its maps the page has no room for."""
    shown = {case.example.id for case in cases}
    notes = []
    for system in systems:
        there = len(shown & set(system.maps))
        here = len(kept.get(visible(system.name), {"images": ()})["images"])
        if here < there:
            notes.append(
                f"Of {system.name}, the maps of {here} of {there} images are shown: all would "
                "make the page too large."
            )
    return notes


def undrawn(systems: Sequence[System], cases: Sequence[Case]) -> list[str]:
    """Return, per system that has some maps, how many captioned images of the page lack one."""
    notes = []
    for system in systems:
        captioned = [c.example.id for c in cases if c.example.id in system.captions]
        absent = [name for name in captioned if name not in system.maps]
        if system.maps and absent:
            notes.append(
                f"{len(absent)} of the {len(captioned)} images here have no map of {system.name}: "
                "none was drawn of these captions."
            )
    return notes


def _has_maps(system: System) -> bool:
    """Whether the captioner is one that can be replayed: no table, and nothing far away."""
    model = str(system.settings["captioned"].get("model", ""))
    return not model.startswith("file:") and remote_of(model) is None


def drawing_command(systems: Sequence[System], cases: Sequence[Case], split: str) -> str | None:
    """Return the command that draws the maps of this page's images; None where all are drawn.

    It names the images, as `explain` by itself draws others; `--force`, as it would replace maps of
    images that are not named.
    """
    ids = [case.example.id for case in cases]
    drawn = [s for s in systems if _has_maps(s)]
    if all(name in s.maps for s in drawn for name in ids if name in s.captions):
        return None
    images = " ".join(shlex.quote(f"--image={name}") for name in ids)
    return f"medblip explain RUN --split {split} --force {images}"
