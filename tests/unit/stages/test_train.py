"""Training: right objective, reproducible, damages nothing, cannot see the test split."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_runs import TEXTS, make_data, rows_of, set_to, settings

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.engine import Engine
from medblip.errors import ConfigError, DataError, RunError
from medblip.files import read_json
from medblip.models.blip import BlipCaptioner
from medblip.models.loading import Loading
from medblip.rundir import RunDir
from medblip.schema import read_predictions
from medblip.stages.caption import caption
from medblip.stages.train import state, train
from medblip.stages.train.feed import Micro
from medblip.stages.train.parts import Part
from medblip.stages.train.step import Objective, train_step


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data")


@pytest.fixture
def cfg(tiny_folder: Path, data: Path) -> RunConfig:
    return settings(tiny_folder, data)


class FixedPixels:
    """Stands for `Pixels`."""

    def __init__(self, pixels: torch.Tensor) -> None:
        self.pixels = pixels

    def raw_batch(self, indices: list[int]) -> np.ndarray:
        return self.pixels[indices].numpy()


def weights(run: Path) -> bytes:
    return (RunDir(run).checkpoint / "model.safetensors").read_bytes()


def test_a_run_leaves_what_the_next_stages_read(cfg: RunConfig, tmp_path: Path) -> None:
    result = train(cfg, out=tmp_path / "run")
    run = RunDir(tmp_path / "run")
    settled = dataclasses.replace(cfg.model, prompt="")  # as the captioner was trained
    assert configuration.load(run.config) == dataclasses.replace(cfg, model=settled)
    assert read_json(run.completion)["steps"] == 6
    assert read_json(run.completion)["best_step"] == result.best_step
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [3, 6]
    assert read_json(run.environment)["versions"]["torch"] == torch.__version__
    table = read_json(run.trainable)
    assert table["trainable"] == table["total"] == read_json(run.completion)["parameters_total"]
    assert not (run.path / "LOCK").exists()
    written = caption(run.path, split="test", device="cpu")
    assert written.images == 4
    assert len(read_predictions(run.predictions("test"))) == 4


def test_two_runs_are_bitwise_equal_and_a_seed_changes_them(cfg: RunConfig, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(cfg, out=tmp_path / name)
    train(cfg, out=tmp_path / "c", seed=1)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


def test_the_callers_random_state_is_left_alone(cfg: RunConfig, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train(cfg, out=tmp_path / "run")
    assert torch.equal(before, torch.get_rng_state())


def test_micro_batches_do_not_change_the_objective(
    captioner: BlipCaptioner, cfg: RunConfig
) -> None:
    """Captions of unequal length, cut 1 x 4, 2 x 2 and 4 x 1: same loss, same gradients."""
    raw = (torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 255).byte()
    ids = captioner.tokenize([*TEXTS, "a"], 64)
    part = Part(FixedPixels(raw), ids, [], [0, 1, 2, 3], list("abcd"))  # type: ignore[arg-type]
    seen = []
    for size in (4, 2, 1):
        captioner.network.zero_grad()
        optimizer = torch.optim.SGD(captioner.network.parameters(), lr=0.0)
        grads: dict[str, torch.Tensor] = {}
        optimizer.register_step_pre_hook(
            lambda *_, grads=grads: grads.update(
                {
                    n: p.grad.clone()
                    for n, p in captioner.network.named_parameters()
                    if p.grad is not None
                }
            )
        )
        cut = [list(range(i, i + size)) for i in range(0, 4, size)]
        micros = [Micro(some, part.read(some)) for some in cut]
        outcome = train_step(
            Objective(captioner), Engine(cfg.train), part, range(4), micros, optimizer, cfg
        )
        seen.append((float(outcome.loss), grads))
    for loss, grads in seen[1:]:
        assert loss == pytest.approx(seen[0][0], abs=1e-6)
        for name, grad in grads.items():
            torch.testing.assert_close(grad, seen[0][1][name], rtol=1e-4, atol=1e-6)


def test_four_images_can_be_learned_by_heart(cfg: RunConfig, tmp_path: Path) -> None:
    train(
        set_to(
            cfg,
            "train.epochs=60",
            "train.validations=1",
            "optim.label_smoothing=0.0",
            "optim.lr=0.01",
        ),
        out=tmp_path / "run",
    )
    rows = [json.loads(line) for line in RunDir(tmp_path / "run").metrics.read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < 0.1 < losses[0]


@pytest.mark.parametrize("preset", ["encoder", "decoder", "lora"])
def test_every_regime_runs_and_loads_as_a_plain_model(
    cfg: RunConfig, tmp_path: Path, preset: str
) -> None:
    train(set_to(cfg, f"freeze.preset={preset}"), out=tmp_path / "run")
    record = read_json(RunDir(tmp_path / "run").completion)
    assert 0 < record["parameters_trainable"] < record["parameters_total"]
    loaded = BlipCaptioner.load(Loading(source=str(RunDir(tmp_path / "run").checkpoint)), "")
    before = BlipCaptioner.load(Loading(source=cfg.model.name), "")
    changed = {
        name.split(".")[0]
        for (name, a), (_, b) in zip(
            loaded.network.named_parameters(), before.network.named_parameters(), strict=True
        )
        if not torch.equal(a, b)
    }
    towers = {"encoder": {"vision_model"}, "decoder": {"text_decoder"}}
    assert changed == towers.get(preset, {"vision_model", "text_decoder"})


def test_gradient_checkpointing_with_lora_trains(cfg: RunConfig, tmp_path: Path) -> None:
    """transformers adds position embeddings in place: that fails on a leaf with a gradient."""
    cfg = set_to(cfg, "freeze.preset=lora", "train.gradient_checkpointing=true", "train.epochs=1")
    train(cfg, out=tmp_path / "run")
    assert read_json(RunDir(tmp_path / "run").completion)["steps"] == 3


def test_the_test_split_is_never_opened(cfg: RunConfig, data: Path, tmp_path: Path) -> None:
    for index in range(16, 20):
        (data / "images" / f"{index}.png").write_bytes(b"not an image")
    train(cfg, out=tmp_path / "run")


def test_shuffled_references_give_identical_captions(
    cfg: RunConfig, data: Path, tmp_path: Path
) -> None:
    """No reference can leak into generation as a prompt."""
    train(cfg, out=tmp_path / "run")
    caption(tmp_path / "run", split="test", device="cpu")
    first = RunDir(tmp_path / "run").predictions("test").read_bytes()
    manifest = data / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace("left", "swapped").replace("right", "left"))
    caption(tmp_path / "run", split="test", device="cpu", force=True)
    assert RunDir(tmp_path / "run").predictions("test").read_bytes() == first


def test_a_taken_folder_is_refused_and_force_replaces_it(cfg: RunConfig, tmp_path: Path) -> None:
    train(cfg, out=tmp_path / "run")
    before = weights(tmp_path / "run")
    with pytest.raises(RunError, match="a finished run"):
        train(cfg, out=tmp_path / "run", seed=5)
    assert weights(tmp_path / "run") == before
    train(cfg, out=tmp_path / "run", seed=5, force=True)
    assert weights(tmp_path / "run") != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "run"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_replacement_gives_the_old_run_back(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    train(cfg, out=tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(state, "save", fail)
    with pytest.raises(type(error)):
        train(cfg, out=tmp_path / "run", seed=5, force=True)
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_a_diverging_run_stops_and_keeps_its_best(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = BlipCaptioner.token_losses
    calls = []

    def poisoned(self: BlipCaptioner, *args: object) -> torch.Tensor:
        loss = healthy(self, *args)  # type: ignore[arg-type]
        if not self.network.training:
            return loss
        calls.append(1)
        return loss * float("nan") if len(calls) > 4 else loss

    monkeypatch.setattr(BlipCaptioner, "token_losses", poisoned)
    with pytest.raises(RunError, match="diverged"):
        train(cfg, out=tmp_path / "run")
    assert (RunDir(tmp_path / "run").checkpoint / "model.safetensors").exists()
    assert not RunDir(tmp_path / "run").completion.exists()


def test_missing_splits_images_and_devices_are_named(
    cfg: RunConfig, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="device not available"):
        train(cfg, out=tmp_path / "run", device="cuda:77")
    (data / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"images/3\.png"):
        train(cfg, out=tmp_path / "run")
    with pytest.raises(DataError, match="not a prepared data set"):
        train(cfg, data=tmp_path / "nowhere", out=tmp_path / "run")
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("preset", ["decoder", "lora"])
def test_cached_features_train_the_same_weights(
    cfg: RunConfig, tmp_path: Path, preset: str
) -> None:
    """A frozen encoder's output is a constant: once per image or once per step, same result."""
    frozen = set_to(cfg, f"freeze.preset={preset}", 'lora.towers=["text"]')
    for name, size in (("cached", "auto"), ("live", "off")):
        train(
            set_to(frozen, f"train.feature_cache={size}", "train.feature_dtype=fp32"),
            out=tmp_path / name,
        )
    seconds = {n: read_json(tmp_path / n / "train.json") for n in ("cached", "live")}
    assert seconds["cached"]["seconds_in_features"] > 0
    assert seconds["live"]["seconds_in_features"] == 0
    cached, live = (load_file(tmp_path / n / "checkpoints/best/model.safetensors") for n in seconds)
    losses = {n: [row["loss"] for row in rows_of(tmp_path / n, "train")] for n in seconds}
    assert losses["cached"] == pytest.approx(losses["live"], abs=1e-5)
    for name, weight in live.items():
        if not name.endswith("key.bias"):  # cancels in the softmax: AdamW scales up pure noise
            torch.testing.assert_close(cached[name], weight, rtol=0, atol=2e-5)


def test_a_training_encoder_is_never_cached(cfg: RunConfig, tmp_path: Path) -> None:
    train(set_to(cfg, "freeze.preset=encoder"), out=tmp_path / "run")
    assert read_json(tmp_path / "run" / "train.json")["seconds_in_features"] == 0
