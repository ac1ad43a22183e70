"""What a report reads and writes: no tests of older scores, no foreign file taken or replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_files import NAMES, write_all, write_runs

from medblip.errors import RunError
from medblip.rundir import RunDir
from medblip.stages.report import report


def rescore(run: Path, metric: str, value: float) -> None:
    """Give one metric another value, as `evaluate --force` does after new captions."""
    path = RunDir(run).scores("test")
    record = json.loads(path.read_text())
    record["metrics"][metric]["value"] = value
    path.write_text(json.dumps(record))


def build(root: Path, *names: str, **options: Any) -> Path:
    given = {"out": root / "page.html", "data": root / "data"} | options
    return report([root / name for name in names or NAMES], **given)


@pytest.mark.parametrize("name", ["full", "zero-shot"])  # a system, and the baseline
def test_tests_of_older_scores_are_refused(tmp_path: Path, name: str) -> None:
    write_runs(tmp_path)
    rescore(tmp_path / name, "CIDEr-D", 0.001)
    with pytest.raises(RunError, match="made before these scores") as caught:
        build(tmp_path, comparison=tmp_path / "comparison.json")
    assert f"CIDEr-D of {name} " in str(caught.value)
    assert "there, 0.0010 now" in str(caught.value)
    assert "medblip compare" in str(caught.value)
    assert not (tmp_path / "page.html").exists()
    build(tmp_path)  # without the tests, the scores are still worth a page
    # whose scores changed is not on this page
    others = [other for other in NAMES if other != name]
    build(tmp_path, *others, comparison=tmp_path / "comparison.json")


def test_tests_on_other_images_or_metrics_are_refused(tmp_path: Path) -> None:
    write_runs(tmp_path)
    file = tmp_path / "comparison.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"n": 19}))
    with pytest.raises(RunError, match="19 images there, 20 in the scores of"):
        build(tmp_path, comparison=file)
    record["rows"][0]["metric"] = "METEOR"
    file.write_text(json.dumps(record))
    with pytest.raises(RunError, match="METEOR of encoder there, not in its scores"):
        build(tmp_path, comparison=file)


def test_the_last_bits_of_a_value_do_not_matter(tmp_path: Path) -> None:
    write_runs(tmp_path)
    scores = json.loads(RunDir(tmp_path / "full").scores("test").read_text())
    value = scores["metrics"]["CIDEr-D"]["value"]
    rescore(tmp_path / "full", "CIDEr-D", value * (1 + 1e-12))
    build(tmp_path, comparison=tmp_path / "comparison.json")


@pytest.mark.parametrize("option", ["comparison", "ablation", "study"])
@pytest.mark.parametrize("content", ["scores", "maps", "[1]", "3", '{"schema_version": 1}'])
def test_a_foreign_json_file_is_refused_in_words(
    tmp_path: Path, option: str, content: str
) -> None:  # fmt: skip
    files = write_all(tmp_path)
    run = RunDir(tmp_path / "full")
    there = {"scores": run.scores("test"), "maps": run.maps("test")}
    wrong = there.get(content, tmp_path / "wrong.json")
    if content not in there:
        wrong.write_text(content)
    with pytest.raises(RunError, match="is not what was asked for") as caught:
        build(tmp_path, **(files | {option: wrong}))
    for part in ("got:", "expected:", "do:", f"--{option}"):
        assert part in str(caught.value)
