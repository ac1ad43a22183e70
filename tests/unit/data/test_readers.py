"""Sources as people have them: tables with odd columns, folders with text files, ROCO's layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from medblip.data.readers import Raw, detect_format, read_source
from medblip.errors import DataError


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)
    return path


def rows(source: Path, **options: object) -> list[Raw]:
    return list(read_source(source, **options))  # type: ignore[arg-type]


def test_csv_with_a_byte_order_mark_and_its_own_names(tmp_path: Path) -> None:
    image(tmp_path / "images" / "x.png")
    (tmp_path / "t.csv").write_text(
        "\ufeffName,Image,Text,Patient,Subset\n7,x,A chest.,p1,valid\n8,gone.png,Another.,p2,\n"
    )
    first, second = rows(tmp_path / "t.csv")
    assert (first.id, first.captions, first.group) == ("7", ("A chest.",), "p1")
    assert first.split == "validation"
    assert first.image == tmp_path / "images" / "x.png"  # found below images/, suffix added
    assert second.split is None
    assert not second.image.exists()


def test_tsv_and_chosen_columns(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("pic\tfindings\nx.png\tclear lungs\n")
    with pytest.raises(DataError, match="no image column recognised"):
        rows(tmp_path / "t.tsv")
    (row,) = rows(tmp_path / "t.tsv", columns={"image": "pic", "caption": "findings"})
    assert (row.id, row.captions) == ("x", ("clear lungs",))
    with pytest.raises(DataError, match="no column 'nope'"):
        rows(tmp_path / "t.tsv", columns={"image": "nope"})


def test_jsonl_with_several_captions(tmp_path: Path) -> None:
    record = {"image": "a.png", "captions": ["one", "two"], "license": "CC0", "source": "here"}
    (tmp_path / "t.jsonl").write_text(json.dumps(record) + "\n")
    (row,) = rows(tmp_path)
    assert (row.captions, row.licence, row.source) == (("one", "two"), "CC0", "here")


def test_folder_with_text_files(tmp_path: Path) -> None:
    for name in ("train/a", "train/deep/b", "test/c"):
        image(tmp_path / f"{name}.png").with_suffix(".txt").write_text(name)
    image(tmp_path / "train" / "silent.png")
    found = {row.id: row for row in rows(tmp_path)}
    assert found["train/a"].split == found["train/deep/b"].split == "train"
    assert found["test/c"].captions == ("test/c",)
    assert found["train/silent"].captions == ()


def test_roco_layout(tmp_path: Path) -> None:
    """Captions begin with a space; licences.txt is a CSV among tab files and names the image."""
    folder = tmp_path / "data" / "validation" / "radiology"
    image(folder / "images" / "PMC1_fig1.jpg")
    (folder / "captions.txt").write_text("ROCO_1\t A chest.\nROCO_2\t A head.\n")
    (folder / "licences.txt").write_text("ROCO_ID,PMC_ID,CC\nROCO_1,PMC1_fig1.jpg,CC BY\n")
    first, second = rows(tmp_path)
    assert (first.id, first.split, first.group) == ("ROCO_1", "validation", "PMC1")
    assert first.licence == "CC BY"
    assert first.image.is_file()
    assert not second.image.exists()


def test_roco_as_published(shared_data: Path) -> None:
    found = rows(shared_data / "roco-v1")
    splits = [row.split for row in found]
    assert (splits.count("validation"), splits.count("test")) == (8180, 8179)
    assert len({row.id for row in found}) == 16359
    assert all(row.captions[0].strip() for row in found)


def test_what_cannot_be_recognised(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty folder"):
        detect_format(tmp_path)
    (tmp_path / "notes.docx").write_text("x")
    with pytest.raises(DataError, match=r"notes\.docx"):
        detect_format(tmp_path)
    with pytest.raises(DataError, match="source not found"):
        rows(tmp_path / "absent")
    with pytest.raises(DataError, match="unknown format"):
        rows(tmp_path, format="tabel")
    (tmp_path / "t.csv").write_text("image,caption,split\na.png,x,holdout\n")
    with pytest.raises(DataError, match="unknown split"):
        rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("image,caption\na.png,Röntgen\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        rows(tmp_path / "t.csv")
