"""Records survive the way through a file; malformed rows are named by file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from medblip.errors import DataError
from medblip.schema import (
    Example,
    Prediction,
    dump_jsonl,
    read_examples,
    read_jsonl,
    read_predictions,
)


def test_round_trip(tmp_path: Path) -> None:
    examples = [
        Example(id="a", image="images/a.png", split="train", captions=("Läsion ≥ 3 mm", "two")),
        Example(
            id="b",
            image="b.png",
            split="test",
            captions=("x",),
            group="p1",
            facts={"plane": "axial"},
        ),
    ]
    (tmp_path / "manifest.jsonl").write_text(dump_jsonl(examples), encoding="utf-8")
    assert read_examples(tmp_path / "manifest.jsonl") == examples
    predictions = [Prediction(id="a", caption=""), Prediction(id="b", caption="x", logprob=-0.5)]
    (tmp_path / "p.jsonl").write_text(dump_jsonl(predictions))
    assert read_predictions(tmp_path / "p.jsonl") == predictions


def test_columns_of_the_owner_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "caption": "x", "doctor": "who"}\n')
    assert read_predictions(tmp_path / "p.jsonl") == [Prediction(id="a", caption="x")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a"\n', "line 1: not JSON"),
        ("[1]\n", "not a JSON object"),
        ('{"id": "a", "split": "train", "captions": ["x"]}\n', "no image"),
        ('{"id": "a", "image": "a", "split": "dev", "captions": ["x"]}\n', "unknown split"),
        ('{"id": "a", "image": "a", "split": "test", "captions": []}\n', "no captions"),
        ('{"id": "a", "image": "a", "split": "test", "captions": ["x"]}\n' * 2, "appears twice"),
    ],
)
def test_malformed_manifests(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [('{"id": "a"}\n', "not a prediction"), ('{"id": "a", "caption": "x"}\n' * 2, "appears twice")],
)
def test_malformed_predictions(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_predictions(tmp_path / "p.jsonl")


def test_absent_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="file not found"):
        list(read_jsonl(tmp_path / "none"))
    (tmp_path / "latin").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_jsonl(tmp_path / "latin"))


def test_a_torn_last_line_may_be_tolerated(tmp_path: Path) -> None:
    (tmp_path / "m").write_text('{"a": 1}\n{"a": ')
    assert list(read_jsonl(tmp_path / "m", tolerate_torn_tail=True)) == [{"a": 1}]
    with pytest.raises(DataError, match="line 2"):
        list(read_jsonl(tmp_path / "m"))
