"""Weights into memory: which numbers, on which device, and what a user reads when it cannot be.

A network is first built without numbers (device `meta`), so that it is known what it needs before
anything is read; what was chosen is said out loud.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from medblip.config import AdapterConfig
from medblip.errors import CheckpointError, explain
from medblip.files import read_json
from medblip.models.adapters import load_bottlenecks
from medblip.progress import console

__all__ = [
    "Loading",
    "Numbers",
    "Placing",
    "commit_of",
    "float_dtype",
    "free_bytes",
    "network_of",
    "place",
    "prompt_of",
    "quiet_bars",
]

Numbers = Literal["fp32", "bf16", "int8", "int4"]
#: Bytes per weight. bitsandbytes leaves embeddings, norms and the head in 16 bits; counted so.
BYTES: dict[str, float] = {"fp32": 4, "bf16": 2, "int8": 1.15, "int4": 0.7}
#: Weights that are worth a sentence: below, nobody asks where they are.
_SAID_FROM = 500_000_000
#: Share of the free memory that weights may take: the rest is for what is computed with them.
_SHARE = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loading:
    """What is loaded, and how.

    Args:
        source: Folder or hub id.
        revision: Commit of a hub id.
        device: Where to put it.
        weights: False: a shape without numbers.
        numbers: How weights are kept in memory: the first of these that fits.
        spills: Whether main memory may hold what a GPU has no room for: to caption, not to train.
    """

    source: str
    revision: str | None = None
    device: str = "cpu"
    weights: bool = True
    numbers: tuple[Numbers, ...] = ("fp32",)
    spills: bool = False

    @property
    def where(self) -> dict[str, Any]:
        """What every `from_pretrained` is told."""
        return {"revision": self.revision} if self.revision else {}


@dataclasses.dataclass(frozen=True)
class Placing:
    """Where weights go.

    Args:
        device_map: What transformers is told; None: load, then move to the one device.
        sentence: What the user reads.
    """

    device_map: str | None
    sentence: str


def free_bytes(device: str) -> int | None:
    """Return the memory that is free on a device (`cpu`: of the machine), where it is known."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    if device != "cpu":
        return None
    with contextlib.suppress(OSError):
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        return int(found[1]) * 1024 if found else None
    return None


def place(
    name: str, parameters: int, numbers: str, device: str, free: int | None, free_main: int = 0
) -> Placing:
    """Choose where weights go from the memory there is.

    Args:
        name: What the user called the captioner.
        parameters: Scalars in it.
        numbers: How they are kept.
        device: Where they are wanted.
        free: Bytes that are free there; None: unknown.
        free_main: Bytes that are free in main memory and may be used, too.

    Raises:
        CheckpointError: They fit nowhere.
    """
    need = parameters * BYTES[numbers]
    what = f"{name}: {parameters / 1e9:.2f} billion weights as {numbers}, {need / 1e9:.1f} GB"
    if free is None or need <= _SHARE * free:
        there = "" if free is None else f", where {free / 1e9:.1f} GB are free"
        return Placing(None, f"{what}, on {device}{there}")
    spills = device.startswith("cuda") and numbers in ("fp32", "bf16")
    if spills and need <= _SHARE * (free + free_main):
        return Placing(
            "auto",
            f"{what}; {device} has {free / 1e9:.1f} GB free, so the rest stays in main memory, "
            "which is many times slower",
        )
    smaller = {"fp32": "bf16", "bf16": "int8", "int8": "int4"}.get(numbers)
    advice = f"set model.weights={smaller}, or " if smaller else ""
    raise CheckpointError(
        explain(
            f"{name} needs more memory than there is",
            got=f"{parameters / 1e9:.2f} billion weights as {numbers}: {need / 1e9:.1f} GB",
            expected=f"at most {_SHARE:.0%} of the {free / 1e9:.1f} GB that are free on {device}",
            do=f"{advice}name a smaller captioner (`medblip models`), or free memory",
        )
    )


