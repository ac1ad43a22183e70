"""One command over a list: every family, one remote and one table, in one report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import remote_server
from published import published

import medblip
from medblip.config import BUNDLED
from medblip.errors import ConfigError, RunError
from medblip.files import read_json
from medblip.models.captioner import resolve
from medblip.schema import read_predictions
from medblip.stages.systems import compare_systems, read_list

FAMILIES = ["blip-base", "blip2-opt-2.7b", "instructblip-flan-t5-xl", "vit-gpt2", "llava"]
HOW = '["decode.max_new_tokens=6", "decode.num_beams=2"]'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    medblip.phantoms(folder, images=120, size=64, workers=1)
    return folder


def table_of(data: Path, target: Path) -> Path:
    """Write somebody's captions: the references in another order, as a CSV."""
    from medblip.schema import read_examples

    rows = [e for e in read_examples(data / "manifest.jsonl") if e.split == "test"]
    lines = ["id,caption", *(f'{e.id},"{e.captions[0]}"' for e in reversed(rows))]
    target.write_text("\n".join(lines) + "\n")
    return target


def test_a_report_of_six_kinds_by_one_command(data: Path, tmp_path: Path) -> None:
    names = [*FAMILIES, "remote", "their table"]
    with remote_server.running() as server:
        tables = [
            f'[[system]]\nname = "{name}"\nmodel = "{published(name, tmp_path / "m" / name)}"\n'
            f"set = {HOW}\n"
            for name in FAMILIES
        ]
        tables.append(
            '[[system]]\nname = "remote"\nmodel = "openai:tiny"\n'
            f'set = ["remote.url={server.url}/v1"]\n'
        )
        table = table_of(data, tmp_path / "theirs.csv")
        tables.append(f'[[system]]\nname = "their table"\ncaptions = "{table}"\n')
        listed = tmp_path / "systems.toml"
        listed.write_text("\n".join(tables))
        command = [
            sys.executable, "-m", "medblip", "compare", str(listed), "--data", str(data), "--out",
            str(tmp_path / "out"), "--resamples", "200", "--device", "cpu", "--no-meteor",
        ]  # fmt: skip
        told = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert told.returncode == 0, told.stderr
        asked = len(server.requests)
        again = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)
        assert len(server.requests) == asked > 0  # what is done stays
    assert all(name in told.stderr for name in names)  # the table
    study = json.loads(again.stdout)
    assert [row["system"] for row in study["rows"]] == names
    assert study["failed"] == []
    assert {row["n"] for row in study["rows"]} == {12}
    tested = {row["system"] for row in study["tests"]}
    assert tested == {"blip2-opt-2.7b", "instructblip-flan-t5-xl", "vit-gpt2", "llava", "remote",
                      "their-table"}  # fmt: skip
    best = {row["system"]: row["scores"]["CIDEr-D"]["value"] for row in study["rows"]}
    assert best["their table"] == max(best.values()) > 5
    page = Path(study["report"]).read_text(encoding="utf-8")
    assert all(name in page for name in tested)
    made = read_json(tmp_path / "out" / "blip2-opt-2.7b" / "predictions" / "test.json")
    assert made["prompt"] == "a photo of"


def test_a_system_that_fails_is_left_out(data: Path, tmp_path: Path) -> None:
    table = table_of(data, tmp_path / "theirs.csv")
    listed = tmp_path / "systems.toml"
    listed.write_text(
        f'[[system]]\nname = "A"\ncaptions = "{table}"\n'
        '[[system]]\nname = "B"\nmodel = "./absent"\n'
        f'[[system]]\nname = "C"\ncaptions = "{table}"\n'
    )
    study = compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)
    assert [row["system"] for row in study.rows] == ["A", "C"]
    assert [one["system"] for one in study.failed] == ["B"]
    assert "not found" in study.failed[0]["reason"]
    table.unlink()
    assert (
        len(compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False).rows) == 2
    )
    listed.write_text(listed.read_text().replace('name = "C"\ncaptions', 'name = "C"\nrun'))
    with pytest.raises(RunError, match="nothing to compare"):
        compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)


def test_a_trained_run_is_captioned_beside(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "tuned"
    medblip.train(
        None, data, run, overrides=["train.epochs=1", "train.batch_size=32",
                                    "train.validation_images=4", "train.validations=1",
                                    "decode.max_new_tokens=8"],
    )  # fmt: skip
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    listed = tmp_path / "systems.toml"
    listed.write_text(
        '[[system]]\nname = "zero-shot"\nmodel = "bundled"\nset = ["decode.max_new_tokens=8"]\n'
        f'[[system]]\nname = "tuned"\nrun = "{run}"\n'
    )
    study = compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)
    assert [row["system"] for row in study.rows] == ["zero-shot", "tuned"]
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    captions = list(read_predictions(tmp_path / "out" / "tuned" / "predictions" / "test.jsonl"))
    assert len(captions) == 12


