"""Tiny random vision-language models behind the Auto classes: LLaVA, Qwen2-VL and PaliGemma."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_decoders import byte_tokenizer
from transformers import (
    CLIPImageProcessorPil,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
)

from medblip.models.vlm import VlmCaptioner
from medblip.models.vlm_processor import _no_videos

VLMS = ["llava", "qwen2-vl", "paligemma"]
#: The turns of LLaVA 1.5 and of Qwen2-VL, as their published templates write them.
_LLAVA = (
    "{% for m in messages %}{{ m['role'].upper() + ': ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}{{ '<image>\\n' }}{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% if m['role'] == 'assistant' %}{{ '</s>' }}{% else %}{{ ' ' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_QWEN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip


def vlm_captioner(family: str, seed: int = 0, prompt: str = "a chest") -> VlmCaptioner:
    """Return a random captioner."""
    tokenizer = byte_tokenizer()
    special = {
        "llava": ["<image>", "</s>"], "paligemma": ["<image>", "<bos>"],
        "qwen2-vl": ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
                     "<|image_pad|>", "<|video_pad|>"],
    }[family]  # fmt: skip
    tokenizer.add_tokens(special, special_tokens=True)
    if family == "paligemma":
        tokenizer.bos_token = "<bos>"
    number = tokenizer.convert_tokens_to_ids
    vision = {**_SMALL, "image_size": 32, "patch_size": 8, "projection_dim": 32}
    end = tokenizer.eos_token_id
    text = {
        **_SMALL, "num_key_value_heads": 2, "vocab_size": len(tokenizer) + 64, "bos_token_id": end,
        "eos_token_id": end, "pad_token_id": end, "max_position_embeddings": 256, "head_dim": 8,
    }  # fmt: skip
    network: Any
    processor: Any
    if family == "llava":
        config: Any = LlavaConfig(
            vision_config={**vision, "model_type": "clip_vision_model"},
            text_config={**text, "model_type": "llama"}, image_token_id=number("<image>"),
        )  # fmt: skip
        network = LlavaForConditionalGeneration(config)
        images: Any = CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        )
        processor = LlavaProcessor(
            images, tokenizer, patch_size=8, vision_feature_select_strategy="default",
            chat_template=_LLAVA, num_additional_image_tokens=1,
        )  # fmt: skip
    elif family == "qwen2-vl":
        config = Qwen2VLConfig(
            vision_config={
                "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2,
                "patch_size": 8, "spatial_merge_size": 2,
            },
            text_config={**text, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4,
                                                     "mrope_section": [1, 1, 2]}},
            image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
            vision_start_token_id=number("<|vision_start|>"),
            vision_end_token_id=number("<|vision_end|>"),
        )  # fmt: skip
        network = Qwen2VLForConditionalGeneration(config)
        images = Qwen2VLImageProcessorPil(
            patch_size=8, merge_size=2, size={"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
        )
        with _no_videos():
            processor = transformers.Qwen2VLProcessor(images, tokenizer, None, chat_template=_QWEN)
    else:
        config = PaliGemmaConfig(
            vision_config={**vision, "model_type": "siglip_vision_model", "vision_use_head": False},
            text_config={**text, "model_type": "gemma"}, image_token_index=number("<image>"),
            projection_dim=32,
        )  # fmt: skip
        network = PaliGemmaForConditionalGeneration(config)
        images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
        images.image_seq_length = 16
        processor = PaliGemmaProcessor(images, tokenizer)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.dim() > 1 or name.endswith("class_embedding"):  # CLIP's has one dimension
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return VlmCaptioner(network.eval(), processor, prompt)


def saved(family: str, folder: Path) -> VlmCaptioner:
    """Save one, and return it."""
    made = vlm_captioner(family)
    made.save(folder)
    return made