def network_of(kind: Any, how: Loading, *, config: Any = None) -> Any:
    """Return a network of transformers in eval mode; safetensors only, no remote code.

    Args:
        kind: Class with `from_pretrained`.
        how: What is loaded.
        config: Its configuration where it is at hand.

    Raises:
        CheckpointError: It fits nowhere, or weights are missing.
    """
    if config is None:
        config = kind.config_class.from_pretrained(how.source, **how.where)
    with torch.device("meta"):
        empty = _made(kind, config)
    if not how.weights:
        return empty.eval()
    parameters = sum(parameter.numel() for parameter in empty.parameters())
    numbers, placing = _chosen(how, parameters)
    if parameters >= _SAID_FROM:
        console().print(placing.sentence, markup=False, highlight=False, soft_wrap=True)
    local = Path(how.source).is_dir()
    with quiet_bars() if local else contextlib.nullcontext():
        network, report = kind.from_pretrained(
            how.source, use_safetensors=True, output_loading_info=True,
            **_told(numbers, how.device), **how.where,
            **({"device_map": placing.device_map} if placing.device_map else {}),
        )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            explain(
                f"{how.source}: weights are missing",
                got=f"{len(missing)} absent, first {missing[0]}",
                expected=f"every weight of {kind.__name__}",
                do="copy the folder again, or name a captioner (not a retrieval or VQA model)",
            )
        )
    if (own := _stored(how, "medblip.json")) and "adapter" in (record := read_json(own)):
        file = _stored(how, "bottlenecks.safetensors") or own.with_name("bottlenecks.safetensors")
        network = load_bottlenecks(network, file, AdapterConfig(**record["adapter"]))
    if placing.device_map is None and numbers in ("fp32", "bf16"):
        network = network.to(how.device)
    return network.eval()


def _stored(how: Loading, name: str) -> Path | None:
    """Return a file of a folder or of the hub, or None."""
    find: Any = cached_file  # untyped
    found = find(
        how.source, name, revision=how.revision, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return None if found is None else Path(found)


def commit_of(source: str, revision: str | None) -> str | None:
    """Return the commit of what the hub's cache holds of a hub id."""
    file = _stored(Loading(source=source, revision=revision), "config.json")
    found = file and re.search(r"/snapshots/([0-9a-f]{40})/", file.as_posix())
    return found[1] if found else revision


def prompt_of(source: str, revision: str | None) -> str | None:
    """Return the prompt that a captioner of medblip was trained with; None: of somebody else's."""
    own = _stored(Loading(source=source, revision=revision), "medblip.json")
    return None if own is None else str(read_json(own)["prompt"])


def _made(kind: Any, config: Any) -> Any:
    """Return a network without numbers; the Auto classes make theirs from a configuration."""
    make = getattr(kind, "from_config", kind)
    return make(config)


def _chosen(how: Loading, parameters: int) -> tuple[Numbers, Placing]:
    """Return the first numbers that fit, and where they go; the last ones' error if none do."""
    free = free_bytes(how.device)
    *larger, last = how.numbers
    for numbers in larger:
        with contextlib.suppress(CheckpointError):
            return numbers, place(how.source, parameters, numbers, how.device, free)
    spare = (free_bytes("cpu") or 0) if how.spills else 0
    return last, place(how.source, parameters, last, how.device, free, spare)


def _told(numbers: Numbers, device: str) -> dict[str, Any]:
    """Return what `from_pretrained` is told about the numbers."""
    if numbers in ("fp32", "bf16"):
        return {"dtype": torch.float32 if numbers == "fp32" else torch.bfloat16}
    try:
        import bitsandbytes  # noqa: F401  # transformers' own message would not name the extra
        from transformers import BitsAndBytesConfig
    except ImportError:
        raise CheckpointError(
            explain(
                f"model.weights = {numbers} needs bitsandbytes",
                got="it is not installed",
                expected="bitsandbytes 0.46 or newer",
                do="pip install 'medblip[quant]'",
            )
        ) from None
    make: Any = BitsAndBytesConfig
    chosen = (
        make(load_in_8bit=True)
        if numbers == "int8"
        else make(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    )
    return {
        "quantization_config": chosen, "dtype": torch.bfloat16, "device_map": {"": device},
    }  # fmt: skip


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for files on disk; downloads keep theirs."""
    bars: Any = transformers_logging  # untyped
    if not bars.is_progress_bar_enabled():
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()


def float_dtype(module: Any) -> torch.dtype:
    """Return the type that a module computes in: weights in 8 or 4 bits are no floats."""
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(kinds, torch.bfloat16)
