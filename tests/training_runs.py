"""What the tests of training share: a small data set, quick settings, and a run as a process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.rundir import RunDir
from medblip.schema import Example, dump_jsonl

TEXTS = ("normal chest x - ray", "left pleural effusion", "right nodule with no effusion")


def make_data(root: Path, train: int = 12, watch: int = 4, test: int = 4) -> Path:
    """Write small images whose brightness decides the caption."""
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(train + watch + test):
        kind = index % 3
        pixels = rng.normal(60 + 70 * kind, 10, (32, 32)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        split = "train" if index < train else "validation" if index < train + watch else "test"
        rows.append(
            Example(
                id=str(index), image=f"images/{index}.png", split=split, captions=(TEXTS[kind],)
            )
        )
    (root / "manifest.jsonl").write_text(dump_jsonl(rows))
    return root


def settings(model: Path, data: Path, *overrides: str) -> RunConfig:
    """Return quick settings on the CPU."""
    return configuration.load(
        None,
        [
            f"model.name={model}", f"data.root={data}", "train.epochs=2", "train.batch_size=4",
            "train.validations=2", "train.device=cpu", "decode.max_new_tokens=8", "optim.lr=0.003",
            *overrides,
        ],
    )  # fmt: skip


def set_to(cfg: RunConfig, *overrides: str) -> RunConfig:
    """Return settings with some changed."""
    return configuration.parse(configuration.apply_overrides(configuration.dump(cfg), overrides))


def rows_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return the records of one kind."""
    rows = [json.loads(line) for line in RunDir(run).metrics.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def final_weights(run: Path) -> dict[str, str]:
    """Return SHA-256 of the best and of the last weights."""
    last = max((run / "checkpoints").glob("step-*"))
    return {
        name: hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
        for name, folder in (("best", run / "checkpoints" / "best"), (last.name, last))
    }


def command(cfg_file: Path, out: Path, *more: str, ranks: int = 1) -> list[str]:
    """Return `medblip train` as a process, by torchrun for several ranks."""
    launch = [sys.executable, "-m"]
    if ranks > 1:
        launch += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
    return [*launch, "medblip", "train", "--config", str(cfg_file), "--out", str(out), *more]


def environment() -> dict[str, str]:
    """Return an environment in which a process computes as this one does."""
    only = {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    return os.environ | only | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it says."""
    return subprocess.run(
        *args, capture_output=True, text=True, env=environment(), timeout=280, **kwargs
    )
