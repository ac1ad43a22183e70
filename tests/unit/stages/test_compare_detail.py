"""What a comparison says besides its tests: image by image, metric by metric, group by group."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from medblip.errors import MetricError, RunError
from medblip.metrics.base import Ratio, Statistics, mean_statistics
from medblip.metrics.stored import StoredStatistics, save_statistics
from medblip.stages.compare import compare
from medblip.stages.evaluate import evaluate

REFERENCES = {
    f"i{index:02}": text
    for index, text in enumerate(
        ["CT of the chest shows a nodule in the left lung."] * 15
        + ["MRI of the brain without any lesion."] * 15
    )
}


def write(path: Path, rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "caption"])
        writer.writerows(rows.items())
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right on CT and wrong on MRI; wrong on all; right on all but two."""
    root = tmp_path_factory.mktemp("compare")
    ids = list(REFERENCES)
    half = {name: REFERENCES[name] if name < "i15" else "An ultrasound image." for name in ids}
    none = dict.fromkeys(ids, "A picture of a cat on a mat.")
    good = {**REFERENCES, "i00": "A cat.", "i20": "A dog."}
    references = write(root / "r.csv", REFERENCES)
    for name, rows in (("none", none), ("half", half), ("good", good)):
        write(root / f"{name}.csv", rows)
        evaluate(root / f"{name}.csv", references, out=root / f"{name}.json", meteor=False,
                 resamples=200)  # fmt: skip
    compare(
        [root / "none.json", root / "half.json", root / "good.json"], references=references,
        names=["baseline", "half", "good"], out=root / "comparison.json", resamples=500,
    )  # fmt: skip
    return root


def test_outcomes_count_images(done: Path) -> None:
    record = json.loads((done / "comparison.json").read_text())
    rows = {(row["system"], row["metric"]): row for row in record["outcomes"]}
    assert (rows["good", "ROUGE-L"]["wins"], rows["good", "ROUGE-L"]["n"]) == (28, 30)
    for row in rows.values():
        assert row["wins"] + row["ties"] + row["losses"] == row["n"] == 30
        assert row["baseline"] == "baseline"


def test_outcomes_are_those_of_the_values_per_image(done: Path) -> None:
    record = json.loads((done / "comparison.json").read_text())
    one, base = (
        [json.loads(line) for line in (done / f"{name}.per_image.jsonl").read_text().splitlines()]
        for name in ("half", "none")
    )
    for metric in ("CIDEr-D", "BLEU-1"):
        row = next(r for r in record["outcomes"] if (r["system"], r["metric"]) == ("half", metric))
        pairs = list(zip(one, base, strict=True))
        assert row["wins"] == sum(a[metric] > b[metric] + 1e-9 for a, b in pairs)
        assert row["losses"] == sum(a[metric] < b[metric] - 1e-9 for a, b in pairs)


def test_agreement_has_a_matrix_per_system(done: Path) -> None:
    found = json.loads((done / "comparison.json").read_text())["agreement"]
    assert set(found["kendall"]) == {"baseline", "half", "good"}
    size = len(found["metrics"])
    for matrix in found["kendall"].values():
        assert [len(row) for row in matrix] == [size] * size
    at = [found["metrics"].index(name) for name in ("CIDEr-D", "ROUGE-L")]
    assert found["kendall"]["half"][at[0]][at[1]] > 0.5


def test_a_failing_group_does_not_hide_in_the_mean(done: Path) -> None:
    record = json.loads((done / "comparison.json").read_text())
    groups = {
        (row["stratum"], row["level"]): row
        for row in record["strata"]
        if (row["system"], row["metric"]) == ("half", "ROUGE-L")
    }
    assert groups["modality", "CT"]["value"] > 0.9
    assert groups["modality", "MR"]["value"] < 0.5
    assert groups["modality", "CT"]["n"] == groups["modality", "MR"]["n"] == 15
    weak = {
        (row["system"], row["stratum"], row["level"])
        for row in record["weakest"]
        if row["metric"] == "ROUGE-L"
    }
    assert ("half", "modality", "MR") in weak
    assert ("half", "modality", "CT") not in weak


def test_without_references_groups_are_left_out_with_a_reason(done: Path) -> None:
    found = compare([done / "none.json", done / "half.json"], resamples=100)
    assert found.outcomes
    assert found.weakest == []
    assert "data set" in found.notes[0]


def test_a_system_named_twice_counts_once(done: Path) -> None:
    both = [done / "none.json", done / "half.json", done / "half.json"]
    once, twice = (compare(named, resamples=100) for named in (both[:2], both))
    assert [row["p_holm"] for row in once.rows] == [row["p_holm"] for row in twice.rows]


def test_a_baseline_may_be_named_as_tables_name_it(done: Path) -> None:
    both = [done / "none.json", done / "half.json"]
    assert compare(both, baseline="half", resamples=50).baseline == "half"
    with pytest.raises(RunError, match="file not found"):
        compare(both, baseline="nobody", resamples=50)


def test_an_edited_table_is_not_taken_from_older_scores(done: Path, tmp_path: Path) -> None:
    """x.csv was scored as x.json, with x.npz beside it, and then edited."""
    for ending in (".json", ".npz"):
        (tmp_path / f"x{ending}").write_bytes((done / f"half{ending}").read_bytes())
    (tmp_path / "x.csv").write_text("id,caption\n")
    with pytest.raises(RunError, match="references"):
        compare([done / "none.json", tmp_path / "x.csv"], resamples=50)


