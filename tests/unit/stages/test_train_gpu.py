"""What only a GPU shows: bf16, features that stay on it, memory that runs out, exact resume there.

Each has a twin on the CPU in test_train.py, test_resume.py and test_train_more.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_runs import final_weights, make_data, rows_of, set_to, settings

from medblip.config import RunConfig
from medblip.files import read_json
from medblip.stages.train import train
from medblip.stages.train.session import Session

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # that an attention is not deterministic by default, and torch.compile's own
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    data = make_data(tmp_path / "data")
    return set_to(settings(tiny_folder, data), "train.device=cuda", "train.save_every=1")


@pytest.mark.parametrize("preset", ["full", "decoder", "lora"])
def test_losses_on_the_gpu_are_those_of_the_cpu(
    cfg: RunConfig, tmp_path: Path, preset: str
) -> None:
    cfg = set_to(cfg, f"freeze.preset={preset}", 'lora.towers=["text"]')
    train(set_to(cfg, "train.device=cpu"), out=tmp_path / "cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    train(set_to(cfg, "train.precision=fp32"), out=tmp_path / "fp32")
    train(cfg, out=tmp_path / "bf16")
    cpu, fp32, bf16 = ([r["loss"] for r in rows_of(tmp_path / n, "train")]
                       for n in ("cpu", "fp32", "bf16"))  # fmt: skip
    assert fp32[0] == pytest.approx(cpu[0], abs=1e-5)
    assert fp32 == pytest.approx(cpu, abs=1e-3)
    assert bf16 == pytest.approx(cpu, rel=0.05)
    assert read_json(tmp_path / "bf16" / "train.json")["precision"] == "bf16"


def test_a_killed_run_ends_with_the_same_weights(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    cfg = set_to(cfg, "freeze.preset=lora", "lora.dropout=0.1")
    train(cfg, out=tmp_path / "whole")
    healthy = Session.set_rates

    def dies(self: Session, at: int) -> float:
        if at == 4:
            raise KeyError("killed")
        return healthy(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "set_rates", dies)
        with pytest.raises(KeyError):
            train(cfg, out=tmp_path / "killed")
    train(cfg, out=tmp_path / "killed")
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")


def test_a_batch_that_does_not_fit_is_cut(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "data", train=1024)
    cfg = set_to(settings(tiny_folder, data), "train.device=cuda", "train.batch_size=1024",
                 "train.epochs=1", "train.validations=1")  # fmt: skip
    train(cfg, out=tmp_path / "whole")
    torch.cuda.empty_cache()
    peak = read_json(tmp_path / "whole" / "train.json")["peak_memory_mb"] * 1e6
    torch.cuda.set_per_process_memory_fraction(0.7 * peak / torch.cuda.mem_get_info()[1])
    try:
        train(cfg, out=tmp_path / "cut")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "do not fit into memory at once" in capsys.readouterr().err.replace("\n", " ")
    whole, cut = (read_json(tmp_path / n / "train.json")["micro_batch_size"]
                  for n in ("whole", "cut"))  # fmt: skip
    assert cut < whole == 1024
    one, other = (rows_of(tmp_path / n, "train")[0]["loss"] for n in ("whole", "cut"))
    assert other == pytest.approx(one, abs=1e-4)


def test_features_stay_on_the_gpu(cfg: RunConfig, tmp_path: Path) -> None:
    cfg = set_to(cfg, "freeze.preset=decoder")
    train(cfg, out=tmp_path / "cached")
    train(set_to(cfg, "train.feature_cache=off"), out=tmp_path / "live")
    cached, live = ([r["loss"] for r in rows_of(tmp_path / n, "train")]
                    for n in ("cached", "live"))  # fmt: skip
    assert cached == pytest.approx(live, rel=0.05)


def test_fp16_scales_its_loss(cfg: RunConfig, tmp_path: Path) -> None:
    train(set_to(cfg, "train.precision=fp16", "train.epochs=6"), out=tmp_path / "run")
    losses = [r["loss"] for r in rows_of(tmp_path / "run", "train")]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("preset", ["full", "decoder"])
def test_recorded_passes_say_what_plain_ones_say(
    cfg: RunConfig, tmp_path: Path, preset: str
) -> None:
    cfg = set_to(cfg, f"freeze.preset={preset}", "train.precision=fp32", "train.epochs=4")
    train(cfg, out=tmp_path / "plain")
    train(set_to(cfg, "train.compile=true"), out=tmp_path / "recorded")
    plain, recorded = ([r["loss"] for r in rows_of(tmp_path / n, "train")]
                       for n in ("plain", "recorded"))  # fmt: skip
    assert recorded == pytest.approx(plain, abs=1e-3)
