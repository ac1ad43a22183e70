"""Does a map of a word lie where the named thing is? Maps against masks, and against baselines.

A map is a grid of patches (rows, columns) that covers the whole image; a mask has the image's
pixels (height, width). A patch need not begin or end at a pixel's edge: areas are exact.

| baseline | what it is |
| --- | --- |
| random | a map that knows nothing: for mask measures the expected value over all patches, exactly; where an order of patches is needed, a seeded draw |
| centre | a Gaussian at the image's centre, sigma a quarter of each side: anatomy is centred, so a map that beats only `random` may just look at the middle |
"""  # noqa: E501

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medblip.metrics.base import Floats

__all__ = [
    "CENTRE_SIGMA",
    "area_under",
    "centre_prior",
    "coverage",
    "mass_in_mask",
    "pointing_game",
    "pointing_hits",
    "random_map",
    "rank_correlation",
    "uniform_map",
]

#: Width of the centre prior, as a share of each side.
CENTRE_SIGMA = 0.25

Mask = npt.NDArray[np.bool_]


def coverage(mask: Mask, grid: tuple[int, int]) -> Floats:
    """Return the share of each patch that a mask covers, float64 (rows, columns).

    By area: a pixel that lies in two patches counts in each with the part that lies there. The
    mean is the mask's share of the image, whatever the grid.

    >>> coverage(np.array([[True, False, False]]), (1, 2))
    array([[0.66666667, 0.        ]])
    """
    down, across = (_overlap(pixels, parts) for pixels, parts in zip(mask.shape, grid, strict=True))
    return down @ mask.astype(np.float64) @ across.T


def mass_in_mask(heat: Floats, mask: Mask) -> float:
    """Return the share of a map that lies inside a mask; a map's mass is even within a patch.

    Args:
        heat: (rows, columns), not negative; all zero counts as even.
        mask: (height, width).
    """
    total = heat.sum()
    heat = heat / total if total > 0 else uniform_map(_grid(heat))
    return float((heat * coverage(mask, _grid(heat))).sum())


def pointing_hits(mask: Mask, grid: tuple[int, int], tolerance: float = 0.0) -> Mask:
    """Return for each patch whether pointing at it is a hit, (rows, columns).

    A map that is stretched to the image has its peak at the centre of its highest patch. It hits if
    a pixel of the mask lies there, or no farther than `tolerance`.

    Args:
        mask: (height, width).
        grid: Rows and columns.
        tolerance: In pixels of the mask, from the peak to the nearest edge of a pixel.
    """
    ys, xs = np.nonzero(mask)
    hits = np.zeros(grid, dtype=bool)
    if not len(ys):
        return hits
    for row in range(grid[0]):
        y = (row + 0.5) * mask.shape[0] / grid[0]
        away_y = np.maximum(0.0, np.abs(ys + 0.5 - y) - 0.5)
        for column in range(grid[1]):
            x = (column + 0.5) * mask.shape[1] / grid[1]
            away_x = np.maximum(0.0, np.abs(xs + 0.5 - x) - 0.5)
            hits[row, column] = np.hypot(away_y, away_x).min() <= tolerance
    return hits


def pointing_game(heat: Floats, mask: Mask, tolerance: float = 0.0) -> float:
    """Return 1 if the peak of a map lies inside a mask, else 0 (Zhang et al. 2016, section 4.1).

    arXiv 1608.00507. There a hit may miss by 15 pixels; here by none unless it is said. Patches
    that share the peak share the point: a map without a peak has the expected value of a random
    point, which is the random baseline.

    Args:
        heat: (rows, columns).
        mask: (height, width).
        tolerance: As in `pointing_hits`.
    """
    return float(pointing_hits(mask, _grid(heat), tolerance)[heat == heat.max()].mean())


def uniform_map(grid: tuple[int, int]) -> Floats:
    """Return a map that prefers nothing: what all random maps are on average; its sum is 1."""
    return np.full(grid, 1.0 / (grid[0] * grid[1]))


def random_map(grid: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return a map whose patches are in random order; its sum is 1."""
    heat = rng.random(grid)
    scaled: Floats = heat / heat.sum()
    return scaled


def centre_prior(grid: tuple[int, int], sigma: float = CENTRE_SIGMA) -> Floats:
    """Return a Gaussian at the centre of the image, summing to 1.

    Args:
        grid: Rows and columns.
        sigma: Standard deviation as a share of each side.
    """
    down, across = (((np.arange(parts) + 0.5) / parts - 0.5) / sigma for parts in grid)
    # to 12 digits, so that patches at the same distance are equal: they share the peak
    heat = np.round(np.exp(-0.5 * (down[:, None] ** 2 + across[None, :] ** 2)), 12)
    scaled: Floats = heat / heat.sum()
    return scaled


def area_under(values: Floats, fractions: Floats) -> Floats:
    """Return the area under curves by trapezia, divided by the width; values are (..., points)."""
    width = fractions[-1] - fractions[0]
    middles = (values[..., 1:] + values[..., :-1]) / 2
    area: Floats = (middles * np.diff(fractions)).sum(axis=-1) / width
    return area


def rank_correlation(one: Floats, other: Floats) -> float:
    """Return Spearman's correlation of two maps; equal values have their mean rank; 0 if one is flat.

    >>> rank_correlation(np.array([0.1, 0.2, 0.9]), np.array([1.0, 2.0, 3.0]))
    1.0
    """  # noqa: E501
    first, second = (ranks - ranks.mean() for ranks in (_ranks(one), _ranks(other)))
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return float(np.clip((first * second).sum() / size, -1, 1)) if size > 0 else 0.0


def _ranks(values: Floats) -> Floats:
    flat = values.ravel()
    _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: Floats = (last - (counts - 1) / 2)[inverse.ravel()]
    return mean


def _overlap(pixels: int, parts: int) -> Floats:
    """Return which share of each of `parts` equal stretches each pixel fills, (parts, pixels)."""
    edges = np.arange(parts + 1) * (pixels / parts)
    starts = np.arange(pixels)
    low = np.maximum(edges[:-1, None], starts)
    high = np.minimum(edges[1:, None], starts + 1)
    filled: Floats = np.maximum(0.0, high - low) / (pixels / parts)
    return filled


def _grid(heat: Floats) -> tuple[int, int]:
    return int(heat.shape[0]), int(heat.shape[1])
