"""Passes with fixed inputs say what plain passes say; recording them is for a GPU alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import make_data, rows_of, set_to, settings

from medblip.config import RunConfig
from medblip.data.store import normalised, normalised_on
from medblip.models.loss import linear_cross_entropy
from medblip.stages.train import graphs, train


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    """Nine captions of three lengths in batches of four: the last batch has another size."""
    return settings(tiny_folder, make_data(tmp_path / "data", train=9))


@pytest.mark.parametrize(
    "overrides",
    [
        ("freeze.preset=full",),
        ("freeze.preset=decoder",),
        ("freeze.preset=lora", "train.micro_batch_size=2"),
        ("freeze.preset=encoder", "model.prompt=a picture of", "optim.label_smoothing=0.0"),
    ],
    ids=["full", "decoder-cached", "lora-micro", "encoder-prompt"],
)
def test_a_run_of_fixed_passes_equals_a_plain_one(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    cfg = set_to(cfg, *overrides)
    train(cfg, out=tmp_path / "plain")
    ran: list[int] = []
    healthy = graphs.Graphs.run

    def counted(self: graphs.Graphs, *args: object) -> None:
        ran.append(1)
        healthy(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(graphs.Graphs, "run", counted)
    monkeypatch.setattr(graphs, "wanted", lambda *_: True)
    train(cfg, out=tmp_path / "fixed")
    micros = 4 if "train.micro_batch_size=2" in overrides else 2
    assert len(ran) == 2 * micros, "all but the last batch of each epoch"
    for name in ("loss", "grad_norm"):
        plain, fixed = ([r[name] for r in rows_of(tmp_path / n, "train")]
                        for n in ("plain", "fixed"))  # fmt: skip
        assert fixed == pytest.approx(plain, rel=1e-3, abs=1e-5), name
    first = [rows_of(tmp_path / n, "train")[0]["loss"] for n in ("plain", "fixed")]
    assert first[1] == pytest.approx(first[0], abs=1e-6)


def test_rows_that_weigh_nothing_count_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight, bias = (torch.randn(s, generator=generator).requires_grad_()
                            for s in ((9, 8), (20, 8), (20,)))  # fmt: skip
    targets = torch.randint(0, 20, (9,), generator=generator)
    keep = torch.tensor([1.0, 0, 1, 1, 0, 0, 1, 1, 0])
    few = linear_cross_entropy(hidden[keep == 1], weight, bias, targets[keep == 1], 0.1)
    expected = torch.autograd.grad(few, [hidden, weight, bias])
    weighed = linear_cross_entropy(hidden, weight, bias, targets, 0.1, keep)
    got = torch.autograd.grad(weighed, [hidden, weight, bias])
    torch.testing.assert_close(weighed, few)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_normalised_alike_everywhere(channels: int) -> None:
    """What a GPU computes, computed here: bit for bit what the look-up table of a CPU holds."""
    raw = np.random.default_rng(0).integers(0, 256, (2, channels, 5, 4), dtype=np.uint8)
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)

    class Elsewhere:
        """Pixels that claim not to lie on the CPU."""

        device = torch.device("meta")

        def to(self, *_: object, **__: object) -> torch.Tensor:
            return torch.from_numpy(raw)

    pixels: object = Elsewhere()
    there = normalised_on(torch.device("cpu"), pixels, mean, std)  # type: ignore[arg-type]
    assert torch.equal(there, normalised(raw, mean, std))


def test_what_cannot_be_recorded_runs_as_it_is(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train(cfg, out=tmp_path / "plain")

    def fails(self: graphs.Graphs, *_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graphs.Graphs, "_recorded", fails)
    monkeypatch.setattr(graphs, "wanted", lambda *_: True)
    train(cfg, out=tmp_path / "fallen back")
    assert "passes cannot be recorded as CUDA graphs (operation not permitted" in (
        capsys.readouterr().err
    )
    one, other = ([r["loss"] for r in rows_of(tmp_path / n, "train")]
                  for n in ("plain", "fallen back"))  # fmt: skip
    assert one == other
