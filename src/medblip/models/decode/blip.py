"""BLIP's text decoder as a stack: transformers' modules, called one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from medblip.models.decode.packed import packed
from medblip.models.decode.stack import linear

__all__ = ["BlipStack"]


class BlipStack:
    """`BlipTextLMHeadModel` (modeling_blip_text.py); implements `Stack`.

    Args:
        decoder: In eval mode, possibly with LoRA layers inside.
    """

    def __init__(self, decoder: Any) -> None:
        config = decoder.config
        self._embeddings = decoder.bert.embeddings
        self._layers = decoder.bert.encoder.layer
        self._head = decoder.cls.predictions
        self.layers = config.num_hidden_layers
        self.heads = config.num_attention_heads
        self.width = config.hidden_size
        self.longest = config.max_position_embeddings
        self.scales = (float(self.width / self.heads) ** -0.5,) * self.layers

    def keys_values(self, embeds: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what a layer sees of images (B, P, D): two of (B, H, P, d)."""
        attention = self._layers[layer].crossattention.self
        return self._split(attention.key(embeds)), self._split(attention.value(embeds))

    def states(
        self, ids: torch.Tensor, positions: torch.Tensor,
        attend_self: Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor],
        attend_image: Callable[[int, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:  # fmt: skip
        """Return the last layer's output (B, N, D); see `Stack`."""
        x = self._embeddings.word_embeddings(ids) + self._embeddings.position_embeddings(positions)
        x = self._embeddings.LayerNorm(x)
        for index, layer in enumerate(self._layers):
            own, image = layer.attention, layer.crossattention
            query, key, value = (
                self._split(linear(part, x))
                for part in (own.self.query, own.self.key, own.self.value)
            )
            x = _joined(own.output, attend_self(index, query, key, value), x)
            query = self._split(linear(image.self.query, x))
            x = _joined(image.output, attend_image(index, query), x)
            inner = layer.intermediate.intermediate_act_fn(linear(layer.intermediate.dense, x))
            x = _joined(layer.output, inner, x)
        out: torch.Tensor = x
        return out

    def head(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return states (R, D) -> logits (R, V)."""
        transform = self._head.transform
        words = packed(self._head.decoder)

        def logits(states: torch.Tensor) -> torch.Tensor:
            inner = transform.transform_act_fn(linear(transform.dense, states))
            out: torch.Tensor = words(transform.LayerNorm(inner))
            return out

        return logits

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, N, D) as (B, H, N, d)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


def _joined(output: nn.Module, context: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Project, add what was before, normalise."""
    part: Any = output
    joined: torch.Tensor = part.LayerNorm(linear(part.dense, context) + before)
    return joined
