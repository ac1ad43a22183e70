"""Every format in its published layout, quirks included: rows come out as they were put in."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medblip.data.raw import FileRef, Raw, ReadOptions, SliceRef
from medblip.data.readers import FORMATS, detect_format, read_source
from medblip.data.readers.names import ImageFinder, ZipRef, split_in, split_name
from medblip.data.readers.rows import read_rows
from medblip.errors import DataError, ImageError


def picture(value: int = 0, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5), value % 256, np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def rows_of(source: Path, expected_format: str | None = None, **options: object) -> list[Raw]:
    """Read twice: a survey and the work itself must see the same."""
    if expected_format is not None:
        assert detect_format(source) == expected_format
    told = ReadOptions(**options)  # type: ignore[arg-type]
    rows = list(read_source(source, format=expected_format, options=told))
    assert rows == list(read_source(source, format=expected_format, options=told))
    return rows


def opens(row: Raw) -> bool:
    try:
        return row.image.open()[0].size == (5, 6)
    except ImageError:
        return False


# ---- ROCO v1 -------------------------------------------------------------------------------------

CAPTIONS = [
    (
        "ROCO_00001",
        " Computed tomography scan in axial view, with\u2028a line mark and \x85 in it.",
    ),
    ("ROCO_00002", " Größe 2·5 cm – “Pfeil”."),
    ("ROCO_00003", " " + "Very long caption. " * 300),
    ("ROCO_00004", " \tTab inside"),
]


def roco(root: Path, split: str = "validation", part: str = "radiology") -> Path:
    folder = root / split / part
    names = {"ROCO_00001": "PMC1_a.jpg", "ROCO_00002": "PMC1_b.jpg", "ROCO_00003": "PMC2_c.jpg"}
    write(folder, {
        "captions.txt": "".join(f"{name}\t{text}\n" for name, text in CAPTIONS) + "\n\n",
        "cuis.txt": "ROCO_00001\tC0040405\tC1306645\nROCO_00003\t\tC0000001\n",
        "keywords.txt": "ROCO_00001\t\tnode\tct\nROCO_00002\tsize\nROCO_00004\n",
        "semtypes.txt": "ROCO_00001\tT033\tFinding\n",
        "licences.txt": "ROCO_ID,PMC_ID,CC\r\nROCO_00001,PMC1_a.jpg,CC BY\r\n"
                        "ROCO_00002,PMC1_b.jpg,\r\nROCO_00003,PMC2_c.jpg,CC BY-NC\r\n",
        "images/ROCO_00001.jpg": picture(1, "JPEG"),
        f"images/{names['ROCO_00002']}": picture(2, "JPEG"),
    })  # fmt: skip
    return root


def test_roco(tmp_path: Path) -> None:
    rows = rows_of(roco(tmp_path), "roco")
    assert [(row.id, row.captions) for row in rows] == [(name, (text,)) for name, text in CAPTIONS]
    one, two, three, four = rows
    assert {row.split for row in rows} == {"validation"}
    assert (one.concepts, two.concepts, three.concepts) == (
        ("C0040405", "C1306645"), (), ("C0000001",),
    )  # fmt: skip
    assert (one.keywords, two.keywords, four.keywords) == (("node", "ct"), ("size",), ())
    assert [row.licence for row in rows] == ["CC BY", None, "CC BY-NC", None]
    assert [row.group for row in rows] == ["PMC1", "PMC1", "PMC2", None]
    assert [row.source for row in rows] == ["PMC1", "PMC1", "PMC2", "ROCO"]
    assert [opens(row) for row in rows] == [True, True, False, False]
    assert three.image.label.endswith("PMC2_c.jpg")


def test_roco_s_other_half_is_read_only_when_it_is_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        roco(tmp_path / "data", split)
    roco(tmp_path / "data", "test", "non-radiology")
    rows = rows_of(tmp_path, "roco")
    assert [row.split for row in rows] == ["test"] * 4 + ["train"] * 4
    assert len(rows_of(tmp_path / "data" / "test" / "non-radiology", "roco")) == 4
    (tmp_path / "data/test/radiology/licences.txt").write_text("ROCO_ID;PMC_ID\n")
    with pytest.raises(DataError, match="ROCO's table of licences"):
        rows_of(tmp_path, "roco")


# ---- ROCOv2 and the challenge --------------------------------------------------------------------


def rocov2(root: Path) -> Path:
    files: dict[str, str | bytes] = {
        "cui_mapping.csv": "CUI,Canonical name\nC1,x\n",
        "license_information.csv": "ID, PMCID, Attribution, Link\n"
        "ROCOv2_2023_train_000001,PMC7,CC BY [A et al.],https://example.org/7\n",
    }
    for split, first in (("train", 1), ("valid", 3), ("test", 5)):
        names = [f"ROCOv2_2023_{split}_{n:06d}" for n in (first, first + 1)]
        files[f"{split}_captions.csv"] = (
            f'\ufeffID,Caption\n{names[0]},"A caption, with\na line break ""quoted"""\n'
            f"{names[1]}, Second \n"
        )
        files[f"{split}_concepts.csv"] = f"ID,CUIs\n{names[0]},C1;C2\n{names[1]},\n"
        files[f"{split}_concepts_manual.csv"] = f"ID,CUIs\n{names[0]},C9\n"
        for number, name in enumerate(names):
            files[f"{split}/{name}.jpg"] = picture(first + number, "JPEG")
    return write(root, files)


