"""A source becomes a prepared data set; what is wrong is counted, never swallowed."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.data import intake
from medblip.data.raw import FileRef
from medblip.data.store import PixelStore
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

    monkeypatch.setattr(stage, "card", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", force=True)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    monkeypatch.undo()
    prepare(source, tmp_path / "out", force=True, seed=9)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_an_interrupted_run_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SHARD_ROWS", 6)
    prepare(source, tmp_path / "whole", workers=1)
    opened: list[str] = []
    original = FileRef.open

    def interrupted(self: FileRef) -> object:
        opened.append(self.label)
        if len(opened) == 15:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(FileRef, "open", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    prepare(source, tmp_path / "out", workers=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert len(opened) < 15 + 22, "the finished chunks were not decoded again"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source", "whole"]


def test_the_store_is_what_training_reads(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", size=[24, 32])
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    for side in (24, 32):
        folder = tmp_path / "out" / "pixels" / f"{side}x{side}-bicubic"
        store = PixelStore(folder, [e.id for e in examples])
        for index, example in enumerate(examples):
            image = Image.open(tmp_path / "out" / example.image).resize((side, side), 3)
            np.testing.assert_array_equal(store[index][0], np.asarray(image))
    prepare(source, tmp_path / "none", size=0)
    assert not (tmp_path / "none" / "pixels").exists()


def test_links_are_the_source_s_own_files(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "copied")
    prepare(source, tmp_path / "linked", link=True)
    assert contents(tmp_path / "linked") == contents(tmp_path / "copied")
    for folder, linked in (("linked", True), ("copied", False)):
        for example in read_examples(tmp_path / folder / "manifest.jsonl"):
            origin = source / f"{example.id[1:]}.png"
            assert (tmp_path / folder / example.image).samefile(origin) == linked
    prepare(source, tmp_path / "linked", link=True, force=True, size=8)
    assert (source / "1.png").exists()


def test_where_no_link_can_be_made_a_copy_is(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    assert prepare(source, tmp_path / "out", link=True).images == 20
    assert len(list((tmp_path / "out" / "images").iterdir())) == 20


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path) -> None:
    plan = prepare(source, tmp_path / "out", dry_run=True)
    assert isinstance(plan, stage.Plan)
    assert (plan.format, plan.rows, plan.splits) == ("table", 24, {"none": 24})
    assert plan.first[0]["captions"] == ("  Caption, 0 ",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_too_many_rejects_are_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too many rows") as caught:
        prepare(source, tmp_path / "out", max_rejects=3)
    assert "at most 3" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]
    assert prepare(source, tmp_path / "out", max_rejects=4).rejects == 4


def test_only_the_licences_that_were_asked_for(source: Path, tmp_path: Path) -> None:
    text = (source / "rows.csv").read_text().replace("CC0", "CC BY-NC", 7)
    (source / "rows.csv").write_text(text)
    done = prepare(source, tmp_path / "out", licences=["cc0"], max_rejects=4)
    assert done.images == 13
    reasons = json.loads((tmp_path / "out" / "stats.json").read_text())["rejects"]
    assert reasons["licence not asked for"] == 7 + 3  # three bad rows have no licence


def test_a_validation_split_out_of_training(source: Path, tmp_path: Path) -> None:
    lines = (source / "rows.csv").read_text().splitlines()
    lines = [lines[0] + ",split", *(f"{row},{'test' if ',p0,' in row else 'train'}"
                                    for row in lines[1:])]  # fmt: skip
    (source / "rows.csv").write_text("\n".join(lines))
    prepare(source, tmp_path / "out", validation_share=0.5, seed=3)
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    splits = {(e.group, e.split) for e in examples}
    assert len(splits) == 5, "no patient in two splits"
    assert {split for group, split in splits if group == "p0"} == {"test"}
    assert {split for _, split in splits} == {"train", "validation", "test"}


def test_cleaned_captions_stand_beside_the_raw_ones(source: Path, tmp_path: Path) -> None:
    (source / "rows.csv").write_text(
        'image,caption\n0.png,"Chest radiograph shows effusion (arrow)."\n1.png,Normal chest CT.\n'
    )
    prepare(source, tmp_path / "out", clean="arrows")
    first, second = read_examples(tmp_path / "out" / "manifest.jsonl")
    assert first.captions == ("Chest radiograph shows effusion (arrow).",)
    assert first.targets == ("Chest radiograph shows effusion.",)
    assert second.targets is None
    stats = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert stats["cleaned_captions"] == {"arrows": 1}
    with pytest.raises(DataError, match="arrows"):
        prepare(source, tmp_path / "other", clean="arows")


@pytest.mark.parametrize("suffix", ["zip", "tar", "gztar"])
def test_an_archive_is_unpacked_on_the_way(source: Path, tmp_path: Path, suffix: str) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "archive"), suffix, source))
    prepare(archive, tmp_path / "out")
    prepare(source, tmp_path / "folder")
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == (
        tmp_path / "folder" / "manifest.jsonl"
    ).read_text()
    assert not list(tmp_path.glob("*.partial"))


def test_one_percent_of_bad_files(tmp_path: Path) -> None:
    """Whatever does not decode is listed with a reason, none is in the store, exit 0."""
    source = tmp_path / "source"
    source.mkdir()
    rng = np.random.default_rng(5)
    whole = Image.fromarray(rng.integers(0, 255, (40, 30), np.uint8))
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG")
    not_numbers = io.BytesIO()
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(not_numbers, "TIFF")
    bad = {}
    for index in range(400):
        path = source / f"{index:03d}.png"
        whole.save(path)
        path.with_suffix(".txt").write_text(f"Image number {index}.")
        if index % 20 == 7:
            data = path.read_bytes()
            kinds = (data[: len(data) // 2], b"", b"%PDF-1.7\n%...", b"<!DOCTYPE html><html>",
                     bytes(len(data)), bomb.getvalue(), not_numbers.getvalue())  # fmt: skip
            path.write_bytes(kinds[(index // 20) % len(kinds)])
            bad[path.stem] = len(kinds)
    done = prepare(source, tmp_path / "out", size=16)
    assert (done.images, done.rejects) == (380, 20)
    rejects = list(read_jsonl(tmp_path / "out" / "rejects.jsonl"))
    assert {row["id"] for row in rejects} == set(bad)
    assert all(row["reason"] and row["file"].endswith(f"{row['id']}.png") for row in rejects)
    assert len({row["reason"].split(":")[0] for row in rejects}) >= 4
    examples = read_examples(tmp_path / "out" / "manifest.jsonl")
    assert not {e.id for e in examples} & set(bad)
    assert len(PixelStore(tmp_path / "out/pixels/16x16-bicubic", [e.id for e in examples])) == 380
    assert len(list((tmp_path / "out" / "images").iterdir())) == 380