def test_without_a_headline_metric_one_is_to_be_named(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        values = Statistics(Ratio("deletion"), mean_statistics(np.arange(4.0)))
        save_statistics(
            tmp_path / f"{name}.npz", StoredStatistics(tuple("1234"), {"d": values}, None)
        )
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text("{}")
    with pytest.raises(MetricError, match="--metric all"):
        compare(paths, resamples=50)
    assert compare(paths, metrics=["all"], resamples=50).rows[0]["metric"] == "deletion"


def test_images_without_a_value_are_in_no_count(tmp_path: Path) -> None:
    """A third of the images has no side to be right about: nobody wins, loses or ties there."""
    rng = np.random.default_rng(0)
    counts = (np.arange(30) % 3 > 0).astype(float)
    values = rng.random((2, 30)) * counts
    paths = []
    for name, own in zip("ab", values, strict=True):
        sides = Statistics(Ratio("fact-side"), np.column_stack([own, counts]))
        plain = Statistics(Ratio("ROUGE-L"), mean_statistics(own + 1))
        stored = StoredStatistics(tuple(map(str, range(30))), {"s": sides, "r": plain}, None)
        save_statistics(tmp_path / f"{name}.npz", stored)
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text("{}")
    out = tmp_path / "c.json"
    found = compare(paths, metrics=["fact-side", "ROUGE-L"], resamples=50, out=out)
    rows = {row["metric"]: row for row in found.outcomes}
    counted = rows["fact-side"]
    assert counted["wins"] + counted["ties"] + counted["losses"] == counted["n"] == 20
    assert counted["wins"] == int((values[1] > values[0])[counts > 0].sum())
    assert rows["ROUGE-L"]["n"] == 30
    tau = json.loads(out.read_text())["agreement"]["kendall"]["a"][0][1]
    assert tau == 1.0, "where both have a value they order images alike"


def test_who_invents_loses_to_who_is_rightly_silent(tmp_path: Path) -> None:
    references = {f"i{at:02}": "Chest radiograph." for at in range(30)}
    write(tmp_path / "references.csv", references)
    for name, invented in (("silent", 0), ("inventing", 20)):
        table = {
            key: "Chest radiograph" + " with a mass" * (at < invented) + "."
            for at, key in enumerate(references)
        }
        write(tmp_path / f"{name}.csv", table)
        evaluate(
            tmp_path / f"{name}.csv", tmp_path / "references.csv", resamples=20, meteor=False,
            out=tmp_path / f"{name}.json",
        )  # fmt: skip
    both = [tmp_path / f"{name}.json" for name in ("silent", "inventing")]
    (row,) = compare(both, metrics=["audit-finding-F1"], resamples=50).outcomes
    assert (row["wins"], row["ties"], row["losses"], row["n"]) == (0, 10, 20, 30)


def test_groups_are_of_the_captions_that_were_scored(done: Path, tmp_path: Path) -> None:
    other = {key: "Plain radiograph of a hand." for key in REFERENCES}
    write(tmp_path / "other.csv", other)
    found = compare(
        [done / "none.json", done / "half.json"], references=tmp_path / "other.csv", resamples=50
    )
    assert "other captions than were scored" in found.notes[0]


def test_a_folder_as_the_file_is_told_before_the_tests(done: Path, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    for wrong in ({"out": tmp_path}, {"names": ["x"]}, {"out": tmp_path / "list.json"}):
        with pytest.raises(RunError):
            compare([done / "none.json", done / "half.json"], resamples=50, **wrong)  # type: ignore[arg-type]  # of several types
    with pytest.raises(RunError, match="nothing to compare"):
        compare([])


def test_systems_of_one_name_are_told_apart(done: Path, tmp_path: Path) -> None:
    for side, name in (("a", "none"), ("b", "half")):
        folder = tmp_path / side / "s"
        folder.mkdir(parents=True)
        for ending in (".json", ".npz", ".per_image.jsonl"):
            (folder / f"full{ending}").write_bytes((done / f"{name}{ending}").read_bytes())
    both = [tmp_path / side / "s" / "full.json" for side in ("a", "b")]
    found = compare(both, resamples=100, out=tmp_path / "c.json")
    assert found.baseline == "a/s/full"
    assert {row["system"] for row in found.rows} == {"b/s/full"}
    assert found.outcomes
    with pytest.raises(RunError, match="one name"):
        compare(both, names=["x", "x"], resamples=100)


def test_a_group_of_few_images_that_count_or_of_one_patient_is_not_called_weak(
    tmp_path: Path,
) -> None:
    """Wrong on all MRI: of fifteen patients it is weak, of one patient or two images unknown."""
    ids = list(REFERENCES)
    wrong = {name: REFERENCES[name] if name < "i15" else "A cat on a mat." for name in ids}

    def weak(patients: int, mri: int) -> set[tuple[str, str]]:
        kept = [name for name in ids if name < f"i{15 + mri:02}"]
        with (tmp_path / "r.jsonl").open("w") as file:
            for name in kept:
                one = f"p{int(name[1:]) % patients}" if name >= "i15" else name
                row = {"id": name, "captions": [REFERENCES[name]], "group": one}
                file.write(json.dumps(row) + "\n")
        for which, rows in (("a", REFERENCES), ("b", wrong)):
            write(tmp_path / f"{which}.csv", {name: rows[name] for name in kept})
        found = compare([tmp_path / "a.csv", tmp_path / "b.csv"], metrics=["ROUGE-L"],
                        references=tmp_path / "r.jsonl", resamples=100)  # fmt: skip
        return {(row["stratum"], row["level"]) for row in found.weakest}

    assert ("modality", "MR") in weak(15, 15)
    assert ("modality", "MR") not in weak(1, 15)
    assert ("modality", "MR") not in weak(15, 2)
