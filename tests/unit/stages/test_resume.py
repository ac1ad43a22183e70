"""An interrupted run goes on and ends with the very same weights; what is damaged is not taken."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from training_runs import (
    command,
    environment,
    final_weights,
    make_data,
    rows_of,
    set_to,
    settings,
)  # fmt: skip

from medblip import config as configuration
from medblip.checkpoint import newest, verify
from medblip.config import RunConfig
from medblip.errors import DataError, RunError
from medblip.files import read_json
from medblip.rundir import RunDir
from medblip.stages.train import loop, train
from medblip.stages.train.session import Session


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


@pytest.fixture
def cfg(tiny_folder: Path, data: Path) -> RunConfig:
    return settings(tiny_folder, data, "train.save_every=1", "train.epochs=3")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def train_until(monkeypatch: pytest.MonkeyPatch, step: int, cfg: RunConfig, out: Path) -> None:
    """Train until a step is about to begin, and die there."""
    healthy = Session.set_rates

    def dies(self: Session, at: int) -> float:
        if at == step:
            raise Killed
        return healthy(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "set_rates", dies)
        with pytest.raises(Killed):
            train(cfg, out=out)


@pytest.mark.parametrize(
    "regime",
    [
        ("freeze.preset=full",),
        ("freeze.preset=decoder",),
        ("freeze.preset=lora", "lora.dropout=0.1"),
        ("freeze.preset=cross-attention", "train.micro_batch_size=3", "train.save_every=4"),
    ],
    ids=lambda regime: regime[0].partition("=")[2],
)
def test_a_killed_run_ends_with_the_same_weights(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: tuple[str, ...]
) -> None:
    """Killed at steps 2 and 7 of 9, LoRA with dropout: generators go on where they were, too."""
    cfg = set_to(cfg, *regime)
    train(cfg, out=tmp_path / "whole")
    for step in (2, 7):
        train_until(monkeypatch, step, cfg, tmp_path / "killed")
        (tmp_path / "killed" / "LOCK").unlink(missing_ok=True)
    train(cfg, out=tmp_path / "killed")
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")
    for kind in ("train", "validation", "validation-loss"):
        one, other = (rows_of(tmp_path / name, kind) for name in ("whole", "killed"))
        assert [(r["step"], r["loss"]) for r in one] == [(r["step"], r["loss"]) for r in other]


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(cfg, out=tmp_path / "whole")
    train_until(monkeypatch, 0, cfg, tmp_path / "killed")
    train(cfg, out=tmp_path / "killed")
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")


def test_a_damaged_checkpoint_is_skipped_for_an_older_one(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train(cfg, out=tmp_path / "whole")
    train_until(monkeypatch, 7, cfg, tmp_path / "killed")
    file = tmp_path / "killed" / "checkpoints" / "step-000007" / "state" / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    train(cfg, out=tmp_path / "killed")
    assert "step-000007 is skipped, state/optimizer.safetensors is not what was written" in (
        capsys.readouterr().err.replace("\n", " ")
    )
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["no COMPLETE", "short", "missing", "torn COMPLETE"])
def test_no_half_written_checkpoint_is_valid(cfg: RunConfig, tmp_path: Path, damage: str) -> None:
    train(cfg, out=tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    last, faults = newest(checkpoints)
    assert last is not None
    assert (last.name, faults) == ("step-000009", {})
    file = last / "model.safetensors"
    if damage == "no COMPLETE":
        (last / "COMPLETE").unlink()
    elif damage == "torn COMPLETE":
        (last / "COMPLETE").write_text((last / "COMPLETE").read_text()[:100])
    elif damage == "missing":
        file.unlink()
    else:
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data[:-5])
    assert verify(last)
    older, faults = newest(checkpoints)
    assert older is not None
    assert older.name == "step-000008"
    assert list(faults) == ["step-000009"]


def test_checkpoints_are_kept_as_asked_and_load_alone(cfg: RunConfig, tmp_path: Path) -> None:
    from transformers import BlipForConditionalGeneration

    train(set_to(cfg, "train.keep_checkpoints=3"), out=tmp_path / "run")
    folders = sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert folders == ["best", "step-000007", "step-000008", "step-000009"]
    for name in folders:
        BlipForConditionalGeneration.from_pretrained(tmp_path / "run" / "checkpoints" / name)
    assert not list((tmp_path / "run").rglob("*.bin"))
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_other_settings_or_data_are_refused(
    cfg: RunConfig, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(monkeypatch, 4, cfg, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(RunError, match=r"optim\.lr = 0\.5"):
        train(set_to(cfg, "optim.lr=0.5"), out=tmp_path / "run")
    with pytest.raises(RunError, match="unfinished run"):
        train(cfg, out=tmp_path / "run", resume="off")
    manifest = data / "manifest.jsonl"
    text = manifest.read_text()
    manifest.write_text(text.replace("left", "right"))
    with pytest.raises(DataError, match="another manifest"):
        train(cfg, out=tmp_path / "run")
    manifest.write_text(text)
    assert {p: p.read_bytes() for p in before} == before
    train(set_to(cfg, "train.workers=0", "train.collapse=off"), out=tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_as_a_shell_expects(
    cfg: RunConfig, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "config.json"
    cfg = set_to(cfg, "train.epochs=200", "train.save_every=100000", "train.validations=1")
    file.write_text(json.dumps(configuration.dump(cfg)))
    process = subprocess.Popen(
        command(file, tmp_path / "run"), env=environment(), stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and (not metrics.exists() or metrics.stat().st_size < 2000):
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "interrupted and saved: the same command goes on" in said
    last, faults = newest(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert not faults
    step = read_json(last / "state" / "position.json")["step"]
    assert rows_of(tmp_path / "run", "train")[-1]["step"] == step
    assert not (tmp_path / "run" / "LOCK").exists()


def test_a_signal_before_the_first_step_acts_at_once(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features may take hours: nobody waits for them after Ctrl-C, and finished shards stay."""
    from medblip.models import features

    healthy = features.compute

    def interrupted(*args: object, **kwargs: object) -> None:
        healthy(*args, **kwargs)  # type: ignore[arg-type]
        signal.raise_signal(signal.SIGINT)

    cfg = set_to(cfg, "freeze.preset=decoder")
    with monkeypatch.context() as patch:
        patch.setattr(features, "compute", interrupted)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                train(cfg, out=tmp_path / "run")
        finally:
            signal.signal(signal.SIGINT, before)
    assert not (tmp_path / "run" / "LOCK").exists()
    train(cfg, out=tmp_path / "run")


