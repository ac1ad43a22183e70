"""LoRA on BLIP through PEFT: explicit targets per tower. The only file that names PEFT.

PEFT knows no default targets for BLIP, and its usual `["query", "value"]` silently misses the
vision tower, whose projections are fused (`qkv`); so every linear layer is named here.
"""

from __future__ import annotations

import re
from typing import Any

from medblip.config import LoraConfig
from medblip.errors import ConfigError, explain

__all__ = ["add_adapters", "merge_adapters"]

_TARGETS = {
    "vision": r"vision_model\.encoder\.layers\.\d+\.(self_attn\.(qkv|projection)|mlp\.fc[12])",
    "text": (
        r"text_decoder\.bert\.encoder\.layer\.\d+\.((attention|crossattention)"
        r"\.(self\.(query|key|value)|output\.dense)|(intermediate|output)\.dense)"
        r"|text_decoder\.cls\.predictions\.transform\.dense"
    ),
}


def add_adapters(network: Any, lora: LoraConfig) -> Any:
    """Return the network wrapped with adapters on the requested towers.

    Raises:
        ConfigError: No tower was asked for, or one has no layer of the expected names.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model

    names = [name for name, _ in network.named_modules()]
    for tower in lora.towers:
        if not any(re.fullmatch(_TARGETS[tower], name) for name in names):
            raise ConfigError(
                explain(
                    f"LoRA finds nothing to adapt in the {tower} tower",
                    got=type(network).__name__,
                    expected=f"layers named like {_TARGETS[tower]}",
                    do="choose other lora.towers, or a BLIP captioner",
                )
            )
    if not lora.towers:
        raise ConfigError(
            explain(
                "LoRA has no tower to adapt",
                got="lora.towers = []",
                expected='"vision", "text" or both',
                do="set lora.towers",
            )
        )
    return get_peft_model(
        network,
        PeftLoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT divides it, a float is fine
            lora_dropout=lora.dropout,
            target_modules="|".join(f"({_TARGETS[tower]})" for tower in lora.towers),
        ),
    )


def merge_adapters(network: Any) -> Any:
    """Fold the adapters into the weights and return the plain network, as `save` needs it."""
    return network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
