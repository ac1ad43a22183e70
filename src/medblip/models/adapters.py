"""Small trained parts beside frozen weights: LoRA and DoRA through PEFT, bottleneck adapters.

PEFT knows no default targets for BLIP, and its usual `["query", "value"]` silently misses the
vision tower, whose projections are fused (`qkv`). So the layers are looked for in the network that
is there: every product of a numbered layer of a tower, whatever its family calls it. The only file
that names PEFT.
"""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medblip.config import AdapterConfig, LoraConfig, RunConfig
from medblip.errors import CheckpointError, ConfigError, explain
from medblip.models.freeze import LAYER, tower_of

__all__ = [
    "BOTTLENECK",
    "adapt",
    "adapted",
    "add_adapters",
    "add_bottlenecks",
    "bottlenecks_of",
    "load_bottlenecks",
    "merge_adapters",
    "save_bottlenecks",
]

#: In the name of a weight that belongs to a bottleneck adapter.
BOTTLENECK = ".bottleneck_"
_FILE = "bottlenecks.safetensors"

#: BLIP's head begins with a layer of its own, which no number names.
_ALSO = re.compile(r"cls\.predictions\.transform\.dense$")
#: The last product of a layer's feed-forward part: BLIP, OPT and ViT; BERT; GPT-2; Llama and kin;
#: T5; Qwen's vision tower.
_FEED_FORWARD = re.compile(
    r"(?<!embeddings)\.(mlp\.fc2|fc2|(?<!attention\.)output\.dense|mlp\.c_proj|mlp\.down_proj"
    r"|DenseReluDense\.wo|mlp\.linear_fc2)$"
)
_PRESETS = ("lora", "connector-lora")


def adapted(cfg: RunConfig) -> bool:
    """Whether a run trains LoRA adapters, which are merged into the weights when it saves."""
    return cfg.freeze.preset in _PRESETS


def adapt(network: Any, cfg: RunConfig) -> Any:
    """Return the network with the adapters that a run trains, if it trains any."""
    if adapted(cfg):
        return add_adapters(network, cfg.lora)
    if cfg.freeze.preset == "adapter" and bottlenecks_of(network) is None:
        return add_bottlenecks(network, cfg.adapter)
    return network


def add_adapters(network: Any, lora: LoraConfig) -> Any:
    """Return the network wrapped with LoRA (arXiv 2106.09685) or DoRA (arXiv 2402.09353).

    Raises:
        ConfigError: No tower was asked for, or one has no layer to adapt.
    """
    # where it is installed, PEFT imports it, and on some CPUs it misses a kernel nobody asked for
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    chosen = PeftLoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides it, a float is fine
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules=_targets(network, lora.towers, "lora"),
    )
    with warnings.catch_warnings():  # GPT-2's products lie the other way round: PEFT sees to it
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to False")
        # of transformers, about an attribute that PEFT asks for
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(network, chosen)


def merge_adapters(network: Any) -> Any:
    """Fold the adapters into the weights and return the plain network, as `save` needs it."""
    return network.merge_and_unload() if hasattr(network, "merge_and_unload") else network


class _Bottleneck:
    """What a product becomes: y + up(gelu(down(y))), where y is its own output."""

    bottleneck_down: nn.Linear
    bottleneck_up: nn.Linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., D) of (..., D_in)."""
        y: torch.Tensor = super().forward(x)  # type: ignore[misc]  # of the product's class
        inner = nn.functional.gelu(self.bottleneck_down(y.to(self.bottleneck_down.weight.dtype)))
        out: torch.Tensor = y + self.bottleneck_up(inner).to(y.dtype)
        return out


def add_bottlenecks(network: Any, adapter: AdapterConfig) -> Any:
    """Return the network with an adapter behind the feed-forward part of every layer of a tower.

    As in arXiv 2005.00247, figure 5. The last weights begin at zero, so nothing changes at first.
    The names of the network's own weights stay: plain transformers loads them from what is saved,
    and leaves the adapters out.

    Raises:
        ConfigError: No tower was asked for, or one has no layer to adapt.
    """
    found = [
        name for name in _targets(network, adapter.towers, "adapter") if _FEED_FORWARD.search(name)
    ]
    modules = dict(network.named_modules())
    for name in found:
        module = modules[name]
        like = next(module.parameters())
        width = int(getattr(module, "out_features", 0) or getattr(module, "nf", 0))
        module.bottleneck_down = nn.Linear(width, adapter.width, device=like.device)
        module.bottleneck_up = nn.Linear(adapter.width, width, device=like.device)
        if like.device.type != "meta":
            nn.init.zeros_(module.bottleneck_up.weight)
            nn.init.zeros_(module.bottleneck_up.bias)
        # another class, not a wrapper: the product keeps its name
        module.__class__ = type(f"{type(module).__name__}Adapted", (_Bottleneck, type(module)), {})
    return network


def bottlenecks_of(network: Any) -> AdapterConfig | None:
    """Return how wide a network's bottleneck adapters are and where, or None."""
    there = {
        name: module.bottleneck_down.out_features
        for name, module in network.named_modules()
        if isinstance(module, _Bottleneck)
    }
    if not there:
        return None
    towers: Any = tuple(t for t in ("vision", "text") if any(tower_of(n) == t for n in there))
    return AdapterConfig(width=next(iter(there.values())), towers=towers)


def save_bottlenecks(network: Any, folder: Path) -> None:
    """Write the weights of the adapters beside those of the network."""
    from safetensors.torch import save_file

    own = {n: t.cpu().contiguous() for n, t in network.state_dict().items() if BOTTLENECK in n}
    save_file(own, folder / _FILE)


def load_bottlenecks(network: Any, file: Path, adapter: AdapterConfig) -> Any:
    """Return the network with the adapters that `save_bottlenecks` wrote."""
    from safetensors.torch import load_file

    network = add_bottlenecks(network, adapter)
    own = load_file(file)
    expected = {name for name in network.state_dict() if BOTTLENECK in name}
    if set(own) != expected:
        raise CheckpointError(
            explain(
                f"{file} does not fit its network",
                got=f"{len(own)} weights",
                expected=f"the {len(expected)} weights of the adapters that medblip.json names",
                do="copy the folder again",
            )
        )
    network.load_state_dict(own, strict=False)
    return network


def _targets(network: Any, towers: tuple[str, ...], section: str) -> list[str]:
    """Return the names of all products of the numbered layers of towers."""
    if not towers:
        raise ConfigError(
            explain(
                f"{section} has no tower to adapt",
                got=f"{section}.towers = []",
                expected='"vision", "text" or both',
                do=f"set {section}.towers",
            )
        )
    found: dict[str, list[str]] = {tower: [] for tower in towers}
    for name, module in network.named_modules():
        product = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        numbered = LAYER.search(f".{name}.") or _ALSO.search(name)
        if product and numbered and (tower := tower_of(name)) in found:
            found[tower].append(name)
    for tower, names in found.items():
        if not names:
            raise ConfigError(
                explain(
                    f"{section} finds nothing to adapt in the {tower} tower",
                    got=type(network).__name__,
                    expected="linear layers in numbered layers of a tower",
                    do=f"choose other {section}.towers",
                )
            )
    return [name for names in found.values() for name in names]