def test_an_interrupted_replacement_goes_on_and_then_forgets_the_old_run(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(cfg, out=tmp_path / "run", seed=5)
    healthy = Session.set_rates

    def stops(self: Session, at: int) -> float:
        if at == 4:
            self.save()
            raise loop.Interrupted
        return healthy(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "set_rates", stops)
        with pytest.raises(KeyboardInterrupt):
            train(cfg, out=tmp_path / "run", force=True)
    assert (tmp_path / "run.old.partial" / "train.json").exists()
    train(cfg, out=tmp_path / "run")
    train(cfg, out=tmp_path / "whole")
    assert final_weights(tmp_path / "run") == final_weights(tmp_path / "whole")
    assert not (tmp_path / "run.old.partial").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError(
            "[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file"
        ),
        type("SafetensorError", (Exception,), {})(
            "I/O error: No space left on device (os error 28)"
        ),
        OSError(30, "Read-only file system"),
    ],
    ids=["OSError", "torch", "safetensors", "read-only"],
)
def test_a_disk_that_fails_during_a_save_leaves_the_earlier_checkpoint(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    train(cfg, out=tmp_path / "whole")
    import safetensors.torch

    healthy = safetensors.torch.save_file
    saved: list[int] = []

    def fails(*args: object, **kwargs: object) -> None:
        saved.append(1)
        if len(saved) > 9:
            raise error
        healthy(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", fails)
        with pytest.raises(RunError, match="earlier results are whole"):
            train(cfg, out=tmp_path / "run")
    last, faults = newest(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert not faults
    assert not list((tmp_path / "run" / "checkpoints").glob("*.partial"))
    train(cfg, out=tmp_path / "run")
    assert final_weights(tmp_path / "run") == final_weights(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_kills_at_random_moments(tiny_folder: Path, tmp_path: Path) -> None:
    """SIGKILL also during a save; at most one save interval is done again."""
    data = make_data(tmp_path / "data", train=40, watch=8)
    every = 2
    cfg = settings(
        tiny_folder, data, "train.epochs=12", f"train.save_every={every}", "train.validations=6"
    )
    file = tmp_path / "config.json"
    file.write_text(json.dumps(configuration.dump(cfg)))
    subprocess.run(command(file, tmp_path / "whole"), env=environment(), check=True)
    rng = random.Random(0)
    kills = during_save = 0
    while kills < 50:
        run = tmp_path / "killed"
        if (run / "train.json").exists():  # finished before the next kill: again, from the start
            assert final_weights(run) == final_weights(tmp_path / "whole")
            shutil.rmtree(run)
        process = subprocess.Popen(
            command(file, run), env=environment(), stderr=subprocess.PIPE, text=True
        )
        metrics, begun = run / "metrics.jsonl", _size(run / "metrics.jsonl")
        while process.poll() is None and _size(metrics) <= begun:
            time.sleep(0.01)
        steps_before = _steps(run)
        time.sleep(rng.uniform(0, 0.4))
        process.kill()
        said = process.communicate()[1]
        if process.returncode == -signal.SIGKILL:
            kills += 1
            during_save += bool(list(run.glob("checkpoints/*.partial")))
        assert "Traceback" not in said
        last, _ = newest(run / "checkpoints")
        if last is not None and steps_before:
            step = read_json(last / "state" / "position.json")["step"]
            assert step >= _steps(run) - every - 1
    subprocess.run(command(file, tmp_path / "killed"), env=environment(), check=True)
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")
    print(f"{kills} kills, {during_save} of them during a save")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _steps(run: Path) -> int:
    if not RunDir(run).metrics.exists():
        return 0
    lines = RunDir(run).metrics.read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return max(steps, default=0)
