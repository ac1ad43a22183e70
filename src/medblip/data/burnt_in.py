"""Text that is burnt into the pixels of an image: names, dates, labels.

Flags images for a person to look at; an image that is not flagged may still name a patient. No
characters are read: windows the size of a few letters are described by where they hold how many
thin, sharp strokes of one brightness, at three scales, and a small network that was trained on
planted text (tools/burnt_in/train.py) says which of them look like writing. What it finds and
misses: docs/burnt-in-text.md.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike
from PIL import Image

__all__ = ["BurntIn", "describe", "find_text"]

#: Larger images are made smaller first, so that the cost has a limit.
LONGEST = 1024
#: Text of 8 to 40 pixels height becomes 8 to 16 pixels high at one of these.
SCALES = (1.0, 0.6, 0.35)
#: A cell, in pixels; a window is so many cells, which move by one.
CELL = (4, 6)
WINDOW = (3, 6)
#: Strokes of letters at these scales are narrower.
STROKE = 7
#: Less contrast than this is grain.
CONTRAST = 28
#: Sixteen of the window, three of each of its cells.
FEATURES = 16 + 3 * WINDOW[0] * WINDOW[1]
_CELL_AREA = CELL[0] * CELL[1]
_AREA = _CELL_AREA * WINDOW[0] * WINDOW[1]


@dataclasses.dataclass(frozen=True)
class BurntIn:
    """What was found; true when it is likely to be writing.

    Args:
        score: Log-odds of the most suspicious place.
        boxes: Of the suspicious places: left, top, right, bottom in pixels of the image.
    """

    score: float
    boxes: tuple[tuple[int, int, int, int], ...]

    def __bool__(self) -> bool:
        return bool(self.boxes)


def find_text(image: Image.Image) -> BurntIn:
    """Look for writing in an image, mode L or RGB."""
    network = _network()
    best, boxes = -20.0, []
    for scale, windows, places in _windows(image):
        scores = network.scores(windows)
        if len(scores):
            best = max(best, float(scores.max()))
        for row, column in places[scores > network.threshold]:
            top, left = row * CELL[0] / scale, column * CELL[1] / scale
            boxes.append((left, top, left + WINDOW[1] * CELL[1] / scale,
                          top + WINDOW[0] * CELL[0] / scale))  # fmt: skip
    return BurntIn(round(best, 3), _joined(boxes))


def describe(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the network sees of every window with enough strokes, and where these are.

    Args:
        grey: uint8 (H, W).

    Returns:
        float32 (N, FEATURES) and int (N, 2): row and column of the window's first cell.
    """
    rows, columns = (side // cell for side, cell in zip(grey.shape, CELL, strict=True))
    grey = np.ascontiguousarray(grey[: rows * CELL[0], : columns * CELL[1]])
    found = [_polarity(values) for values in (grey, 255 - grey)]
    features = np.concatenate([features for features, _ in found])
    places = np.concatenate([places for _, places in found])
    return features, places


def _windows(image: Image.Image) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Return scale, features and places for every scale that leaves something to look at."""
    grey = image if image.mode == "L" else image.convert("RGB").convert("L")
    limit = min(1.0, LONGEST / max(grey.size))
    out = []
    for scale in (limit * s for s in SCALES):
        size = (round(grey.width * scale), round(grey.height * scale))
        if size[1] < 2 * WINDOW[0] * CELL[0] or size[0] < 2 * WINDOW[1] * CELL[1]:
            continue
        smaller = grey if scale == 1 else grey.resize(size, Image.Resampling.BOX)
        features, places = describe(np.asarray(smaller))
        out.append((scale, features, places))
    return out


def _polarity(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Describe windows for bright strokes on darker ground."""
    strength = grey - _opened(grey)  # what is narrower than a stroke, along each line
    stroke = (strength > CONTRAST).view(np.uint8)
    count = _cells(stroke, np.uint8)
    total = _box(count)
    keep = np.argwhere(total >= 0.06 * _AREA)
    if not len(keep):
        return np.empty((0, FEATURES), np.float32), np.empty((0, 2), np.int64)
    across, down = np.zeros_like(stroke), np.zeros_like(stroke)
    np.not_equal(stroke[:, 1:], stroke[:, :-1], out=across[:, 1:].view(bool))
    np.not_equal(stroke[1:], stroke[:-1], out=down[1:].view(bool))
    maps = {"stroke": count, "across": _cells(across, np.uint8), "down": _cells(down, np.uint8)}
    inside = grey * stroke
    sums = {
        "strength": _cells(strength * stroke, np.uint16),
        "light": _cells(inside, np.uint16),
        "light2": _cells(np.multiply(inside, inside, dtype=np.uint16), np.uint32),
        "all": _cells(grey, np.uint16),
        "all2": _cells(np.multiply(grey, grey, dtype=np.uint16), np.uint32),
    }
    row, column = keep[:, 0], keep[:, 1]
    at = {name: _box(value)[row, column].astype(np.float32) for name, value in sums.items()}
    at["stroke"] = total[row, column].astype(np.float32)
    return _features(at, maps, row, column), keep


def _features(
    at: dict[str, np.ndarray], maps: dict[str, np.ndarray], row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Return float32 (N, FEATURES): sums as shares, means and spreads of about unit size."""
    n = at["stroke"]
    light = at["light"] / n
    spread = np.sqrt(np.maximum(at["light2"] / n - light**2, 0))
    rest = np.maximum(_AREA - n, 1)
    ground = (at["all"] - at["light"]) / rest
    ground_spread = np.sqrt(np.maximum((at["all2"] - at["light2"]) / rest - ground**2, 0))
    height, width = WINDOW
    rim = np.pad(maps["stroke"], 1)  # with the cells around each window: lines of text end there
    around = _gathered(rim, (height + 2, width + 2), row, column)
    inner = around[:, 1:-1, 1:-1]
    across, down = (_gathered(maps[name], WINDOW, row, column) for name in ("across", "down"))
    beside = [around[:, 0, 1:-1], around[:, -1, 1:-1], around[:, 1:-1, 0], around[:, 1:-1, -1]]
    columns = [
        n / _AREA,
        across.mean(axis=(1, 2)),
        across.sum(axis=(1, 2)) * _CELL_AREA / n,  # thin strokes have many edges for their area
        at["strength"] / n / 128,
        light / 255,
        spread / 64,
        ground / 255,
        ground_spread / 64,
        *(cells.mean(axis=1) for cells in beside),
        (inner.sum(axis=1) * _CELL_AREA >= height + 1).mean(axis=1),  # letters stand in rows
        inner.sum(axis=1).std(axis=1),
        across.sum(axis=1).std(axis=1),
        inner.sum(axis=2).std(axis=1),
    ]
    cells = [values.reshape(len(n), -1) for values in (inner, across, down)]
    return np.concatenate([np.stack(columns, axis=1), *cells], axis=1).astype(np.float32)


def _opened(grey: np.ndarray) -> np.ndarray:
    """Return the grey opening along each line: bright runs shorter than `STROKE` are gone."""
    half = STROKE // 2
    values = np.pad(grey, ((0, 0), (2 * half, 2 * half)), mode="edge")
    for extreme in (np.minimum, np.maximum):
        two = extreme(values[:, :-1], values[:, 1:])
        four = extreme(two[:, :-2], two[:, 2:])
        values = extreme(four[:, :-3], four[:, 3:])  # of seven: two runs of four overlap by one
    return values


def _cells(values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Sum each cell; by slices, because numpy's sum over short axes takes thrice as long."""
    rows, columns = (side // cell for side, cell in zip(values.shape, CELL, strict=True))
    lines = values.reshape(rows, CELL[0], -1)
    summed = np.add(lines[:, 0], lines[:, 1], dtype=dtype)
    for line in range(2, CELL[0]):
        summed += lines[:, line]
    parts = summed.reshape(rows, columns, CELL[1])
    total: np.ndarray = parts[:, :, 0] + parts[:, :, 1]
    for part in range(2, CELL[1]):
        total += parts[:, :, part]
    return total


def _box(cells: np.ndarray) -> np.ndarray:
    """Return the sum of every window of cells."""
    cells = cells.astype(np.int32)
    lines = cells[:-2] + cells[1:-1] + cells[2:]
    pairs = lines[:, :-1] + lines[:, 1:]
    windows: np.ndarray = pairs[:, :-4] + pairs[:, 2:-2] + pairs[:, 4:]
    return windows


def _gathered(
    cells: np.ndarray, shape: tuple[int, int], row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Return float32 (N, *shape): the cells of each window, as shares of a full one."""
    found: np.ndarray = sliding_window_view(cells, shape)[row, column].astype(np.float32)
    return found / np.float32(_CELL_AREA)


@dataclasses.dataclass(frozen=True)
class _Network:
    """Two layers; weights are in burnt_in.json."""

    mean: np.ndarray
    scale: np.ndarray
    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: float
    threshold: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the log-odds of each window, (N,)."""
        hidden = np.tanh((features - self.mean) / self.scale @ self.first + self.first_bias)
        out: np.ndarray = hidden @ self.second + self.second_bias
        return out


@lru_cache(maxsize=1)
def _network() -> _Network:
    record = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    names = ("mean", "scale", "first", "first_bias", "second")
    arrays = {name: np.array(record[name], np.float32) for name in names}
    return _Network(**arrays, second_bias=record["second_bias"], threshold=record["threshold"])


def _joined(
    boxes: list[tuple[float, float, float, float]],
) -> tuple[tuple[int, int, int, int], ...]:
    """Join boxes that touch; return them from top to bottom."""
    joined: list[list[float]] = []
    for box in sorted(boxes, key=lambda b: (b[1], b[0])):
        for other in joined:
            across = box[0] <= other[2] + 8 and other[0] <= box[2] + 8
            if across and box[1] <= other[3] and other[1] <= box[3]:
                other[:] = [min(other[0], box[0]), min(other[1], box[1]),
                            max(other[2], box[2]), max(other[3], box[3])]  # fmt: skip
                break
        else:
            joined.append(list(box))
    return tuple((round(a), round(b), round(c), round(d)) for a, b, c, d in joined[:50])
