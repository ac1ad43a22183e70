"""The doctor finds what was planted, says how bad it is, and shows what the model sees."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from medblip import phantoms
from medblip.errors import DataError
from medblip.schema import Example, dump_jsonl, read_examples
from medblip.stages.check import Checked, check
from medblip.stages.prepare import prepare


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of phantoms, all three splits."""
    root = tmp_path_factory.mktemp("data")
    phantoms(root / "p", images=60, seed=2, size=96)
    prepare(root / "p" / "manifest.jsonl", root / "clean", size=32)
    return root / "clean"


@pytest.fixture
def data(clean: Path, tmp_path: Path) -> Path:
    """A copy to plant in."""
    for path in clean.rglob("*"):
        target = tmp_path / "data" / path.relative_to(clean)
        if path.is_dir():
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path / "data"


def found(checked: Checked, words: str) -> int:
    return sum(finding.count for finding in checked.findings if words in finding.what)


def replant(data: Path, change: dict[int, dict[str, object]]) -> list[Example]:
    rows = read_examples(data / "manifest.jsonl")
    rows = [dataclasses.replace(row, **change.get(i, {})) for i, row in enumerate(rows)]  # type: ignore[arg-type]
    (data / "manifest.jsonl").write_text(dump_jsonl(rows))
    return rows


def test_a_clean_data_set_has_no_errors(clean: Path, tiny_folder: Path) -> None:
    checked = check(clean, strict=True)
    assert checked.errors == []
    assert checked.images == 60
    assert sum(checked.splits.values()) == 60
    record = json.loads((clean / "check.json").read_text())
    assert record["labels"]["cut_share"] == checked.labels["cut_share"] == 0
    example = checked.labels["examples"][0]
    assert example["label"].replace(" ", "") == example["caption"].lower().replace(" ", "")
    assert Image.open(checked.seen).width == 1600
    assert check(clean, model=str(tiny_folder)).labels["unknown_token_share"] > 0.1


def test_what_training_would_cut(clean: Path) -> None:
    short = check(clean, max_tokens=5)
    assert short.labels["cut_share"] == 1
    assert found(short, "cut at 5 tokens") == 60
    row = short.labels["examples"][0]
    assert len(row["label"].split()) < len(row["caption"].split())


def test_planted_leaks(data: Path) -> None:
    rows = read_examples(data / "manifest.jsonl")
    train = [i for i, row in enumerate(rows) if row.split == "train"]
    test = [i for i, row in enumerate(rows) if row.split == "test"]
    picture = Image.open(data / rows[train[0]].image)
    picture.save(data / rows[test[0]].image)  # the same pixels
    buffer = io.BytesIO()
    bright = Image.open(data / rows[train[1]].image).convert("L").point(lambda v: min(255, v + 12))
    bright.resize((130, 130)).save(buffer, "JPEG", quality=70)
    (data / rows[test[1]].image).write_bytes(buffer.getvalue())  # a near-duplicate
    replant(data, {
        train[2]: {"group": "patient-7"}, test[2]: {"group": "patient-7"},
        train[3]: {"captions": ("One  and the Same.",)},
        train[4]: {"source": "PMC4608653"}, test[3]: {"source": "PMC4608653",
                   "captions": ("one and the same.",)},
    })  # fmt: skip
    checked = check(data)
    assert found(checked, "images that lie in several splits") == 1
    assert found(checked, "near-duplicates across splits") == 1
    assert found(checked, "patients, cases or articles in several splits") == 1
    assert found(checked, "articles or pages in several splits") == 1
    assert found(checked, "captions that occur in several splits") >= 1
    with pytest.raises(DataError, match="patients, cases or articles in several splits"):
        check(data, strict=True)
    assert (data / "check.json").exists()


def test_the_stores_that_training_makes_are_no_damage(data: Path) -> None:
    """Of one split each; only a store of other rows is another data set's."""
    from medblip.data.loader import open_store
    from medblip.data.store import Resize

    for split in ("train", "validation", "test"):
        assert open_store(data, Resize(16, 16, "bilinear"), split) is not None
    assert found(check(data), "damaged files") == 0
    (data / "pixels" / "16x16-bilinear-test").rename(data / "pixels" / "16x16-bilinear-train2")
    assert found(check(data), "damaged files in pixels/16x16-bilinear-train2") == 1


def test_damage_is_an_error(data: Path) -> None:
    rows = read_examples(data / "manifest.jsonl")
    (data / rows[3].image).write_bytes(b"rust")
    (data / rows[4].image).unlink()
    (shard,) = (data / "pixels" / "32x32-bicubic").glob("*.u8")
    raw = bytearray(shard.read_bytes())
    raw[1000] ^= 1
    shard.write_bytes(raw)
    checked = check(data)
    assert found(checked, "cannot be decoded") == 2
    assert found(checked, "damaged files") == 1
    first = next(f for f in checked.findings if "decoded" in f.what).first
    assert first[1] == f"{rows[4].id}: file not found"


def test_names_in_the_pixels_are_flagged(data: Path) -> None:
    rows = read_examples(data / "manifest.jsonl")
    before = found(check(data), "text burnt into")
    planted = 0
    for row in rows[:20]:
        image = Image.open(data / row.image).convert("L").resize((384, 384))
        light = np.asarray(image)[340:370, 20:250].mean() < 128
        font = ImageFont.load_default(18)
        ImageDraw.Draw(image).text((20, 345), "MEIER, Anna 1961", 255 if light else 0, font=font)
        image.save(data / row.image)
        planted += 1
    assert found(check(data), "text burnt into") >= before + 0.8 * planted


def test_what_is_missing_is_told(data: Path) -> None:
    rows = [row for row in read_examples(data / "manifest.jsonl") if row.split != "test"]
    rows = [dataclasses.replace(row, group=None, licence=None) for row in rows]
    (data / "manifest.jsonl").write_text(dump_jsonl(rows))
    checked = check(data)
    assert found(checked, "splits that are missing") == 1
    assert found(checked, "without a patient") == found(checked, "without a licence") == len(rows)
    assert found(checked, "damaged files in pixels") == 1, "the store is of another manifest"
    with pytest.raises(DataError, match="not found"):
        check(data / "images")
