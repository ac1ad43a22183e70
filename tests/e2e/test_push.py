"""`medblip card` and `medblip push` as a user calls them; what was pushed captions from the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import hub_uploads
import pytest
import training_runs
from hub_uploads import TOKEN

from medblip.schema import read_predictions

pytestmark = pytest.mark.timeout(600)  # processes, on a machine that may be busy


def medblip(
    *arguments: object, env: dict[str, str], code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "medblip", *map(str, arguments)],
        capture_output=True, text=True, env=os.environ | env,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


def test_pushed_and_used_from_the_hub(tmp_path: Path) -> None:
    data = training_runs.make_data(tmp_path / "data")
    training = training_runs.settings(Path("bundled"), data, "train.epochs=1")
    from medblip import caption, train

    train(training, out=tmp_path / "run")
    caption(tmp_path / "run", data, device="cpu")
    with hub_uploads.running() as hub:
        env = hub.environment(tmp_path / "home") | {"HF_TOKEN": TOKEN}
        card = json.loads(medblip("card", tmp_path / "run", "--json", env=env).stdout)
        assert card["kind"] == "model"
        assert "scores: the run was not evaluated" in card["missing"]
        dry = medblip("push", tmp_path / "run", "ann/radiology", "--dry-run", env=env)
        assert "library_name: transformers" in dry.stdout
        assert hub.requests == []
        told = medblip("push", tmp_path / "run", "ann/radiology", "--json", env=env).stdout
        done = json.loads(told.splitlines()[-1])
        assert done["commit"] == hub.repos["ann/radiology"].refs["main"]
        assert hub.repos["ann/radiology"].private
        no = medblip("push", tmp_path / "run", "ann/radiology", env=env | {"HF_TOKEN": ""}, code=2)
        assert "no access token" in no.stderr
        medblip(
            "caption", tmp_path / "again", "--model", "ann/radiology", "--data", data,
            "--device", "cpu", "--set", "decode.max_new_tokens=8", env=env,
        )  # fmt: skip
    here, there = (
        [(p.id, p.caption) for p in read_predictions(run / "predictions" / "test.jsonl")]
        for run in (tmp_path / "run", tmp_path / "again")
    )
    assert there == here
