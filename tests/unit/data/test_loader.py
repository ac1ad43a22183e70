"""Batches: order from (seed, epoch) alone, pixels as transformers makes them, little padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import BlipImageProcessorPil

from medblip.data.loader import PixelCache, epoch_order, length_bucketed_batches
from medblip.data.split import assign_split, leaking_groups
from medblip.schema import Example


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    rng = np.random.default_rng(0)
    found = []
    for index, shape in enumerate([(50, 40), (31, 77, 3), (32, 32), (90, 33, 3)]):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / f"{index}.png")
        found.append(Example(id=str(index), image=f"{index}.png", split="train", captions=("x",)))
    return found


@pytest.mark.parametrize("max_bytes", [10**9, 0], ids=["cached", "decoded per batch"])
def test_pixels_equal_the_processor_of_transformers(
    examples: list[Example], tmp_path: Path, max_bytes: int
) -> None:
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    images = [Image.open(tmp_path / e.image).convert("RGB") for e in examples]
    expected = processor(images, return_tensors="pt")["pixel_values"]
    cache = PixelCache(examples, tmp_path, (32, 32), max_bytes=max_bytes)
    got = cache.pixel_batch([3, 0, 2, 1], processor.image_mean, processor.image_std)
    torch.testing.assert_close(got, expected[[3, 0, 2, 1]], rtol=0, atol=2e-6)


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 5), st.integers(1, 40))
def test_every_sample_is_seen_once_per_epoch(
    count: int, seed: int, epoch: int, batch_size: int
) -> None:
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert (order == epoch_order(count, seed=seed, epoch=epoch)).all()
    lengths = np.random.default_rng(seed).integers(3, 60, count).tolist()
    batches = length_bucketed_batches(lengths, order, batch_size)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert max(map(len, batches)) <= batch_size


def test_epochs_differ_and_buckets_waste_little() -> None:
    assert (epoch_order(100, seed=0, epoch=0) != epoch_order(100, seed=0, epoch=1)).any()
    lengths = np.random.default_rng(0).integers(5, 60, 3000)
    batches = length_bucketed_batches(lengths.tolist(), epoch_order(3000, seed=0, epoch=0), 32)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    firsts = [int(lengths[batch].mean()) for batch in batches]
    assert firsts != sorted(firsts), "short captions must not come first"


def test_splits_keep_groups_together_and_their_shares() -> None:
    groups = [f"patient-{index}" for index in range(5000)]
    splits = [assign_split(group, seed=1) for group in groups]
    assert splits == [assign_split(group, seed=1) for group in groups]
    assert splits != [assign_split(group, seed=2) for group in groups]
    assert splits.count("train") == pytest.approx(4000, abs=120)
    assert splits.count("test") == pytest.approx(500, abs=100)
    assert leaking_groups([("a", "train"), ("a", "test"), ("b", "test"), (None, "train")]) == ["a"]
