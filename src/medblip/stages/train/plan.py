"""`train --dry-run`: what would be trained, what it takes, how long; nothing is written.

Operations and memory are counted while a real micro-batch runs, and the time is that of real steps
on this machine, so the answer needs no table of devices.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.config import RunConfig, resolve

if TYPE_CHECKING:
    import torch

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.stages.train.parts import Part

__all__ = ["Planned", "gflop_per_step", "plan"]

#: Real steps that are timed, after one that warms up; their batches are taken across the lengths.
_TIMED = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """What a training would be.

    Args:
        parameters_total: Scalars in the network.
        parameters_trainable: Of which train.
        captions: Samples of the training split.
        steps: Optimizer steps.
        micro_batch_size: Captions per forward pass.
        padding_share: Padding tokens / all tokens, in the first epoch.
        gflop_per_step: Floating-point operations of forward and backward passes, a multiply-add
            counts two; the encoder's are left out where its features are cached.
        weights_mb: Weights, gradients and AdamW's state.
        activations_mb: What one forward pass keeps for the backward pass.
        feature_cache_mb: Disk space of a frozen encoder's features; 0: none are kept.
        feature_seconds: Time to compute them, once.
        seconds_per_step: Measured.
        hours: Of the whole training without validation.
        rules: The match table.
    """

    parameters_total: int
    parameters_trainable: int
    captions: int
    steps: int
    micro_batch_size: int
    padding_share: float
    gflop_per_step: float
    weights_mb: float
    activations_mb: float
    feature_cache_mb: float
    feature_seconds: float
    seconds_per_step: float
    hours: float
    device: str
    precision: str
    rules: list[dict[str, Any]]


def plan(
    config: Path | str | RunConfig | None = None,
    data: Path | str | None = None,
    *,
    overrides: list[str] | tuple[str, ...] = (),
    seed: int | None = None,
    device: str | None = None,
) -> Planned:
    """Say what `train` would do with these settings, after a few steps on weights in memory.

    Raises:
        ConfigError: A setting is unknown or does not fit the captioner.
        DataError: The data set lacks a training or validation split, or an image.
    """
    from medblip.data.loader import length_bucketed_batches
    from medblip.engine import Engine, seeded
    from medblip.stages.train.build import build_captioner, build_optimizer, training_mode
    from medblip.stages.train.fit import largest_micro
    from medblip.stages.train.parts import load_part

    cfg = resolve(config, data, overrides, seed, device)
    engine = Engine(cfg.train)
    with seeded(cfg.train.seed):
        captioner, matches, rates = build_captioner(cfg, engine.device, quiet=True)
        learn, watch = (
            load_part(cfg, captioner, split, build=False) for split in ("train", "validation")
        )
        optimizer = build_optimizer(cfg, captioner, rates, engine.device)
        micro = largest_micro(cfg, captioner, engine, learn, optimizer)
        lengths = [len(ids) for ids in learn.token_ids]
        batches = length_bucketed_batches(
            lengths, cfg.train.batch_size, seed=cfg.train.seed, epoch=0
        )
        steps = len(batches) * cfg.train.epochs
        cached = not captioner.encoder_trains and cfg.train.feature_cache != "off"
        per_image_s, feature_bytes = _features(cfg, captioner, engine, learn)
        training_mode(captioner)
        middle = sorted(batches, key=lambda batch: lengths[int(batch[-1])])[len(batches) // 2]
        gflop, kept = _counted(cfg, captioner, engine, learn, middle[:micro].tolist(), cached)
        shown = [batches[len(batches) * i // _TIMED].tolist() for i in range(_TIMED)]
        seconds = _timed(cfg, captioner, engine, learn, optimizer, shown, micro, cached)
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    images = (len(learn.pixels) + len(watch.pixels)) if cached else 0
    padded = sum(len(b) * max(lengths[int(i)] for i in b) for b in batches)
    return Planned(
        parameters_total=total,
        parameters_trainable=moving,
        captions=len(lengths),
        steps=steps,
        micro_batch_size=micro,
        padding_share=round(1 - sum(lengths) / padded, 4),
        gflop_per_step=float(f"{gflop / min(micro, len(middle)) * cfg.train.batch_size:.4g}"),
        weights_mb=round((4 * total + 12 * moving) / 1e6, 1),
        activations_mb=round(kept / 1e6, 1),
        feature_cache_mb=round(images * feature_bytes / 1e6, 1),
        feature_seconds=round(images * per_image_s, 1),
        seconds_per_step=round(seconds, 4),
        hours=round((seconds * steps + images * per_image_s) / 3600, 5),
        device=engine.device,
        precision=engine.precision,
        rules=[dataclasses.asdict(match) for match in matches],
    )


def gflop_per_step(cfg: RunConfig) -> float:
    """Return `Planned.gflop_per_step` alone: one forward and backward pass, nothing is timed.

    Raises:
        ConfigError: A setting does not fit the captioner.
        DataError: The data set lacks a training split, or an image.
    """
    from medblip.data.loader import length_bucketed_batches
    from medblip.engine import Engine, seeded
    from medblip.stages.train.build import build_captioner, training_mode
    from medblip.stages.train.parts import load_part

    engine = Engine(cfg.train)
    with seeded(cfg.train.seed):
        captioner, _, _ = build_captioner(cfg, engine.device, quiet=True)
        learn = load_part(cfg, captioner, "train", build=False)
        lengths = [len(ids) for ids in learn.token_ids]
        batches = length_bucketed_batches(
            lengths, cfg.train.batch_size, seed=cfg.train.seed, epoch=0
        )
        training_mode(captioner)
        middle = sorted(batches, key=lambda batch: lengths[int(batch[-1])])[len(batches) // 2]
        cached = not captioner.encoder_trains and cfg.train.feature_cache != "off"
        few = middle[: min(len(middle), cfg.train.micro_batch_size or 8)].tolist()
        gflop, _ = _counted(cfg, captioner, engine, learn, few, cached)
    return float(f"{gflop / len(few) * cfg.train.batch_size:.4g}")


def _features(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part
) -> tuple[float, int]:
    """Return seconds and bytes per image of a frozen encoder's features."""
    import torch

    from medblip.models.features import cache_bytes

    size = min(len(part.token_ids), cfg.decode.batch_size, 16)
    captioner.network.eval()
    seconds = []
    with torch.no_grad(), engine.autocast():
        for _ in range(2):
            begun = time.perf_counter()
            shape = part.embeds(captioner, range(size)).shape
            _finish(engine)
            seconds.append(time.perf_counter() - begun)
    return seconds[-1] / size, cache_bytes(1, shape[1:], cfg.train.feature_dtype)


