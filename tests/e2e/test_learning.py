"""The engine can learn: 32 phantoms by heart, in the regimes that a user would choose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from training_runs import rows_of

import medblip


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw 32 training phantoms; the validation split is a copy of them."""
    root = tmp_path_factory.mktemp("phantoms")
    medblip.phantoms(root / "drawn", images=64, seed=3)
    rows = [
        json.loads(line) for line in (root / "drawn" / "manifest.jsonl").read_text().splitlines()
    ]
    chosen = [row for row in rows if row["split"] == "train"][:32]
    assert len(chosen) == 32
    data = root / "data"
    shutil.copytree(root / "drawn" / "images", data / "images")
    copies = [
        {"id": f"{split}-{row['id']}", "image": row["image"], "split": split,
         "captions": row["captions"]}
        for split in ("train", "validation") for row in chosen
    ]  # fmt: skip
    (data / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in copies))
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    "regime",
    [
        ("freeze.preset=full",),
        ("freeze.preset=decoder",),
        ("freeze.preset=lora", "train.gradient_checkpointing=true", "optim.lr=0.003"),
    ],
    ids=["full", "decoder-cached", "lora-both-towers-checkpointing"],
)
def test_32_phantoms_are_learned_by_heart(
    by_heart: Path, tmp_path: Path, regime: tuple[str, ...]
) -> None:
    medblip.train(
        None, by_heart, tmp_path / "run", device="cpu",
        overrides=[
            *regime, "train.epochs=60", "train.validations=3", "optim.label_smoothing=0.0",
            "train.collapse=off", "optim.weight_decay=0.0",
        ],
    )  # fmt: skip
    scores = [row["CIDEr-D"] for row in rows_of(tmp_path / "run", "validation")]
    print(regime, scores)
    assert max(scores) > 8
