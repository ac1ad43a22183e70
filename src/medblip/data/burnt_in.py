"""Text that is burnt into the pixels of an image: names, dates, labels.

Flags images for a person to look at; an image that is not flagged may still name a patient. No
characters are read: windows the size of a few letters are described by how many thin, sharp strokes
of one brightness they hold, at three scales, and a small network that was trained on planted text
(tools/burnt_in/train.py) says which of them look like writing. What it finds and misses:
docs/burnt-in-text.md.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["BurntIn", "describe", "find_text"]

#: Larger images are made smaller first, so that the cost has a limit.
LONGEST = 1024
#: Text of 8 to 40 pixels height becomes 8 to 16 pixels high at one of these.
SCALES = (1.0, 0.6, 0.35)
#: A cell, in pixels; a window is so many cells, which move by one.
CELL = (4, 6)
WINDOW = (3, 6)
#: Strokes of letters at these scales are at most so wide.
STROKE = 7
#: Less contrast than this is grain.
CONTRAST = 28
FEATURES = 12


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
        float32 (N, 12) and int (N, 2): row and column of the window's first cell.
    """
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
        if min(size) < 2 * WINDOW[0] * CELL[0] or size[0] < 2 * WINDOW[1] * CELL[1]:
            continue
        smaller = grey if scale == 1 else grey.resize(size, Image.Resampling.BOX)
        features, places = describe(np.asarray(smaller))
        out.append((scale, features, places))
    return out


def _polarity(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Describe windows for bright strokes on darker ground."""
    rows, columns = (side // cell for side, cell in zip(grey.shape, CELL, strict=True))
    grey = grey[: rows * CELL[0], : columns * CELL[1]]
    strength = grey - _opened(grey)  # what is narrower than a stroke, along each line
    stroke = strength > CONTRAST

    def cells(values: np.ndarray) -> np.ndarray:
        """Sum each cell; by slices, because numpy's sum over short axes takes thrice as long."""
        lines = values.reshape(rows, CELL[0], columns * CELL[1])
        summed = lines[:, 0].astype(np.uint32)
        for line in range(1, CELL[0]):
            summed += lines[:, line]
        parts = summed.reshape(rows, columns, CELL[1])
        total = parts[:, :, 0].astype(np.int64)
        for part in range(1, CELL[1]):
            total += parts[:, :, part]
        return total

    count = cells(stroke)
    sums = _box(count)
    keep = np.argwhere(sums >= 0.06 * _AREA)
    if not len(keep):
        return np.empty((0, FEATURES), np.float32), np.empty((0, 2), np.int64)
    edges = np.zeros_like(stroke)
    np.not_equal(stroke[:, 1:], stroke[:, :-1], out=edges[:, 1:])
    steps = np.zeros_like(stroke)
    np.not_equal(stroke[1:], stroke[:-1], out=steps[1:])
    inside = grey * stroke
    inside2 = np.multiply(inside, inside, dtype=np.uint16)  # 255 squared is below 2 to the 16th
    grey2 = np.multiply(grey, grey, dtype=np.uint16)
    values = {
        "stroke": sums,
        "edges": _box(cells(edges)),
        "steps": _box(cells(steps)),
        "strength": _box(cells(strength * stroke)),
        "light": _box(cells(inside)),
        "light2": _box(cells(inside2)),
        "all": _box(cells(grey)),
        "all2": _box(cells(grey2)),
    }
    at = {name: value[keep[:, 0], keep[:, 1]].astype(np.float64) for name, value in values.items()}
    return _features(at, count, keep), keep


def _features(at: dict[str, np.ndarray], count: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return float32 (N, 12): sums over windows as shares, means and spreads of about unit size."""
    n = at["stroke"]
    light = at["light"] / n
    spread = np.sqrt(np.maximum(at["light2"] / n - light**2, 0))
    rest = np.maximum(_AREA - n, 1)
    ground = (at["all"] - at["light"]) / rest
    ground_spread = np.sqrt(np.maximum((at["all2"] - at["light2"]) / rest - ground**2, 0))
    above, below = _beside(count, keep)
    columns = [
        n / _AREA,
        at["edges"] / (WINDOW[0] * CELL[0]) / 10,  # crossings per line of the window
        at["steps"] / (WINDOW[1] * CELL[1]) / 5,
        at["edges"] / n,  # thin strokes have many edges for their area
        at["strength"] / n / 128,
        light / 255,
        spread / 64,
        ground / 255,
        ground_spread / 64,
        above,
        below,
        _filled(count, keep),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


_AREA = WINDOW[0] * CELL[0] * WINDOW[1] * CELL[1]


def _opened(grey: np.ndarray) -> np.ndarray:
    """Return the grey opening along each line: bright runs shorter than `STROKE` are gone."""
    half = STROKE // 2
    padded = np.pad(grey, ((0, 0), (2 * half, 2 * half)), mode="edge")
    low = padded[:, : -2 * half].copy()
    for shift in range(1, 2 * half + 1):
        np.minimum(low, padded[:, shift : padded.shape[1] - 2 * half + shift], out=low)
    width = grey.shape[1]
    high = low[:, :width].copy()
    for shift in range(1, 2 * half + 1):
        np.maximum(high, low[:, shift : shift + width], out=high)
    return high


def _box(cells: np.ndarray) -> np.ndarray:
    """Return the sum of every window of cells."""
    total = np.pad(cells.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    height, width = WINDOW
    box: np.ndarray = (
        total[height:, width:] - total[:-height, width:]
        - total[height:, :-width] + total[:-height, :-width]
    )  # fmt: skip
    return box


def _beside(count: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the density of strokes in the cells above and below: lines of text end there."""
    padded = np.pad(count, ((1, 1), (0, 0)))
    ends = np.pad(padded.cumsum(axis=1), ((0, 0), (1, 0)))
    row, column = keep[:, 0], keep[:, 1]
    area = WINDOW[1] * CELL[0] * CELL[1]
    above = ends[row, column + WINDOW[1]] - ends[row, column]
    under = row + WINDOW[0] + 1
    below = ends[under, column + WINDOW[1]] - ends[under, column]
    return above / area, below / area


def _filled(count: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the share of the window's columns of cells with strokes: letters stand in rows."""
    share = np.zeros(len(keep))
    for step in range(WINDOW[1]):
        column = sum(count[keep[:, 0] + line, keep[:, 1] + step] for line in range(WINDOW[0]))
        share += np.asarray(column) >= 4
    return share / WINDOW[1]


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
