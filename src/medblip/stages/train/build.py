"""What a training is made of, built in a fixed order: captioner, rules, optimizer, rates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.config import RunConfig
from medblip.progress import console

if TYPE_CHECKING:
    import torch

    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match

__all__ = ["build_captioner", "build_optimizer", "rate_share", "set_rates", "training_mode"]


def build_captioner(
    cfg: RunConfig, device: str, checkpoint: Path | None = None, *, quiet: bool = False
) -> tuple[Captioner, list[Match], dict[str, float]]:
    """Load, adapt, freeze: adapters first, because PEFT freezes everything it wraps.

    Args:
        cfg: Which captioner, which adapters, which rules.
        device: Where to put it.
        checkpoint: Of a run that is resumed: its weights instead of the captioner's own. Adapters
            are put back by `medblip.stages.train.state.restore`.
        quiet: Do not print the table.

    Returns:
        The captioner, the match table, and the rate of each parameter that trains.
    """
    from medblip.models.adapters import adapt, adapted
    from medblip.models.captioner import load_captioner
    from medblip.models.freeze import apply_rules, match_table, rules_for

    source = cfg.model
    if checkpoint is not None and not adapted(cfg):
        source = dataclasses.replace(cfg.model, name=str(checkpoint), revision=None)
    few = cfg.freeze.preset in ("lora", "adapter")  # what is frozen may be kept in fewer bits
    captioner = load_captioner(
        source, device=device, numbers=("fp32", "bf16") if few else ("fp32",)
    )
    captioner.network = adapt(captioner.network, cfg)
    matches, rates = apply_rules(captioner.network, rules_for(cfg), cfg.optim.layer_decay)
    if not quiet:
        console().print(match_table(matches))
    if cfg.train.gradient_checkpointing:
        network: Any = captioner.network  # the new name came with transformers 5.23
        new = getattr(network, "activation_checkpointing_enable", None)
        (new or network.gradient_checkpointing_enable)()
    if cfg.train.compile:
        captioner.compile()
    return captioner, matches, rates


def build_optimizer(
    cfg: RunConfig, captioner: Captioner, rates: dict[str, float], device: str
) -> torch.optim.Optimizer:
    """Return AdamW on what trains; each group remembers its peak rate."""
    import torch

    from medblip.models.freeze import parameter_groups

    groups = parameter_groups(captioner.network, rates, cfg.optim.weight_decay)
    for group in groups:
        group["peak_lr"] = group["lr"]
    return torch.optim.AdamW(groups, fused=not device.startswith("mps"))


def rate_share(cfg: RunConfig, steps: int) -> Callable[[int], float]:
    """Return step (from 0) -> share of the peak rate: linear warm-up, then cosine to `final_lr`."""
    warmup = max(1, round(steps * cfg.optim.warmup))
    floor = cfg.optim.final_lr

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return share


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Set every group's rate to a share of its peak; return the first one.

    A function of the step alone: a resumed run has no schedule to restore.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share
    return float(optimizer.param_groups[0]["lr"])


def training_mode(captioner: Captioner) -> None:
    """Training mode for what trains; walking over all modules is too slow for every step."""
    from medblip.models.freeze import eval_frozen

    captioner.network.train()
    eval_frozen(captioner.network)
