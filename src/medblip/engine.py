"""The seam to Hugging Face Accelerate: device, precision, backward. The only file that names it.

Knows nothing of captions, checkpoints or the order of samples.
"""

from __future__ import annotations

import contextlib
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]  # no py.typed

from medblip.config import TrainConfig
from medblip.errors import ConfigError, explain

__all__ = ["Engine", "peak_memory_mb", "pick_device", "reset_peak_memory", "seeded"]


class Engine:
    """One process on one device.

    Args:
        cfg: Device and precision are taken from here.
    """

    def __init__(self, cfg: TrainConfig) -> None:
        self.device = pick_device(cfg.device)
        bf16 = cfg.precision == "bf16" or (
            cfg.precision == "auto" and self.device == "cuda" and torch.cuda.is_bf16_supported()
        )
        self.precision = "bf16" if bf16 else "fp32"
        self._accelerator = Accelerator(
            mixed_precision="bf16" if bf16 else "no", cpu=self.device == "cpu"
        )
        if self._accelerator.num_processes > 1:
            raise ConfigError(
                explain(
                    "training runs in one process",
                    got=f"{self._accelerator.num_processes} processes",
                    expected="1",
                    do="start `medblip train` without a launcher",
                )
            )

    def prepare(self, network: Any, optimizer: Any, schedule: Any) -> tuple[Any, Any, Any]:
        """Place network, optimizer and schedule on the device."""
        network, optimizer, schedule = self._accelerator.prepare(network, optimizer, schedule)
        return network, optimizer, schedule

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context in which the forward pass runs."""
        context: contextlib.AbstractContextManager[None] = self._accelerator.autocast()
        return context

    def backward(self, loss: torch.Tensor) -> None:
        """Accumulate gradients."""
        self._accelerator.backward(loss)

    def clip(self, network: Any, norm: float) -> float:
        """Clip the gradients to a total norm; return the norm before clipping."""
        trainable = [p for p in network.parameters() if p.requires_grad]
        return float(self._accelerator.clip_grad_norm_(trainable, norm))


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
    """Run with torch's generators seeded, and give the caller's states back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


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
