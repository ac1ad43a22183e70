"""What a report reads and writes: no tests of older scores, no foreign file taken or replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_files import NAMES, write_all, write_runs

from medblip.errors import ConfigError, RunError
from medblip.rundir import RunDir
from medblip.stages.report import report
from medblip.stages.report.outputs import TABLE_NAMES
from medblip.stages.report.outputs import _written as written_files


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


@pytest.mark.parametrize("form", ["html", "pdf-ready"])
def test_a_file_of_the_user_is_not_replaced_by_a_page(tmp_path: Path, form: str) -> None:
    write_runs(tmp_path)
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt is taken") as caught:
        build(tmp_path, "full", out=mine, format=form)
    for part in ("got:", "expected:", "name another --out"):
        assert part in str(caught.value)
    assert mine.read_text() == "mine"
    page = build(tmp_path, "full", out=tmp_path / "page.html", format=form)
    assert build(tmp_path, "lora", out=page, format=form) == page  # an earlier report gives way
    assert "lora" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("form", "name"),
    [("md", "report.md"), ("csv", "cost.csv"), ("csv", "scores-all.csv"), ("latex", "report.tex"),
     ("latex", "methods.tex"), ("latex", "tables/scores.tex")],
)  # fmt: skip
def test_a_folder_with_files_of_the_user_is_refused(tmp_path: Path, form: str, name: str) -> None:
    write_runs(tmp_path)
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(ConfigError, match="is taken"):
        build(tmp_path, "full", out=tmp_path / "out", format=form)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("form", ["md", "csv", "latex"])
def test_what_an_earlier_report_left_is_removed_and_nothing_else(
    tmp_path: Path, form: str
) -> None:  # fmt: skip
    files = write_all(tmp_path)
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    out.mkdir()
    mine = {"notes.csv": "a,b\n", "notes.md": "mine\n", "tables.tex": "mine\n"}
    for name, text in mine.items():
        (out / name).write_text(text)
    build(tmp_path, **(files | {"out": out, "format": form}))
    build(tmp_path, "lora", out=out, format=form)
    build(tmp_path, "lora", out=fresh, format=form)
    found, expected = (
        {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        for root in (out, fresh)
    )
    assert found == expected | set(mine)
    for name in expected:
        if not name.endswith(".pdf"):
            assert (out / name).read_bytes() == (fresh / name).read_bytes()
    for name, text in mine.items():
        assert (out / name).read_text() == text


def test_every_file_of_a_report_has_a_known_name(tmp_path: Path) -> None:
    """A table or chart that is not listed could neither be refused nor removed."""
    files = write_all(tmp_path)
    for form in ("md", "csv", "latex"):
        out = tmp_path / form
        build(tmp_path, **(files | {"out": out, "format": form}))
        written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert {path.relative_to(out).as_posix() for path in written_files(out, form)} == written
    assert {path.stem for path in (tmp_path / "csv").iterdir()} == set(TABLE_NAMES)


def test_an_interrupted_folder_can_be_written_again(tmp_path: Path) -> None:
    write_runs(tmp_path)
    for form in ("csv", "latex"):
        out = tmp_path / form
        build(tmp_path, "full", out=out, format=form)
        first = {"csv": "scores-all.csv", "latex": "tables/scores.tex"}[form]
        for path in written_files(out, form):
            if path != out / first:
                path.unlink()
        build(tmp_path, "full", out=out, format=form)


def test_a_users_file_of_a_tables_name_stays(tmp_path: Path) -> None:
    """Only what an earlier report wrote, and nobody changed, is removed."""
    write_runs(tmp_path)
    csvs: dict[str, Any] = {"out": tmp_path / "csv", "format": "csv"}
    folder = build(tmp_path, comparison=tmp_path / "comparison.json", **csvs)
    mine, tests = folder / "claims.csv", folder / "tests.csv"
    mine.write_text("my,own\n")
    build(tmp_path, **csvs)
    assert mine.read_text() == "my,own\n"
    assert not tests.exists()
    build(tmp_path, comparison=tmp_path / "comparison.json", **csvs)
    tests.write_text(tests.read_text() + "a note of mine\n")
    build(tmp_path, **csvs)
    assert "a note of mine" in tests.read_text()
