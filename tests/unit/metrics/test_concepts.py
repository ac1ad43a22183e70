"""Concepts learned from ROCO's layout: made-up captions and codes, then the real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medblip.errors import DataError, MetricError, RunError
from medblip.metrics.concepts import (
    ConceptTable,
    concept_statistics,
    fit_concepts,
    load_concepts,
)
from medblip.metrics.concepts.rules import learn, phrases_of

#: What the made-up linker finds; CUI-like codes that mean nothing.
WORDS = {"lung": ["X1"], "lungs": ["X1"], "left lung": ["X2"], "knee": ["X3", "X4"]}


def write_roco(folder: Path, rows: list[tuple[str, str, list[str]]]) -> None:
    """Write captions and concepts as ROCO does: a blank before the caption, an empty first cell."""
    folder.mkdir(parents=True)
    captions = "".join(f"{name}\t {caption}\n" for name, caption, _ in rows)
    cuis = "".join(f"{name}\t" + "".join(f"\t{cui}" for cui in c) + "\n" for name, _, c in rows)
    (folder / "captions.txt").write_text(captions, encoding="utf-8")
    (folder / "cuis.txt").write_text(cuis, encoding="utf-8")


def made_up(prefix: str, count: int) -> list[tuple[str, str, list[str]]]:
    kinds = [
        ("A scan of the left lung", ["X1", "X2"]),
        ("Both lungs, \u2028 seen twice", ["X1"]),
        ("The knees and a knee", ["X3", "X4"]),
        ("Nothing to see", []),
        *([("A scan of something else", [])] * 9),
    ]
    return [(f"{prefix}_{i}", *kinds[i % len(kinds)]) for i in range(count)]


@pytest.fixture
def roco(tmp_path: Path) -> Path:
    write_roco(tmp_path / "roco" / "train" / "radiology", made_up("train", 240))
    write_roco(tmp_path / "roco" / "validation", made_up("val", 120))
    return tmp_path / "roco"


@pytest.fixture
def table(roco: Path, tmp_path: Path) -> ConceptTable:
    return fit_concepts(roco, out=tmp_path / "table.json")


def test_phrases() -> None:
    assert phrases_of("Lungs, CLASS: T1-knees") == {
        "lung", "class", "t1", "knee", "lung class", "class t1", "t1 knee", "lung class t1",
        "class t1 knee",
    }  # fmt: skip
    assert phrases_of("gas is") == {"gas", "is", "gas is"}  # short words keep their s
    assert phrases_of("...") == set()


def test_rules_by_hand() -> None:
    """20 captions: `a` 6 times, 5 of them with X (share .83, lift .83 / .3 < 3 for Y only)."""
    phrases = [{"a"}] * 6 + [{"b"}] * 14
    concepts = [{"X", "Y"}] * 5 + [set[str]()] + [{"Y"}] * 10 + [set[str]()] * 4
    order = np.random.default_rng(0).permutation(20)
    learned = learn([phrases[i] for i in order], [concepts[i] for i in order])
    assert learned.rules == {"a": frozenset({"X"})}
    assert learned.share <= 5 / 6


def test_settings_are_those_that_predict_best() -> None:
    """`noise` comes with X in 7 of 10 captions of its half, `sure` in all: .6 says too much."""
    phrases, concepts = [], []
    for i in range(400):
        phrases.append({"sure"} if i % 10 == 0 else {"noise"} if i % 10 == 1 else {"rest"})
        concepts.append({"X"} if i % 10 == 0 or (i % 10 == 1 and i % 100 < 70) else set[str]())
    order = np.random.default_rng(1).permutation(400)
    learned = learn([phrases[i] for i in order], [concepts[i] for i in order])
    assert learned.share == 0.6  # 2 x 68 / (80 + 68) beats 2 x 40 / (40 + 68)
    assert set(learned.rules) == {"sure", "noise"}
    assert learned.cross_validated == pytest.approx(136 / 148, abs=0.02)


def test_a_table_from_rocos_files(roco: Path, table: ConceptTable, tmp_path: Path) -> None:
    assert table.concepts("CT: LUNGS") == {"X1"}
    assert table.concepts("the left lung and the knee") == {"X1", "X2", "X3", "X4"}
    assert table.concepts("scan of nothing known") == set()
    assert (table.captions, table.splits) == (240, ("train",))
    assert table.cross_validated == 1
    assert set(table.sources) == {"train/captions.txt", "train/cuis.txt"}
    assert load_concepts(tmp_path / "table.json") == table
    assert load_concepts(tmp_path / "table.json").signature == table.signature
    both = fit_concepts(roco, splits=("train", "validation"), out=tmp_path / "both.json")
    assert both.captions == 360
    assert "fitted:train+validation|" in both.signature
    assert both.signature != table.signature


def test_a_split_is_not_scored_with_what_it_taught(table: ConceptTable) -> None:
    table.refuse_seen(["val_0", "val_1"])
    with pytest.raises(MetricError, match=r"2 of 3, e\.g\. train_0, train_9"):
        table.refuse_seen(["train_0", "val_0", "train_9"])
    table.refuse_seen(["train_0"], force=True)


def test_a_table_is_not_overwritten(roco: Path, table: ConceptTable, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="--force"):
        fit_concepts(roco, out=tmp_path / "table.json")
    assert fit_concepts(roco, out=tmp_path / "table.json", force=True) == table


def test_statistics_by_hand(table: ConceptTable) -> None:
    hypotheses = ["left lung", "knee", "nothing", "lung"]
    references = [["lung"], ["a knee"], ["nothing, too"], ["knee and left lung", "left lung"]]
    given = [{"X1"}, {"X3"}, set[str](), {"X9"}]
    found = concept_statistics(hypotheses, references, table, reference_concepts=given)
    # said 2, 2, 0, 1; of the references 1, 2, 0, and of the last image the better one: 2
    np.testing.assert_array_equal(
        found["roco-concepts"].values, [[1, 2, 1], [2, 2, 2], [0, 0, 0], [1, 1, 2]]
    )
    assert found["roco-concepts"].metric.names == (
        "roco-concepts-P", "roco-concepts-R", "roco-concepts-F1",
    )  # fmt: skip
    np.testing.assert_allclose(found["roco-concepts"].corpus(), [4 / 5, 4 / 5, 4 / 5])
    mean = found["roco-concepts-mean-F1"]
    np.testing.assert_allclose(mean.per_image()[:, 0], [2 / 3, 1, 1, 2 / 3])
    np.testing.assert_array_equal(
        found["roco-concepts-given"].values, [[1, 2, 1], [1, 2, 1], [0, 0, 0], [0, 1, 1]]
    )
    assert list(found) == [
        "roco-concepts", "roco-concepts-mean-F1",
        "roco-concepts-given", "roco-concepts-given-mean-F1",
    ]  # fmt: skip
    assert list(concept_statistics(hypotheses, references, table)) == list(found)[:2]
    assert mean.metric.signature == table.signature


@pytest.mark.parametrize(
    ("hypotheses", "references", "given"),
    [
        ([], [], None),
        (["a"], [["a"], ["b"]], None),
        (["a"], [[]], None),
        (["a"], [["a"]], [{"X1"}, {"X2"}]),
    ],
)
def test_lists_that_do_not_match(
    table: ConceptTable,
    hypotheses: list[str],
    references: list[list[str]],
    given: list[set[str]] | None,
) -> None:
    with pytest.raises(MetricError, match="do not belong together"):
        concept_statistics(hypotheses, references, table, reference_concepts=given)


def test_copies_of_roco_that_cannot_be_read(roco: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    with pytest.raises(DataError, match="of the test split"):
        fit_concepts(roco, splits=("test",), out=out)
    with pytest.raises(DataError, match="no such folder"):
        fit_concepts(tmp_path / "gone", out=out)
    file = roco / "validation" / "captions.txt"
    for content, message in [
        (b"", "no line"),
        (b"val_0 no tab\n", "1 lines without a tab"),
        (b"val_0\t \xff\n", "not UTF-8"),
        (b"val_0\t one caption\n", "no rule could be learned"),
    ]:
        file.write_bytes(content)
        with pytest.raises(DataError, match=message):
            fit_concepts(roco, splits=("validation",), out=out)
    assert not out.exists()


def test_files_that_are_no_table(table: ConceptTable, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    record = json.loads(path.read_text())
    for change in ({"kind": "other"}, {"rules": ["x"]}, {"seen": None}, {"schema_version": 99}):
        path.write_text(json.dumps(record | change))
        with pytest.raises(MetricError, match="no table of concepts"):
            load_concepts(path)
    path.write_text("{torn")
    with pytest.raises(MetricError, match="no table of concepts"):
        load_concepts(path)
    with pytest.raises(MetricError, match="no table of concepts"):
        load_concepts(tmp_path / "gone.json")


def test_rocos_own_concepts(shared_data: Path, tmp_path: Path) -> None:
    """Learned on validation, applied to the test captions: the figures of docs/metrics.md."""
    roco = shared_data / "roco-v1"
    table = fit_concepts(roco, splits=("validation",), out=tmp_path / "t.json")
    assert (table.size, table.together, table.share) == (9_533, 5, 0.75)
    assert table.cross_validated == pytest.approx(0.879, abs=5e-4)
    folder = roco / "test" / "radiology"
    rows = [line.split("\t") for line in (folder / "captions.txt").read_text("utf-8").split("\n")]
    captions = {row[0]: row[1] for row in rows if row[0]}
    lines = (folder / "cuis.txt").read_text("utf-8").split("\n")
    given = {name: set(cuis) - {""} for name, *cuis in (line.split("\t") for line in lines)}
    table.refuse_seen(list(captions))
    found = concept_statistics(
        list(captions.values()),
        [[caption] for caption in captions.values()],
        table,
        reference_concepts=[given[name] for name in captions],
    )
    values = found["roco-concepts-given"].corpus()
    np.testing.assert_allclose(values, [0.910, 0.906, 0.908], atol=5e-4)
    assert found["roco-concepts-given-mean-F1"].corpus()[0] == pytest.approx(0.885, abs=5e-4)
    assert found["roco-concepts"].corpus().tolist() == [1, 1, 1]
