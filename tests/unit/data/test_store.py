"""The pixel store: the bytes that transformers' processors make, whatever the number of workers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import BlipImageProcessorPil, ViTImageProcessorPil

from medblip.data.chunk import Chunk, Done, run_chunks
from medblip.data.raw import FileRef
from medblip.data.store import (
    SHARD_ROWS,
    PixelStore,
    Resize,
    ids_digest,
    normalised,
    write_index,
)
from medblip.errors import DataError


def picture(rng: np.random.Generator, kind: int) -> Image.Image:
    """Return a grey image, a grey one stored as RGB, or a coloured one; sizes differ."""
    height, width = rng.integers(9, 90, 2)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    if kind == 2:
        return Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0])
    return image if kind == 0 else image.convert("RGB")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Write thirty images, of which two cannot be decoded."""
    rng = np.random.default_rng(0)
    found = []
    for index in range(30):
        path = tmp_path / f"{index:02d}.png"
        picture(rng, index % 3).save(path)
        found.append(path)
    found[4].write_bytes(found[4].read_bytes()[:90])
    found[17].write_bytes(b"")
    return found


def chunks(files: list[Path], size: int) -> list[Chunk]:
    return [
        Chunk(
            number,
            [FileRef(path) for path in files[start : start + size]],
            [f"copy-{path.name}" for path in files[start : start + size]],
        )
        for number, start in enumerate(range(0, len(files), size))
    ]


def build(
    files: list[Path], out: Path, *, workers: int, size: int = 8, journal: Path | None = None
) -> list[Done]:
    out.mkdir(exist_ok=True)
    resize = Resize(32, 24)
    done = list(
        run_chunks(chunks(files, size), {resize: out}, copies=out, journal=journal, workers=workers)
    )
    outcomes = [outcome for one in done for outcome in one.outcomes]
    ids = [p.name for p, outcome in zip(files, outcomes, strict=True) if outcome.reason is None]
    shards = [shard for one in done for shard in one.shards[resize.name]]
    write_index(out, resize, ids_digest(ids), shards)
    return done


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.parametrize("resample", ["bicubic", "bilinear", "lanczos", "box", "nearest"])
def test_the_resize_is_the_processor_s_to_the_bit(resample: str) -> None:
    """Without rescaling and normalising, the processor hands out the bytes that are stored."""
    rng = np.random.default_rng(1)
    processor = BlipImageProcessorPil(
        size={"height": 40, "width": 56}, resample=Image.Resampling[resample.upper()],
        do_rescale=False, do_normalize=False,
    )  # fmt: skip
    for kind in (0, 1, 2) * 4:
        image = picture(rng, kind)
        expected = processor(image.convert("RGB"), return_tensors="np")["pixel_values"][0]
        stored = Resize(40, 56, resample).apply(image)
        assert len(stored) == (3 if kind == 2 else 1)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(np.broadcast_to(stored, expected.shape), expected)


def test_blip_and_vit_as_published(shared_data: Path) -> None:
    """384 bicubic (BLIP), 224 bilinear (ViT-GPT2's encoder), on real images."""
    paths = sorted((shared_data / "radiology-open" / "images").iterdir())[::60]
    blip = BlipImageProcessorPil(size={"height": 384, "width": 384})
    vit = ViTImageProcessorPil()
    for path in paths:
        image = Image.open(path)
        for processor in (blip, vit):
            side = processor.size["height"]
            how = Image.Resampling(processor.resample).name.lower()
            expected = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
            stored = Resize(side, side, how).apply(image)[None]
            got = normalised(stored, processor.image_mean, processor.image_std)
            torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
