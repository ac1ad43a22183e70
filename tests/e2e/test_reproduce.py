"""The paper's study by one command: small, real, killed, and to the byte what nobody killed."""

from __future__ import annotations

import html
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from published import cached

import medblip
from medblip.errors import ConfigError, DataError, RunError
from medblip.files import read_json
from medblip.metrics.meteor import meteor_available
from medblip.models.known import KNOWN
from medblip.stages.reproduce import steps
from medblip.stages.reproduce.ledger import read_key, shown

SMALL: dict[str, Any] = {
    "scale": "demo", "seeds": [0], "images": 120, "explained": 4, "meteor": False
}  # fmt: skip
#: Of the tables, what a clock or a memory meter wrote.
MEASURED = re.compile(r"second|memory|per_s|time|energy|hours|minutes|step_s|cost")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study") / "paper"
    medblip.reproduce(out=root, **SMALL)
    return root


def test_it_leaves_all_that_is_promised(small: Path) -> None:
    for name in (
        "study.json", "study-data.json", "ablation/ablation.json", "comparison.json", "report.html",
        "model-card.md", "tables/md", "tables/latex", "tables/csv",
    ):  # fmt: skip
        assert (small / name).exists(), name
    study = json.loads((small / "study.json").read_text())
    assert len(study["claims"]) == 8
    page = (small / "report.html").read_text()
    for one in study["claims"]:
        assert one["verdict"] in ("reproduced", "not reproduced", "not testable")
        assert html.escape(one["claim"]).replace("&#x27;", "&#39;") in page


def test_every_number_in_the_words_is_that_of_a_file(small: Path) -> None:
    study = json.loads((small / "study.json").read_text())
    text = " ".join([study["methods"], *(one["reason"] for one in study["claims"])])
    assert len(study["numbers"]) > 30
    for number in sorted(study["numbers"], key=lambda one: -len(one["text"])):
        content = json.loads((small / number["file"]).read_text())
        assert shown(read_key(content, number["key"]), number["form"]) == number["text"]
        assert number["text"] in text
    for number in sorted(study["numbers"], key=lambda one: -len(one["text"])):
        text = text.replace(number["text"], "")
    for name in (
        "95 %",
        *json.loads((small / "ablation/ablation.json").read_text())["variants"][0]["metrics"],
    ):
        text = text.replace(name, "")
    assert not re.search(r"\d", text), text


def test_the_methods_are_on_the_page_and_in_latex(small: Path) -> None:
    study = json.loads((small / "study.json").read_text())
    first = study["methods"].split(":")[0]
    assert first in (small / "report.html").read_text()
    latex = "".join(file.read_text() for file in (small / "tables" / "latex").rglob("*.tex"))
    assert first.split(" (")[0] in latex


def test_once_more_does_nothing_again(small: Path) -> None:
    before = {
        file: file.stat().st_mtime_ns
        for name in ("train.json", "predictions/test.jsonl", "maps/test.json")
        for file in small.rglob(name)
    }
    assert before
    medblip.reproduce(out=small, **SMALL)
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_study_is_reported_by_its_folder(small: Path, tmp_path: Path) -> None:
    again = medblip.report(small, out=tmp_path / "again.html")
    assert again.read_text() == (small / "report.html").read_text()
    medblip.report(small, out=tmp_path / "csv", format="csv")
    for file in (small / "tables" / "csv").iterdir():
        assert (tmp_path / "csv" / file.name).read_text() == file.read_text(), file.name
    pages = medblip.report(small / "ablation", out=tmp_path / "ablation.html").read_text()
    assert "Quality" in pages


def test_a_study_killed_as_it_began_can_begin(tmp_path: Path) -> None:
    from medblip.stages.reproduce.guards import claim

    (tmp_path / "reproduce.json.partial").write_text("{")
    claim(tmp_path, {"scale": "demo"}, force=False)
    assert read_json(tmp_path / "reproduce.json")["scale"] == "demo"