def _counted(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part, indices: list[int],
    cached: bool,
) -> tuple[float, int]:  # fmt: skip
    """Return GFLOP of a forward and backward pass, and bytes kept between the two."""
    import torch

    from medblip.flops import flop_counter
    from medblip.stages.train.fit import kept_bytes

    images = part.images_on(captioner, part.read(indices))
    with torch.no_grad(), engine.autocast():
        given = captioner.encode(images) if cached else images
    batch = captioner.collate([part.token_ids[i] for i in indices])
    losses: list[torch.Tensor] = []

    def forward() -> torch.Tensor:
        embeds = given if cached else captioner.encode(given)
        losses.append(captioner.token_losses(embeds, batch, cfg.optim.label_smoothing))
        return losses[0]

    counter = flop_counter()
    with counter:
        with engine.autocast():
            kept = kept_bytes(captioner, forward)
        losses[0].backward()  # type: ignore[no-untyped-call]
    captioner.network.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 1e9, kept


def _timed(
    cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part,
    optimizer: torch.optim.Optimizer, batches: list[list[int]], micro: int, cached: bool,
) -> float:  # fmt: skip
    """Return the median time of real steps; the weights that they change are thrown away."""
    import torch

    seconds = []
    for batch in [batches[0], *batches]:
        parts = [batch[at : at + micro] for at in range(0, len(batch), micro)]
        given = []
        for indices in parts if cached else ():  # what the cache would give, made before the clock
            with torch.no_grad(), engine.autocast():
                given.append(part.embeds(captioner, indices))
        _finish(engine)
        begun = time.perf_counter()
        for number, indices in enumerate(parts):
            texts = captioner.collate([part.token_ids[i] for i in indices])
            with engine.autocast():
                embeds = given[number] if cached else part.embeds(captioner, indices)
                loss = captioner.token_losses(embeds, texts, cfg.optim.label_smoothing)
            engine.backward(loss / part.tokens(batch))
        trainable = [p for group in optimizer.param_groups for p in group["params"]]
        engine.step(optimizer, engine.clip(trainable, cfg.optim.clip_norm, optimizer))
        _finish(engine)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


def _finish(engine: Engine) -> None:
    import torch

    if engine.device.startswith("cuda"):
        torch.cuda.synchronize()