@settings(deadline=None)
def test_normalising_is_the_formula(batch: int, channels: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (batch, channels, height, width), np.uint8)
    mean, std = (0.5, 0.25, 0.125), (0.25, 0.3, 0.27)
    expected = torch.from_numpy(pixels).expand(-1, 3, -1, -1).double() / 255
    expected = (expected - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(normalised(pixels, mean, std).double(), expected, rtol=0, atol=2e-6)


def test_any_number_of_workers_writes_the_same(files: list[Path], tmp_path: Path) -> None:
    one = build(files, tmp_path / "one", workers=1)
    many = build(files, tmp_path / "many", workers=5)
    assert one == many
    assert contents(tmp_path / "one") == contents(tmp_path / "many")
    reasons = [outcome.reason for done in one for outcome in done.outcomes]
    assert [index for index, reason in enumerate(reasons) if reason] == [4, 17]


def test_reading_gives_what_was_decoded(files: list[Path], tmp_path: Path) -> None:
    build(files, tmp_path / "store", workers=2)
    good = [path for index, path in enumerate(files) if index not in (4, 17)]
    store = PixelStore(tmp_path / "store", [path.name for path in good])
    assert len(store) == 28
    assert set(store.channels) == {1, 3}
    assert store.damaged() == []
    expected = [Resize(32, 24).apply(Image.open(path)) for path in good]
    for index in np.random.default_rng(0).permutation(28):
        np.testing.assert_array_equal(store[int(index)], expected[index])
    order = [5, 0, 27, 13, 0]
    batch = store.batch(order)
    assert batch.shape == (5, 3, 32, 24)
    for row, index in zip(batch, order, strict=True):
        np.testing.assert_array_equal(row, np.broadcast_to(expected[index], row.shape))
    grey = [i for i, pixels in enumerate(expected) if len(pixels) == 1][:4]
    assert store.batch(grey).shape == (4, 1, 32, 24)


def test_what_a_killed_run_finished_is_not_done_again(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, out = tmp_path / "journal", tmp_path / "store"
    journal.mkdir()
    build(files, tmp_path / "whole", workers=1)
    opened: list[Path] = []
    original = FileRef.open

    def counted(self: FileRef) -> object:
        opened.append(self.path)
        if len(opened) == 20:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(FileRef, "open", counted)
    with pytest.raises(KeyboardInterrupt):
        build(files, out, workers=1, journal=journal)
    finished = [int(path.stem) for path in journal.glob("*.json")]
    assert 0 in finished, "chunks of eight: at least the first was done"
    assert not list(out.glob("*.partial"))
    before = len(opened)
    build(files, out, workers=1, journal=journal)
    done = {path for number in finished for path in files[8 * number : 8 * number + 8]}
    assert set(opened[before:]) == set(files) - done
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["source", "shard", "copy", "record"])
def test_a_journal_is_believed_only_for_what_is_there(
    files: list[Path], tmp_path: Path, change: str
) -> None:
    journal, out = tmp_path / "journal", tmp_path / "store"
    journal.mkdir()
    build(files, out, workers=1, journal=journal)
    if change == "source":
        Image.new("L", (50, 50), 7).save(files[2])
    elif change == "shard":
        (out / "00000.u8").write_bytes(b"torn")
    elif change == "copy":
        (out / "copy-02.png").unlink()
    else:
        (journal / "00000.json").write_text("{torn")
    build(files, out, workers=1, journal=journal)
    build(files, tmp_path / "fresh", workers=1)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_store_of_other_images_is_refused(files: list[Path], tmp_path: Path) -> None:
    build(files, tmp_path / "store", workers=1)
    with pytest.raises(DataError, match="another manifest"):
        PixelStore(tmp_path / "store", ["x"])
    ids = [path.name for index, path in enumerate(files) if index not in (4, 17)]
    shard = tmp_path / "store" / "00001.u8"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert PixelStore(tmp_path / "store", ids).damaged() == ["00001.u8"]
    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="damaged shard"):
        PixelStore(tmp_path / "store", ids)
    index = json.loads((tmp_path / "store" / "index.json").read_text())
    (tmp_path / "store" / "index.json").write_text(json.dumps(index | {"schema_version": 99}))
    with pytest.raises(DataError, match="no pixel store"):
        PixelStore(tmp_path / "store", ids)


def test_a_failing_disk_stops_the_run(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        build(files, tmp_path / "store", workers=3)


def test_rows_per_shard_bound_what_a_kill_costs() -> None:
    assert dataclasses.astuple(Resize(384, 384)) == (384, 384, "bicubic")
    assert SHARD_ROWS * 384 * 384 < 40e6
