"""Faster attention for transformers' BLIP: the only file that changes what transformers does.

transformers runs BLIP's attention eagerly (modeling_blip.py, BlipAttention; modeling_blip_text.py,
BlipTextSelfAttention): every probability is kept for the backward pass, 192 MB per image in the
vision tower at 384 px. Here the same product goes through torch's fused attention. Two faults are
mended on the way: the mask over image tokens is honoured (BlipTextLayer hands it over under a name
that the attention does not look at), and word embeddings are not changed in place (which breaks
LoRA with gradient checkpointing).

A method is replaced only if its source is one that the tests have run against; on any other version
the network stays stock, and a warning says so. Maps and generation with a cache run stock code.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator
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
        replacement = _REPLACEMENTS.get(type(module))
        if replacement is not None:
            module.forward = types.MethodType(replacement, module)
    return True


@contextlib.contextmanager
def stock_attention(network: nn.Module) -> Iterator[None]:
    """Run transformers' own attention, which returns its probabilities, inside the block."""
    changed = [m for m in network.modules() if type(m) in _REPLACEMENTS and "forward" in vars(m)]
    fast = [module.forward for module in changed]
    for module in changed:
        del module.forward
    try:
        yield
    finally:
        for module, forward in zip(changed, fast, strict=True):
            module.forward = forward


def _vision(self: Any, hidden_states: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, None]:
    batch, length, width = hidden_states.shape
    qkv = self.qkv(hidden_states).view(batch, length, 3, self.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    dropout = self.dropout.p if self.training else 0.0
    context = functional.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, scale=self.scale
    )
    return self.projection(context.transpose(1, 2).reshape(batch, length, width)), None


def _text(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    encoder_hidden_states: torch.Tensor | None = None,
    encoder_attention_mask: torch.Tensor | None = None,
    past_key_values: Any = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if past_key_values is not None:  # generation: stock keeps its cache
        stock: Callable[..., Any] = type(self).forward
        out: tuple[torch.Tensor, torch.Tensor] = stock(
            self, hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask,
            past_key_values, **kwargs,
        )  # fmt: skip
        return out
    states = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    # BlipTextLayer passes the image's mask as attention_mask: it belongs to the keys in both cases
    mask = attention_mask if encoder_attention_mask is None else encoder_attention_mask

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:-1], -1, self.attention_head_size).transpose(1, 2)

    query = heads(self.query(hidden_states))
    context = functional.scaled_dot_product_attention(
        query, heads(self.key(states)), heads(self.value(states)),
        attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.to(query.dtype),
        dropout_p=self.dropout.p if self.training else 0.0,
    )  # fmt: skip
    return context.transpose(1, 2).flatten(2), None


def _embeddings(
    self: Any,
    input_ids: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    inputs_embeds: torch.Tensor | None = None,
    past_key_values_length: int = 0,
) -> torch.Tensor:
    words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
    if position_ids is None:
        length = words.shape[1]
        position_ids = self.position_ids[
            :, past_key_values_length : length + past_key_values_length
        ]
    summed = words + self.position_embeddings(position_ids)
    out: torch.Tensor = self.dropout(self.LayerNorm(summed))
    return out


_REPLACEMENTS: dict[type[nn.Module], Callable[..., Any]] = {
    BlipAttention: _vision,
    BlipTextSelfAttention: _text,
    BlipTextEmbeddings: _embeddings,
}
