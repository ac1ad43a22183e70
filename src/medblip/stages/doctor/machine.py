"""Where it would run: versions, device, disk, memory, and whether the disk keeps its promises."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from medblip.config import RunConfig
from medblip.data.store import Resize
from medblip.schema import Example
from medblip.stages.doctor.diagnose import Finding

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner
    from medblip.models.freeze import Match

__all__ = ["devices", "disk", "file_system", "memory", "versions"]

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
    found.append(Finding(level="ok", about="versions without known faults", got=", ".join(good)))
    from medblip.models.blip_patches import KNOWN, fingerprint

    unknown = [kind.__name__ for kind in KNOWN if fingerprint(kind) not in KNOWN[kind]]
    if unknown:
        found.append(
            Finding(level="warning", about="attention of this transformers",
                    got=f"another {', '.join(unknown)} than those that were tested",
                    do="training is slower; install a version named in constraints.txt")
        )  # fmt: skip
    return found


def devices(cfg: RunConfig) -> list[Finding]:
    """Return what there is to compute on."""
    import torch

    about = f"python {platform.python_version()}, torch {torch.__version__}"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return [Finding(level="ok", about=about, got=", ".join(names))]
    cores = f"CPU, {torch.get_num_threads()} threads"
    large = cfg.model.name != "bundled" and cfg.freeze.preset not in ("decoder", "cross-attention")
    slow = "a pretrained captioner on a CPU takes days; freeze.preset = 'decoder' is 6 times faster"
    return [Finding(level="warning" if large else "ok", about=about, got=cores,
                    do=slow if large else "")]  # fmt: skip


def disk(
    cfg: RunConfig, out: Path, captioner: Captioner, matches: Sequence[Match],
    examples: Sequence[Example],
) -> list[Finding]:  # fmt: skip
    """Return the space that features, pixels and checkpoints need, against what is free."""
    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    checkpoints = (4 * total + 8 * moving) * (cfg.train.keep_checkpoints + 1) + 4 * total
    seen = [e for e in examples if e.split == "train"]
    watched = [e for e in examples if e.split == "validation"][: cfg.train.validation_images]
    height, width = captioner.image_size
    resize = Resize(height, width, captioner.image_resample)
    root = Path(cfg.data.root)
    pixels = 0 if (root / "pixels" / resize.name).is_dir() else len(seen) * height * width
    found = [_space("checkpoints", checkpoints, out), _space("pixel store", pixels, root)]
    if not captioner.encoder_trains and cfg.train.feature_cache != "off":
        folder = root if cfg.train.feature_cache == "auto" else Path(cfg.train.feature_cache)
        each = captioner.feature_shape
        size = (len(seen) + len(watched)) * each[0] * each[1]
        size *= 2 if cfg.train.feature_dtype == "fp16" else 4
        found.append(_space("features of the frozen encoder (at most)", size, folder))
    return found


def memory(cfg: RunConfig, matches: Sequence[Match]) -> list[Finding]:
    """Return a lower bound of what training holds, against what there is."""
    import torch

    total = sum(match.parameters for match in matches)
    moving = sum(match.parameters for match in matches if match.rate is not None)
    need = 4 * total + 12 * moving
    if torch.cuda.is_available() and cfg.train.device != "cpu":
        there, what = torch.cuda.mem_get_info()[1], "GPU memory"
    else:
        there, what = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "memory"
    fits = need < 0.8 * there
    return [
        Finding(
            level="ok" if fits else "error",
            about="weights, gradients and optimizer",
            got=f"{need / 1e9:.1f} GB of {there / 1e9:.0f} GB {what}, activations not counted",
            do="" if fits else "freeze more (freeze.preset = 'decoder' or 'lora'), or use fsdp",
        )
    ]


def file_system(out: Path) -> list[Finding]:
    """Try what a checkpoint relies on: rename over a file, rename of a folder, fsync."""
    existing = next(p for p in [out, *out.absolute().parents] if p.is_dir())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".medblip-doctor-") as name:
            probe = Path(name)
            (probe / "a").mkdir()
            (probe / "a" / "x").write_text("1")
            (probe / "y").write_text("0")
            os.replace(probe / "a" / "x", probe / "y")
            os.replace(probe / "a", probe / "b")
            descriptor = os.open(probe, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        return [
            Finding(
                level="error", about=f"file system of {existing}",
                got=f"{error.strerror or error}: checkpoints could not be replaced safely",
                do="write runs to a local disk, not to an object store mounted as a folder",
            )
        ]  # fmt: skip
    return [Finding(level="ok", about="file system", got="renames and flushes as it should")]


def _space(what: str, need: int, folder: Path) -> Finding:
    existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
    free = shutil.disk_usage(existing).free
    enough = free > 1.1 * need
    return Finding(
        level="ok" if enough else "error", about=f"disk for the {what}",
        got=f"{need / 1e6:,.0f} MB of {free / 1e6:,.0f} MB free",
        do="" if enough else "free some space, or choose another folder",
    )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    """Return (2, 13, 0) of 2.13.0+cpu."""
    found = [int(number) for number in re.findall(r"\d+", version.split("+")[0])[:3]]
    return (*found, *[0] * (3 - len(found)))
