"""Several processes learn what one learns: same order, same loss, same gradients; none hangs."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import command, environment, make_data, rows_of, run, set_to, settings

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.files import read_json
from medblip.stages.train import train
from medblip.stages.train.feed import cut, feed


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    """Nine captions in batches of four: the last batch of an epoch has one for two ranks."""
    data = make_data(tmp_path / "data", train=9)
    return settings(tiny_folder, data, "optim.label_smoothing=0.1")


def write(cfg: RunConfig, path: Path) -> Path:
    path.write_text(json.dumps(configuration.dump(cfg)))
    return path


@pytest.mark.parametrize(
    "overrides",
    [
        ("freeze.preset=full",),
        ("freeze.preset=decoder", "train.micro_batch_size=1"),
        ("freeze.preset=lora", "train.gradient_checkpointing=true"),
        ("train.sharding=fsdp",),
    ],
    ids=["full", "decoder-micro", "lora-checkpointing", "fsdp"],
)
def test_two_ranks_equal_one(cfg: RunConfig, tmp_path: Path, overrides: tuple[str, ...]) -> None:
    cfg = set_to(cfg, *overrides, "train.feature_dtype=fp32")
    train(cfg, out=tmp_path / "one")
    done = run(command(write(cfg, tmp_path / "c.json"), tmp_path / "two", ranks=2))
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_json(tmp_path / "two" / "train.json")["processes"] == 2
    for kind in ("train", "validation"):
        one, two = (rows_of(tmp_path / name, kind) for name in ("one", "two"))
        assert [r["step"] for r in one] == [r["step"] for r in two]
        assert [r["loss"] for r in two] == pytest.approx([r["loss"] for r in one], abs=2e-5)
    first = [rows_of(tmp_path / name, "train")[0] for name in ("one", "two")]
    assert first[1]["loss"] == pytest.approx(first[0]["loss"], abs=1e-6)
    assert first[1]["grad_norm"] == pytest.approx(first[0]["grad_norm"], abs=1e-5)
    one_w, two_w = (
        load_file(tmp_path / name / "checkpoints/best/model.safetensors") for name in ("one", "two")
    )
    assert one_w.keys() == two_w.keys()
    for name, weight in one_w.items():
        if not name.endswith("key.bias"):  # cancels in the softmax: AdamW scales up pure noise
            torch.testing.assert_close(two_w[name], weight, rtol=0, atol=1e-4, msg=name)


def test_gradients_of_two_ranks_equal_those_of_one(cfg: RunConfig, tmp_path: Path) -> None:
    """Each tensor, before AdamW hides differences: 1e-5."""
    script = tmp_path / "gradients.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "from medblip import config\n"
        "from medblip.engine import Engine\n"
        "from medblip.stages.train.build import build_captioner\n"
        "from medblip.stages.train.feed import feed\n"
        "from medblip.stages.train.parts import load_part\n"
        "from medblip.stages.train.step import Objective, train_step\n"
        "cfg = config.load(Path(sys.argv[1]))\n"
        "engine = Engine(cfg.train)\n"
        "captioner, _, _ = build_captioner(cfg, engine.device)\n"
        "part = load_part(cfg, captioner, 'train')\n"
        "captioner.network.train()\n"
        "objective = engine.prepare(Objective(captioner))\n"
        "optimizer = torch.optim.SGD(captioner.network.parameters(), lr=0.0)\n"
        "kept = {}\n"
        "optimizer.register_step_pre_hook(lambda *_: kept.update({n: p.grad.clone()\n"
        "    for n, p in captioner.network.named_parameters() if p.grad is not None}))\n"
        "(work,) = feed(part, [range(9)], rank=engine.rank, world=engine.world, micro=2,\n"
        "    workers=0, pin=False)\n"
        "out = train_step(objective, engine, part, work.batch, work.micros, optimizer, cfg)\n"
        "kept['loss'] = out.loss\n"
        "engine.rank == 0 and save_file(kept, sys.argv[2])\n"
        "engine.close()\n"
    )
    file = write(set_to(cfg, "optim.clip_norm=1e9"), tmp_path / "c.json")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    for ranks in (1, 2, 3):
        done = run([*launch, f"--nproc-per-node={ranks}", script, file, tmp_path / f"{ranks}.st"])
        assert done.returncode == 0, done.stderr[-3000:]
    one = load_file(tmp_path / "1.st")
    for ranks in (2, 3):
        other = load_file(tmp_path / f"{ranks}.st")
        assert other.keys() == one.keys()
        torch.testing.assert_close(other["loss"], one["loss"], rtol=0, atol=1e-6)
        for name, gradient in one.items():
            torch.testing.assert_close(other[name], gradient, rtol=0, atol=1e-5, msg=name)


class Reads:
    """Stands for `Part`: what is read is which samples."""

    def read(self, indices: list[int]) -> torch.Tensor:
        time.sleep(0.001 * (indices[0] % 3))  # threads must not overtake each other
        return torch.tensor(indices)


@pytest.mark.parametrize(("world", "workers"), list(itertools.product([1, 2, 4], [0, 2])))
def test_sample_order_does_not_depend_on_ranks_or_workers(world: int, workers: int) -> None:
    batches = [[7, 1, 5, 3], [2, 4, 0, 6], [9]]
    seen: list[list[int]] = [[] for _ in batches]
    for rank in range(world):
        part: object = Reads()
        works = feed(
            part, batches, rank=rank, world=world, micro=1, workers=workers, pin=False  # type: ignore[arg-type]
        )  # fmt: skip
        for number, work in enumerate(works):
            assert work.batch == batches[number]
            assert all(m.images.tolist() == m.indices for m in work.micros)
            seen[number] += [i for m in work.micros if m.counts for i in m.indices]
    assert [sorted(step) for step in seen] == [sorted(batch) for batch in batches]
    for batch in batches:
        shares = [cut(batch, rank, world, 1) for rank in range(world)]
        assert len({len(share) for share in shares}) == 1, "as many passes in every process"


def test_an_error_of_a_thread_is_raised_at_its_step() -> None:
    class Fails(Reads):
        def read(self, indices: list[int]) -> torch.Tensor:
            if indices[0] == 2:
                raise OSError("the disk is gone")
            return super().read(indices)

    part: object = Fails()
    works = feed(part, [[1], [2], [3]], rank=0, world=1, micro=1, workers=2, pin=False)  # type: ignore[arg-type]
    assert next(works).batch == [1]
    with pytest.raises(OSError, match="disk is gone"):
        next(works)


def test_a_run_goes_on_with_another_number_of_ranks(cfg: RunConfig, tmp_path: Path) -> None:
    """Interrupted with two processes, ended with one: as with one all along."""
    cfg = set_to(cfg, "train.epochs=12", "train.save_every=1")
    train(cfg, out=tmp_path / "whole")
    file = write(cfg, tmp_path / "c.json")
    out = tmp_path / "elastic"
    process = subprocess.Popen(
        command(file, out, ranks=2), env=environment(), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    wait_for(out / "metrics.jsonl", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    steps = len(rows_of(out, "train"))
    assert 0 < steps < 36
    train(cfg, out=out)
    one, other = (rows_of(tmp_path / name, "train") for name in ("whole", "elastic"))
    assert [r["step"] for r in other] == [r["step"] for r in one]
    assert [r["loss"] for r in other] == pytest.approx([r["loss"] for r in one], abs=1e-4)


def test_a_killed_rank_ends_the_others_within_a_minute(cfg: RunConfig, tmp_path: Path) -> None:
    cfg = set_to(cfg, "train.epochs=3000", "train.save_every=5", "train.validations=1",
                 "train.loss_validations=1")  # fmt: skip
    out = tmp_path / "run"
    process = subprocess.Popen(
        command(write(cfg, tmp_path / "c.json"), out, ranks=2), env=environment(),
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(out / "metrics.jsonl", process)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert len(children) == 2
    begun = time.monotonic()
    os.kill(int(children[-1]), signal.SIGKILL)
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert time.monotonic() - begun < 60
    assert "another process of this training is gone" in said or "SIGKILL" in said
    short = set_to(cfg)
    again = run(command(write(short, tmp_path / "c.json"), out, "--set", "train.seed=1"))
    assert "unfinished run with other settings" in again.stderr, "it is there, and resumable"


def wait_for(metrics: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run has done some steps."""
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() - begun < 120:
        if metrics.exists() and metrics.stat().st_size > 1500:
            return
        time.sleep(0.02)
    raise AssertionError(f"no steps; exit {process.poll()}")
