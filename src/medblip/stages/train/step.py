"""One optimizer step: forward, backward, clip, update; and a loss that goes wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

import torch

from medblip.config import RunConfig
from medblip.errors import RunError, explain
from medblip.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner, TokenBatch
    from medblip.rundir import RunDir
    from medblip.stages.train.feed import Micro
    from medblip.stages.train.graphs import Graphs
    from medblip.stages.train.parts import Part

__all__ = ["Objective", "Outcome", "require_sane", "train_step"]


class Objective(torch.nn.Module):
    """The loss of one micro-batch as a module, so that processes can be joined at its gradients."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.network = captioner.network
        self.captioner = captioner

    def forward(
        self, images: torch.Tensor, batch: TokenBatch, smoothing: float, cached: bool
    ) -> torch.Tensor:
        """Return the summed loss of pixels, or of a frozen encoder's features."""
        embeds = images if cached else self.captioner.encode(images)
        return self.captioner.token_losses(embeds, batch, smoothing)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a step came to; tensors, so that nobody waits for a GPU to read them.

    Args:
        loss: Mean per token over the whole batch.
        norm: Of the gradients, before clipping.
        flags: How many processes were asked to stop.
    """

    loss: torch.Tensor
    norm: torch.Tensor
    flags: torch.Tensor


def train_step(
    objective: Any,
    engine: Engine,
    part: Part,
    batch: Sequence[int],
    micros: Sequence[Micro],
    optimizer: torch.optim.Optimizer,
    cfg: RunConfig,
    *,
    graphs: Graphs | None = None,
    flag: bool = False,
) -> Outcome:
    """Do one optimizer step on one batch, of which this process has some micro-batches.

    Each micro-batch's loss is a sum over tokens, divided by the tokens of the whole batch over all
    processes, so the objective does not depend on how the batch was cut (torchtitan,
    trainer.py:855-874). A step whose gradients are not finite changes no weight.
    """
    captioner: Captioner = getattr(objective, "module", objective).captioner
    tokens = part.tokens(batch)
    total = torch.zeros((), device=captioner.device)
    for number, micro in enumerate(micros):
        if graphs is not None and graphs.fits(micro):
            graphs.run(micro, 1 / tokens)
            continue
        texts = captioner.collate([part.token_ids[i] for i in micro.indices])
        images = part.images_on(captioner, micro.images)
        with engine.accumulating(objective, last=number + 1 == len(micros)):
            with engine.autocast():
                cached = part.features is not None
                loss = objective(images, texts, cfg.optim.label_smoothing, cached)
                loss = loss * (float(micro.counts) / tokens)
            engine.backward(loss)
        total += loss.detach()
    if graphs is not None:
        total += graphs.loss
        graphs.loss.zero_()
    trainable = [p for group in optimizer.param_groups for p in group["params"]]
    norm = engine.clip(trainable, cfg.optim.clip_norm, optimizer)
    engine.step(optimizer, norm, keep=graphs is not None)
    sums = engine.summed(torch.stack([total, total.new_tensor(float(flag))]))
    return Outcome(sums[0], norm, sums[1])


def require_sane(
    outcome: Outcome, step: int, part: Part, batch: Sequence[int], cfg: RunConfig, run: RunDir,
    *, writes: bool,
) -> tuple[float, float]:  # fmt: skip
    """Return loss and gradient norm of a step as numbers.

    Raises:
        RunError: The loss is not finite or beyond `train.loss_limit`; the batch is written to
            `diverged.json` first.
    """
    loss, norm = float(outcome.loss), float(outcome.norm)
    fp16 = cfg.train.precision == "fp16"  # there an overflow is normal: the scaler goes down
    if math.isfinite(loss) and loss <= cfg.train.loss_limit and (fp16 or math.isfinite(norm)):
        return loss, norm
    if writes:
        samples = [{"id": part.ids[i], "token_ids": part.token_ids[i]} for i in batch]
        record = {"step": step, "loss": str(loss), "grad_norm": str(norm), "samples": samples}
        write_json(run.path / "diverged.json", json.loads(json.dumps(record)))
    raise RunError(
        explain(
            f"training diverged at step {step}",
            got=f"loss {loss:g}, gradient norm {norm:g}; first images of the batch: "
            + ", ".join(part.ids[i] for i in batch[:3]),
            expected=f"a finite loss of at most {cfg.train.loss_limit:g} (train.loss_limit)",
            do="lower optim.lr or raise optim.warmup; diverged.json in the run has the batch, the "
            "best checkpoint so far is kept",
        )
    )
