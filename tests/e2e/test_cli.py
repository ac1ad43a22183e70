"""The whole job through the command line, on phantoms and on real images; every step a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medblip.schema import read_predictions

pytestmark = pytest.mark.timeout(900)  # every command is a process, on a machine that may be busy

FAST = [
    "--set",
    "train.epochs=1",
    "--set",
    "train.validations=1",
    "--set",
    "train.validation_images=16",
]
SHORT = ["--set", "decode.max_new_tokens=16", "--set", "decode.num_beams=1"]


def medblip(
    *arguments: object, code: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line; check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "medblip", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def as_json(*arguments: object) -> dict[str, Any]:
    """Run with --json and return the object on the last line of standard output."""
    return dict(json.loads(medblip(*arguments, "--json").stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, a zero-shot run and a trained run, captioned and scored."""
    root = tmp_path_factory.mktemp("study")
    as_json("data", "phantoms", "--out", root / "data", "--images", 120, "--seed", 3)
    as_json("train", "--data", root / "data", "--out", root / "full", *FAST, *SHORT)
    as_json("caption", root / "full")
    as_json("caption", root / "zero", "--model", "bundled", "--data", root / "data", *SHORT)
    for name in ("zero", "full"):
        as_json("evaluate", root / name, "--data", root / "data", "--no-meteor")
    return root


def test_every_stage_leaves_its_files(study: Path) -> None:
    assert {p.name for p in (study / "full").iterdir()} == {
        "config.json", "environment.json", "trainable.json", "metrics.jsonl", "checkpoints",
        "train.json", "data.json", "predictions", "scores",
    }  # fmt: skip
    captions = read_predictions(study / "full" / "predictions" / "test.jsonl")
    assert len(captions) == 12
    assert all(caption.logprob is not None and caption.logprob < 0 for caption in captions)
    scores = json.loads((study / "full" / "scores" / "test.json").read_text())
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D", "fact-modality", "fact-side"):
        score = scores["metrics"][name]
        assert score["ci"][0] <= score["value"] <= score["ci"][1]
        assert score["signature"].startswith(name)
    assert scores["metrics"]["BLEU-1"]["n"] == 12
    assert len((study / "full" / "scores" / "test.per_image.jsonl").read_text().splitlines()) == 12


def test_compare_explain_and_report(study: Path) -> None:
    compared = as_json("compare", study / "zero", study / "full", "--out", study / "c.json")
    row = next(r for r in compared["rows"] if r["metric"] == "CIDEr-D")
    assert row["system"] == "full"
    assert row["difference"] == pytest.approx(row["value"] - row["baseline_value"], abs=1e-9)
    assert 0 < row["p"] <= row["p_holm"] <= 1
    explained = as_json("explain", study / "full", "--limit", 3)
    assert explained["images"] == 3
    maps = json.loads((study / "full" / "maps" / "test.json").read_text())
    for image in maps["images"]:
        assert len(image["words"]) == len(image["maps"])
        for values in image["maps"]:
            assert sum(values) == pytest.approx(1, abs=1e-3)
    page = Path(as_json("report", study / "full")["report"])
    assert page == study / "full" / "report.html"
    text = page.read_text()
    assert maps["images"][0]["id"] in text
    both = as_json(
        "report", study / "zero", study / "full", "--data", study / "data",
        "--comparison", study / "c.json", "--out", study / "both.html",
    )  # fmt: skip
    assert Path(both["report"]).stat().st_size < 15_000_000


def test_finished_work_is_not_overwritten(study: Path) -> None:
    before = (study / "full" / "predictions" / "test.jsonl").read_bytes()
    for command in (
        ["caption", study / "full"],
        ["evaluate", study / "full"],
        ["train", "--out", study / "full"],
    ):
        message = medblip(*command, code=2).stderr
        assert "--force" in message
    assert (study / "full" / "predictions" / "test.jsonl").read_bytes() == before


