"""The seam to Hugging Face Accelerate: processes, device, precision, backward, trackers.

The only file that names it. Knows nothing of captions, checkpoints or the order of samples. One
process is the common case and needs no launcher; under `torchrun` or `accelerate launch` every
process builds one `Engine`, and only the first one (`is_main`) writes.
"""

from __future__ import annotations

import contextlib
import platform
import random
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator, DistributedDataParallelKwargs  # type: ignore[import-untyped]
from accelerate.state import AcceleratorState  # type: ignore[import-untyped]
from accelerate.utils import InitProcessGroupKwargs  # type: ignore[import-untyped]

from medblip.config import TrackConfig, TrainConfig
from medblip.errors import ConfigError, RunError, explain
from medblip.sharded import shard, whole

__all__ = [
    "Engine",
    "device_name",
    "peak_memory_mb",
    "pick_device",
    "pick_precision",
    "reset_peak_memory",
    "seeded",
]

#: A process that waits longer than this for another one gives up; a model is saved meanwhile.
_PATIENCE = timedelta(minutes=30)


class Engine:
    """One process on one device, alone or beside others.

    Args:
        cfg: Device, precision and sharding are taken from here.
    """

    def __init__(self, cfg: TrainConfig) -> None:
        device = pick_device(cfg.device)
        self.precision = pick_precision(cfg.precision, device)
        self.sharding = cfg.sharding
        self._accelerator = Accelerator(
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            cpu=device == "cpu",
            kwargs_handlers=[
                InitProcessGroupKwargs(timeout=_PATIENCE),
                DistributedDataParallelKwargs(gradient_as_bucket_view=True),
            ],
        )
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        self.device = str(self._accelerator.device) if self.world > 1 else device
        self._tracking = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def scaler(self) -> Any:
        """The loss scaler of fp16, or None."""
        return getattr(self._accelerator, "scaler", None)

    def prepare(self, objective: torch.nn.Module) -> Any:
        """Return what the loop calls for a loss: `objective` itself, or joined to the others'."""
        if self.world == 1:
            return objective
        if self.sharding == "fsdp":
            return shard(objective, self.device)
        return self._accelerator.prepare_model(objective)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the forward pass runs."""
        context: contextlib.AbstractContextManager[None] = self._accelerator.autocast()
        return context

    @contextlib.contextmanager
    def accumulating(self, objective: Any, *, last: bool) -> Iterator[None]:
        """Keep gradients to this process until the last micro-batch of a step."""
        if last or self.world == 1:
            yield
        elif self.sharding == "fsdp":
            objective.set_requires_gradient_sync(False)
            yield
            objective.set_requires_gradient_sync(True)
        else:
            with objective.no_sync():
                yield

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients; they are averaged over the processes, so the loss is scaled up."""
        with _explained():
            self._accelerator.backward(loss * self.world)

    def clip(
        self, parameters: Sequence[torch.nn.Parameter], norm: float, optimizer: Any
    ) -> torch.Tensor:
        """Clip the gradients to a total norm; return the norm before clipping."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)
        return whole(torch.nn.utils.clip_grad_norm_(parameters, norm))

    def step(self, optimizer: Any, norm: torch.Tensor, *, keep: bool = False) -> None:
        """Update the weights, unless the gradients are not finite.

        Args:
            optimizer: Of the weights.
            norm: Of the gradients.
            keep: Leave gradients where they are, set to zero.

        A fused optimizer looks at the norm on the GPU, so that the host need not wait for it.
        """
        if self.scaler is not None:
            self.scaler.step(optimizer)
            self.scaler.update()
        elif optimizer.defaults.get("fused") and self.sharding == "ddp":
            optimizer.found_inf = (~torch.isfinite(norm)).float()
            optimizer.step()
        elif torch.isfinite(norm):
            optimizer.step()
        optimizer.zero_grad(set_to_none=not keep)

    def summed(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor summed over the processes; the host does not wait for it."""
        if self.world > 1:
            with _explained():
                dist.all_reduce(tensor)
        return tensor

    def sums(self, *values: float) -> list[float]:
        """Return each value summed over the processes, in float64."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        with _explained():
            dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gathered(self, items: list[Any]) -> list[Any]:
        """Return the lists of all processes, one after the other, in each of them."""
        if self.world == 1:
            return items
        parts: list[list[Any]] = [[] for _ in range(self.world)]
        with _explained():
            dist.all_gather_object(parts, items)
        return [item for part in parts for item in part]

    def from_main(self, value: Any) -> Any:
        """Return the first process's value in every process."""
        if self.world == 1:
            return value
        box = [value]
        with _explained():
            dist.broadcast_object_list(box, src=0, device=torch.device(self.device))
        return box[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        self.sums(0.0)

    def start_tracking(self, cfg: TrackConfig, folder: Path, settings: dict[str, Any]) -> None:
        """Open the trackers that were asked for.

        Raises:
            ConfigError: One of them is not installed.
        """
        from accelerate.tracking import filter_trackers  # type: ignore[import-untyped]

        if not cfg.tools:
            return
        there = {str(getattr(t, "value", t)) for t in filter_trackers(list(cfg.tools), str(folder))}
        absent = [tool for tool in cfg.tools if tool not in there]
        if absent:
            raise ConfigError(
                explain(
                    f"{absent[0]} is not installed",
                    got=f"track.tools = {list(cfg.tools)}",
                    expected="installed trackers",
                    do=f"pip install {absent[0]} (or 'medblip[track]'), or leave it out",
                )
            )
        self._accelerator.log_with = filter_trackers(list(cfg.tools), str(folder))
        self._accelerator.project_configuration.set_directories(str(folder))
        flat = {
            f"{section}.{name}": value if isinstance(value, int | float | str) else str(value)
            for section, values in settings.items()
            for name, value in values.items()
        }
        self._accelerator.init_trackers(cfg.project, config=flat)
        self._tracking = True

    def track(self, record: dict[str, Any]) -> None:
        """Send one record's numbers to the trackers, under `<kind>/<name>`."""
        if self._tracking:
            values = {
                f"{record['kind']}/{name}": value
                for name, value in record.items()
                if isinstance(value, int | float) and name != "step"
            }
            self._accelerator.log(values, step=record["step"])

    def close(self) -> None:
        """Flush the trackers and leave the other processes.

        What joins the processes is let go before: freed at the exit of Python, its threads end the
        process with an abort now and then.
        """
        if self._tracking:
            self._accelerator.end_training()
        self._accelerator.free_memory()
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()
        # Accelerate remembers device and precision for the whole process: a second training in it
        # may want others
        AcceleratorState._reset_state(True)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn the loss of another process into a message; gloo and NCCL raise RuntimeError for it."""
    try:
        yield
    except (dist.DistBackendError, dist.DistNetworkError) as error:
        raise _lost(error) from error
    except RuntimeError as error:
        words = ("Connection closed", "Connection reset", "gloo", "Gloo", "NCCL", "Broken pipe")
        if not any(word in str(error) for word in words):
            raise
        raise _lost(error) from error


def _lost(error: Exception) -> RunError:
    return RunError(
        explain(
            "another process of this training is gone",
            got=str(error).strip().splitlines()[-1][:200],
            expected="all processes alive until the end",
            do="see that process's own message, then start again: --resume goes on from the last "
            "checkpoint, with any number of processes",
        )
    )


def pick_precision(name: str, device: str) -> str:
    """Return fp32, bf16 or fp16.

    Raises:
        ConfigError: fp16 was asked for where there is no GPU.
    """
    on_gpu = device.startswith("cuda")
    if name == "auto":
        # below compute capability 8.0 bf16 is emulated, and slower than fp32
        real = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if real else "fp32"
    if name == "fp16" and not on_gpu:
        raise ConfigError(
            explain(
                "fp16 needs a GPU",
                got=f"train.precision = fp16 on {device}",
                expected="fp32 or bf16 there",
                do="leave train.precision out",
            )
        )
    return name


def pick_device(name: str) -> str:
    """Return `name`, or for `auto` the best device there is.

    Raises:
        ConfigError: The device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    known = {"cpu"}
    if torch.cuda.is_available():
        known |= {"cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))}
    if torch.backends.mps.is_available():
        known.add("mps")
    if name not in known:
        raise ConfigError(
            explain(
                "device not available",
                got=name,
                expected=f"auto, {', '.join(sorted(known))}",
                do="choose one of these with --device",
            )
        )
    return name


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with every generator seeded, and give the caller's states back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def device_name(device: str) -> str:
    """Return what a device is called: `NVIDIA H200`, or the processor's architecture."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()


def reset_peak_memory(device: str) -> None:
    """Begin a new measurement of `peak_memory_mb`."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):  # Linux: forget the high-water mark (proc(5))
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb(device: str) -> float:
    """Return the peak in MB since `reset_peak_memory`: of the GPU, or of the resident set."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e6
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
