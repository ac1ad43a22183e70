"""The file that the challenge takes: what is written passes the checks, what would not is named."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medblip.errors import DataError, MedblipError, RunError
from medblip.stages.submit import submit, validate_submission

IDS = ["img_0", "img_1", "img_2", "img_3"]
CAPTIONS = {
    "img_2": 'An "arrow" sign, left',
    "img_0": "  Chest X-ray:\nno effusion.\u2028Follow-up ",
    "img_1": "",
    "img_3": "Größe 3,5\u00a0cm\x00",
}


def write_jsonl(path: Path, captions: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.dumps({"id": name, "caption": text}) for name, text in captions.items()]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "p.jsonl", CAPTIONS)


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    path = tmp_path / "ids.csv"
    path.write_text("ID,Caption\n" + "".join(f"{name},\n" for name in IDS))
    return path


def accepted(text: str, ids: list[str]) -> dict[str, str]:
    """Read as the challenge does: lines and rows in step, ids in order, quotes around commas."""
    lines = text.splitlines()
    assert all(line.strip() for line in lines)
    reader = csv.reader(io.StringIO(text, newline=""))
    assert next(reader) == ["ID", "Caption"]
    rows = list(reader)
    assert len(rows) == len(lines) - 1
    assert [row[0] for row in rows] == ids
    for line, row in zip(lines[1:], rows, strict=True):
        assert len(row) == 2
        assert row[1] == row[1].strip()
        rest = line.split(",", 1)[1]
        assert "," not in rest or (rest[0] == rest[-1] == '"')
    return {name: caption for name, caption in rows}


def test_what_is_written_is_accepted(predictions: Path, ids: Path, tmp_path: Path) -> None:
    done = submit(predictions, ids=ids, out=tmp_path / "s.csv")
    text = (tmp_path / "s.csv").read_bytes().decode("utf-8")
    assert accepted(text, IDS) == {
        "img_0": "Chest X-ray: no effusion. Follow-up",
        "img_1": "",
        "img_2": 'An "arrow" sign, left',
        "img_3": "Größe 3,5 cm",
    }
    assert (done.n, done.empty, done.cleaned, done.year) == (4, 1, 2, 2026)
    assert done.ids_file == str(ids)
    checked = validate_submission(tmp_path / "s.csv", ids)
    assert (checked.n, checked.empty) == (4, 1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_text_makes_a_file_that_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    names = [f"i{number}" for number in range(len(texts))]
    source = write_jsonl(folder / "p.jsonl", dict(zip(names, texts, strict=True)))
    submit(source, out=folder / "s.csv")
    read = accepted((folder / "s.csv").read_bytes().decode("utf-8"), names)
    for name, text in zip(names, texts, strict=True):
        assert (
            read[name].split()
            == "".join(c if c.isprintable() or ord(c) > 159 else " " for c in text).split()
        )


def test_a_zip_for_the_platform(predictions: Path, ids: Path, tmp_path: Path) -> None:
    submit(predictions, ids=ids, out=tmp_path / "s.csv")
    submit(predictions, ids=ids, out=tmp_path / "s.zip")
    submit(predictions, ids=ids, out=tmp_path / "t.zip")
    with zipfile.ZipFile(tmp_path / "s.zip") as archive:
        assert archive.namelist() == ["submission.csv"]
        assert archive.read("submission.csv") == (tmp_path / "s.csv").read_bytes()
    assert (tmp_path / "s.zip").read_bytes() == (tmp_path / "t.zip").read_bytes()
    assert validate_submission(tmp_path / "s.zip", ids).n == 4
    with zipfile.ZipFile(tmp_path / "s.zip", "a") as archive:
        archive.writestr("notes.txt", "x")
    with pytest.raises(DataError, match=r"notes\.txt"):
        validate_submission(tmp_path / "s.zip", ids)


@pytest.mark.parametrize("kind", ["csv", "bare", "jsonl", "manifest"])
def test_ids_from_several_files(predictions: Path, tmp_path: Path, kind: str) -> None:
    if kind == "manifest":
        rows = [{"id": name, "split": "test"} for name in IDS] + [{"id": "x", "split": "train"}]
        source = tmp_path / "data"
        source.mkdir()
        (source / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        text = {
            "csv": "\ufeffid,caption\r\n" + "\r\n".join(f"{name},words" for name in IDS),
            "bare": "\n".join(IDS),
            "jsonl": "\n".join(json.dumps({"id": name}) for name in IDS),
        }[kind]
        source = tmp_path / ("ids.jsonl" if kind == "jsonl" else "ids.txt")
        source.write_text(text, encoding="utf-8")
    submit(predictions, ids=source, out=tmp_path / "s.csv")
    accepted((tmp_path / "s.csv").read_text(encoding="utf-8"), IDS)


def test_captions_from_a_run_and_from_a_table(tmp_path: Path, ids: Path) -> None:
    run = tmp_path / "run"
    write_jsonl(run / "predictions" / "test.jsonl", CAPTIONS)
    submit(run, ids=ids, out=tmp_path / "a.csv", year=2025)
    table = tmp_path / "mine.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("score", "Caption", "ID"), *((1, c, i) for i, c in CAPTIONS.items())])
    submit(table, ids=ids, out=tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with pytest.raises(RunError, match="--split validation"):
        submit(run, ids=ids, split="validation", out=tmp_path / "c.csv")


def test_the_ids_of_the_data_that_a_run_captioned(tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    write_jsonl(run / "predictions" / "test.jsonl", CAPTIONS)
    data.mkdir()
    rows = [{"id": name, "split": "test"} for name in [*IDS, "img_4"]]
    (data / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (run / "config.json").write_text(json.dumps({"data": {"root": str(data)}}))
    with pytest.raises(DataError, match=r"1 images without a caption \(img_4\)"):
        submit(run, out=tmp_path / "s.csv")
    (data / "manifest.jsonl").unlink()
    assert submit(run, out=tmp_path / "s.csv").ids_file is None


def test_ids_that_differ_are_counted_and_nothing_is_written(
    predictions: Path, tmp_path: Path
) -> None:
    source = tmp_path / "ids.txt"
    source.write_text("\n".join(["img_0", "n1", "n2", "n3", "n4"]))
    with pytest.raises(DataError) as caught:
        submit(predictions, ids=source, out=tmp_path / "s.csv")
    assert "4 images without a caption (n1, n2, n3, ...)" in str(caught.value)
    assert "3 unknown ids (img_2, img_1, img_3)" in str(caught.value)
    assert not list(tmp_path.glob("s.csv*"))


def test_a_failed_check_leaves_the_old_file(tmp_path: Path, ids: Path) -> None:
    long = write_jsonl(tmp_path / "p.jsonl", dict.fromkeys(IDS, "word " * 40_000))
    (tmp_path / "s.csv").write_text("old")
    with pytest.raises(RunError, match="--force"):
        submit(long, ids=ids, out=tmp_path / "s.csv")
    with pytest.raises(DataError, match="not CSV: field larger than field limit"):
        submit(long, ids=ids, out=tmp_path / "s.csv", force=True)
    assert (tmp_path / "s.csv").read_text() == "old"
    assert not (tmp_path / "s.csv.partial").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "first line 'nothing'"),
        ("img_0,a\n", "first line 'img_0,a'"),
        ("id,caption\nimg_0,a\n", "first line 'id,caption'"),
        ("\ufeffID,Caption\nimg_0,a\n", "byte order mark"),
        ("ID,Caption\nimg_0,a\nimg_1,b\n\nimg_2,c\nimg_3,d\n", "1 blank lines (line 4)"),
        ('ID,Caption\nimg_0,"a\nb"\nimg_1,b\n', "1 captions of several lines (img_0)"),
        ("ID,Caption\nimg_0,a\x85\nimg_1,b\n", "1 captions of several lines (img_0)"),
        ("ID,Caption\nimg_0,a\nimg_1\nimg_2,c,d\n", "2 rows not of 2 columns (img_1, img_2)"),
        ('ID,Caption\n"img_0",a"\n"img,1",b\n', "1 captions with a comma but no quotes (img,1)"),
        ('ID,Caption\nimg_0,"a,b"c\n', "1 captions with a comma but no quotes (img_0)"),
        ("ID,Caption\nimg_0,a\nimg_0,b\nimg_1,c\nimg_2,d\nimg_3,e\n", "1 ids twice (img_0)"),
        ("ID,Caption\nimg_0,a\nother,b\n", "3 images without a caption (img_1, img_2, img_3)"),
        ("ID,Caption\nimg_0,a\nother,b\n", "1 unknown ids (other)"),
        ("ID,Caption\nimg_0,a\n img_1,b\n", "1 ids with blanks, commas, quotes or line breaks"),
        ("ID,Caption\nimg_0,a \nimg_1,b\n", "1 captions with blanks around (img_0)"),
        ("ID,Caption\nimg_0,a\nimg_2,b\nimg_1,c\nimg_3,d\n", "row 2: img_2 instead of img_1"),
    ],
)
def test_files_that_the_challenge_refuses(
    tmp_path: Path, ids: Path, text: str, message: str
) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(text.encode("utf-8"))
    with pytest.raises(DataError) as caught:
        validate_submission(path, ids)
    assert message in str(caught.value)
    assert "would be refused" in str(caught.value)


def test_a_file_in_another_encoding_or_none(tmp_path: Path, ids: Path) -> None:
    (tmp_path / "s.csv").write_bytes("ID,Caption\nimg_0,Größe\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8: byte 0xf6"):
        validate_submission(tmp_path / "s.csv", ids)
    for name in ("gone.csv", "gone.zip"):
        with pytest.raises(DataError, match="cannot be read"):
            validate_submission(tmp_path / name, ids)
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="cannot be read"):
        validate_submission(tmp_path / "torn.zip", ids)


def test_a_file_without_ids_is_checked_alone(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("ID,Caption\nb,one\na,two\n")
    assert validate_submission(tmp_path / "s.csv").ids_file is None
    (tmp_path / "s.csv").write_text("ID,Caption\nb,one\nb,two\n")
    with pytest.raises(DataError, match=r"1 ids twice \(b\)"):
        validate_submission(tmp_path / "s.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "who,text\na,b\n", "no column id"),
        ("p.csv", "id,said\na,b\n", "no column caption"),
        ("p.csv", "id,caption\na\n", "1 rows (a)"),
        ("p.csv", "id,caption\na,b\na,c\n", "1 rows (a)"),
        ("p.csv", "", "0 rows"),
        ("p.jsonl", '{"id": "a,b", "caption": "c"}', "ids with blanks, commas"),
    ],
)
def test_captions_that_cannot_be_submitted(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(MedblipError) as caught:
        submit(tmp_path / name, out=tmp_path / "s.csv")
    assert message in str(caught.value)
    assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("i.csv", "ID,Caption\n", "no ids"),
        ("i.jsonl", '{"id": "a", "split": "train"}', "none of the test split"),
        ("i.csv", "ID\na\na\n", "1 ids twice"),
    ],
)
def test_lists_of_ids_that_are_none(
    predictions: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        submit(predictions, ids=tmp_path / name, out=tmp_path / "s.csv")
    assert message in str(caught.value)


def test_another_year(predictions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="2025 or 2026"):
        submit(predictions, out=tmp_path / "s.csv", year=2022)
