"""ROCO v1's real text files, against counts that another, simpler reading makes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from medblip.data.readers import detect_format, read_source


@pytest.mark.parametrize(("split", "count"), [("validation", 8180), ("test", 8179)])
def test_every_caption_with_its_concepts_keywords_and_licence(
    shared_data: Path, split: str, count: int
) -> None:
    folder = shared_data / "roco-v1" / split
    rows = list(read_source(folder))
    assert detect_format(folder) == "roco"
    assert len(rows) == len({row.id for row in rows}) == count
    assert {row.split for row in rows} == {split}
    text = {name: (folder / "radiology" / f"{name}.txt").read_bytes().decode() for name in
            ("captions", "cuis", "keywords", "licences")}  # fmt: skip
    assert text["captions"] == "".join(f"{row.id}\t{row.captions[0]}\n" for row in rows)
    by_id = {row.id: row for row in rows}
    cuis = re.findall(r"\bC\d{7}\b", text["cuis"])
    assert sum(len(row.concepts) for row in rows) == len(cuis) > 100_000 * 0.5
    assert set(re.findall(r"^\S+", text["cuis"], re.M)) >= {r.id for r in rows if r.concepts}
    for line in text["keywords"].split("\n")[:-1]:
        name, _, rest = line.partition("\t")
        assert list(by_id[name].keywords) == rest.split()
    for line in csv.reader(text["licences"].splitlines()[1:]):
        row = by_id[line[0]]
        assert (row.licence or "", row.image.path.name) == (line[2], line[1])
        assert row.group == row.source == line[1].split("_")[0]
