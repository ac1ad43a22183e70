"""What work costs: wall time, and energy where a GPU counts it and NVML's package is installed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["Cost", "charged", "energy_j"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a frozen encoder's one pass over images took.

    Args:
        seconds: Of wall time.
        joules: Of the GPU; None where a part of it was not counted.
    """

    seconds: float = 0.0
    joules: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        counted = self.joules is not None and other.joules is not None
        return Cost(
            self.seconds + other.seconds,
            (self.joules or 0.0) + (other.joules or 0.0) if counted else None,
        )


def charged(done: Mapping[str, Any]) -> Cost:
    """Return what a training would have cost alone: a frozen encoder's pass is its own.

    Whoever found the features of the pass made would not have had them otherwise.

    Args:
        done: Content of train.json; its `seconds` and `energy_wh` leave the pass out.
    """
    joules = [done.get("energy_wh"), done.get("feature_pass_wh", 0.0)]
    return Cost(
        done["seconds"] + done.get("feature_pass_seconds", 0.0),
        None if None in joules else 3600 * sum(joules),
    )


def energy_j(device: str) -> float | None:
    """Return the joules that a GPU has drawn since its driver was loaded; None where nobody counts.

    NVML counts since Volta (nvmlDeviceGetTotalEnergyConsumption, in mJ). The whole board is
    counted, whoever uses it. `pip install nvidia-ml-py`.

    Args:
        device: As torch calls it, e.g. `cuda:1`.
    """
    if not device.startswith("cuda"):
        return None
    try:
        import pynvml
        import torch

        place = torch.device(device)
        number = torch.cuda.current_device() if place.index is None else place.index
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(number).uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)  # CUDA_VISIBLE_DEVICES renumbers
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000
    except Exception:  # absent, too old, a slice of a GPU, no permission: no figure then
        return None