def test_phantoms_are_counted_only_where_they_are_drawn(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--images"):
        medblip.reproduce(small / "data", tmp_path / "out", images=50)
    with pytest.raises(RunError, match="no data set"):
        medblip.reproduce(out=tmp_path / "out", scale="base", dry_run=True)
    assert not (tmp_path / "out").exists()


def test_another_study_is_refused(small: Path) -> None:
    with pytest.raises(RunError, match="taken"):
        medblip.reproduce(out=small, **{**SMALL, "images": 130})


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="taken"):
        medblip.reproduce(out=tmp_path, **SMALL)
    with pytest.raises(RunError, match="taken"):  # force is for a study of ours
        medblip.reproduce(out=tmp_path, **SMALL, force=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_force_replaces_no_data_that_it_did_not_draw(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "scan.txt").write_text("precious")
    (tmp_path / "reproduce.json").write_text(
        '{"schema_version": 1, "scale": "demo", "seeds": [0], "images": 120, "data": null}'
    )
    with pytest.raises(RunError, match="not phantoms"):
        medblip.reproduce(out=tmp_path, **SMALL, force=True)
    assert (tmp_path / "data" / "scan.txt").read_text() == "precious"


def test_an_unknown_scale_and_no_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="demo or base"):
        medblip.reproduce(out=tmp_path / "a", scale="large")
    with pytest.raises(RunError, match="--data"):
        medblip.reproduce(out=tmp_path / "a", scale="base")
    with pytest.raises(DataError, match="manifest"):
        medblip.reproduce(tmp_path / "nothing", out=tmp_path / "a")
    for wrong in (
        {"images": 5},
        {"explained": 0},
        {"jobs": "x"},
        {"seeds": [0, 0]},
        {"seeds": [-1]},
    ):
        with pytest.raises(ConfigError):
            medblip.reproduce(out=tmp_path / "a", **{**SMALL, **wrong})
    assert not (tmp_path / "a").exists()


def test_other_captioners_are_compared_and_those_that_fail_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants, others, captions = (tmp_path / name for name in ("v.toml", "s.toml", "c.jsonl"))
    variants.write_text(
        '[train]\nepochs = 1\n[[variant]]\nname = "zero-shot"\nzero_shot = true\n'
        '[[variant]]\nname = "full"\n'
    )
    others.write_text(
        f'[[system]]\nname = "a file"\ncaptions = "{captions}"\n'
        '[[system]]\nname = "not here"\nmodel = "nobody/nothing"\n'
    )
    medblip.phantoms(tmp_path / "data", images=80, seed=3, force=True)
    manifest = (tmp_path / "data" / "manifest.jsonl").read_text().splitlines()
    test = [row for row in map(json.loads, manifest) if row["split"] == "test"]
    captions.write_text(
        "".join(json.dumps({"id": r["id"], "caption": "A picture."}) + "\n" for r in test)
    )
    monkeypatch.setitem(steps.SCALES, "small", (str(variants), str(others)))
    found = medblip.reproduce(tmp_path / "data", tmp_path / "out", scale="small", explained=2)
    assert [one["system"] for one in found.failed] == ["not here"]
    rows = json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"]
    assert {row["system"] for row in rows} == {"zero-shot", "a-file"}
    assert {row["baseline"] for row in rows} == {"full-0"}
    assert "a-file" in found.claims[1]["reason"]
    if meteor_available() is None:  # as the paper does, where it is installed
        assert "METEOR" in {row["metric"] for row in rows}
    assert "a-file" in (tmp_path / "out" / "report.html").read_text()


