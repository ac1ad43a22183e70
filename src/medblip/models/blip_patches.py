"""Faster attention for transformers' BLIP: the only file that changes what transformers does.

transformers runs BLIP's attention eagerly (modeling_blip.py, BlipAttention; modeling_blip_text.py,
BlipTextSelfAttention): every probability is kept for the backward pass, 192 MB per image in the
vision tower at 384 px. Here the same product goes through torch's fused attention. Two faults are
mended on the way: the mask over image tokens is honoured (BlipTextLayer hands it over under a name
that the attention does not look at), and word embeddings are not changed in place (which breaks
LoRA with gradient checkpointing).

A class is replaced only if its source is one that the tests have run against; on any other version
the network stays stock, and a warning says so. Maps and generation with a cache run stock code.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.models.blip.modeling_blip import BlipAttention
from transformers.models.blip.modeling_blip_text import BlipTextEmbeddings, BlipTextSelfAttention

__all__ = ["patch", "stock_attention"]

#: Class -> fingerprints of its `forward` in the versions that were tested.
KNOWN: dict[type[nn.Module], dict[str, str]] = {
    BlipAttention: {"e6e88bc5fcd9": "5.3.0 to 5.23.0"},
    BlipTextSelfAttention: {
        "d1954f913e56": "5.3.0", "96bc9a0e09dc": "5.17.0", "70130170592f": "5.23.0",
    },
    BlipTextEmbeddings: {"6b3613a25923": "5.3.0, 5.17.0", "06e557a35ba8": "5.23.0"},
}  # fmt: skip


def fingerprint(kind: type[nn.Module]) -> str:
    """Return a hash of a class's `forward`, whatever its comments and layout are."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.forward)))
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def patch(network: nn.Module) -> bool:
    """Give every attention of a BLIP network its fast path; return whether that was done."""
    unknown = [kind.__name__ for kind in KNOWN if fingerprint(kind) not in KNOWN[kind]]
    if unknown:
        warnings.warn(
            f"this transformers has another {', '.join(unknown)} than those that medblip was "
            "tested with: its own, slower attention is used",
            stacklevel=2,
        )
        return False
    for module in network.modules():
        # another class, not another method of each module: torch.compile then sees layers alike
        module.__class__ = _FAST.get(type(module), type(module))
    return True


@contextlib.contextmanager
def stock_attention(network: nn.Module) -> Iterator[None]:
    """Run transformers' own attention, which returns its probabilities, inside the block."""
    changed = [module for module in network.modules() if type(module) in _FAST.values()]
    for module in changed:
        module.__class__ = type(module).__mro__[1]
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = _FAST[type(module)]


class FastBlipAttention(BlipAttention):
    """Self-attention of the vision tower."""

    def forward(  # type: ignore[override]  # transformers lists its keywords one by one
        self, hidden_states: torch.Tensor, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the projected context (B, P, D), and no probabilities."""
        batch, length, width = hidden_states.shape
        qkv = self.qkv(hidden_states).view(batch, length, 3, self.num_heads, -1)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        dropout = self.dropout.p if self.training else 0.0
        context = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, scale=self.scale
        )
        return self.projection(context.transpose(1, 2).reshape(batch, length, width)), None


class FastBlipTextSelfAttention(BlipTextSelfAttention):
    """Self- and cross-attention of the text tower."""

    def forward(  # type: ignore[override]
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the context (B, T, D), and no probabilities unless a cache is used."""
        if past_key_values is not None:  # generation: stock keeps its cache
            out: tuple[torch.Tensor, torch.Tensor] = super().forward(
                hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask,
                past_key_values, **kwargs,
            )  # fmt: skip
            return out
        states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        # BlipTextLayer passes the image's mask as attention_mask: it is the keys' in both cases
        mask = attention_mask if encoder_attention_mask is None else encoder_attention_mask
        query = self._heads(self.query(hidden_states))
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(query.dtype)
        context = functional.scaled_dot_product_attention(
            query, self._heads(self.key(states)), self._heads(self.value(states)),
            attn_mask=mask, dropout_p=self.dropout.p if self.training else 0.0,
        )  # fmt: skip
        return context.transpose(1, 2).flatten(2), None

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], -1, self.attention_head_size).transpose(1, 2)


class FastBlipTextEmbeddings(BlipTextEmbeddings):
    """Embeddings that leave the word embeddings' output alone."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values_length: int = 0,
    ) -> torch.Tensor:
        """Return the embedded tokens (B, T, D)."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            end = words.shape[1] + past_key_values_length
            position_ids = self.position_ids[:, past_key_values_length:end]
        summed = words + self.position_embeddings(position_ids)
        out: torch.Tensor = self.dropout(self.LayerNorm(summed))
        return out


_FAST: dict[type[nn.Module], type[nn.Module]] = {
    BlipAttention: FastBlipAttention,
    BlipTextSelfAttention: FastBlipTextSelfAttention,
    BlipTextEmbeddings: FastBlipTextEmbeddings,
}
