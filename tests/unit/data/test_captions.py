"""Tables of captions: what is read, and what is refused with a count and the first names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medblip.data.captions import align, read_captions, read_references
from medblip.errors import DataError, MetricError

ROWS = [{"id": "a", "caption": "CT of the chest"}, {"id": "b", "caption": "Knee, MRI\nT2"}]


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS)),
        ("c.json", json.dumps(ROWS)),
        ("c.json", json.dumps([{"image_id": r["id"], "caption": r["caption"]} for r in ROWS])),
        ("c.csv", 'id,caption\na,CT of the chest\nb,"Knee, MRI\nT2"\n'),
        ("c.csv", '\ufeffID,Caption\r\na,CT of the chest\r\nb,"Knee, MRI\nT2"\r\n'),
        ("c.tsv", 'id\tcaption\na\tCT of the chest\nb\t"Knee, MRI\nT2"\n'),
    ],
)
def test_the_same_captions_from_every_kind_of_table(tmp_path: Path, name: str, text: str) -> None:
    found = read_captions(write(tmp_path / name, text))
    assert found == {"a": "CT of the chest", "b": "Knee, MRI\nT2"}


def test_several_references_and_groups(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "captions": ["CT", "a CT"], "group": "p1"},
        {"id": 2, "caption": "MRI", "group": "p1"},
        {"id": 3, "caption": "MRI of the knee"},
    ]
    path = write(tmp_path / "r.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    found = read_references(path)
    assert found.ids == ("1", "2", "3")
    assert found.captions == (("CT", "a CT"), ("MRI",), ("MRI of the knee",))
    assert found.groups is not None
    assert found.groups[0] == found.groups[1] != found.groups[2]
    with pytest.raises(DataError, match="more than one caption"):
        read_captions(path)


def test_coco_s_own_references(tmp_path: Path) -> None:
    notes = [{"id": n, "image_id": n // 2, "caption": f"text {n}"} for n in range(3)]
    path = tmp_path / "captions_val2014.json"
    path.write_text(json.dumps({"images": [{"id": 0}, {"id": 1}], "annotations": notes}))
    references = read_references(path)
    assert references.ids == ("0", "1")
    assert references.captions == (("text 0", "text 1"), ("text 2",))
    path.write_text(json.dumps({"annotations": [{"image_id": 1, "bbox": []}]}))
    with pytest.raises(DataError, match="no column"):
        read_references(path)


def test_an_empty_text_is_a_caption_but_no_reference(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "id,caption\na,\nb,MRI\n")
    assert read_captions(path) == {"a": "", "b": "MRI"}
    with pytest.raises(DataError, match=r"empty references\n.*1 images \(a\)"):
        read_references(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", '{"id": "a"}\n', "no column caption"),
        ("c.csv", "name,text_of\nx,y\n", "no column id and no column caption"),
        ("c.csv", "a,CT\nb,MRI\n", "no column"),
        ("c.csv", "", "0 rows"),
        ("c.csv", "id,caption\na,CT, of the chest\n", "more cells"),
        ("c.csv", "id,caption\na\nb,MRI\nc\n", r"2 rows \(a, c\)"),
        ("c.jsonl", '{"id": "a", "caption": "x"}\n{"id": "b", "caption": null}\n', r"1 rows \(b\)"),
        ("c.jsonl", '{"id": "a", "caption": "x"}\n{"id": "b"}\n', r"1 rows \(b\)"),
        ("c.jsonl", '{"id": "a", "caption": "x"}\n{"caption": "y"}\n', r"1 rows \(row 2\)"),
        ("c.jsonl", '{"id": "a", "caption": 3}\n', r"without a caption\n.*1 rows \(a\)"),
        ("c.jsonl", '{"id": "a", "caption": "x"}\n' * 3, r"more than once\n.*1 rows \(a\)"),
        (
            "c.csv",
            "id,caption\n" + "".join(f"{i % 5},x\n" for i in range(10)),
            r"5 rows \(0, 1, 2, \.\.\.\)",
        ),
        ("c.jsonl", b'{"id": "a", "caption": "K\xf6rper"}\n', "not UTF-8"),
        ("c.csv", b"id,caption\na,K\xf6rper\n", "not UTF-8.*\n.*0xf6 at offset"),
        ("c.json", b'["K\xf6rper"]', "not UTF-8"),
        ("c.json", '{"a": "CT"}', "not an array"),
        ("c.json", "[1, 2]", "not an array"),
        ("c.json", "[", "no JSON"),
        ("c.jsonl", "CT of the chest\n", "not JSON"),
        ("c.txt", "CT of the chest\n", "ending in .txt"),
    ],
)
def test_bad_tables_are_counted_and_named(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_captions(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.csv", "absent.json"])
def test_an_absent_table(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="not found"):
        read_captions(tmp_path / name)


def test_ids_that_do_not_match() -> None:
    captions = dict.fromkeys("abcdefg", "x")
    assert align(captions, list("gfedcba")) == ["x"] * 7
    with pytest.raises(MetricError) as caught:
        align(captions, ["a", "b", "1", "2", "3", "4"])
    message = str(caught.value)
    assert "4 images without a caption (1, 2, 3, ...)" in message
    assert "5 unknown ids (c, d, e, ...)" in message
    assert "one caption for each of the 6 images" in message


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.jsonl"):
        read_references(tmp_path)
