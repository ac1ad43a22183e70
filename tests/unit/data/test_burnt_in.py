"""The detector of burnt-in text: finds plain writing, leaves plain pictures alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw, ImageFont

from medblip import phantoms
from medblip.data.burnt_in import CELL, CONTRAST, FEATURES, LONGEST, WINDOW, describe, find_text

TOOLS = Path(__file__).resolve().parents[3] / "tools" / "burnt_in"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Image.Image]:
    folder = phantoms(tmp_path_factory.mktemp("p") / "p", images=30, seed=11, size=256)
    return [Image.open(path).convert("L") for path in sorted((folder / "images").glob("*.png"))]


def written(image: Image.Image, text: str, place: tuple[int, int], size: int) -> Image.Image:
    image = image.copy()
    light = np.asarray(image)[place[1] : place[1] + size].mean() < 128
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text(place, text, fill=255 if light else 0, font=font)
    return image


def test_a_name_is_found_where_it_stands(pictures: list[Image.Image]) -> None:
    hits = 0
    for image in pictures:
        found = find_text(written(image, "MEIER, Anna 04.05.1961", (20, 200), 16))
        hits += any(box[1] < 216 and box[3] > 200 and box[0] < 180 for box in found.boxes)
    assert hits >= 0.9 * len(pictures)


def test_pictures_without_words_are_mostly_left_alone(pictures: list[Image.Image]) -> None:
    assert sum(bool(find_text(image)) for image in pictures) <= 0.1 * len(pictures)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("L", (300, 200), 0),
        Image.new("L", (3, 3000), 255),
        Image.new("RGB", (1, 1)),
        Image.linear_gradient("L").resize((500, 400)),
        Image.radial_gradient("L"),
        Image.fromarray(np.kron([[0, 255], [255, 0]] * 2, np.ones((60, 60))).astype(np.uint8)),
    ],
    ids=["black", "narrow", "one pixel", "gradient", "round", "chessboard"],
)  # fmt: skip
def test_plain_shapes_are_no_words(image: Image.Image) -> None:
    found = find_text(image)
    assert not found
    assert found.boxes == ()


def test_colour_and_size_do_not_matter(pictures: list[Image.Image]) -> None:
    image = written(pictures[0].resize((1600, 1600)), "MEIER, Anna 04.05.1961", (200, 1500), 48)
    assert max(image.size) > LONGEST
    grey, colour = find_text(image), find_text(image.convert("RGB"))
    assert grey == colour
    assert any(box[1] < 1550 and box[3] > 1500 for box in grey.boxes)


def test_sums_over_windows_are_the_plain_sums() -> None:
    """The fast sums by slices, in small integers, against the definition."""
    grey = np.random.default_rng(0).integers(0, 256, (60, 96), np.uint8)
    features, places = describe(grey)
    assert features.shape == (len(places), FEATURES)
    assert len(places) > 100
    half = places[: len(places) // 2]  # bright strokes come first, dark ones after them
    assert (np.diff(half[:, 0]) >= 0).all()
    high, wide = WINDOW[0] * CELL[0], WINDOW[1] * CELL[1]
    runs = sliding_window_view(np.pad(grey, ((0, 0), (6, 6)), mode="edge"), 7, axis=1).min(axis=2)
    background = sliding_window_view(runs, 7, axis=1).max(axis=2)
    stroke = grey - background > CONTRAST
    for (row, column), found in list(zip(half, features, strict=False))[::40]:
        top, left = row * CELL[0], column * CELL[1]
        window = np.s_[top : top + high, left : left + wide]
        assert found[0] == pytest.approx(stroke[window].mean(), abs=1e-5)
        light = grey[window][stroke[window]]
        assert found[4] == pytest.approx(light.mean() / 255, abs=1e-4)
        assert found[5] == pytest.approx(light.std() / 64, abs=1e-2)
        cells = stroke[window].reshape(3, 4, 6, 6).mean(axis=(1, 3))
        assert found[16:34].tolist() == pytest.approx(cells.ravel().tolist(), abs=1e-5)


def test_the_planted_words_are_where_they_are_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark would measure nothing if its boxes were wrong."""
    monkeypatch.syspath_prepend(str(TOOLS))
    sys.modules.pop("plant", None)
    from plant import TEST_FONTS, plant

    ground = Image.new("L", (400, 200), 40)
    for seed in range(20):
        made = plant(ground, np.random.default_rng(seed), height=14, fonts=TEST_FONTS)
        assert made is not None
        image, (left, top, right, bottom) = made
        bright = np.argwhere(np.abs(np.asarray(image).astype(int) - 40) > 60)
        assert bright.min(axis=0).tolist() == pytest.approx([top, left], abs=2)
        assert bright.max(axis=0).tolist() == pytest.approx([bottom, right], abs=4)
