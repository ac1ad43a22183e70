"""Batches: order from (seed, epoch) alone, pixels as transformers makes them, little padding."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import BlipImageProcessorPil

from medblip.data.loader import Pixels, epoch_order, length_bucketed_batches, open_store
from medblip.data.store import Resize
from medblip.errors import DataError
from medblip.schema import Example, dump_jsonl


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Four images in a prepared data set without a pixel store."""
    rng = np.random.default_rng(0)
    found = []
    for index, shape in enumerate([(50, 40), (31, 77, 3), (32, 32), (90, 33, 3)]):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(tmp_path / f"{index}.png")
        found.append(Example(id=str(index), image=f"{index}.png", split="train", captions=("x",)))
    (tmp_path / "manifest.jsonl").write_text(dump_jsonl(found))
    return found


@pytest.mark.parametrize("build", [True, False], ids=["stored", "decoded per batch"])
def test_pixels_equal_the_processor_of_transformers(
    examples: list[Example], tmp_path: Path, build: bool
) -> None:
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    images = [Image.open(tmp_path / e.image).convert("RGB") for e in examples]
    expected = processor(images, return_tensors="pt")["pixel_values"]
    for _ in range(2):  # the second time, the store is there
        pixels = Pixels(examples[1:], tmp_path, Resize(32, 32), build=build)
        assert len(pixels) == 3
        got = pixels.pixel_batch([2, 0, 1], processor.image_mean, processor.image_std)
        torch.testing.assert_close(got, expected[[3, 1, 2]], rtol=0, atol=2e-6)
        assert (tmp_path / "pixels" / "32x32-bicubic-train" / "index.json").exists() == build
        assert pixels.raw_batch([1]).shape == (1, 1, 32, 32)


def test_a_store_of_an_older_manifest_is_made_anew(examples: list[Example], tmp_path: Path) -> None:
    first = Pixels(examples, tmp_path, Resize(16, 16)).raw_batch([0, 1])
    turned = examples[::-1]
    (tmp_path / "manifest.jsonl").write_text(dump_jsonl(turned))
    again = Pixels(turned, tmp_path, Resize(16, 16))
    np.testing.assert_array_equal(again.raw_batch([3, 2]), first)
    (tmp_path / "pixels" / "16x16-bicubic-train" / "00000.u8").write_bytes(b"torn")
    np.testing.assert_array_equal(Pixels(turned, tmp_path, Resize(16, 16)).raw_batch([3, 2]), first)
    assert [p.name for p in (tmp_path / "pixels").iterdir()] == ["16x16-bicubic-train"]


def test_an_image_that_went_bad_is_named(examples: list[Example], tmp_path: Path) -> None:
    (tmp_path / "2.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"2\.png cannot be used any more"):
        Pixels(examples, tmp_path, Resize(16, 16))
    assert not list((tmp_path / "pixels").iterdir())


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Pixels(examples, tmp_path, Resize(16, 16), build=False).raw_batch([0, 3])
    monkeypatch.setattr(os, "access", lambda *_: False)
    np.testing.assert_array_equal(
        Pixels(examples, tmp_path, Resize(16, 16)).raw_batch([0, 3]), expected
    )
    assert not (tmp_path / "pixels").exists()


def test_two_runs_make_one_store(examples: list[Example], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(open_store, tmp_path, Resize(16, 16), "train") for _ in range(4)]
        stores = [one.result() for one in work]
    assert all(found is not None and len(found[0]) == 4 for found in stores)


def test_a_split_s_own_store_opens_no_other_image(examples: list[Example], tmp_path: Path) -> None:
    mixed = [*examples[:3], dataclasses.replace(examples[3], split="test")]
    (tmp_path / "manifest.jsonl").write_text(dump_jsonl(mixed))
    (tmp_path / "3.png").write_bytes(b"never opened")
    assert Pixels(mixed[:3], tmp_path, Resize(16, 16)).raw_batch([2]).shape == (1, 1, 16, 16)
    with pytest.raises(DataError, match="cannot be used any more"):
        Pixels(mixed[3:], tmp_path, Resize(16, 16))


@given(st.integers(1, 300), st.integers(0, 5), st.integers(0, 5), st.integers(1, 40))
def test_every_sample_is_seen_once_per_epoch(
    count: int, seed: int, epoch: int, batch_size: int
) -> None:
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert (order == epoch_order(count, seed=seed, epoch=epoch)).all()
    lengths = np.random.default_rng(seed).integers(3, 60, count).tolist()
    batches = length_bucketed_batches(lengths, batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(count))
    assert max(map(len, batches)) <= batch_size


def test_epochs_differ_and_buckets_waste_little() -> None:
    assert (epoch_order(100, seed=0, epoch=0) != epoch_order(100, seed=0, epoch=1)).any()
    lengths = np.random.default_rng(0).integers(5, 60, 3000)
    batches = length_bucketed_batches(lengths.tolist(), 32, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.1 * lengths.sum()
    later = length_bucketed_batches(lengths.tolist(), 32, seed=0, epoch=1)
    assert any(a.tolist() != b.tolist() for a, b in zip(batches, later, strict=True))
    firsts = [int(lengths[batch].mean()) for batch in batches]
    assert firsts != sorted(firsts), "short captions must not come first"


@pytest.mark.parametrize("batch_size", [4, 8, 16, 64, 128, 256])
def test_padding_is_at_most_a_tenth_on_rocos_captions(shared_data: Path, batch_size: int) -> None:
    """Words of ROCO's 8,180 validation captions, cut at 64 as tokens are."""
    text = (shared_data / "roco-v1" / "validation" / "radiology" / "captions.txt").read_text(
        "utf-8"
    )
    lengths = np.array([min(64, len(row.split()) + 1) for row in text.splitlines()])
    batches = length_bucketed_batches(lengths.tolist(), batch_size, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    as_they_come = sum(
        len(part) * max(part)
        for part in (lengths[at : at + batch_size] for at in range(0, len(lengths), batch_size))
    )
    assert padded <= 1.1 * lengths.sum() < as_they_come
