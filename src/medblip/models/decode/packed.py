"""The output layer, laid out once for many products of a few rows (oneDNN, on a CPU)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from medblip.models.decode.stack import linear

__all__ = ["packed"]

_has_onednn: Callable[[], bool] = torch.backends.mkldnn.is_available  # untyped in torch


def packed(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a linear layer as a function of (R, D) that is quick for small R.

    The copy (94 MB at BLIP's 30,524 words) lasts as long as the function: weights may change
    between two calls of the search, never within one.
    """
    weight = module.weight if type(module) is nn.Linear else None
    usable = (
        weight is not None
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() > 1_000_000  # below, there is nothing to gain
        and _has_onednn()
        and not torch.is_autocast_enabled("cpu")
    )
    if not usable:
        return lambda x: linear(module, x)
    ops: Any = torch.ops.mkldnn
    store: dict[str, torch.Tensor] = {}

    def apply(x: torch.Tensor) -> torch.Tensor:
        if len(x) == 1:
            return linear(module, x)
        if not store:
            store["weight"] = ops._reorder_linear_weight(module.weight.detach(), len(x))
        out: torch.Tensor = ops._linear_pointwise(x, store["weight"], module.bias, "none", [], "")
        return out

    return apply