def test_rocov2(tmp_path: Path) -> None:
    rows = rows_of(rocov2(tmp_path), "rocov2")
    assert [row.split for row in rows] == ["train"] * 2 + ["validation"] * 2 + ["test"] * 2
    assert rows[0].captions == ('A caption, with\na line break "quoted"',)
    assert (rows[0].concepts, rows[1].concepts) == (("C1", "C2"), ())
    assert (rows[0].group, rows[0].licence) == ("PMC7", "CC BY [A et al.]")
    assert (rows[1].group, rows[1].licence) == (None, None)
    assert all(map(opens, rows))


def test_rocov2_as_downloaded(tmp_path: Path) -> None:
    """Nothing unpacked: images are read out of the archives."""
    rocov2(tmp_path)
    expected = [row.image.open()[1] for row in rows_of(tmp_path, "rocov2")]
    for split in ("train", "valid", "test"):
        with zipfile.ZipFile(
            tmp_path / f"{split}_images.zip", "w", zipfile.ZIP_DEFLATED
        ) as archive:
            for path in sorted((tmp_path / split).iterdir()):
                archive.write(path, f"{split}/{path.name}")
                path.unlink()
        (tmp_path / split).rmdir()
    rows = rows_of(tmp_path, "rocov2")
    assert all(isinstance(row.image, ZipRef) for row in rows)
    assert [row.image.open()[1] for row in rows] == expected
    assert [row.split for row in rows][::2] == ["train", "validation", "test"]
    whole = rows[0].image.stamp()
    assert whole
    assert whole != rows[1].image.stamp()


def test_a_torn_archive_costs_only_its_own_images(tmp_path: Path) -> None:
    test_rocov2_as_downloaded(tmp_path)
    path = tmp_path / "valid_images.zip"
    path.write_bytes(path.read_bytes()[:80])
    rows = rows_of(tmp_path, "rocov2")
    assert [opens(row) for row in rows] == [True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("captions", "concepts", "folder", "header", "mark"),
    [
        ("caption_prediction_{}.csv", "concept_detection_{}.csv", "{}", "ID\tcaption", "\t"),
        ("ImageCLEFmedical_Caption_2023_caption_{}_labels.csv",
         "ImageCLEFmedical_Caption_2023_concepts_{}_labels.csv", "{}", "ID\tcaption", "\t"),
        ("{}_captions.csv", "concepts/{}_concepts.csv", "{}_images", "ID,Caption", ","),
        ("caption_prediction/{}_labels_captions.csv", "c/{}_concepts.csv", "{}", "ID|Caption", "|"),
    ],
    ids=["2022", "2023", "2025", "bars"],
)  # fmt: skip
def test_imageclef(
    tmp_path: Path, captions: str, concepts: str, folder: str, header: str, mark: str
) -> None:
    files: dict[str, str | bytes] = {}
    for split in ("train", "valid"):
        names = [f"ImageCLEF_{split}_{n:03d}" for n in range(3)]
        files[captions.format(split)] = "\n".join(
            [header, *(f"{n}{mark}Text of {n}." for n in names)]
        )
        files[concepts.format(split)] = f"ID{mark}CUIs\n{names[0]}{mark}C1;C2\n"
        files |= {f"{folder.format(split)}/{name}.jpg": picture(3, "JPEG") for name in names}
    files[f"{folder.format('test')}/ImageCLEF_test_000.jpg"] = picture()
    rows = rows_of(write(tmp_path, files), "imageclef")
    assert [row.split for row in rows] == ["train"] * 3 + ["validation"] * 3
    assert all(row.captions == (f"Text of {row.id}.",) for row in rows)
    assert all(map(opens, rows))
    assert rows[0].concepts == ("C1", "C2")


