"""A captioner that has forgotten what it learned: for sanity checks of what explains it.

Adebayo et al. 2018 (arXiv 1810.03292, section 3, model parameter randomisation test): what explains
a network must change when its weights become random; else it shows the input or the architecture.
Here each tensor keeps its values in a random order, so that its scale, and with it how sharp
attention is, stays what it was.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch

from medblip.models.freeze import tower_of

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["randomised"]


def randomised(captioner: Captioner, seed: int) -> Captioner:
    """Return a copy whose weights behind the image encoder are shuffled, tensor by tensor.

    The encoder stays, so that both read the same image tokens. The given captioner is not touched.

    Args:
        captioner: Any; weights in 8 or 4 bits stay as they are.
        seed: Of the order.
    """
    other: Any = copy.copy(captioner)
    other.network = copy.deepcopy(captioner.network)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in other.network.named_parameters():  # tied ones once
            if tower_of(name) == "vision" or not weights.is_floating_point():
                continue
            order = torch.randperm(weights.numel(), generator=rng).to(weights.device)
            weights.copy_(weights.detach().flatten()[order].view_as(weights))
    made: Captioner = other
    return made
