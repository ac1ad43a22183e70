"""What the loop watches: best and patience, collapse, divergence, memory, trackers, the dry run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import TEXTS, make_data, rows_of, set_to, settings

from medblip.config import RunConfig
from medblip.errors import ConfigError, RunError
from medblip.files import read_json
from medblip.models.blip import BlipCaptioner
from medblip.models.captioner import Generated
from medblip.rundir import RunDir
from medblip.stages.train import fit, train
from medblip.stages.train.plan import plan
from medblip.stages.train.validate import collapse_of, selected


@pytest.fixture
def cfg(tiny_folder: Path, tmp_path: Path) -> RunConfig:
    return settings(tiny_folder, make_data(tmp_path / "data", train=12, watch=24))


SAME = Generated("a chest", -1.0, ("a", "chest"), (-1.0, -1.0))
REFERENCES = [[f"finding {i} in the {side} lobe"] for i in range(20) for side in ("left", "right")]
GOOD = [texts[0] for texts in REFERENCES]


@pytest.mark.parametrize(
    ("captions", "reason"),
    [
        (GOOD, None),
        (["finding 3 in the left lobe"] * 40, "2.5% of the captions are distinct"),
        ([*["normal chest"] * 30, *GOOD[:10]], "one caption is written for 75% of the images"),
        (GOOD[1:] + GOOD[:1], None),  # wrong, and of some image: not collapsed
        (
            [f"a chest x-ray number {i}" for i in range(40)],
            "another image's caption scores as well",
        ),
    ],
)
def test_collapse_is_told_from_captions_that_are_merely_wrong(
    captions: list[str], reason: str | None
) -> None:
    from medblip.metrics import evaluate_captions

    score = evaluate_captions(captions, REFERENCES, resamples=0).scores["CIDEr-D"].value
    found = collapse_of(captions, REFERENCES, score)
    if reason is None and captions is not GOOD:
        assert not any("distinct" in r or "one caption" in r for r in found.reasons)
    elif reason is None:
        assert found.reasons == ()
        assert found.swap_drop > 0.5
    else:
        assert any(reason in r for r in found.reasons), found


def test_few_captions_and_references_that_repeat_say_nothing() -> None:
    assert collapse_of(["a"] * 4, [["a"]] * 4, 0.0).reasons == ()
    assert collapse_of(["normal"] * 50, [["normal"]] * 50, 0.0).reasons == ()


def test_swapping_images_is_captioning_the_other_image(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    """Why the swap needs no second generation: a caption depends on its image alone."""
    from medblip.config import DecodeConfig

    how = DecodeConfig(num_beams=1, max_new_tokens=8)
    straight = captioner.generate(captioner.encode(pixels), how)
    swapped = captioner.generate(captioner.encode(pixels.flip(0)), how)
    assert [c.text for c, *_ in swapped] == [c.text for c, *_ in straight][::-1]


def test_a_collapsing_run_warns_or_stops(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(
        BlipCaptioner, "generate", lambda self, embeds, decode: [[SAME]] * len(embeds)
    )
    cfg = set_to(cfg, "train.validations=3", "train.epochs=3")
    train(cfg, out=tmp_path / "warns")
    said = capsys.readouterr().err
    assert "captions hardly depend on the image" in said
    assert "lower optim.lr" in said
    with pytest.raises(RunError, match="the captions have collapsed"):
        train(set_to(cfg, "train.collapse=stop"), out=tmp_path / "stops")
    assert [r["step"] for r in rows_of(tmp_path / "stops", "validation")] == [3, 6], "twice seen"
    assert (RunDir(tmp_path / "stops").checkpoint / "model.safetensors").exists()
    capsys.readouterr()
    train(set_to(cfg, "train.collapse=off"), out=tmp_path / "off")
    assert "hardly depend" not in capsys.readouterr().err


def test_the_best_is_chosen_by_what_was_asked_for() -> None:
    record = {"loss": 2.0, "CIDEr-D": 0.5, "BLEU-4": 0.25}
    assert selected("CIDEr-D", record) == 0.5
    assert selected("loss", record) == -2.0
    assert selected({"CIDEr-D": 1.0, "BLEU-4": 2.0, "loss": 0.1}, record) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("select", "known"),
    [
        ("CIDEr-D", True), ("loss", True), ("{BLEU-4 = 0.5, ROUGE-L = 0.5}", True),
        ("audit-modality", None), ("CIDEr-X", False), ("{CIDEr-D = 1.0, BLUE-4 = 1.0}", False),
    ],
)  # fmt: skip
def test_metrics_are_checked_before_the_training(
    cfg: RunConfig, tmp_path: Path, select: str, known: bool | None
) -> None:
    cfg = set_to(cfg, f"train.select={select}", "train.epochs=1", "train.validations=1")
    if known is False:
        with pytest.raises(ConfigError, match=r"did you mean (CIDEr-D|BLEU-4)\?"):
            train(cfg, out=tmp_path / "run")
        assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
    elif known:
        train(cfg, out=tmp_path / "run")
        (record,) = rows_of(tmp_path / "run", "validation")
        assert read_json(tmp_path / "run" / "train.json")["best_value"] == record["selected"]


def test_the_loss_is_measured_more_often_than_captions_are_written(
    cfg: RunConfig, tmp_path: Path
) -> None:
    train(set_to(cfg, "train.epochs=4", "train.loss_validations=6"), out=tmp_path / "run")
    assert [r["step"] for r in rows_of(tmp_path / "run", "validation")] == [6, 12]
    assert [r["step"] for r in rows_of(tmp_path / "run", "validation-loss")] == [2, 4, 8, 10]
    train(set_to(cfg, "train.epochs=4", "train.validations=12"), out=tmp_path / "other")
    both = {r["step"]: r["loss"] for r in rows_of(tmp_path / "other", "validation")}
    for row in rows_of(tmp_path / "run", "validation-loss"):
        assert row["loss"] == pytest.approx(both[row["step"]], abs=1e-6)


def test_patience_ends_a_run_that_gets_no_better(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BlipCaptioner, "generate", lambda self, embeds, decode: [[SAME]] * len(embeds)
    )
    cfg = set_to(cfg, "train.epochs=10", "train.validations=10", "train.patience=3")
    train(cfg, out=tmp_path / "run")
    record = read_json(tmp_path / "run" / "train.json")
    assert (record["steps"], record["best_step"]) == (12, 3)


@pytest.mark.parametrize(
    ("poison", "said"), [(float("nan"), "loss nan"), (1e6, "train.loss_limit")]
)
def test_divergence_stops_within_a_step_with_the_batch(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poison: float, said: str
) -> None:
    healthy = BlipCaptioner.token_losses
    calls: list[int] = []

    def poisoned(self: BlipCaptioner, *args: object) -> torch.Tensor:
        loss = healthy(self, *args)  # type: ignore[arg-type]
        if self.network.training:
            calls.append(1)
        return loss * poison if self.network.training and len(calls) > 5 else loss

    monkeypatch.setattr(BlipCaptioner, "token_losses", poisoned)
    with pytest.raises(RunError, match=said):
        train(set_to(cfg, "train.loss_validations=1", "train.validations=1"), out=tmp_path / "run")
    dump = read_json(tmp_path / "run" / "diverged.json")
    assert dump["step"] == 6
    assert len(dump["samples"]) == 4
    assert all(sample["token_ids"] for sample in dump["samples"])
    assert len(calls) == 6


def test_gradients_that_are_not_finite_change_no_weight(
    cfg: RunConfig, captioner: BlipCaptioner
) -> None:
    from medblip.engine import Engine
    from medblip.stages.train.build import build_optimizer, set_rates

    rates = {name: 0.1 for name, _ in captioner.network.named_parameters()}
    optimizer = build_optimizer(cfg, captioner, rates, "cpu")
    set_rates(optimizer, 1.0)
    before = [p.detach().clone() for p in captioner.network.parameters()]
    engine = Engine(cfg.train)
    for value in (float("inf"), float("nan"), 1.0):
        for parameter in captioner.network.parameters():
            parameter.grad = torch.full_like(parameter, value)
        norm = engine.clip(list(captioner.network.parameters()), 1.0, optimizer)
        engine.step(optimizer, norm)
        same = [torch.equal(a, b) for a, b in
                zip(before, captioner.network.parameters(), strict=True)]  # fmt: skip
        assert all(same) == (value != 1.0)


def test_out_of_memory_cuts_the_batch_and_goes_on(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    train(cfg, out=tmp_path / "whole")
    healthy = BlipCaptioner.encode

    def small(self: BlipCaptioner, pixels: torch.Tensor) -> torch.Tensor:
        if self.network.training and len(pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return healthy(self, pixels)

    monkeypatch.setattr(BlipCaptioner, "encode", small)
    train(cfg, out=tmp_path / "cut")
    assert "going on with 1 captions at a time" in capsys.readouterr().err
    assert read_json(tmp_path / "cut" / "train.json")["micro_batch_size"] == 1
    whole, cut = ([r["loss"] for r in rows_of(tmp_path / n, "train")] for n in ("whole", "cut"))
    assert cut == pytest.approx(whole, abs=1e-4)
    monkeypatch.setattr(fit, "train_step", lambda *a, **k: (_ for _ in ()).throw(
        torch.OutOfMemoryError("CUDA out of memory")))  # fmt: skip
    with pytest.raises(RunError, match="gradient_checkpointing"):
        train(cfg, out=tmp_path / "never")


def test_a_cpu_takes_no_more_than_half_of_its_memory(
    cfg: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    for left in (10**12, 1_200_000, 10):
        monkeypatch.setattr(fit, "free_bytes", lambda device, left=left: left)
        train(cfg, out=tmp_path / f"{left}")
        sizes.append(read_json(tmp_path / f"{left}" / "train.json")["micro_batch_size"])
    assert sizes[0] == 4
    assert sizes[0] > sizes[1] >= sizes[2] == 1
    one, other = (rows_of(tmp_path / n, "train")[0]["loss"] for n in (f"{10**12}", "10"))
    assert other == pytest.approx(one, abs=1e-5)


def test_a_dry_run_writes_nothing_and_tells_what_a_run_does(cfg: RunConfig, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    planned = plan(cfg, overrides=["freeze.preset=decoder"])
    assert sorted(tmp_path.rglob("*")) == before
    train(set_to(cfg, "freeze.preset=decoder"), out=tmp_path / "run")
    record = read_json(tmp_path / "run" / "train.json")
    assert planned.steps == record["steps"]
    assert planned.parameters_trainable == record["parameters_trainable"]
    kept = sum(p.stat().st_size for p in Path(cfg.data.root).glob("features/*/*.f16"))
    assert planned.feature_cache_mb == pytest.approx(kept / 1e6, abs=0.1)
    full = plan(cfg)
    assert full.feature_cache_mb == 0
    assert full.gflop_per_step > planned.gflop_per_step
    assert full.activations_mb > planned.activations_mb


def test_operations_are_counted_as_by_hand(cfg: RunConfig) -> None:
    """What full training does more than decoder-only with a cache, from the shapes.

    Three passes of the encoder (but no gradient of the pixels), and the gradient of its output
    through keys and values; fused attention computes five products in its backward pass.
    """
    full = plan(cfg).gflop_per_step
    cached = plan(cfg, overrides=["freeze.preset=decoder"]).gflop_per_step
    width, inner, layers, tokens = 32, 64, 2, 17
    linear = layers * 2 * tokens * (4 * width**2 + 2 * width * inner)
    attention = layers * 2 * tokens**2 * width
    patches = 2 * 16 * (3 * 8 * 8) * width
    pairs = layers * 2 * (2 * tokens * width**2)
    by_hand = 4 * (3 * linear + 7 * attention + 2 * patches + pairs) / 1e9
    assert full - cached == pytest.approx(by_hand, rel=0.02)


@pytest.mark.parametrize("tool", ["tensorboard"])
def test_trackers_get_what_metrics_jsonl_gets(cfg: RunConfig, tmp_path: Path, tool: str) -> None:
    pytest.importorskip(tool, reason=f"{tool} is not installed")
    train(set_to(cfg, f'track.tools=["{tool}"]'), out=tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {p.parent for p in (tmp_path / "run").rglob("events.out.tfevents*")
                 if "medblip" in str(p.parent.name)}  # fmt: skip
    events = EventAccumulator(str(folder))
    events.Reload()
    seen = [(e.step, e.value) for e in events.Scalars("train/loss")]
    rows = [(r["step"], r["loss"]) for r in rows_of(tmp_path / "run", "train")]
    assert [s for s, _ in seen] == [s for s, _ in rows]
    np.testing.assert_allclose([v for _, v in seen], [v for _, v in rows], rtol=1e-5)


def test_a_tracker_that_is_absent_is_named(cfg: RunConfig, tmp_path: Path) -> None:
    try:
        import trackio  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="trackio is not installed"):
            train(set_to(cfg, 'track.tools=["trackio"]'), out=tmp_path / "run")


def test_metrics_tell_speed_and_waiting(cfg: RunConfig, tmp_path: Path) -> None:
    train(cfg, out=tmp_path / "run")
    for row in rows_of(tmp_path / "run", "train"):
        assert row["tokens_per_s"] > row["images_per_s"] > 0
        assert 0 <= row["data_wait_share"] <= 1
    assert json.loads((tmp_path / "run" / "train.json").read_text())["data_wait_share"] < 1
    assert {t for text in TEXTS for t in text.split()}
