"""What work costs: wall time, and energy where a GPU counts it and NVML's package is installed."""

from __future__ import annotations

import dataclasses

__all__ = ["Cost", "energy_j"]


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