def listed_tables(data: Path, root: Path) -> Path:
    table_of(data, root / "a.csv")
    (root / "b.csv").write_text((root / "a.csv").read_text().replace("CT", "MR"))
    listed = root / "systems.toml"
    listed.write_text("".join(
        f'[[system]]\nname = "{name}"\ncaptions = "{root / name}.csv"\n' for name in "ab"
    ))  # fmt: skip
    return listed


def test_a_folder_of_somebody_else_is_never_written(data: Path, tmp_path: Path) -> None:
    """Not by --force either: it holds a run that this list did not make."""
    listed = listed_tables(data, tmp_path)
    theirs = tmp_path / "out" / "a" / "config.json"
    theirs.parent.mkdir(parents=True)
    theirs.write_text('{"mine": true}')
    for force in (False, True):
        with pytest.raises(RunError, match="is taken"):
            compare_systems(listed, data, tmp_path / "out", resamples=50, force=force)
    assert [path.name for path in theirs.parent.iterdir()] == ["config.json"]
    assert theirs.read_text() == '{"mine": true}'


def test_captions_that_changed_are_scored_again_after_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between new captions and their scores: the old scores are not theirs."""
    listed, out = listed_tables(data, tmp_path), tmp_path / "out"
    first = compare_systems(listed, data, out, resamples=50, meteor=False)
    table = tmp_path / "a.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], *(f"{r.split(',')[0]},nothing" for r in rows[1:])]) + "\n")
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("medblip.stages.evaluate.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            compare_systems(listed, data, out, resamples=50, meteor=False, force=True)
    again = compare_systems(listed, data, out, resamples=50, meteor=False)
    before, after = (study.rows[0]["scores"]["ROUGE-L"]["value"] for study in (first, again))
    assert before > 0.9
    assert after == 0


def test_a_killed_replacement_is_not_mixed_with_what_was_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, out = listed_tables(data, tmp_path), tmp_path / "out"
    compare_systems(listed, data, out, resamples=50, meteor=False)
    (tmp_path / "a.csv").write_text((tmp_path / "b.csv").read_text())
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr("medblip.stages.systems.stage._from_table", killed)
        with pytest.raises(KeyboardInterrupt):
            compare_systems(listed, data, out, resamples=50, meteor=False)
    compare_systems(listed, data, out, resamples=50, meteor=False)
    made = {row.id: row.caption for row in read_predictions(out / "a" / "predictions/test.jsonl")}
    assert any("MR" in caption for caption in made.values())
    assert not any("CT" in caption for caption in made.values())


def test_an_edited_table_is_taken_again_and_nothing_else(data: Path, tmp_path: Path) -> None:
    listed, out = listed_tables(data, tmp_path), tmp_path / "out"
    compare_systems(listed, data, out, resamples=50, meteor=False)
    other = out / "b" / "predictions" / "test.jsonl"
    before = other.stat().st_mtime_ns
    (tmp_path / "a.csv").write_text((tmp_path / "b.csv").read_text())
    study = compare_systems(listed, data, out, resamples=50, meteor=False)
    assert study.failed == ()
    assert all(row["difference"] == 0 for row in study.tests)
    assert other.stat().st_mtime_ns == before
    listed.write_text(listed.read_text().replace("a.csv", "b.csv"))  # another table: not unasked
    with pytest.raises(RunError, match="nothing to compare"):
        compare_systems(listed, data, out, resamples=50, meteor=False)


def test_the_test_and_the_baseline_are_those_asked_for(data: Path, tmp_path: Path) -> None:
    listed = listed_tables(data, tmp_path)
    study = compare_systems(
        listed, data, tmp_path / "out", resamples=50, meteor=True, test="randomisation",
        baseline="b",
    )  # fmt: skip
    assert study.baseline == "b"
    assert {row["system"] for row in study.tests} == {"a"}
    record = read_json(Path(study.comparison))
    assert record["test"].startswith("approximate randomisation")
    assert "METEOR" in read_json(tmp_path / "out" / "a" / "scores" / "test.json")["metrics"]
    with pytest.raises(ConfigError, match="did you mean"):
        compare_systems(listed, data, tmp_path / "out", baseline="bb")


def test_a_forced_call_that_fails_leaves_what_was_valid(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No consent, no weights: the captions that are there stay this system's."""
    listed = tmp_path / "systems.toml"
    listed.write_text(
        f'[[system]]\nname = "a"\nmodel = "bundled"\nset = {HOW}\n'
        f'[[system]]\nname = "b"\ncaptions = "{table_of(data, tmp_path / "b.csv")}"\n'
    )
    out = tmp_path / "out"
    compare_systems(listed, data, out, resamples=50, meteor=False)
    made = out / "a" / "predictions" / "test.jsonl"
    before = made.stat().st_mtime_ns
    with monkeypatch.context() as patch:

        def refused(*_: Any, **__: Any) -> None:
            raise RunError("no consent")

        patch.setattr("medblip.stages.caption.caption", refused)
        with pytest.raises(RunError, match="nothing to compare"):
            compare_systems(listed, data, out, resamples=50, meteor=False, force=True)
    assert compare_systems(listed, data, out, resamples=50, meteor=False).baseline == "a"
    assert made.stat().st_mtime_ns == before


