"""Parquet data sets in the layouts that the hub publishes, their damage, and what is read when."""

from __future__ import annotations

import io
import pickle
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers import parquet
from medblip.errors import DataError, ImageError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(shade: int, kind: str = "PNG") -> bytes:
    """Return an image that is told from others by its size and shade."""
    file = io.BytesIO()
    pixels = np.full((8 + shade % 5, 8 + shade % 7), shade % 256, dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def published(path: Path, ids: list[str], **options: Any) -> dict[str, bytes]:
    """Write a file as `datasets` publishes ROCOv2; return id -> image."""
    images = {name: encoded(index + 3, "JPEG") for index, name in enumerate(ids)}
    columns = {
        "image": pa.array([{"bytes": images[i], "path": f"{i}.jpg"} for i in ids], type=IMAGE),
        "image_id": ids,
        "caption": [f"CT scan {i}, with a µ" for i in ids],
        "cui": [["C0040405", f"C{index:07d}"] for index in range(len(ids))],
    }
    write(path, columns, **options)
    return images


def rows(source: Path, **columns: str) -> list[Raw]:
    return list(parquet.read(source, ReadOptions(columns=columns)))


def test_the_layout_of_rocov2_on_the_hub(tmp_path: Path) -> None:
    expected: dict[str, bytes] = {}
    for split, shards in (("train", 3), ("validation", 1), ("test", 1)):
        for shard in range(shards):
            name = f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            ids = [f"ROCOv2_2023_{split}_{shard}{index:05d}" for index in range(7)]
            expected |= published(tmp_path / "data" / name, ids, row_group_size=3)
    (tmp_path / "README.md").write_text("a card")
    assert parquet.matches(tmp_path)
    found = rows(tmp_path)
    assert [row.id for row in found] == sorted(expected, key=[row.id for row in found].index)
    assert {row.id for row in found} == set(expected)
    for row in found:
        assert row.split == row.id.split("_")[2]
        assert row.captions == (f"CT scan {row.id}, with a µ",)
        assert row.concepts[0] == "C0040405"
        assert len(row.concepts) == 2
        assert row.image.suffix == ".jpg"
        image, kept = row.image.open()
        assert kept == expected[row.id]
        assert image.mode == "L"


def test_one_file_and_the_converted_branch(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        published(tmp_path / "default" / split / "0000.parquet", [f"{split}-1"])
    published(tmp_path / "other" / "partial-train" / "0000.parquet", ["a"])
    assert [(row.id, row.split) for row in rows(tmp_path / "default")] == [
        ("test-1", "test"),
        ("train-1", "train"),
        ("validation-1", "validation"),
    ]
    assert rows(tmp_path / "other")[0].split == "train"
    single = tmp_path / "my.parquet"
    published(single, ["x"])
    assert parquet.matches(single)
    assert rows(single)[0].split is None


def test_nothing_here(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("id,caption\n")
    assert not parquet.matches(tmp_path)
    assert not parquet.matches(tmp_path / "captions.csv")


@pytest.mark.parametrize(
    "image",
    [
        lambda data: pa.array(data, type=pa.binary()),
        lambda data: pa.array(data, type=pa.large_binary()),
        lambda data: pa.array(data, type=pa.binary()).dictionary_encode(),
        lambda data: pa.array([{"bytes": d} for d in data], type=pa.struct([("bytes", "binary")])),
        lambda data: pa.array(
            [{"path": None, "bytes": d} for d in data],
            type=pa.struct([("path", pa.string()), ("bytes", pa.large_binary())]),
        ),
    ],
    ids=["binary", "large", "dictionary", "no path", "path first and empty"],
)
def test_kinds_of_image_column(tmp_path: Path, image: Callable[[list[bytes]], pa.Array]) -> None:
    data = [encoded(index) for index in (10, 20, 10)]
    columns = {"image": image(data), "caption": pa.array(["a", "b", "a"]).dictionary_encode()}
    found = rows(write(tmp_path / "x.parquet", columns))
    assert [row.image.open()[1] for row in found] == data
    assert [row.captions for row in found] == [("a",), ("b",), ("a",)]
    assert [row.id for row in found] == ["x-1", "x-2", "x-3"]
    assert {row.image.suffix for row in found} == {".png"}  # as the first image begins


def test_a_column_of_file_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded(50))
    columns = {"file_name": ["a.png", "b.png"], "text": ["one", "two"]}
    first, second = rows(write(tmp_path / "metadata.parquet", columns))
    assert first.image.open()[1] == encoded(50)
    assert first.id == "a"
    with pytest.raises(ImageError, match="file not found"):
        second.image.open()


def test_an_empty_cell_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(encoded(9))
    cells = [
        {"bytes": encoded(1), "path": "a.png"},
        {"bytes": None, "path": None},
        None,
        {"bytes": None, "path": "there.png"},
        {"bytes": b"no image", "path": "b.png"},
    ]
    captions = ["a", None, "c", "d", "e"]
    columns = {"image": pa.array(cells, type=IMAGE), "caption": captions}
    found = rows(write(tmp_path / "x.parquet", columns))
    assert found[0].image.open()[1] == encoded(1)
    assert found[1].captions == ()
    for row in found[1:3]:
        with pytest.raises(ImageError, match="no image in this row"):
            row.image.open()
    assert found[3].image.open()[1] == encoded(9)  # named, beside the Parquet file
    with pytest.raises(ImageError):
        found[4].image.open()
    assert found[1].image.label == f"{tmp_path / 'x.parquet'}: row group 0, row 1"


def test_every_column_that_is_known(tmp_path: Path) -> None:
    columns = {
        "image": pa.array([encoded(1)] * 2, type=pa.binary()),
        "id": [0, 1],
        "caption": [["one", "two"], ["three"]],
        "split": ["val", ""],
        "patient": [7, 8],
        "license": ["CC BY", None],
        "url": [None, "https://example.org"],
        "cui": ["C0000001;C0000002", None],
        "keywords": [["lung"], []],
    }
    first, second = rows(write(tmp_path / "test.parquet", columns))
    assert (first.id, second.id) == ("0", "1")
    assert first.captions == ("one", "two")
    assert (first.split, second.split) == ("validation", "test")  # the column, else the file
    assert (first.group, first.licence, first.source) == ("7", "CC BY", None)
    assert second.source == "https://example.org"
    assert first.concepts == ("C0000001", "C0000002")
    assert (first.keywords, second.keywords) == (("lung",), ())
    (told,) = rows(
        write(tmp_path / "told.parquet", {"pic": pa.array([encoded(1)]), "note": ["x"]}),
        image="pic", caption="note",
    )  # fmt: skip
    assert told.captions == ("x",)


def test_the_image_column_is_not_read_for_the_rows(tmp_path: Path) -> None:
    """Damage every byte of every image: all rows are read, all images refused."""
    path = tmp_path / "x.parquet"
    images = published(path, [f"i{n}" for n in range(6)], row_group_size=3, compression="snappy")
    data = bytearray(path.read_bytes())
    meta = pq.ParquetFile(path).metadata
    for group in range(meta.num_row_groups):
        columns = [meta.row_group(group).column(c) for c in range(meta.num_columns)]
        (column,) = (c for c in columns if c.path_in_schema == "image.bytes")
        start = column.dictionary_page_offset or column.data_page_offset
        data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(data)
    found = rows(path)
    assert [row.id for row in found] == list(images)
    for row in found:
        with pytest.raises(ImageError, match="cannot be read"):
            row.image.open()


def count_streams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one entry for each row group that is begun."""
    begun: list[int] = []
    start = parquet._Stream.__init__

    def counted(self: Any, ref: parquet.ParquetRef, key: Any) -> None:
        begun.append(ref.row_group)
        start(self, ref, key)

    monkeypatch.setattr(parquet._Stream, "__init__", counted)
    monkeypatch.setattr(parquet, "_BLOCKS", parquet._Blocks())
    return begun


def test_a_row_group_is_read_once_in_sequence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_streams(monkeypatch)
    images = published(tmp_path / "x.parquet", [str(n) for n in range(40)], row_group_size=10)
    assert [row.image.open()[1] for row in rows(tmp_path / "x.parquet")] == list(images.values())
    assert begun == [0, 1, 2, 3]


def test_a_giant_row_group_is_read_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = count_streams(monkeypatch)
    images = published(tmp_path / "x.parquet", [str(n) for n in range(60)])
    size = sum(map(len, images.values()))
    monkeypatch.setattr(parquet, "BLOCK_BYTES", size // 12)
    monkeypatch.setattr(parquet, "CACHE_BYTES", size // 4)
    found = rows(tmp_path / "x.parquet")
    for row in found:
        assert row.image.open()[1] == images[row.id]
        held = sum(block.values.nbytes for block in parquet._BLOCKS._last)
        assert held <= size // 4 + size // 12
    assert begun == [0]
    assert found[0].image.open()[1] == images["0"]  # back to what was dropped
    assert begun == [0, 0]


def test_threads_share_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = count_streams(monkeypatch)
    images = published(tmp_path / "x.parquet", [str(n) for n in range(400)], row_group_size=100)
    found = rows(tmp_path / "x.parquet")
    chunks = [found[start : start + 64] for start in range(0, 400, 64)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda chunk: [row.image.open()[1] for row in chunk], chunks))
    assert [data for chunk in got for data in chunk] == list(images.values())
    assert len(begun) <= 8


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 30),
    group=st.integers(1, 12),
    block=st.integers(1, 4000),
    seed=st.integers(0, 1000),
)
def test_any_row_in_any_order(
    tmp_path: Path, count: int, group: int, block: int, seed: int
) -> None:
    path = tmp_path / "x.parquet"
    images = published(path, [f"{seed}-{n}" for n in range(count)], row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "BLOCK_BYTES", block)
        patch.setattr(parquet, "CACHE_BYTES", 2 * block)
        found = [row for row in rows(path) for _ in range(2)]
        random.Random(seed).shuffle(found)
        for row in found:
            assert row.image.open()[1] == images[row.id]


def test_a_reference_travels(tmp_path: Path) -> None:
    images = published(tmp_path / "x.parquet", ["a", "b"])
    ref = pickle.loads(pickle.dumps(rows(tmp_path / "x.parquet")[1].image))
    assert ref.open()[1] == images["b"]
    assert hash(ref) == hash(rows(tmp_path / "x.parquet")[1].image)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    published(tmp_path / "x.parquet", ["a"])
    before = rows(tmp_path / "x.parquet")[0].image
    old = before.stamp()
    assert before.open()[1] == encoded(3, "JPEG")
    write(tmp_path / "x.parquet", {"image": pa.array([encoded(77)]), "caption": ["new"]})
    (after,) = rows(tmp_path / "x.parquet")
    assert after.image.open()[1] == encoded(77)
    assert after.image.stamp() != old
    (tmp_path / "x.parquet").unlink()
    with pytest.raises(ImageError, match="cannot be read"):
        after.image.open()


def test_too_large_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path / "x.parquet", ["a"])
    monkeypatch.setattr(parquet, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="limit"):
        rows(tmp_path / "x.parquet")[0].image.open()


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    for shard in (0, 2):
        published(tmp_path / f"data/train-{shard:05d}-of-00004.parquet", [f"a{shard}"])
    with pytest.raises(DataError, match=r"2 of 4 files of data/train-\*; missing: 1, 3"):
        rows(tmp_path)
    assert len(rows(tmp_path / "data/train-00002-of-00004.parquet")) == 1


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got: "),
        (b"PAR1 but not really", "got: "),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "Git LFS pointer"),
    ],
)
def test_no_parquet(tmp_path: Path, content: bytes, got: str) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match="not a readable Parquet file") as caught:
        rows(tmp_path / "x.parquet")
    assert got in str(caught.value)
    assert "expected:" in str(caught.value)


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    latin = pa.array([b"\xe9panchement"]).view(pa.string())
    path = write(tmp_path / "x.parquet", {"image": pa.array([encoded(1)]), "caption": latin})
    with pytest.raises(DataError, match="utf-8"):
        rows(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": pa.array([b""]), "label": [1]}, "no caption column recognised"),
        ({"pixels": [1], "caption": ["a"]}, "no image column recognised"),
        ({"image": [[1, 2]], "caption": ["a"]}, "column 'image' holds no image"),
        ({"image": [{"width": 3}], "caption": ["a"]}, "column 'image' holds no image"),
        ({"image": [{"bytes": [1, 2]}], "caption": ["a"]}, "column 'image' holds no image"),
        ({"image": [{"bytes": "no"}], "caption": ["a"]}, "column 'image' holds no image"),
        ({"image": pa.array([b""]), "caption": ["a"], "split": ["x"]}, "unknown split"),
    ],
)
def test_columns_that_do_not_serve(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(write(tmp_path / "x.parquet", columns))


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published(tmp_path / "x.parquet", ["a"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert parquet.matches(tmp_path)
    with pytest.raises(DataError, match=r"pip install 'medblip\[hf\]'"):
        rows(tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    """Whatever a byte says: rows, or one of our two errors; never another, never no end."""
    path = tmp_path / "x.parquet"
    published(path, [f"i{n}" for n in range(20)], row_group_size=7)
    whole, draw = path.read_bytes(), random.Random(0)
    outcomes = {"row": 0, "image": 0, "file": 0}
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for number in range(250):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[draw.randrange(len(data)) :]
        else:
            for _ in range(draw.randint(1, 8)):
                first = footer if number % 3 == 1 else 0
                data[draw.randrange(first, len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            for row in rows(path):
                try:
                    row.image.open()
                    outcomes["row"] += 1
                except ImageError:
                    outcomes["image"] += 1
        except DataError:
            outcomes["file"] += 1
    assert min(outcomes.values()) > 50
