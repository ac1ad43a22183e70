"""Stage `train`: fine-tune on the training split, keep the best on the validation split.

    cli.train -> train -> train_step

The test split cannot be reached from here: only `train` and `validation` are ever loaded.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip import config as configuration
from medblip.config import DecodeConfig, RunConfig, resolve
from medblip.errors import RunError, explain
from medblip.files import require_space, staged_directory, write_json
from medblip.progress import console, track
from medblip.rundir import RunDir, environment
from medblip.stages.train.parts import Part, cache_features, load_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from medblip.engine import Engine
    from medblip.models.captioner import Captioner

__all__ = ["Trained", "train", "train_step"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """What a finished training leaves.

    Args:
        run: The run directory.
        best_step: Optimizer step of the kept checkpoint.
        best_value: Its value of `train.select` on the validation split.
        seconds: Wall time of the whole stage.
    """

    run: str
    best_step: int
    best_value: float
    seconds: float


def train(
    config: Path | str | RunConfig | None = None,
    data: Path | str | None = None,
    out: Path | str = "runs/train",
    *,
    overrides: list[str] | tuple[str, ...] = (),
    seed: int | None = None,
    device: str | None = None,
    force: bool = False,
) -> Trained:
    """Fine-tune a captioner into a new run directory.

    Args:
        config: TOML file, a run's `config.json`, or a `RunConfig`; None: the defaults.
        data: Prepared data set; wins over `data.root`.
        out: Run directory; see `medblip.rundir.RunDir` for what it will hold.
        overrides: `section.key=value` strings.
        seed: Wins over `train.seed`.
        device: Wins over `train.device`.
        force: Replace a run that is there; the old one is kept until the new one is complete.

    Raises:
        ConfigError: A setting is unknown or does not fit the captioner.
        DataError: The data set lacks a training or validation split, or an image.
        RunError: `out` is taken, locked or not writable.
    """
    cfg = resolve(config, data, overrides, seed, device)
    run = RunDir(out)
    with run.replaced(force=force), run.lock():
        return _train(cfg, run)


def train_step(
    captioner: Captioner,
    engine: Engine,
    part: Part,
    micro_batches: Sequence[Sequence[int]],
    optimizer: torch.optim.Optimizer,
    cfg: RunConfig,
) -> tuple[float, float]:
    """Do one optimizer step on one batch, cut into micro-batches (indices into `part`).

    The loss of each micro-batch is a sum over tokens divided by the tokens of the whole batch, so
    the objective does not depend on how the batch was cut (torchtitan, trainer.py:855-874).

    Returns:
        Mean loss per token, and the gradient norm before clipping.

    Raises:
        RunError: The loss is not finite.
    """
    batches = [captioner.collate([part.token_ids[i] for i in some]) for some in micro_batches]
    tokens = sum(int((batch.labels != -100).sum()) for batch in batches)
    total = 0.0
    for some, batch in zip(micro_batches, batches, strict=True):
        with engine.autocast():
            embeds = part.embeds(captioner, some)
            loss = captioner.token_losses(embeds, batch, cfg.optim.label_smoothing) / tokens
        engine.backward(loss)
        total += loss.item()
    if not math.isfinite(total):
        raise RunError(
            explain(
                "training diverged",
                got=f"loss {total}",
                expected="a finite loss",
                do="lower optim.lr or raise optim.warmup; the best checkpoint so far is kept",
            )
        )
    norm = engine.clip(captioner.network, cfg.optim.clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm


def _train(cfg: RunConfig, run: RunDir) -> Trained:
    """Build everything in a fixed order, then loop."""
    import torch

    from medblip.data.loader import epoch_order, length_bucketed_batches
    from medblip.engine import Engine, peak_memory_mb, reset_peak_memory, seeded

    started = time.perf_counter()
    engine = Engine(cfg.train)
    reset_peak_memory(engine.device)
    with seeded(cfg.train.seed):
        captioner, matches, groups = _build_captioner(cfg, engine.device)
        learn, watch = (load_part(cfg, captioner, split) for split in ("train", "validation"))
        parameters = sum(p.numel() for p in captioner.network.parameters())
        require_space(
            run.path, parameters * 4 * 3
        )  # the checkpoint, its successor, and as much again
        optimizer = torch.optim.AdamW(groups, fused=engine.device != "mps")
        batches_per_epoch = math.ceil(len(learn.token_ids) / cfg.train.batch_size)
        steps = batches_per_epoch * cfg.train.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _warmup_cosine(cfg, steps))
        network, optimizer, schedule = engine.prepare(captioner.network, optimizer, schedule)
        captioner.network = network
        in_features = cache_features(cfg, captioner, engine, [learn, watch])
        _write_settings(cfg, run, engine, matches)

        validate_at = {
            round(steps * (i + 1) / cfg.train.validations) for i in range(cfg.train.validations)
        }
        lengths = [len(ids) for ids in learn.token_ids]
        best_step, best_value, step, in_steps = 0, -math.inf, 0, 0.0
        _set_mode(captioner)
        for epoch in range(cfg.train.epochs):
            order = epoch_order(len(lengths), seed=cfg.train.seed, epoch=epoch)
            batches = length_bucketed_batches(lengths, order, cfg.train.batch_size)
            for indices in track(
                batches,
                f"train, epoch {epoch + 1} of {cfg.train.epochs}",
                len(batches),
                unit="step",
            ):
                step += 1
                begun = time.perf_counter()
                loss, norm = train_step(
                    captioner, engine, learn, _micro(cfg, indices.tolist()), optimizer, cfg
                )
                schedule.step()
                in_steps += time.perf_counter() - begun
                run.append_metrics(
                    {"kind": "train", "step": step, "epoch": epoch + 1, "loss": round(loss, 6),
                     "grad_norm": round(norm, 5), "lr": schedule.get_last_lr()[0],
                     "seconds": round(in_steps, 4)}
                )  # fmt: skip
                if step in validate_at:
                    record = _validate(cfg, captioner, engine, watch)
                    run.append_metrics(
                        {"kind": "validation", "step": step, "epoch": epoch + 1} | record
                    )
                    if record[cfg.train.select] > best_value:
                        best_step, best_value = step, record[cfg.train.select]
                        _save(captioner, run)
                    _set_mode(captioner)
        write_json(
            run.completion,
            {
                "steps": steps,
                "best_step": best_step,
                "select": cfg.train.select,
                "best_value": best_value,
                "seconds": round(time.perf_counter() - started, 3),
                "seconds_in_steps": round(in_steps, 3),
                "seconds_in_features": round(in_features, 3),
                "seconds_per_step": round(in_steps / steps, 5),
                "captions_per_second": round(len(lengths) * cfg.train.epochs / in_steps, 2),
                "peak_memory_mb": round(peak_memory_mb(engine.device), 1),
                "parameters_total": sum(match.parameters for match in matches),
                "parameters_trainable": sum(m.parameters for m in matches if m.rate is not None),
                "device": engine.device,
                "precision": engine.precision,
                "threads": torch.get_num_threads(),
            },
        )
    return Trained(
        run=str(run.path), best_step=best_step, best_value=best_value,
        seconds=round(time.perf_counter() - started, 3),
    )  # fmt: skip


def _build_captioner(
    cfg: RunConfig, device: str
) -> tuple[Captioner, list[Any], list[dict[str, Any]]]:
    """Load, adapt, freeze: adapters first, because PEFT freezes everything it wraps."""
    from medblip.models.captioner import load_captioner
    from medblip.models.freeze import apply_rules, match_table, parameter_groups, rules_for
    from medblip.models.lora import add_adapters

    captioner = load_captioner(cfg.model, device=device)
    if cfg.freeze.preset == "lora":
        captioner.network = add_adapters(captioner.network, cfg.lora)
    matches, rates = apply_rules(captioner.network, rules_for(cfg))
    console().print(match_table(matches))
    if cfg.train.gradient_checkpointing:
        network: Any = captioner.network  # the new name came with transformers 5.23
        new = getattr(network, "activation_checkpointing_enable", None)
        (new or network.gradient_checkpointing_enable)()
    return captioner, matches, parameter_groups(captioner.network, rates, cfg.optim.weight_decay)


def _micro(cfg: RunConfig, indices: list[int]) -> list[list[int]]:
    size = cfg.train.micro_batch_size or len(indices)
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _validate(cfg: RunConfig, captioner: Captioner, engine: Engine, part: Part) -> dict[str, Any]:
    """Return token loss, caption metrics and share of unique captions on the validation images."""
    import torch

    from medblip.metrics import evaluate_captions

    begun = time.perf_counter()
    captioner.network.eval()
    decode = DecodeConfig(
        num_beams=1, max_new_tokens=cfg.decode.max_new_tokens, batch_size=cfg.decode.batch_size
    )
    losses, tokens, captions = 0.0, 0, []
    for start in range(0, len(part.token_ids), decode.batch_size):
        indices = list(range(start, min(start + decode.batch_size, len(part.token_ids))))
        with torch.inference_mode(), engine.autocast():
            embeds = part.embeds(captioner, indices)
            batch = captioner.collate([part.token_ids[i] for i in indices])
            losses += captioner.token_losses(embeds, batch, 0.0).item()
            tokens += int((batch.labels != -100).sum())
            captions += [caption for caption, _ in captioner.generate(embeds, decode)]
    table = evaluate_captions(captions, part.references, resamples=0)
    return {
        "loss": round(losses / tokens, 6),
        "images": len(captions),
        "unique_captions": round(len(set(captions)) / len(captions), 4),
        "seconds": round(time.perf_counter() - begun, 3),
        **{name: round(score.value, 6) for name, score in table.scores.items()},
    }


def _save(captioner: Captioner, run: RunDir) -> None:
    """Replace `checkpoints/best` atomically; LoRA is merged into a copy, training goes on."""
    from medblip.models.lora import merge_adapters

    plain = copy.copy(captioner)
    if hasattr(captioner.network, "merge_and_unload"):
        plain.network = merge_adapters(copy.deepcopy(captioner.network))
    with staged_directory(run.checkpoint) as folder:
        plain.save(folder)


def _set_mode(captioner: Captioner) -> None:
    """Training mode for what trains; walking over all modules is too slow for every step."""
    from medblip.models.freeze import eval_frozen

    captioner.network.train()
    eval_frozen(captioner.network)


def _warmup_cosine(cfg: RunConfig, steps: int) -> Any:
    """Return step -> share of the peak rate: linear warm-up, then cosine to `final_lr`."""
    warmup = max(1, round(steps * cfg.optim.warmup))
    floor = cfg.optim.final_lr

    def share(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    return share


def _write_settings(cfg: RunConfig, run: RunDir, engine: Engine, matches: list[Any]) -> None:
    import torch

    write_json(run.config, configuration.dump(cfg))
    write_json(
        run.environment,
        environment(
            device=engine.device, precision=engine.precision, threads=torch.get_num_threads()
        ),
    )
    write_json(
        run.trainable,
        {
            "rules": [dataclasses.asdict(match) for match in matches],
            "trainable": sum(m.parameters for m in matches if m.rate is not None),
            "total": sum(m.parameters for m in matches),
        },
    )