def test_imageclef_2026_keeps_all_captions_in_one_table(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, {
        "captions.csv": "ID,Caption\na1,One.\nb1,Two.\n",
        "manuel_concepts/train_concepts_manual.csv": "ID,CUIs\na1,C1\n",
        "train_images/a1.png": picture(1), "valid_images/b1.png": picture(2),
    }), "imageclef")  # fmt: skip
    assert [(row.id, row.split) for row in rows] == [("a1", "train"), ("b1", "validation")]
    assert all(map(opens, rows))


# ---- reports and JSON ----------------------------------------------------------------------------


def test_r2gen(tmp_path: Path) -> None:
    study = {"id": "CXR1", "image_path": ["CXR1/0.png", "CXR1/1.png"], "report": "Clear lungs."}
    other = {
        "id": "s5",
        "study_id": 5,
        "subject_id": 17,
        "image_path": ["p/x.png"],
        "report": "No.",
    }
    rows = rows_of(write(tmp_path, {
        "annotation.json": json.dumps({"train": [study], "val": [other], "test": []}),
        **{f"images/{name}.png": picture() for name in ("CXR1/0", "CXR1/1", "p/x")},
    }), "r2gen")  # fmt: skip
    assert [(row.id, row.split, row.group) for row in rows] == [
        ("CXR1-0", "train", "CXR1"), ("CXR1-1", "train", "CXR1"), ("s5", "validation", "17"),
    ]  # fmt: skip
    assert all(row.captions == ("Clear lungs.",) for row in rows[:2])
    assert all(map(opens, rows))
    assert rows_of(tmp_path / "annotation.json", "r2gen") == rows
    (tmp_path / "annotation.json").write_text(json.dumps({"train": [study], "odd": [other]}))
    with pytest.raises(DataError, match="odd"):
        rows_of(tmp_path, "r2gen")


