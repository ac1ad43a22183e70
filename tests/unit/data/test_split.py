from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medblip.data.split import assign_split, carve, leaking_groups
from medblip.errors import DataError


def test_shares_are_met_on_average() -> None:
    splits = Counter(assign_split(f"patient {n}", seed=0) for n in range(20_000))
    assert abs(splits["train"] - 16_000) < 300
    assert abs(splits["validation"] - 2_000) < 200
    assert abs(sum(carve(f"patient {n}", 0, 0.1) for n in range(20_000)) - 2_000) < 200


@given(st.text(), st.integers())
def test_a_group_alone_decides(group: str, seed: int) -> None:
    assert assign_split(group, seed) == assign_split(group, seed)
    assert carve(group, seed, 0.3) == carve(group, seed, 0.3)


def test_a_seed_is_another_partition() -> None:
    groups = [f"PMC{n}" for n in range(200)]
    assert [assign_split(g, 0) for g in groups] != [assign_split(g, 1) for g in groups]
    assert [carve(g, 0, 0.5) for g in groups] != [carve(g, 1, 0.5) for g in groups]


def test_carving_is_independent_of_the_first_draw_and_grows_with_the_share() -> None:
    train = [g for g in map(str, range(20_000)) if assign_split(g, 0) == "train"]
    small = {g for g in train if carve(g, 0, 0.1)}
    large = {g for g in train if carve(g, 0, 0.2)}
    assert small < large
    assert abs(len(small) - len(train) / 10) < 200
    assert not any(carve(g, 0, 0.0) for g in train)
    assert all(carve(g, 0, 1.0) for g in train)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="share"):
        carve("patient", 0, share)


def test_groups_in_several_splits_are_named() -> None:
    rows = [("b", "test"), ("a", "train"), (None, "train"), ("b", "train"), (None, "test")]
    assert leaking_groups(rows) == ["b"]
    assert leaking_groups([]) == []