def test_maps_need_the_data_that_was_captioned(study: Path, tmp_path: Path) -> None:
    as_json("data", "phantoms", "--out", tmp_path / "fewer", "--images", 10)
    message = medblip("explain", study / "full", "--data", tmp_path / "fewer", code=2).stderr
    assert "lacks images that were captioned" in message
    assert "--data" in message


def test_scores_of_replaced_captions_are_not_kept(study: Path, tmp_path: Path) -> None:
    run = shutil.copytree(study / "zero", tmp_path / "zero")
    assert (run / "scores" / "test.json").exists()
    as_json("caption", run, "--model", "bundled", "--data", study / "data", *SHORT, "--force")
    assert not (run / "scores" / "test.json").exists()
    assert "no scores" in medblip("report", run, code=2).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "prepare", "EMPTY", "--out", "x"], ["got:", "expected:", "do:"]),
        (["data", "prepare", "absent", "--out", "x"], ["absent", "do:"]),
        (["train", "--set", "train.epoch=3"], ["unknown key train.epoch", "epochs"]),
        (["train", "--config", "none.toml"], ["none.toml", "do:"]),
        (["train", "--data", "EMPTY"], ["not a prepared data set", "do:"]),
        (["caption", "EMPTY"], ["no trained captioner", "medblip train"]),
        (["evaluate", "EMPTY"], ["no captions", "medblip caption"]),
        (["compare", "EMPTY"], ["nothing to compare"]),
        (["report", "EMPTY"], ["got:", "do:"]),
        (["data", "phantoms", "--out", "x", "--images", "3"], ["at least 10"]),
        (["nonsense"], ["nonsense"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_ends_with_a_clear_message(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    done = medblip(*arguments, code=2, cwd=tmp_path)
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("EMPTY", "runs")] == []


def test_an_unknown_captioner_is_named(study: Path, tmp_path: Path) -> None:
    zero = ["caption", "x", "--model", "./nowhere", "--data", study / "data"]
    message = medblip(*zero, code=2, cwd=tmp_path).stderr
    assert "captioner not found" in message
    assert "./nowhere" in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_with_a_missing_image(study: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text((study / "data" / "manifest.jsonl").read_text())
    message = medblip("train", "--data", tmp_path, "--out", tmp_path / "run", code=2).stderr
    assert "images/phantom-000000.png" in message


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_says_so_and_leaves_the_old_run(
    study: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = tmp_path / "run"
    arguments = [
        "train",
        "--data",
        study / "data",
        "--out",
        run,
        *FAST,
        "--set",
        "train.epochs=500",
    ]
    (run / "checkpoints").mkdir(parents=True)
    (run / "train.json").write_text("an earlier run")
    process = subprocess.Popen(
        [sys.executable, "-m", "medblip", *map(str, arguments), "--force"],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "200"},
    )  # fmt: skip
    try:
        while not (run / "metrics.jsonl").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate()
    finally:
        process.kill()  # where pytest's timeout struck; otherwise it has ended
    assert process.returncode == code, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert (tmp_path / "run.old.partial" / "train.json").read_text() == "an earlier run"
    assert list((run / "checkpoints").glob("step-*/COMPLETE"))
    # another run in its place gives the old one back first
    medblip("train", "--data", study / "data", "--out", run, *FAST, code=2)
    assert (run / "train.json").read_text() == "an earlier run"
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_real_images_from_table_to_report(shared_data: Path, tmp_path: Path) -> None:
    """900 open radiology images: prepare, fine-tune, caption, score, report."""
    prepared = as_json(
        "data", "prepare", shared_data / "radiology-open", "--out", tmp_path / "data"
    )
    assert prepared["images"] == 900
    as_json("train", "--data", tmp_path / "data", "--out", tmp_path / "run", *FAST, *SHORT)
    assert as_json("caption", tmp_path / "run", "--split", "validation")["images"] == 31
    scores = as_json("evaluate", tmp_path / "run", "--split", "validation")["scores"]
    assert scores["ROUGE-L"]["value"] > 0
    page = Path(as_json("report", tmp_path / "run", "--split", "validation")["report"])
    assert "covid" in page.read_text().lower()