def test_a_folder_that_a_kill_left_is_free(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "system-test.json.partial").write_text("{")
    listed = listed_tables(data, tmp_path)
    found = compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)
    assert found.failed == ()


def test_each_split_has_its_own_captions(data: Path, tmp_path: Path) -> None:
    listed = tmp_path / "systems.toml"
    one = '[[system]]\nname = "{}"\nmodel = "bundled"\nset = ["decode.max_new_tokens={}"]\n'
    listed.write_text(one.format("a", 6) + one.format("b", 7))
    made = tmp_path / "out" / "a" / "predictions" / "test.jsonl"
    times = []
    for split in ("test", "validation", "test"):
        compare_systems(listed, data, tmp_path / "out", split=split, resamples=50, meteor=False)
        times.append(made.stat().st_mtime_ns)
    assert times[0] == times[2]
    assert made.with_name("validation.jsonl").exists()


def test_other_weights_are_another_system(data: Path, tmp_path: Path) -> None:
    shutil.copytree(resolve(BUNDLED), tmp_path / "m1")
    listed = tmp_path / "systems.toml"
    listed.write_text("".join(
        f'[[system]]\nname = "{name}"\nmodel = "{tmp_path / "m1"}"\nset = {HOW}\n' for name in "ab"
    ))  # fmt: skip
    compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)
    with (tmp_path / "m1" / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(RunError, match="nothing to compare"):
        compare_systems(listed, data, tmp_path / "out", resamples=50, meteor=False)


@pytest.mark.parametrize(
    "text",
    ['[[system]]\nname = "a"\nmodel = "bundled"\nset = [3]\n',
     '[[system]]\nname = "a"\ncaptions = "x.csv"\nset = ["decode.num_beams=2"]\n',
     'split = "test"\n[[system]]\nname = "a"\nmodel = "bundled"\n'],
)  # fmt: skip
def test_what_a_list_cannot_say_is_refused(tmp_path: Path, text: str) -> None:
    listed = tmp_path / "systems.toml"
    listed.write_text(text + '[[system]]\nname = "b"\nmodel = "bundled"\n')
    with pytest.raises(ConfigError):
        read_list(listed)


def test_meteor_is_added_to_what_is_done(data: Path, tmp_path: Path) -> None:
    listed, out = listed_tables(data, tmp_path), tmp_path / "out"
    scores = out / "a" / "scores" / "test.json"
    for meteor in (False, True):
        compare_systems(listed, data, out, resamples=50, meteor=meteor)
        assert ("METEOR" in read_json(scores)["metrics"]) is meteor


def test_options_of_a_list_are_refused_without_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medblip", "compare", "a", "b", "--dry-run", "--force"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert "--dry-run, --force" in told.stderr


def test_a_list_can_be_reported_by_its_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    study = compare_systems(listed_tables(data, tmp_path), data, out, resamples=50, meteor=False)
    page = Path(study.report).read_text(encoding="utf-8")
    again = medblip.report(out, title="Comparison of captioners")
    assert again == out / "report.html"
    assert again.read_text(encoding="utf-8") == page


def test_a_dry_run_captions_nothing(tmp_path: Path) -> None:
    shipped = Path(__file__).resolve().parents[2] / "configs" / "compare_paper.toml"
    planned = compare_systems(shipped, tmp_path, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    kinds = {row["kind"] for row in planned.rows}
    assert kinds == {"model", "run", "remote", "file"}
    sizes = {row["source"]: row.get("bf16_gb") for row in planned.rows}
    assert sizes["blip2-opt-2.7b"] == 7.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[system]]\nname = 'A'\nmodel = 'x'", "no list of systems"),
        ("[[system]]\nname = 'A'\nmodle = 'x'", "did you mean model"),
        ("[[system]]\nname = 'A'", "not one system"),
        ("[[system]]\nname = 'A'\nmodel = 'x'\nrun = 'y'", "not one system"),
        ("[[system]]\nname='A b'\nmodel='x'\n[[system]]\nname='a-B'\nmodel='y'", "two systems"),
        ("[[system", "cannot be read"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path: Path, text: str, said: str) -> None:
    listed = tmp_path / "list.toml"
    listed.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_list(listed)


def test_every_recipe_can_be_read() -> None:
    from medblip import config

    folder = Path(__file__).resolve().parents[2] / "configs"
    known: Any = {one.hub or one.name for one in medblip.list_models() if one.parameters}
    read = set()
    for file in sorted(folder.glob("*.toml")):
        if file.name.startswith("compare"):
            read_list(file)
            continue
        if file.name.startswith("ablation"):  # tests/unit/stages/test_ablate.py reads those
            continue
        read.add(config.load(file).model.name)
    assert known - read == set(), "a named captioner without a recipe"
