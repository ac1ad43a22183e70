"""A contact sheet can be drawn of any data set, by seed or by id, whatever its captions hold."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medblip.errors import DataError
from medblip.schema import Example, dump_jsonl
from medblip.stages.show import show


@pytest.fixture
def data(tmp_path: Path) -> Path:
    captions = ("Größe 2·5 cm – „Pfeil“ 肺", "x" * 400, "word " * 300, "short", "\u202e<b>\x07")
    rows = []
    for index in range(30):
        size = ((9, 300), (300, 9), (64, 64))[index % 3]
        image = Image.new("L", size, 200).convert("RGB" if index % 2 else "L")
        image.save(tmp_path / f"{index}.png")
        rows.append(Example(
            id=f"r{index}", image=f"{index}.png", split="train" if index < 25 else "test",
            captions=(captions[index % 5],),
        ))  # fmt: skip
    (tmp_path / "manifest.jsonl").write_text(dump_jsonl(rows))
    return tmp_path


def test_by_seed(data: Path) -> None:
    first = show(data)
    assert (first.images, first.of) == (24, 30)
    sheet = Path(first.sheet)
    assert sheet == data / "contact-sheet.png"
    whole = sheet.read_bytes()
    assert Image.open(io.BytesIO(whole)).width == 1600
    assert show(data).sheet == str(sheet)
    assert sheet.read_bytes() == whole
    show(data, seed=1)
    assert sheet.read_bytes() != whole


def test_by_id_and_split(data: Path, tmp_path: Path) -> None:
    assert show(data, split="test").of == 5
    assert show(data, ids=["r29", "r0"], out=tmp_path / "two.png").images == 2
    pixels = np.asarray(Image.open(tmp_path / "two.png"))
    assert (pixels[400, 400] == [200, 200, 200]).all(), "two tiles fill the width"
    with pytest.raises(DataError, match="taken"):
        show(data, out=tmp_path / "two.png")
    show(data, out=tmp_path / "two.png", force=True)
    with pytest.raises(DataError, match="perhaps r29"):
        show(data, ids=["r299"])
    with pytest.raises(DataError, match="no validation split"):
        show(data, split="validation")
    with pytest.raises(DataError, match="not found"):
        show(tmp_path / "gone")


def test_a_damaged_image_does_not_stop_the_others(data: Path) -> None:
    (data / "0.png").write_bytes(b"no image")
    (data / "3.png").unlink()
    assert show(data, ids=["r0", "r3", "r4"]).images == 3