def coco(split: str, start: int) -> str:
    return json.dumps({
        "info": {}, "licenses": [{"id": 4, "name": "CC BY 2.0"}],
        "images": [{"id": start + n, "file_name": f"{start + n:012d}.png", "license": 4}
                   for n in range(2)],
        "annotations": [{"id": n, "image_id": start + n // 2, "caption": f"{split} {n}"}
                        for n in range(3)],
    })  # fmt: skip


def test_coco(tmp_path: Path) -> None:
    rows = rows_of(write(tmp_path, {
        "annotations/captions_train2014.json": coco("train", 1),
        "annotations/captions_val2014.json": coco("val", 1),  # ids of another file: no clash
        "annotations/instances_val2014.json": '{"images": [], "annotations": [{"bbox": 1}]}',
        **{f"{name}2014/{n:012d}.png": picture(n) for name in ("train", "val") for n in (1, 2)},
    }), "coco")  # fmt: skip
    assert [row.id for row in rows] == ["1", "2", "captions_val2014-1", "captions_val2014-2"]
    assert [row.captions for row in rows[:2]] == [("train 0", "train 1"), ("train 2",)]
    assert [row.split for row in rows] == ["train", "train", "validation", "validation"]
    assert {row.licence for row in rows} == {"CC BY 2.0"}
    assert all(map(opens, rows))


def test_karpathy_s_coco(tmp_path: Path) -> None:
    images = [
        {"filename": f"{n}.png", "filepath": "val2014", "split": split, "cocoid": n,
         "sentences": [{"raw": f"Sentence {n}."}, {"raw": "Another."}]}
        for n, split in enumerate(("train", "restval", "val", "test"))
    ]  # fmt: skip
    rows = rows_of(write(tmp_path, {
        "dataset_coco.json": json.dumps({"images": images, "dataset": "coco"}),
        **{f"val2014/{n}.png": picture(n) for n in range(4)},
    }), "coco")  # fmt: skip
    assert [row.split for row in rows] == ["train", "train", "validation", "test"]
    assert rows[2].captions == ("Sentence 2.", "Another.")
    assert all(map(opens, rows))


# ---- tables and folders --------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_tables_of_every_dialect(tmp_path: Path, mark: str, bom: str) -> None:
    text = f'{bom} id{mark} image {mark}caption\n\na{mark}a.png{mark}"one {mark} ""two""\nthree"\n'
    rows = rows_of(write(tmp_path, {"x.csv": text, "a.png": picture()}) / "x.csv", "table")
    assert [(row.id, row.captions) for row in rows] == [("a", (f'one {mark} "two"\nthree',))]
    assert opens(rows[0])


def test_rows_that_are_too_short_or_too_long(tmp_path: Path) -> None:
    text = "image,caption,split\na.png\nb.png,words\nc.png,words,train,and,more\n"
    rows = rows_of(write(tmp_path, {"x.csv": text}) / "x.csv", "table")
    assert [row.captions for row in rows] == [(), ("words",), ("words",)]
    assert [row.split for row in rows] == [None, None, "train"]


def test_jsonl_with_several_captions_and_everything_else(tmp_path: Path) -> None:
    line = {"image": "a", "captions": ["one", "two"], "patient_id": 7, "license": "CC0",
            "cuis": ["C1", "C2"], "keywords": "x; y", "url": "https://example.org"}  # fmt: skip
    write(tmp_path, {"x.jsonl": json.dumps(line), "images/a.png": picture()})
    (row,) = rows_of(tmp_path, "table")
    assert (row.captions, row.group, row.licence, row.concepts, row.keywords, row.source) == (
        ("one", "two"), "7", "CC0", ("C1", "C2"), ("x", "y"), "https://example.org",
    )  # fmt: skip
    assert opens(row)


def test_columns_that_are_told(tmp_path: Path) -> None:
    write(tmp_path, {"x.tsv": "Bild\tBefund\tNr\na.png\tunauffällig\t1\n", "a.png": picture()})
    columns = {"image": "Bild", "caption": "Befund", "id": "Nr"}
    (row,) = rows_of(tmp_path / "x.tsv", "table", columns=columns)
    assert (row.id, row.captions, opens(row)) == ("1", ("unauffällig",), True)
    with pytest.raises(DataError, match="no column 'Patient'"):
        rows_of(tmp_path / "x.tsv", "table", columns=columns | {"group": "Patient"})
    with pytest.raises(DataError, match="--image-column"):
        rows_of(tmp_path / "x.tsv", "table")


def test_a_table_per_split(tmp_path: Path) -> None:
    for name in ("train", "val", "my_test"):
        write(tmp_path, {f"{name}.csv": f"image,caption\n{name}.png,words\n"})
    assert [row.split for row in rows_of(tmp_path, "table")] == ["test", "train", "validation"]
    write(tmp_path, {"notes.csv": "image,caption\nx.png,y\n"})
    with pytest.raises(DataError, match=r"notes\.csv.*\n.*one per split"):
        rows_of(tmp_path, "table")


def test_hugging_face_s_image_folders(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write(tmp_path / split, {
            "metadata.jsonl": json.dumps({"file_name": f"{split}.png", "text": "words"}),
            f"{split}.png": picture(),
        })  # fmt: skip
    rows = rows_of(tmp_path, "table")
    assert [row.split for row in rows] == ["train", "validation"]
    assert all(map(opens, rows))


@pytest.mark.parametrize("value", ["holdout", "3"])
def test_an_unknown_split_is_no_guess(tmp_path: Path, value: str) -> None:
    write(tmp_path, {"x.csv": f"image,caption,split\na.png,words,{value}\n"})
    with pytest.raises(DataError, match="unknown split"):
        rows_of(tmp_path, "table")


@pytest.mark.parametrize(
    "data",
    [b"image,caption\n\xff\xfe,x\n", b'image,caption\na.png,"x\x00y"\n' * 2 + b"\xe9"],
)
def test_a_table_that_is_not_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"UTF-8"):
        list(read_rows(write(tmp_path, {"x.csv": data}) / "x.csv"))


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), st.sampled_from(",;\t|"))
@settings(deadline=None, max_examples=60)
def test_tables_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], mark: str
) -> None:
    path = tmp_path_factory.mktemp("table") / "x.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=mark)
        writer.writerows([("id", "caption"), *rows])
    assert [(row["id"], row["caption"]) for row in read_rows(path)] == rows


