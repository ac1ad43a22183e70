"""A cell of a map is a rectangle of the original image, whatever the image's proportions."""

from __future__ import annotations

import base64
import itertools

import numpy as np
import pytest
from PIL import Image

from medblip.data.store import Resize
from medblip.pictures import align, cell_box, data_uri, heat, packed, script, strengths

SIZES = [(128, 128), (300, 100), (97, 211), (64, 33), (1000, 3)]
GRIDS = [(4, 4), (8, 8), (24, 24), (2, 5)]


@pytest.mark.parametrize(("size", "grid"), list(itertools.product(SIZES, GRIDS)))
def test_cells_cover_the_whole_image_and_overlap_nowhere(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    boxes = [cell_box(cell, grid, size) for cell in range(grid[0] * grid[1])]
    area = sum((box.right - box.left) * (box.bottom - box.top) for box in boxes)
    assert area == pytest.approx(size[0] * size[1])
    rng = np.random.default_rng(0)
    for x, y in rng.uniform((0, 0), size, (50, 2)):
        inside = [b for b in boxes if b.left <= x < b.right and b.top <= y < b.bottom]
        assert len(inside) == 1
    assert boxes[0][:2] == (0, 0)
    assert boxes[-1][2:] == size


@pytest.mark.parametrize("size", [(160, 160), (320, 96), (96, 480)])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear", "lanczos"])
def test_what_the_captioner_sees_in_a_patch_lies_in_its_cell(
    size: tuple[int, int], resample: str
) -> None:
    """One bright rectangle of the original is the one bright patch of the squashed square."""
    grid, side = (8, 8), 64
    for cell in (0, 7, 12, 33, 56, 63):
        box = cell_box(cell, grid, size)
        pixels = np.zeros((size[1], size[0]), np.uint8)
        pixels[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
        seen = Resize(side, side, resample).apply(Image.fromarray(pixels))[0].astype(float)
        patches = seen.reshape(8, side // 8, 8, side // 8).mean((1, 3)).flatten()
        assert patches.argmax() == cell
        assert patches[cell] > 200
        rest = np.delete(patches, cell)
        assert rest.max() < 60


@pytest.mark.parametrize("size", [(160, 160), (320, 96), (96, 480)])
def test_heat_is_drawn_where_the_cell_lies(size: tuple[int, int]) -> None:
    for cell in (0, 5, 22, 35):
        strength = np.zeros((6, 6), np.uint8)
        strength.flat[cell] = 255
        over = heat(Image.new("L", size), strength, size[0])
        assert over.size == size
        level = np.asarray(over, dtype=float).sum(-1)
        y, x = np.unravel_index(level.argmax(), level.shape)
        box = cell_box(cell, (6, 6), size)
        assert box.left <= x < box.right
        assert box.top <= y < box.bottom
        weight = level / level.sum()
        assert (weight.sum(0) * (np.arange(size[0]) + 0.5)).sum() == pytest.approx(
            (box.left + box.right) / 2, abs=0.12 * size[0]
        )


@pytest.mark.parametrize("size", [(8, 2000), (4, 40000), (2000, 8)])
def test_a_narrow_image_is_drawn_small_and_whole(size: tuple[int, int]) -> None:
    """Scaled to a fixed width, 4 x 40,000 pixels were 384 x 3,840,000."""
    strength = np.zeros((6, 6), np.uint8)
    strength[4, 1] = 255
    over = heat(Image.new("L", size), strength, 384)
    assert over.width <= 384
    assert over.height <= 5 * 384
    assert max(over.size) >= 384
    level = np.asarray(over, dtype=float).sum(-1)
    y, x = np.unravel_index(level.argmax(), level.shape)
    box = cell_box(25, (6, 6), over.size)  # of the drawing, whose width may be a pixel
    assert box.top - 1 <= y < box.bottom + 1
    assert box.left - 1 <= x < box.right + 1


def test_strengths_and_packing_come_back() -> None:
    maps = np.array([[[0.5, 0.25], [0.25, 0]], [[0, 0], [0, 0]]])
    levels, peaks = strengths(maps)
    assert levels.tolist() == [[255, 128, 128, 0], [0, 0, 0, 0]]
    assert peaks.tolist() == [0.5, 0]
    found = packed(maps)
    assert found["peaks"] == [0.5, 0]
    assert np.frombuffer(base64.b64decode(found["data"]), np.uint8).tolist() == [
        255, 128, 128, 0, 0, 0, 0, 0,
    ]  # fmt: skip
    assert packed(np.zeros((0, 2, 2))) == {"peaks": [], "data": ""}


def test_pictures_are_uris_without_an_address() -> None:
    assert data_uri(Image.new("L", (8, 8))).startswith("data:image/png;base64,")
    assert data_uri(Image.new("RGB", (8, 8))).startswith("data:image/jpeg;base64,")
    assert "http" not in script()


def test_words_are_found_in_the_caption_as_it_is_written() -> None:
    assert align("T2-weighted MRI.", ["t2", "-", "weighted", "mri", "."]) == [
        (0, 2), (2, 3), (3, 11), (12, 15), (15, 16),
    ]  # fmt: skip
    assert align("a nodule", ["a", "mass"]) is None
    assert align("a nodule here", ["a", "nodule"]) is None
    assert align("", []) == []
