"""Stage `models`: which captioners can be called by name, and what they need."""

from __future__ import annotations

import dataclasses
import math
import os

from safetensors import safe_open

from medblip.config import BUNDLED
from medblip.models.captioner import bundled_folder
from medblip.models.known import KNOWN

__all__ = ["Entry", "is_cached", "list_models"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One captioner.

    Args:
        name: What `--model` and `model.name` take.
        hub: Hub id; "" for the bundled one.
        family: transformers' `model_type`; `image-text-to-text`: any other that its Auto classes
            know; `remote`: behind an HTTP interface.
        parameters: Scalars in it; 0 where that depends.
        fp32_gb: Weights in GB, as they are trained.
        bf16_gb: Weights in GB, as they caption on a GPU.
        licence: As the hub page states it.
        regimes: Values of `freeze.preset` that train it.
        maps: What `explain` shows.
        here: Whether its configuration is on this machine.
    """

    name: str
    hub: str
    family: str
    parameters: int
    fp32_gb: float
    bf16_gb: float
    licence: str
    regimes: tuple[str, ...]
    maps: str
    here: bool


def list_models() -> list[Entry]:
    """Return what can be named: nothing is downloaded or loaded."""
    with safe_open(bundled_folder() / "model.safetensors", "numpy") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118  # not a dict
    found = [
        Entry(
            name=BUNDLED, hub="", family="blip", parameters=count,
            fp32_gb=round(count * 4e-9, 4), bf16_gb=round(count * 2e-9, 4), licence="Apache-2.0",
            regimes=KNOWN[0].regimes, maps=KNOWN[0].maps, here=True,
        )
    ]  # fmt: skip
    for known in KNOWN:
        found.append(
            Entry(
                name=known.name, hub=known.hub, family=known.family,
                parameters=known.parameters, fp32_gb=round(known.weights_gb(4), 2),
                bf16_gb=round(known.weights_gb(2), 2), licence=known.licence,
                regimes=known.regimes, maps=known.maps, here=is_cached(known.hub),
            )
        )  # fmt: skip
    found += [
        Entry(
            name="any hub id or folder", hub="", family="image-text-to-text", parameters=0,
            fp32_gb=0, bf16_gb=0, licence="its own",
            regimes=("lora", "connector", "connector-lora", "adapter", "full", "custom"),
            maps="per word, image tokens, where they form a square", here=False,
        ),
        *(
            Entry(
                name=name, hub="", family="remote", parameters=0, fp32_gb=0, bf16_gb=0,
                licence="the provider's terms", regimes=(), maps="none", here=False,
            )
            for name in ("gemini", "gemini:MODEL", "openai:MODEL")
        ),
    ]  # fmt: skip
    return found


def is_cached(hub: str) -> bool:
    """Whether the hub's cache on this machine holds a snapshot of it."""
    home = os.environ.get("HF_HOME", os.path.join(os.path.expanduser("~"), ".cache", "huggingface"))
    cache = os.environ.get("HF_HUB_CACHE", os.path.join(home, "hub"))
    return os.path.isdir(os.path.join(cache, "models--" + hub.replace("/", "--"), "snapshots"))