def test_a_folder_of_images_with_texts(tmp_path: Path) -> None:
    write(tmp_path, {
        "b.png": picture(), "b.txt": "\ufeffWörter", "val/a.jpg": picture(0, "JPEG"),
        "val/a.caption": "words", "train/deep/c.png": picture(), "d.png": picture(), "n.txt": "x",
        "e.png": picture(), "e.jpg": picture(0, "JPEG"), "e.txt": "same name", "f.png": picture(),
        "f.txt": b"\xff",
    })  # fmt: skip
    rows = {row.id: row for row in rows_of(tmp_path, "folder")}
    assert list(rows) == ["b", "d", "e.jpg", "e.png", "f", "train/deep/c", "val/a"]
    assert rows["b"].captions == ("Wörter",)
    assert rows["val/a"].captions == ("words",)
    assert rows["d"].captions == rows["f"].captions == ()
    assert [rows[name].split for name in ("b", "train/deep/c", "val/a")] == [
        None, "train", "validation",
    ]  # fmt: skip


# ---- WebDataset ----------------------------------------------------------------------------------


def shard(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo(".")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_webdataset(tmp_path: Path) -> None:
    told = {"text": "From JSON.", "id": "own", "license": "CC0", "group": "g", "split": "test"}
    shard(tmp_path / "set-train-000000.tar", {
        "a/0.1/001.jpg": picture(1, "JPEG"), "a/0.1/001.txt": b"One.",
        "002.json": json.dumps(told).encode(), "002.png": picture(2), "002.cls": b"7",
        "003.png": picture(3), "004.txt": b"No image.",
    })  # fmt: skip
    shard(tmp_path / "set-val-000000.tar", {"005.seg.png": picture(5), "005.caption": b"Five."})
    rows = rows_of(tmp_path, "webdataset")
    assert [(row.id, row.captions, row.split) for row in rows] == [
        ("a/0.1/001", ("One.",), "train"), ("own", ("From JSON.",), "test"), ("003", (), "train"),
        ("004", ("No image.",), "train"), ("005", ("Five.",), "validation"),
    ]  # fmt: skip
    assert (rows[1].licence, rows[1].group) == ("CC0", "g")
    assert [opens(row) for row in rows] == [True, True, True, False, True]
    assert isinstance(rows[0].image, SliceRef)
    assert rows[0].image.open()[1] == picture(1, "JPEG")
    assert len(rows_of(tmp_path / "set-val-000000.tar", "webdataset")) == 1


def test_a_torn_shard(tmp_path: Path) -> None:
    members = {f"{n}.{end}": picture(n) for n in range(9) for end in ("png", "txt")}
    path = shard(tmp_path / "x.tar", members)
    whole = path.read_bytes()
    for length in (6000, 6144, 5632, 5700):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="cannot be read as a shard"):
            list(read_source(path, format="webdataset"))
    gone = SliceRef(path, "x", 10**6, 50)
    with pytest.raises(ImageError, match="ends before"):
        gone.open()


# ---- recognising ---------------------------------------------------------------------------------


def test_splits_by_name() -> None:
    assert [split_name(x) for x in ("Train", "VAL", "dev", "testing", "x", None)] == [
        "train", "validation", "validation", "test", None, None,
    ]  # fmt: skip
    assert split_in("captions_val2014") == "validation"
    assert split_in("latest_contraindication") is None


def test_nothing_to_recognise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="source not found"):
        detect_format(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="an empty folder"):
        detect_format(tmp_path / "empty")
    write(tmp_path, {"x.pdf": b"%PDF", "y.json": b"{}", "torn.json": b"{", "x.tar": b"no"})
    for name in ("x.pdf", "y.json", "torn.json", "x.tar"):
        with pytest.raises(DataError, match="no data set recognised"):
            detect_format(tmp_path / name)
    with pytest.raises(DataError, match="use roco,"):
        read_source(tmp_path, format="rocco")


@pytest.mark.parametrize("make", [roco, rocov2])
def test_every_format_says_what_it_is(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert detect_format(make(tmp_path)) in FORMATS


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """80,000 rows must not ask the disk a dozen times each."""
    write(tmp_path, {f"images/{n}.png": picture() for n in range(50)})
    finder = ImageFinder(tmp_path, tmp_path / "images")
    assert isinstance(finder.find("1"), FileRef)
    asked = []
    monkeypatch.setattr(Path, "stat", lambda self, **_: asked.append(self))
    found = [finder.find(str(n)) for n in range(50)]
    assert not asked
    assert [image.path for image in found] == [tmp_path / "images" / f"{n}.png" for n in range(50)]
