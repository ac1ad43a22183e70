"""Every family through `train`, `caption` and `explain`, with the regimes of its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from published import published
from training_runs import final_weights, make_data
from transformers import AutoModelForImageTextToText, VisionEncoderDecoderModel

from medblip.config import RunConfig, parse
from medblip.files import read_json
from medblip.rundir import RunDir
from medblip.schema import read_predictions
from medblip.stages.caption import caption
from medblip.stages.explain import explain
from medblip.stages.train import train
from medblip.stages.train.session import Session

CASES = [
    ("blip2-opt-2.7b", "connector"),
    ("instructblip-flan-t5-xl", "connector-lora"),
    ("vit-gpt2", "lora"),
    ("blip-base", "adapter"),
    ("llava", "connector-lora"),
    ("qwen2-vl", "lora"),
]


def settings(model: Path, data: Path, preset: str) -> RunConfig:
    return parse({
        "data": {"root": str(data), "max_tokens": 12}, "model": {"name": str(model)},
        "freeze": {"preset": preset}, "lora": {"rank": 2, "train_embeddings": False},
        "adapter": {"width": 4, "train_embeddings": False},
        "optim": {"lr": 1e-3, "words_factor": 1.0},
        "train": {"epochs": 1, "batch_size": 4, "validations": 1, "validation_images": 2,
                  "loss_validations": 1, "device": "cpu", "select": "loss", "workers": 0,
                  "save_every": 1},
        "decode": {"max_new_tokens": 4, "num_beams": 2, "batch_size": 4},
    })  # fmt: skip


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_train_caption_explain(name: str, preset: str, tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    cfg = settings(published(name, tmp_path / name), data, preset)
    train(cfg, out=tmp_path / "run")
    run = RunDir(tmp_path / "run")
    record = read_json(run.completion)
    assert 0 < record["parameters_trainable"] < record["parameters_total"]
    assert read_json(run.config)["model"]["prompt"] is not None
    kind: Any = VisionEncoderDecoderModel if name == "vit-gpt2" else AutoModelForImageTextToText
    assert kind.from_pretrained(run.checkpoint) is not None
    caption(run.path, split="validation", device="cpu")
    rows = list(read_predictions(run.predictions("validation")))
    assert rows
    made = read_json(run.predictions("validation").with_suffix(".json"))
    assert made["prompt"] == read_json(run.config)["model"]["prompt"]
    explain(run.path, split="validation", limit=1, device="cpu")
    assert read_json(run.maps("validation"))["images"]


@pytest.mark.parametrize(("name", "preset"), [("blip-base", "adapter"), ("llava", "lora")])
def test_a_killed_run_ends_with_the_same_weights(
    name: str, preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "data")
    cfg = settings(published(name, tmp_path / name), data, preset)
    train(cfg, out=tmp_path / "whole")
    healthy = Session.set_rates

    def dies(self: Session, at: int) -> float:
        if at == 2:
            raise KeyError("killed")
        return healthy(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "set_rates", dies)
        with pytest.raises(KeyError):
            train(cfg, out=tmp_path / "killed")
    train(cfg, out=tmp_path / "killed")
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")
    best = [
        RunDir(tmp_path / n).checkpoint / "bottlenecks.safetensors" for n in ("whole", "killed")
    ]
    assert best[0].exists() == (preset == "adapter")
    if preset == "adapter":
        assert best[0].read_bytes() == best[1].read_bytes()
