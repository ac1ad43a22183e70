"""What it would run on: versions, device, precision, memory."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.config import BUNDLED, RunConfig
from medblip.errors import ConfigError
from medblip.stages.doctor.diagnose import Finding, tried

if TYPE_CHECKING:
    from medblip.models.freeze import Match

__all__ = ["FLOORS", "devices", "memory", "versions"]

#: Package -> (first version without the fault, what the fault is). Read in advisories, 2026-11.
FLOORS: dict[str, tuple[str, str]] = {
    "torch": ("2.6.0", "CVE-2025-32434: weights_only=True can be bypassed"),
    "transformers": ("5.3.0", "CVE-2026-4372: a config file can run code"),
    "pydicom": ("3.0.2", "CVE-2026-32711: a DICOMDIR can name files outside its folder"),
    "safetensors": ("0.8.0", "weights are not saved atomically"),
    "fastapi": ("0.165", "no limit on the size of a request"),
}
#: Fixed in an older line, too.
_ALSO_FIXED = {("pydicom", "2.4.5")}
#: What a container may use, cgroups 2 and 1 (kernel.org: admin-guide/cgroup-v2, cgroup-v1/memory).
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def versions() -> list[Finding]:
    """Return packages with known faults, and whether the fast attention fits this transformers."""
    found = []
    good = []
    for name, (floor, fault) in FLOORS.items():
        try:
            there = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if _numbers(there) < _numbers(floor) and (name, there) not in _ALSO_FIXED:
            found.append(Finding(level="error", about=f"{name} {there}", got=fault,
                                 do=f"pip install '{name}>={floor}'"))  # fmt: skip
        else:
            good.append(f"{name} {there}")
    if good:
        about = "versions without known faults"
        found.append(Finding(level="ok", about=about, got=", ".join(good)))
    from medblip.models.blip_patches import KNOWN, fingerprint

    unknown = [kind.__name__ for kind in KNOWN if fingerprint(kind) not in KNOWN[kind]]
    if unknown:
        found.append(
            Finding(level="warning", about="attention of this transformers",
                    got=f"another {', '.join(unknown)} than those that were tested",
                    do="training is slower; install a version named in constraints.txt")
        )  # fmt: skip
    else:
        got = f"fast, for transformers {metadata.version('transformers')}"
        found.append(Finding(level="ok", about="attention", got=got))
    return found


def devices(cfg: RunConfig) -> list[Finding]:
    """Return what would compute, and whether it has the precision that was asked for."""
    import torch

    from medblip.engine import pick_device, pick_precision

    found: list[Finding] = []
    about = f"python {platform.python_version()}, torch {torch.__version__}"
    device = tried(found, lambda: pick_device(cfg.train.device))
    if device is None:
        return found
    got, slow = device, False
    if device.startswith("cuda"):
        got = f"{device}: {torch.cuda.get_device_name(device)}"
    elif device == "cpu":
        frozen = cfg.freeze.preset in ("decoder", "cross-attention")
        got = f"CPU, {torch.get_num_threads()} threads"
        slow = cfg.model.name != BUNDLED and not frozen
    do = "a pretrained captioner on a CPU takes days; freeze.preset = 'decoder' is 6 times faster"
    found.append(Finding(level="warning" if slow else "ok", about=about, got=got,
                         do=do if slow else ""))  # fmt: skip
    precision = tried(found, lambda: pick_precision(cfg.train.precision, device))
    if precision == "bf16" and not _has_bf16(device):
        other = "fp16" if device.startswith("cuda") else "fp32"
        found.append(
            Finding(
                level="error" if device.startswith("cuda") else "warning",
                about="bf16", got=f"{got} has none and imitates it, slowly",
                do=f"train.precision = '{other}'",
            )
        )  # fmt: skip
    elif precision is not None:
        found.append(Finding(level="ok", about="precision", got=precision))
    return found


def memory(cfg: RunConfig, matches: Sequence[Match]) -> list[Finding]:
    """Return a lower bound of what training holds, against what there is."""
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    need = 4 * total + 12 * moving
    there, what = _memory(cfg)
    fits = need < 0.8 * there
    return [
        Finding(
            level="ok" if fits else "error",
            about="weights, gradients and optimizer",
            got=f"{need / 1e9:.1f} GB of {there / 1e9:.0f} GB {what}, activations not counted",
            do="" if fits else "freeze more (freeze.preset = 'decoder' or 'lora'), or use fsdp",
        )
    ]


def _memory(cfg: RunConfig) -> tuple[int, str]:
    """Return the bytes of the device's memory that no other process holds, and what it is."""
    import torch

    from medblip.engine import pick_device

    with contextlib.suppress(ConfigError):  # a device that is not there is told elsewhere
        device = pick_device(cfg.train.device)
        if device.startswith("cuda"):
            return torch.cuda.mem_get_info(torch.device(device))[0], "free GPU memory"
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max": there is none
            there = min(there, int(limit.read_text()))
    return there, "memory"


def _has_bf16(device: str) -> bool:
    """Whether a device computes in bfloat16; what cannot be told counts as yes."""
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(torch.device(device)):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    asked: Any = getattr(torch.cpu, "get_capabilities", dict)  # absent before torch 2.13
    able = asked() if device == "cpu" else {}
    return able.get("architecture") != "x86_64" or any(
        able.get(name) for name in ("avx512_bf16", "amx_bf16")
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return (2, 13, 0) of 2.13.0+cpu."""
    found = [int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3]]
    return (*found, *[0] * (3 - len(found)))
