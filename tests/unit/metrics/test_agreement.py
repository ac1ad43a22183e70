"""Kendall's tau-b against a loop over pairs and against a known value."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medblip.metrics.agreement import kendall, kendall_matrix


def slow(x: list[float], y: list[float]) -> float:
    concordant = discordant = only_x = only_y = 0
    for i in range(len(x)):
        for j in range(i):
            a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
            concordant += a * b > 0
            discordant += a * b < 0
            only_x += a != 0 and b == 0
            only_y += a == 0 and b != 0
    free = (concordant + discordant + only_x) * (concordant + discordant + only_y)
    return (concordant - discordant) / math.sqrt(free) if free else 0.0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("distinct", [2, 5, 1000])
def test_it_is_the_loop(seed: int, distinct: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 70))
    x, y = rng.integers(0, distinct, (2, n)).astype(float).tolist()
    assert kendall(x, y) == pytest.approx(slow(x, y), abs=1e-12)


def test_known_values() -> None:
    # R's documentation of cor.test: Hollander and Wolfe 1973, tau = 0.4444444 of 26 of 36 pairs
    x = [44.4, 45.9, 41.9, 53.3, 44.7, 44.1, 50.7, 45.2, 60.1]
    y = [2.6, 3.1, 2.5, 5.0, 3.6, 4.0, 5.2, 2.8, 3.8]
    assert kendall(x, y) == pytest.approx(0.4444444, abs=1e-7)
    assert kendall([1, 2, 3], [1, 2, 3]) == 1.0
    assert kendall([1, 2, 3], [3, 2, 1]) == -1.0
    assert kendall([1, 1, 1], [1, 2, 3]) == 0.0
    assert kendall([], []) == 0.0


def test_a_matrix_is_symmetric_with_ones() -> None:
    table = np.random.default_rng(0).random((50, 3))
    matrix = np.array(kendall_matrix(table))
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1.0)
    assert matrix[0, 2] == pytest.approx(slow(table[:, 0].tolist(), table[:, 2].tolist()), abs=1e-6)
