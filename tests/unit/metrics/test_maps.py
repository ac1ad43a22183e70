"""Maps against masks: exact areas, peaks, baselines, ranks, and intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.errors import MetricError
from medblip.metrics.map_tables import compared, least_p, measures, paired_tests, stored
from medblip.metrics.maps import (
    area_under,
    centre_prior,
    coverage,
    mass_in_mask,
    pointing_game,
    pointing_hits,
    random_map,
    rank_correlation,
    uniform_map,
)


def square(size: tuple[int, int], top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(1, 5),
    st.integers(1, 5)), st.integers(0, 1000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_coverage_is_the_exact_area(
    size: tuple[int, int], grid: tuple[int, int], seed: int
) -> None:
    mask = np.random.default_rng(seed).random(size) < 0.5
    fine = np.kron(mask, np.ones(grid))  # every pixel in grid[0] x grid[1] parts: no part is cut
    slow = np.array(
        [
            [block.mean() for block in np.split(band, grid[1], axis=1)]
            for band in np.split(fine, grid[0], axis=0)
        ]
    )
    np.testing.assert_allclose(coverage(mask, grid), slow, atol=1e-12)
    assert mass_in_mask(uniform_map(grid), mask) == pytest.approx(mask.mean(), abs=1e-12)


def test_coverage_is_no_nearest_resize() -> None:
    mask = square((10, 10), 0, 0, 10, 4)  # the first of 3 columns ends at pixel 3.33
    np.testing.assert_allclose(coverage(mask, (1, 3)), [[1.0, 0.2, 0.0]])


def test_mass_of_a_map_in_a_mask() -> None:
    mask = square((32, 48), 8, 24, 8, 12)  # row 1 of 4, columns 2 of 4: that patch is 8 x 12
    heat = np.zeros((4, 4))
    heat[1, 2], heat[3, 0] = 3.0, 1.0
    assert mass_in_mask(heat, mask) == pytest.approx(0.75)
    assert mass_in_mask(np.zeros((4, 4)), mask) == pytest.approx(1 / 16), "no mass: even"


def test_pointing_game_without_and_with_tolerance() -> None:
    mask = square((32, 32), 0, 0, 8, 8)
    heat = np.zeros((4, 4))
    heat[0, 1] = 1.0  # its centre lies at x = 12, 4 pixels right of the mask
    assert pointing_game(heat, mask) == 0.0
    assert pointing_game(heat, mask, 3.9) == 0.0
    assert pointing_game(heat, mask, 4.0) == 1.0
    heat[0, 0] = 2.0
    assert pointing_game(heat, mask) == 1.0
    assert not pointing_hits(np.zeros((32, 32), dtype=bool), (4, 4), 99.0).any()


def test_a_map_without_a_peak_has_the_expected_value_of_a_random_point() -> None:
    mask = square((30, 50), 4, 9, 14, 20)
    grid = (7, 6)
    expected = pointing_game(uniform_map(grid), mask)
    assert expected == pointing_hits(mask, grid).mean()
    rng = np.random.default_rng(0)
    drawn = [pointing_game(random_map(grid, rng), mask) for _ in range(4000)]
    assert expected == pytest.approx(np.mean(drawn), abs=3 * np.std(drawn) / np.sqrt(4000))
    assert 0 < expected < 1


def test_the_centre_prior_is_a_gaussian_with_one_shared_peak() -> None:
    heat = centre_prior((8, 8), sigma=0.25)
    assert heat.sum() == pytest.approx(1.0)
    assert (heat == heat.max()).sum() == 4
    np.testing.assert_array_equal(heat, heat[::-1, ::-1].T)
    # 0.25 of the side apart is one sigma: from 0.0625 to 0.3125 sides off the centre
    ratio = heat[3, 1] / heat[3, 3]
    expected = np.exp(-0.5 * ((0.3125 / 0.25) ** 2 - (0.0625 / 0.25) ** 2))
    assert ratio == pytest.approx(expected)
    # one of the four in the middle lies in this mask
    assert pointing_game(heat, square((64, 64), 16, 16, 16, 16)) == 0.25


def test_rank_correlation_by_hand() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random((3, 5)), rng.random((3, 5))
    ranks = [np.argsort(np.argsort(x.ravel())) for x in (one, other)]
    assert rank_correlation(one, other) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rank_correlation(one, -one) == pytest.approx(-1)
    assert rank_correlation(one, np.exp(5 * one)) == pytest.approx(1)
    assert rank_correlation(one, np.ones_like(one)) == 0.0
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4
    tied = rank_correlation(np.array([1, 2, 2, 9.0]), np.array([1, 2, 3, 4.0]))
    assert tied == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])


def test_area_under_a_curve() -> None:
    at = np.array([0.0, 0.1, 0.5, 1.0])
    assert area_under(1 - at, at) == pytest.approx(0.5)
    np.testing.assert_allclose(area_under(np.array([[1, 1, 1, 1], [1, 0, 0, 0.0]]), at), [1, 0.05])


def test_intervals_over_images_cover_and_over_words_do_not() -> None:
    """Words of one image hit or miss together: 40 images of 6 words are 40 draws, not 240."""
    rng = np.random.default_rng(0)
    covered = {"images": 0, "words": 0}
    for trial in range(120):
        hits = (rng.random(40) < 0.4).astype(float)
        tables = {
            "images": np.column_stack([6 * hits, np.full(40, 6.0)]),
            "words": np.column_stack([np.repeat(hits, 6), np.ones(240)]),
        }
        for unit, values in tables.items():
            (row,) = measures({("pointing-game", "x"): values}, resamples=300, seed=trial)
            assert row["value"] == pytest.approx(hits.mean())
            covered[unit] += row["ci"][0] <= 0.4 <= row["ci"][1]
    assert covered["images"] >= 0.88 * 120
    assert covered["words"] < 0.7 * 120


def test_rows_of_measures_and_tests() -> None:
    rng = np.random.default_rng(0)
    due = np.array([1.0, 2.0, 0.0] * 20)  # every third image names nothing
    table = {
        ("pointing-game", "attention"): np.column_stack([due, due]),
        ("pointing-game", "random"): np.column_stack([due * 0.1, due]),
        ("deletion", "attention"): np.column_stack([rng.random(60), np.ones(60)]),
        ("deletion", "random"): np.column_stack([rng.random(60), np.ones(60)]),
        ("mass-in-mask", "attention"): np.zeros((60, 2)),
    }
    rows = {(r["measure"], r["map"]): r for r in measures(table, resamples=500, seed=0)}
    assert rows["pointing-game", "attention"]["value"] == 1.0
    assert rows["pointing-game", "attention"]["n"] == 40
    assert rows["mass-in-mask", "attention"]["value"] is None
    pairs = [(m, "attention", "random") for m in ("pointing-game", "deletion", "mass-in-mask")]
    found = {r["measure"]: r for r in paired_tests(table, pairs, resamples=500, seed=0)}
    assert list(found) == ["pointing-game", "deletion"]
    assert found["pointing-game"]["difference"] == pytest.approx(0.9)
    assert found["pointing-game"]["p"] == pytest.approx(1 / 501)
    assert found["pointing-game"]["p_holm"] == pytest.approx(2 / 501)
    assert found["deletion"]["p_holm"] > 0.05


def test_no_p_is_less_than_so_many_images_can_give() -> None:
    """All signs of n differences are equally likely under chance: the least p is 2 / 2 ** n."""
    assert least_p(5000) == 0.0  # no overflow
    for differ in range(12):
        hits = np.zeros((40, 2))
        hits[:, 1] = 1.0
        better = hits.copy()
        better[:differ, 0] = 1.0
        table = {("pointing-game", "attention"): better, ("pointing-game", "random"): hits}
        pairs = [("pointing-game", "attention", "random")]
        (row,) = paired_tests(table, pairs, resamples=2000, seed=0)
        assert (row["n"], row["differ"]) == (40, differ)
        assert row["p"] >= min(1.0, 2 / 2**differ)
        sides = [stored({key: table[key]}, list(map(str, range(40))), "a") for key in table]
        renamed = stored({("pointing-game", "attention"): hits}, sides[0].ids, "a")
        (other,) = compared(sides[0], renamed, "attention", resamples=2000, seed=0)
        assert (other["p"], other["differ"]) == (row["p"], differ)


def test_two_captioners_are_compared_on_the_same_images_and_the_same_measure_only() -> None:
    ids = [f"i{n}" for n in range(30)]
    ones = np.ones((30, 2))
    half = np.column_stack([np.arange(30) % 2, np.ones(30)]).astype(float)
    half[4:6] = 0.0  # not measured for one of them: left out for both
    one = stored(
        {("pointing-game", "attention"): ones, ("pointing-game", "centre"): ones}, ids, "a"
    )
    other = stored({("pointing-game", "attention"): half}, ids, "a")
    (row,) = compared(one, other, "attention", resamples=500, seed=0)
    assert (row["n"], row["value"], row["baseline_value"]) == (28, 1.0, 0.5)
    assert row["difference"] == pytest.approx(0.5)
    assert row["p_holm"] == pytest.approx(1 / 501)
    (same,) = compared(other, other, "attention", resamples=500, seed=0)
    assert (same["difference"], same["p_holm"]) == (0.0, 1.0)
    with pytest.raises(MetricError, match="same images"):
        compared(one, stored({("pointing-game", "attention"): half}, ids[::-1], "a"), "attention",
                 resamples=10, seed=0)  # fmt: skip
    with pytest.raises(MetricError, match="not computed in the same way"):
        compared(one, stored({("pointing-game", "attention"): half}, ids, "b"), "attention",
                 resamples=10, seed=0)  # fmt: skip
