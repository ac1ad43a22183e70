"""The reader: which files, which captions, which patient."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medblip.data.raw import Raw, ReadOptions
from medblip.data.readers import dicom
from medblip.errors import DataError

Make = Callable[..., Path]


def read(source: Path, captions: Path | None = None, **options: Any) -> list[Raw]:
    return list(dicom.read(source, ReadOptions(captions=captions, **options)))


def captions_of(rows: list[Raw]) -> dict[str, tuple[str, ...]]:
    return {row.id: row.captions for row in rows}


@pytest.fixture
def folder(make: Make, tmp_path: Path) -> Path:
    """Two patients: one of two studies, one of one."""
    for name, patient, study, accession in (
        ("a/1/x.dcm", "P-one", "1.2.77.1", "AC1"),
        ("a/1/y.dcm", "P-one", "1.2.77.1", "AC1"),
        ("a/2/z.dcm", "P-one", "1.2.77.2", "AC2"),
        ("b/w.dcm", "P-two", "1.2.77.3", "AC3"),
    ):
        sop = f"1.2.99.{ord(name[-5])}"
        make(
            name=f"s/{name}", PatientID=patient, StudyInstanceUID=study, SOPInstanceUID=sop,
            AccessionNumber=accession, Modality="CR",
        )  # fmt: skip
    return tmp_path / "s"


def test_rows_are_in_order_with_patients_under_pseudonyms(folder: Path) -> None:
    rows = read(folder)
    assert [row.id for row in rows] == ["a/1/x", "a/1/y", "a/2/z", "b/w"]
    assert [row.image.label for row in rows] == ["a/1/x.dcm", "a/1/y.dcm", "a/2/z.dcm", "b/w.dcm"]
    assert [row.group for row in rows] == ["patient-00001"] * 3 + ["patient-00002"]
    assert {row.split for row in rows} == {None}
    assert rows[0].facts == {"dicom": {"modality": "CR"}}
    assert rows == read(folder)


def test_a_row_travels_and_opens(folder: Path) -> None:
    row = read(folder)[0]
    image = pickle.loads(pickle.dumps(row.image))
    picture, data = image.open()
    assert (picture.mode, picture.size, image.suffix) == ("L", (4, 4), ".png")
    assert data.startswith(b"\x89PNG")
    before = image.stamp()
    image.path.write_bytes(image.path.read_bytes() + b"\0")
    assert image.stamp() != before
    assert image.stamp() != read(folder, window="lung")[0].image.stamp()


def test_files_are_told_by_suffix_or_by_their_beginning(make: Make, tmp_path: Path) -> None:
    source = tmp_path / "s"
    for name in ("a.dcm", "b.DCM", "c.ima", "d.dicom", "e", "1.2.3.4", "sub/IM_0001", "f.txt.bak"):
        make(name=f"s/{name}")
    make(name="s/no_preamble.dcm", syntax=None)
    for name in ("DICOMDIR", "dicomdir", "._a.dcm", ".hidden.dcm", "x.png", "notes.txt"):
        make(name=f"s/{name}")
    (source / "other").write_text("no DICOM at all")
    (source / "folder.dcm").mkdir()
    found = {row.image.path.name for row in read(source)}
    assert found == {
        "a.dcm", "b.DCM", "c.ima", "d.dicom", "e", "1.2.3.4", "IM_0001", "f.txt.bak",
        "no_preamble.dcm",
    }  # fmt: skip


def test_what_matches(make: Make, tmp_path: Path) -> None:
    make(name="yes/deep/down/x")
    assert dicom.matches(tmp_path / "yes")
    assert dicom.matches(tmp_path / "yes/deep/down/x")
    for name, text in {"no/x.png": "", "no/y.csv": "a,b", "no/z": "text"}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert not dicom.matches(path)
    assert not dicom.matches(tmp_path / "no")
    with pytest.raises(DataError, match="no DICOM file"):
        read(tmp_path / "no")


def test_a_single_file(make: Make) -> None:
    path = make(name="one.dcm")
    path.with_suffix(".txt").write_text("Its report.", encoding="utf-8")
    (row,) = read(path)
    assert (row.id, row.captions) == ("one", ("Its report.",))


def test_two_files_of_one_stem_keep_their_suffixes(make: Make, tmp_path: Path) -> None:
    make(name="s/x.dcm")
    make(name="s/x.ima")
    assert [row.id for row in read(tmp_path / "s")] == ["x.dcm", "x.ima"]


def test_reports_beside_the_images(folder: Path) -> None:
    (folder / "a/1/x.txt").write_text("Own.", encoding="utf-8")
    (folder / "a/1/y.dcm.txt").write_text("not looked for", encoding="utf-8")
    (folder / "a/1.txt").write_text("\ufeffOf the study, as MIMIC-CXR has it.\n", encoding="utf-8")
    (folder / "a/2/report.txt").write_text("FINDINGS: none.\nIMPRESSION: none.", encoding="utf-8")
    (folder / "b/w.txt").write_bytes(b"caf\xe9")
    assert captions_of(read(folder)) == {
        "a/1/x": ("Own.",),
        "a/1/y": ("Of the study, as MIMIC-CXR has it.\n",),
        "a/2/z": ("FINDINGS: none.\nIMPRESSION: none.",),
        "b/w": (),  # not UTF-8: the stage counts it as without a caption
    }


def test_a_text_beside_the_source_is_none_of_its_reports(folder: Path) -> None:
    (folder.parent / "s.txt").write_text("about the whole data set")
    assert not any(row.captions for row in read(folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,caption\na/1/x.dcm,A\nb/w,B\n", {"a/1/x": ("A",), "b/w": ("B",)}),
        ("file,report\ny.dcm,A\nnone.dcm,B\n", {"a/1/y": ("A",)}),
        ("dicom_id;caption\nz;A\nz;B\n", {"a/2/z": ("A", "B")}),
        ("SOPInstanceUID,caption\n1.2.99.120,A\n", {"a/1/x": ("A",)}),
        (
            "study_instance_uid,text\n1.2.77.1,A\n1.2.77.3,B\n",
            {"a/1/x": ("A",), "a/1/y": ("A",), "b/w": ("B",)},
        ),
        ("Accession Number,caption\nAC2,A\n", {"a/2/z": ("A",)}),
        (
            "file,AccessionNumber,caption\nx.dcm,AC1,own\n,AC1,of the study\n",
            {"a/1/x": ("own",), "a/1/y": ("own", "of the study")},
        ),
    ],
)
def test_captions_from_a_table(
    folder: Path, tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]]
) -> None:
    table = tmp_path / "captions.csv"
    table.write_text(text)
    (folder / "b/w.txt").write_text("a table excludes texts")
    found = captions_of(read(folder, table))
    assert {name: captions for name, captions in found.items() if captions} == expected


def test_captions_from_jsonl_with_told_columns(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.jsonl"
    table.write_text(json.dumps({"bild": "a\\1\\x.dcm", "befund": ["eins", "zwei"]}) + "\n")
    rows = read(folder, table, columns={"image": "bild", "caption": "befund"})
    assert captions_of(rows)["a/1/x"] == ("eins", "zwei")


def test_a_name_that_two_files_have_matches_neither(make: Make, tmp_path: Path) -> None:
    make(name="s/a/x.dcm")
    make(name="s/b/x.dcm")
    make(name="s/c/y.dcm")
    table = tmp_path / "captions.csv"
    table.write_text("file,caption\nx.dcm,whose?\ny.dcm,mine\nb/x.dcm,of b\n")
    found = captions_of(read(tmp_path / "s", table))
    assert found == {"a/x": (), "b/x": ("of b",), "c/y": ("mine",)}


def test_tables_that_cannot_be_meant(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    for text, words in {
        "a,b\n1,2\n": "not a table of captions for DICOM files",
        "file,caption\nq.dcm,A\n": "no DICOM file of",
        "caption\nA\n": "not a table of captions",
    }.items():
        table.write_text(text)
        with pytest.raises(DataError, match=words):
            read(folder, table)
    with pytest.raises(DataError, match="no such file"):
        read(folder, tmp_path / "absent.csv")
    with pytest.raises(DataError, match="unknown CT window"):
        read(folder, window="lungs")


def test_without_a_patient_the_study_counts_then_the_folder(make: Make, tmp_path: Path) -> None:
    make(name="s/1.dcm", StudyInstanceUID="1.2.55.1")
    make(name="s/2.dcm", StudyInstanceUID="1.2.55.1")
    make(name="s/p/3.dcm")
    make(name="s/p/4.dcm", PatientID="")
    make(name="s/5.dcm")
    (tmp_path / "s/6.dcm").write_bytes(b"junk")
    groups = [row.group for row in read(tmp_path / "s")]
    assert groups == [
        "patient-00001", "patient-00001", None, None, "patient-00002", "patient-00002",
    ]  # fmt: skip


def test_a_name_with_a_header_value_becomes_a_number(make: Make, tmp_path: Path) -> None:
    make(name="s/a.dcm", PatientID="P77123")
    make(name="s/P77123.dcm", PatientID="P77123")
    rows = read(tmp_path / "s")
    assert [row.id for row in rows] == ["image-00001", "a"]
    assert [row.image.label for row in rows] == ["image-00001", "a.dcm"]


def test_reading_stops_when_nobody_listens(folder: Path) -> None:
    rows = dicom.read(folder, ReadOptions())
    next(rows)
    rows.close()  # type: ignore[attr-defined]
