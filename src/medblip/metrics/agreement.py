"""Do metrics agree on which images are good? Kendall's tau-b of values per image.

Kendall 1945 (tau-b, with ties); counted in O(n log n) as Knight 1966 does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medblip.metrics.base import Floats

__all__ = ["kendall", "kendall_matrix"]


def kendall(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> float:
    """Return Kendall's tau-b, -1 to 1; 0 where one side does not tell two images apart.

    >>> kendall([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    n = len(x)
    if n < 2:
        return 0.0
    one, other = (np.unique(np.asarray(side), return_inverse=True)[1] for side in (x, y))
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    pairs = n * (n - 1) // 2
    tied = [_tied(np.bincount(side)) for side in (one, other)]
    both = _tied(np.unique(np.stack([one, other]), axis=1, return_counts=True)[1])
    free = (pairs - tied[0]) * (pairs - tied[1])
    if free <= 0:
        return 0.0
    # pairs that neither side ties, less twice those in the other order
    difference = pairs - tied[0] - tied[1] + both - 2 * _inversions(other)
    return float(difference / np.sqrt(float(free)))


def kendall_matrix(values: Floats) -> list[list[float]]:
    """Return tau-b between every two columns of (images, metrics), of images that have both.

    Args:
        values: NaN where an image has no value by a metric.
    """
    width = values.shape[1]
    matrix = np.eye(width)
    there = ~np.isnan(values)
    for i in range(width):
        for j in range(i + 1, width):
            both = there[:, i] & there[:, j]
            matrix[i, j] = matrix[j, i] = kendall(values[both, i], values[both, j])
    return [[round(float(cell), 6) for cell in row] for row in matrix]


def _tied(counts: npt.NDArray[np.int64]) -> int:
    counts = counts.astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(ranks: npt.NDArray[np.int64]) -> int:
    """Return the number of pairs whose first is above its second, by merging sorted blocks."""
    size = 1 << max(1, (len(ranks) - 1).bit_length())
    top = int(ranks.max(initial=0)) + 1
    padded = np.full(size, top, dtype=np.int64)  # above all, at the end: no inversion
    padded[: len(ranks)] = ranks
    found, width = 0, 1
    while width < size:
        blocks = padded.reshape(-1, 2, width)  # both halves are sorted
        shift = np.arange(len(blocks))[:, None] * (top + 1)
        left, right = (blocks[:, half] + shift for half in (0, 1))
        below = np.searchsorted(left.ravel(), right.ravel(), side="right")
        within = below - np.repeat(np.arange(len(blocks)) * width, width)
        found += int((width - within).sum())
        padded = np.sort(blocks.reshape(len(blocks), 2 * width), axis=1).ravel()
        width *= 2
    return found
