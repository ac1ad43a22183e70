"""What the search asks of a decoder, and the two products that all decoders share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

__all__ = ["Stack", "attend", "linear"]

#: Above so many rows a plain product is the quickest on a CPU.
_MOST_ROWS = 128
#: Up to so many queries the scale is cheaper on them than on the keys.
_FEW_QUERIES = 16


class Stack(Protocol):
    """A decoder of transformers, layer by layer. It keeps no state."""

    layers: int
    heads: int
    width: int
    #: Tokens that it has positions for.
    longest: int
    #: What products of queries and keys are multiplied by, per layer.
    scales: tuple[float, ...]

    def keys_values(self, embeds: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a layer's cross-attention sees of images (B, P, D): two of (B, H, P, d)."""

    def states(
        self, ids: torch.Tensor, positions: torch.Tensor,
        attend_self: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        attend_image: Callable[[int, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:  # fmt: skip
        """Return the last layer's output (B, N, D) for N tokens of each image.

        Args:
            ids: int64 (B, N).
            positions: int64 (B, N).
            attend_self: (layer, queries, keys, values), each (B, H, N, d), of these tokens ->
                context (B, N, D) over all tokens that each may see.
            attend_image: (layer, queries) -> context (B, N, D) over the image.
        """

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return states (R, D) -> logits (R, V), made ready for many calls."""


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return the context (B, N, D) of queries (B, H, N, d) over keys and values (B, H, S, d).

    For a few queries torch's fused attention on a CPU first multiplies all keys by the scale, which
    costs as much as the product itself.
    """
    if queries.device.type == "cpu" and queries.shape[2] <= _FEW_QUERIES:
        scores = (queries * scale) @ keys.transpose(2, 3)
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        context = scores.softmax(-1) @ values
    else:
        context = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale
        )
    return context.transpose(1, 2).flatten(2)


def linear(module: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a linear layer (or what stands for one: LoRA) to (..., D).

    On a CPU a few rows times a large matrix is quickest the other way round, with the weights on
    the left: BLAS then reads them as they lie, and repacks the few rows instead of the weights.
    """
    rows = x.numel() // x.shape[-1]
    few = 1 < rows <= _MOST_ROWS and x.device.type == "cpu" and x.dtype == torch.float32
    if not few or type(module) is not nn.Linear:
        out: torch.Tensor = module(x)
        return out
    product = (module.weight @ x.reshape(rows, -1).t()).t()
    if module.bias is not None:
        product = product + module.bias
    return product.reshape(*x.shape[:-1], -1)
