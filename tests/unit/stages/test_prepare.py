"""A source becomes a prepared data set; what is wrong is counted, never swallowed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.errors import DataError
from medblip.schema import Reject, read_examples, read_jsonl
from medblip.stages import prepare as stage
from medblip.stages.prepare import prepare


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty good rows of five patients, and one row for every way to be bad."""
    folder = tmp_path / "source"
    folder.mkdir()
    lines = ["id,image,caption,patient,licence"]
    rng = np.random.default_rng(0)
    for index in range(20):
        Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8)).save(folder / f"{index}.png")
        lines.append(f'r{index},{index}.png,"  Caption, {index} ",p{index % 5},CC0')
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    lines += [
        "bad1,gone.png,words,p1,", "bad2,broken.png,words,p1,", "bad3,1.png,   ,p1,",
        "r1,2.png,again,p1,",
    ]  # fmt: skip
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_good_rows_in_bad_rows_out(source: Path, tmp_path: Path) -> None:
    done = prepare(source, tmp_path / "out")
    assert (done.images, done.rejects) == (20, 4)
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    assert examples[3].captions == ("Caption, 3",)
    assert examples[3].licence == "CC0"
    for example in examples:
        copied = (tmp_path / "out" / example.image).read_bytes()
        assert copied == (source / f"{example.id[1:]}.png").read_bytes()
    reasons = {row["id"]: row["reason"] for row in read_jsonl(tmp_path / "out" / "rejects.jsonl")}
    assert reasons["bad1"] == "file not found"
    assert reasons["bad2"].startswith("cannot be decoded")
    assert reasons["bad3"] == "no caption"
    assert reasons["r1"] == "id appears twice"
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["images"] == 20
    assert sum(stats["rejects"].values()) == 4
    assert "CC0 | 20" in (tmp_path / "out" / "README.md").read_text()
    assert set(Reject.__dataclass_fields__) <= set(
        next(iter(read_jsonl(tmp_path / "out" / "rejects.jsonl")))
    )


def test_patients_stay_together(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", seed=4)
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    splits = {(e.group, e.split) for e in examples}
    assert len(splits) == 5


def test_a_published_split_is_kept_and_leaks_are_told(source: Path, tmp_path: Path) -> None:
    text = (source / "rows.csv").read_text().splitlines()
    split = [text[0] + ",split", *(f"{row},{'train' if i % 2 else 'test'}"
                                   for i, row in enumerate(text[1:]))]  # fmt: skip
    (source / "rows.csv").write_text("\n".join(split))
    prepare(source, tmp_path / "out")
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    assert Counter(e.split for e in examples) == {"train": 10, "test": 10}
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["groups_in_several_splits"]["count"] == 5
    assert stats["missing_splits"] == ["validation"]
    assert "several splits" in (tmp_path / "out" / "README.md").read_text()


def test_ids_that_are_no_file_names(source: Path, tmp_path: Path) -> None:
    (source / "rows.csv").write_text(
        "id,image,caption\n../../etc/x,1.png,one\nA/b,2.png,two\na b,3.png,three\nA_B,4.png,four\n"
    )
    prepare(source, tmp_path / "out")
    names = [e.image for e in read_examples(tmp_path / "out" / "manifest.jsonl")]
    assert len({name.lower() for name in names}) == 4
    assert all((tmp_path / "out" / name).resolve().is_relative_to(tmp_path / "out/images")
               for name in names)  # fmt: skip


def test_nothing_usable_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (source / "rows.csv").write_text("image,caption\ngone.png,words\n")
    with pytest.raises(DataError, match="file not found"):
        prepare(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_is_kept(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(source, tmp_path / "out")
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    with pytest.raises(DataError, match="--force"):
        prepare(source, tmp_path / "out")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "_statistics", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", force=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    prepare(source, tmp_path / "out", force=True, seed=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]
