"""A captioner that has forgotten what it learned: for sanity checks of what explains it.

Adebayo et al. 2018 (arXiv 1810.03292, section 3, model parameter randomisation): what explains a
network must change when the network's weights become random; else it shows the input or the
architecture. Here each weight tensor keeps its values in a random order, so that its scale, and
with it the sharpness of attention, stays what it was.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["decoder_layers", "randomised"]

_LAYER = re.compile(r"\.(?:layer|layers|h|block|blocks)\.(\d+)\.")


def decoder_layers(captioner: Captioner) -> int:
    """Return how many layers stand behind the image encoder."""
    return 1 + max((_depth(name) for name in _behind(captioner)), default=-1)


def randomised(captioner: Captioner, *, seed: int, layers: int | None = None) -> Captioner:
    """Return a copy whose weights behind the image encoder are shuffled, tensor by tensor.

    The encoder stays: both see the same image tokens. The given captioner is not touched.

    Args:
        captioner: Any; weights in 8 or 4 bits stay as they are.
        seed: Of the order.
        layers: So many, from the last, with the output layer: a step of the paper's cascade. Word
            embeddings shuffle with the output layer where both are one. None: all, and embeddings.
    """
    other: Any = copy.copy(captioner)
    other.network = copy.deepcopy(captioner.network)
    rng = torch.Generator().manual_seed(seed)
    behind = _behind(other)
    first = 0 if layers is None else decoder_layers(other) - layers
    for name, weights in behind.items():
        depth = _depth(name)
        inner = depth < 0 and layers is not None and not _is_output(name)
        if not weights.is_floating_point() or inner or 0 <= depth < first:
            continue
        order = torch.randperm(weights.numel(), generator=rng).to(weights.device)
        with torch.no_grad():
            weights.copy_(weights.detach().flatten()[order].view_as(weights))
    made: Captioner = other
    return made


def _behind(captioner: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that are not the image encoder's; tied ones once."""
    seen = {id(weights) for weights in captioner._encoder.parameters()}
    return {n: w for n, w in captioner.network.named_parameters() if id(w) not in seen}


def _depth(name: str) -> int:
    """Return the number of the layer that a parameter belongs to; -1 where it is in none."""
    found = _LAYER.search(f".{name}")
    return int(found[1]) if found else -1


def _is_output(name: str) -> bool:
    return any(part in name for part in ("cls.predictions", "lm_head", "final_layer_norm", "ln_f"))