def table(root: Path) -> dict[str, Any]:
    """Return all numbers of a study's tables but those of clocks and memory meters."""

    def rest(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: rest(v) for k, v in value.items() if not MEASURED.search(k)}
        return [rest(one) for one in value] if isinstance(value, list) else value

    files = ["ablation/ablation.json", "comparison.json", "maps-compared.json"]
    files += [str(file.relative_to(root)) for file in sorted(root.glob("**/scores/test.json"))]
    found = {name: rest(json.loads((root / name).read_text())) for name in files}
    claimed = json.loads((root / "study.json").read_text())["claims"]
    found["verdicts"] = [(one["claim"], one["verdict"]) for one in claimed]
    found["captions"] = {
        str(file.relative_to(root)): file.read_text()
        for file in sorted(root.glob("**/predictions/test.jsonl"))
    }
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_base_scale_runs_from_a_cache_of_the_hub(tmp_path: Path) -> None:
    """Its own recipe and hub ids; the captioners are shrunk and random, their layouts published."""
    hubs = {one.name: one.hub for one in KNOWN}
    for name in ("blip-base", "blip2-opt-2.7b", "instructblip-flan-t5-xl", "vit-gpt2"):
        cached(name, hubs[name], tmp_path / "home")
    medblip.phantoms(tmp_path / "data", images=100, seed=0)
    command = [
        sys.executable, "-m", "medblip", "reproduce", "--data", str(tmp_path / "data"), "--out",
        str(tmp_path / "out"), "--scale", "base", "--explained", "4", "--no-meteor", "--json",
    ]  # fmt: skip
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert [one["system"] for one in found["failed"]] == ["Gemini"]  # no consent, no upload
    study = read_json(tmp_path / "out" / "study.json")
    assert [run.split("/")[-1] for run in study["runs"]] == [
        "zero-shot", "full-0", "decoder-0", "encoder-0", "blip-2", "instructblip", "vit-gpt2",
    ]  # fmt: skip
    assert "Salesforce/blip-image-captioning-base (commit aaaaaaaaaaaa)" in study["methods"]
    assert "the vision encoder alone" in study["methods"]
    for run in study["runs"]:
        assert read_json(tmp_path / "out" / run / "maps" / "test.json")["images"], run
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The study" in page
    assert "on phantoms" in page  # the data are


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_at_random_moments(small: Path, tmp_path: Path) -> None:
    rng = random.Random(5)
    killed, seconds = 0, 0.0
    while killed < 10:  # a study that ended before the tenth kill is followed by another
        root = tmp_path / f"paper-{killed}-{seconds:.0f}"
        code = f"import medblip; medblip.reproduce(out={str(root)!r}, **{SMALL!r})"
        while True:
            started = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, start_new_session=True,
            )  # fmt: skip
            limit = rng.uniform(3, 0.7 * seconds) if seconds and killed < 10 else None
            try:
                output = process.communicate(timeout=limit)[0]
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                killed += 1
                continue
            assert process.returncode == 0, output
            seconds = seconds or time.monotonic() - started  # of the first, which nobody killed
            break
        assert table(root) == table(small)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_three_seeds_show_what_the_paper_says(tmp_path: Path) -> None:
    """At the demo's scale; full against decoder-only is too close to call (docs/experiments.md)."""
    found = medblip.reproduce(out=tmp_path / "paper")
    verdicts = {one["claim"]: one["verdict"] for one in found.claims}
    (better, others, best, close, quicker, local, misplaced, errors) = verdicts.values()
    assert [better, close, quicker, local, misplaced, errors] == ["reproduced"] * 6, verdicts
    assert others == "not testable", "there is no other captioner"
    assert best != "not reproduced", verdicts
    record = json.loads((tmp_path / "paper" / "ablation" / "ablation.json").read_text())
    assert record["seeds"] == [0, 1, 2]
    score = {one["name"]: one["metrics"]["CIDEr-D"] for one in record["variants"]}
    assert score["zero-shot"]["ci"][1] < score["encoder"]["ci"][0]
    assert score["encoder"]["ci"][1] < score["decoder"]["ci"][0]
    assert score["encoder"]["ci"][1] < score["full"]["ci"][0]
    assert all(one["sd_seeds"] is None or one["sd_seeds"] > 0 for one in score.values())
