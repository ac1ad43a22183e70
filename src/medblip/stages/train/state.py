"""What a resumed run needs besides the weights: optimizer, generators, position. No pickle."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medblip.checkpoint import new_checkpoint, prune
from medblip.files import json_text, read_json
from medblip.sharded import like, whole

if TYPE_CHECKING:
    from medblip.config import RunConfig
    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.rundir import RunDir

__all__ = ["Position", "restore", "restore_position", "save"]


@dataclasses.dataclass
class Position:
    """Where a run is; with the seed it says which captions come next.

    Args:
        step: Optimizer steps done.
        validated: Last step whose validation is in `metrics.jsonl`.
        measured: Last step whose validation loss is there.
        best_step: Step of the best checkpoint; 0: none yet.
        best_value: Its value of `train.select`.
        worse: Validations since.
        collapsed: Validations in a row with signs of collapse.
        in_steps_s: Time spent in steps, in all sessions.
        waited_s: Of which waiting for batches.
        seconds: Wall time of all sessions.
        energy_j: Joules of the first process's GPU in all sessions; None: nobody counts.
        micro: Captions per forward pass.
        world: Processes that wrote this.
    """

    step: int = 0
    validated: int = 0
    measured: int = 0
    best_step: int = 0
    best_value: float | None = None
    worse: int = 0
    collapsed: int = 0
    in_steps_s: float = 0.0
    waited_s: float = 0.0
    seconds: float = 0.0
    energy_j: float | None = None
    micro: int = 0
    world: int = 1


def save(
    cfg: RunConfig, captioner: Captioner, optimizer: torch.optim.Optimizer, engine: Engine,
    run: RunDir, position: Position,
) -> Path | None:  # fmt: skip
    """Write `checkpoints/step-<step>` and delete older ones; returns it in the first process.

    The state of a network that is shared out is put together by all processes; only the first one
    writes. Each process's generators are kept.
    """
    from safetensors.torch import save_file

    names = _names(captioner, optimizer)
    moments = {
        f"{name}|{key}": whole(value)
        for parameter, name in names.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    trained = {name: whole(parameter.detach()) for parameter, name in names.items()}
    others = _whole_network(captioner) if engine.sharding == "fsdp" and engine.world > 1 else None
    generators = engine.gathered([_generators(engine)])
    path = None
    if engine.is_main:
        step = position.step
        with new_checkpoint(run.checkpoints, step) as folder:
            _plain(cfg, captioner, others).save(folder)
            state = folder / "state"
            state.mkdir()
            save_file(_on_cpu(moments), state / "optimizer.safetensors")
            if hasattr(captioner.network, "merge_and_unload"):
                save_file(_on_cpu(trained), state / "adapters.safetensors")
            for rank, (arrays, texts) in enumerate(generators):
                save_file(arrays, state / f"generators-{rank}.safetensors")
                (state / f"generators-{rank}.json").write_text(json_text(texts))
            scaler = engine.scaler.state_dict() if engine.scaler is not None else {}
            record = dataclasses.asdict(position) | {"world": engine.world, "scaler": scaler}
            (state / "position.json").write_text(json_text(record))
        path = run.checkpoints / f"step-{step:06d}"
        prune(run.checkpoints, cfg.train.keep_checkpoints)
    engine.wait()
    return path


def restore_position(checkpoint: Path) -> Position:
    """Read where a checkpoint was written."""
    record = read_json(checkpoint / "state" / "position.json")
    known = {field.name for field in dataclasses.fields(Position)}
    return Position(**{name: value for name, value in record.items() if name in known})


def restore(
    checkpoint: Path, captioner: Captioner, optimizer: torch.optim.Optimizer, engine: Engine
) -> None:
    """Put adapters, optimizer and generators back as they were; the weights are loaded already.

    With another number of processes, a new process keeps the generators that it was born with.
    """
    state = checkpoint / "state"
    from safetensors.torch import load_file

    names = _names(captioner, optimizer)
    adapters = state / "adapters.safetensors"
    if adapters.exists():
        saved = load_file(adapters)
        with torch.no_grad():
            for parameter, name in names.items():
                parameter.copy_(like(saved[name], parameter))
    moments = load_file(state / "optimizer.safetensors")
    for parameter, name in names.items():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if (value := moments.get(f"{name}|{key}")) is not None:
                target = parameter if key != "step" else None
                placed = value.to(engine.device) if target is None else like(value, target)
                optimizer.state[parameter][key] = placed
    mine = state / f"generators-{engine.rank}.safetensors"
    if mine.exists():
        _set_generators(load_file(mine), read_json(mine.with_suffix(".json")), engine)
    scaler = read_json(state / "position.json")["scaler"]
    if scaler and engine.scaler is not None:
        engine.scaler.load_state_dict(scaler)


def _plain(cfg: RunConfig, captioner: Captioner, weights: dict[str, Any] | None) -> Captioner:
    """Return the captioner as plain transformers knows it: adapters merged, shares put together."""
    from medblip.models.adapters import adapt, merge_adapters
    from medblip.models.captioner import load_captioner

    if weights is not None:
        plain = load_captioner(cfg.model)
        plain.network = adapt(plain.network, cfg)
        plain.network.load_state_dict(weights)
        plain.network = merge_adapters(plain.network)
        return plain
    plain = copy.copy(captioner)
    if hasattr(captioner.network, "merge_and_unload"):
        plain.network = merge_adapters(copy.deepcopy(captioner.network))
    return plain


def _whole_network(captioner: Captioner) -> dict[str, torch.Tensor]:
    return {name: whole(value).cpu() for name, value in captioner.network.state_dict().items()}


def _names(captioner: Captioner, optimizer: torch.optim.Optimizer) -> dict[Any, str]:
    """Return parameter -> name of everything that trains, in the network's order."""
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return {p: name for name, p in captioner.network.named_parameters() if id(p) in trained}


def _on_cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _generators(engine: Engine) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the state of every source of random numbers of this process."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    arrays = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys, np.int64))}
    if engine.device.startswith("cuda"):
        arrays["cuda"] = torch.cuda.get_rng_state(engine.device)
    python: Any = random.getstate()
    return arrays, {"python": python, "numpy": [kind, *rest]}


def _set_generators(arrays: dict[str, torch.Tensor], texts: dict[str, Any], engine: Engine) -> None:
    torch.set_rng_state(arrays["torch"])
    if "cuda" in arrays and engine.device.startswith("cuda"):
        torch.cuda.set_rng_state(arrays["cuda"], engine.device)
    kind, *rest = texts["numpy"]
    np.random.set_state((kind, arrays["numpy"].numpy().astype(np.uint32), *rest))
    version, numbers, gauss = json.loads(json.dumps(texts["python"]))
    random.setstate((version, tuple(numbers), gauss))
