"""GPT-2 with cross-attention as a stack: the decoder of ViT-GPT2.

Its layers keep their weights transposed (Conv1D), which suits few rows as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from medblip.models.decode.packed import packed

__all__ = ["Gpt2Stack"]


class Gpt2Stack:
    """`GPT2LMHeadModel` (modeling_gpt2.py); implements `Stack`.

    Args:
        decoder: In eval mode, possibly with LoRA layers inside.
    """

    def __init__(self, decoder: Any) -> None:
        config = decoder.config
        self._body, self._head = decoder.transformer, decoder.lm_head
        self.layers = config.n_layer
        self.heads = config.n_head
        self.width = config.n_embd
        self.longest = config.n_positions
        self.scales = tuple(float(block.attn.scaling) for block in self._body.h)

    def keys_values(self, embeds: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a layer sees of images (B, P, D): two of (B, H, P, d)."""
        keys, values = self._body.h[layer].crossattention.c_attn(embeds).split(self.width, dim=2)
        return self._split(keys), self._split(values)

    def states(
        self, ids: torch.Tensor, positions: torch.Tensor,
        attend_self: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        attend_image: Callable[[int, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:  # fmt: skip
        """Return the last layer's output (B, N, D); see `Stack`."""
        x = self._body.wte(ids) + self._body.wpe(positions)
        for index, block in enumerate(self._body.h):
            own, image = block.attn, block.crossattention
            parts = own.c_attn(block.ln_1(x)).split(self.width, dim=2)
            query, key, value = (self._split(part) for part in parts)
            x = x + own.c_proj(attend_self(index, query, key, value))
            query = self._split(image.q_attn(block.ln_cross_attn(x)))
            x = x + image.c_proj(attend_image(index, query))
            inner = block.mlp.act(block.mlp.c_fc(block.ln_2(x)))
            x = x + block.mlp.c_proj(inner)
        out: torch.Tensor = self._body.ln_f(x)
        return out

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return states (R, D) -> logits (R, V)."""
        return packed(self._head)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, N, D) as (B, H, N, d)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)
