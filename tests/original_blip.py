"""The original BLIP's arithmetic, written from its papers and run from its own tensor names.

Vision: arXiv 2010.11929, pre-norm, qkv in one product, GELU, LayerNorm 1e-6. Text: BERT, post-norm,
LayerNorm 1e-12, a causal mask, and cross-attention between self-attention and the products.
"""

from __future__ import annotations

import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear

Tensors = dict[str, torch.Tensor]


def random_checkpoint(
    *, vision: int = 64, text: int = 24, layers: int = 2, side: int = 32, words: int = 30524,
    places: int = 40, dtype: torch.dtype = torch.float32,
) -> Tensors:  # fmt: skip
    """Return random tensors by original name; sizes are small, the vocabulary is BLIP's."""
    generator = torch.Generator().manual_seed(0)
    found: Tensors = {}

    def put(name: str, *shape: int) -> None:
        found[name] = (torch.randn(shape, generator=generator) * 0.2).to(dtype)

    def dense(name: str, out: int, into: int) -> None:
        put(f"{name}.weight", out, into)
        put(f"{name}.bias", out)

    def norm(name: str, width: int) -> None:
        put(f"{name}.weight", width)
        found[f"{name}.weight"] += 1
        put(f"{name}.bias", width)

    put("visual_encoder.cls_token", 1, 1, vision)
    put("visual_encoder.pos_embed", 1, (side // 16) ** 2 + 1, vision)
    put("visual_encoder.patch_embed.proj.weight", vision, 3, 16, 16)
    put("visual_encoder.patch_embed.proj.bias", vision)
    for n in range(layers):
        block = f"visual_encoder.blocks.{n}"
        norm(f"{block}.norm1", vision)
        dense(f"{block}.attn.qkv", 3 * vision, vision)
        dense(f"{block}.attn.proj", vision, vision)
        norm(f"{block}.norm2", vision)
        dense(f"{block}.mlp.fc1", 4 * vision, vision)
        dense(f"{block}.mlp.fc2", vision, 4 * vision)
    norm("visual_encoder.norm", vision)
    put("text_decoder.bert.embeddings.word_embeddings.weight", words, text)
    put("text_decoder.bert.embeddings.position_embeddings.weight", places, text)
    found["text_decoder.bert.embeddings.position_ids"] = torch.arange(places)[None]
    norm("text_decoder.bert.embeddings.LayerNorm", text)
    for n in range(layers):
        layer = f"text_decoder.bert.encoder.layer.{n}"
        for kind, into in (("attention", text), ("crossattention", vision)):
            dense(f"{layer}.{kind}.self.query", text, text)
            dense(f"{layer}.{kind}.self.key", text, into)
            dense(f"{layer}.{kind}.self.value", text, into)
            dense(f"{layer}.{kind}.output.dense", text, text)
            norm(f"{layer}.{kind}.output.LayerNorm", text)
        dense(f"{layer}.intermediate.dense", 4 * text, text)
        dense(f"{layer}.output.dense", text, 4 * text)
        norm(f"{layer}.output.LayerNorm", text)
    head = "text_decoder.cls.predictions"
    dense(f"{head}.transform.dense", text, text)
    norm(f"{head}.transform.LayerNorm", text)
    put(f"{head}.bias", words)
    found[f"{head}.decoder.weight"] = found["text_decoder.bert.embeddings.word_embeddings.weight"]
    found[f"{head}.decoder.bias"] = found[f"{head}.bias"]
    return found


def _dense(t: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return linear(x, t[f"{name}.weight"], t[f"{name}.bias"])


def _norm(t: Tensors, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], eps)


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, causal: bool = False
) -> torch.Tensor:
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def image_tokens(t: Tensors, pixels: torch.Tensor, heads: int) -> torch.Tensor:
    """Run the image encoder."""
    name = "visual_encoder.patch_embed.proj"
    patches = conv2d(pixels, t[f"{name}.weight"], t[f"{name}.bias"], stride=16)
    first = t["visual_encoder.cls_token"].expand(len(pixels), -1, -1)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + t["visual_encoder.pos_embed"]
    n = 0
    while f"visual_encoder.blocks.{n}.norm1.weight" in t:
        block = f"visual_encoder.blocks.{n}"
        q, k, v = _dense(t, f"{block}.attn.qkv", _norm(t, f"{block}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + _dense(t, f"{block}.attn.proj", _attend(q, k, v, heads))
        y = gelu(_dense(t, f"{block}.mlp.fc1", _norm(t, f"{block}.norm2", x, 1e-6)))
        x = x + _dense(t, f"{block}.mlp.fc2", y)
        n += 1
    return _norm(t, "visual_encoder.norm", x, 1e-6)


def logits(t: Tensors, ids: torch.Tensor, image: torch.Tensor, heads: int = 12) -> torch.Tensor:
    """Run the text decoder on tokens and what the image encoder says."""
    words = "text_decoder.bert.embeddings"
    x = t[f"{words}.word_embeddings.weight"][ids]
    x = x + t[f"{words}.position_embeddings.weight"][t[f"{words}.position_ids"][0, : ids.shape[1]]]
    x = _norm(t, f"{words}.LayerNorm", x, 1e-12)
    n = 0
    while f"text_decoder.bert.encoder.layer.{n}.output.dense.weight" in t:
        layer = f"text_decoder.bert.encoder.layer.{n}"
        for kind, seen in (("attention", None), ("crossattention", image)):
            of = x if seen is None else seen
            query = _dense(t, f"{layer}.{kind}.self.query", x)
            key = _dense(t, f"{layer}.{kind}.self.key", of)
            value = _dense(t, f"{layer}.{kind}.self.value", of)
            mixed = _attend(query, key, value, heads, causal=seen is None)
            out = _dense(t, f"{layer}.{kind}.output.dense", mixed)
            x = _norm(t, f"{layer}.{kind}.output.LayerNorm", x + out, 1e-12)
        y = _dense(t, f"{layer}.output.dense", gelu(_dense(t, f"{layer}.intermediate.dense", x)))
        x = _norm(t, f"{layer}.output.LayerNorm", x + y, 1e-12)
        n += 1
    head = "text_decoder.cls.predictions"
    x = _norm(
        t, f"{head}.transform.LayerNorm", gelu(_dense(t, f"{head}.transform.dense", x)), 1e-12
    )
    return _dense(t, f"{head}.decoder", x)
