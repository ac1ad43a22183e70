"""`medblip caption`, killed at random moments: one row per image, the bytes of a quiet run."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from training_runs import environment

import medblip


def command(data: Path, out: Path) -> list[str]:
    return [
        sys.executable, "-m", "medblip", "caption", str(out), "--model", "bundled",
        "--data", str(data), "--device", "cpu", "--set", "decode.batch_size=2",
    ]  # fmt: skip


def run_to_end(data: Path, out: Path) -> float:
    begun = time.monotonic()
    done = subprocess.run(
        command(data, out), capture_output=True, text=True, env=environment(), timeout=280
    )
    assert done.returncode == 0, done.stderr
    return time.monotonic() - begun


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kills", "images"), [(3, 150), pytest.param(20, 800, marks=pytest.mark.slow)]
)
def test_one_row_per_image(tmp_path: Path, kills: int, images: int) -> None:
    data, quiet, killed = tmp_path / "data", tmp_path / "quiet", tmp_path / "killed"
    medblip.phantoms(data, images=images, seed=1)
    whole = run_to_end(data, quiet)
    draw, landed = random.Random(0), 0
    journal = killed / "predictions" / "test.jsonl.unfinished" / "rows-0.jsonl"
    for number in range(kills):
        if (killed / "predictions" / "test.jsonl").exists():
            break
        child = subprocess.Popen(
            command(data, killed), env=environment(), stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        before = journal.stat().st_size if journal.exists() else 0
        limit = time.monotonic() + 60
        while child.poll() is None and time.monotonic() < limit:  # until it writes, every other one
            if number % 2 or (journal.exists() and journal.stat().st_size > before):
                break
            time.sleep(0.01)
        time.sleep(draw.uniform(0, whole / 2 if number % 2 else 0.1))
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            landed += 1
        child.wait()
    assert landed >= kills * 0.8
    run_to_end(data, killed)
    expected = (quiet / "predictions" / "test.jsonl").read_bytes()
    assert (killed / "predictions" / "test.jsonl").read_bytes() == expected
    ids = [json.loads(line)["id"] for line in expected.splitlines()]
    assert len(ids) == len(set(ids)) > 0
    assert not journal.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_what_is_kept(tmp_path: Path, number: signal.Signals) -> None:
    medblip.phantoms(tmp_path / "data", images=400, seed=1)
    child = subprocess.Popen(
        command(tmp_path / "data", tmp_path / "run"), env=environment(), text=True,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    journal = tmp_path / "run" / "predictions" / "test.jsonl.unfinished" / "rows-0.jsonl"
    while child.poll() is None and not (journal.exists() and journal.stat().st_size):
        time.sleep(0.01)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert "images are kept; the same command goes on from there" in said
    assert "Traceback" not in said
