"""Captioners that have a name."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    GPT2Config,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    OPTConfig,
    T5Config,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

import medblip
from medblip.errors import CheckpointError
from medblip.models.captioner import FAMILIES, resolve
from medblip.models.known import KNOWN


def test_names_are_resolved_and_near_ones_named() -> None:
    assert resolve("blip-base") == "Salesforce/blip-image-captioning-base"
    with pytest.raises(CheckpointError, match="did you mean blip-large"):
        resolve("blip-lrge")


def counted(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())  # a tied one counts once


def test_parameters_are_those_of_the_published_shapes() -> None:
    """Widths and depths of the hub's configurations; what is not named is transformers' default."""
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
             "num_attention_heads": 16}  # fmt: skip
    opt = OPTConfig(
        hidden_size=2560, num_hidden_layers=32, ffn_dim=10240, num_attention_heads=32,
        word_embed_proj_dim=2560, vocab_size=50304,
    ).to_dict()  # fmt: skip
    t5 = T5Config(
        vocab_size=32128, d_model=2048, d_kv=64, d_ff=5120, num_layers=24, num_heads=32,
        feed_forward_proj="gated-gelu",
    ).to_dict()  # fmt: skip
    vicuna = LlamaConfig(vocab_size=32001).to_dict()
    head = 32128 * 2048  # FLAN-T5's is stored apart; transformers' configuration ties it
    vit_gpt2 = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), GPT2Config())
    with torch.device("meta"):
        found = {
            "blip-base": counted(BlipForConditionalGeneration(BlipConfig())),
            "blip-large": counted(
                BlipForConditionalGeneration(
                    BlipConfig(vision_config=large, text_config={"encoder_hidden_size": 1024})
                )
            ),
            "blip2-opt-2.7b": counted(Blip2ForConditionalGeneration(Blip2Config(text_config=opt))),
            "blip2-flan-t5-xl": head
            + counted(Blip2ForConditionalGeneration(Blip2Config(text_config=t5))),
            "instructblip-flan-t5-xl": head
            + counted(InstructBlipForConditionalGeneration(InstructBlipConfig(text_config=t5))),
            "instructblip-vicuna-7b": counted(
                InstructBlipForConditionalGeneration(InstructBlipConfig(text_config=vicuna))
            ),
            "vit-gpt2": counted(VisionEncoderDecoderModel(vit_gpt2)),
        }
    assert found == {known.name: known.parameters for known in KNOWN}


def test_every_family_is_known_here() -> None:
    assert {known.family for known in KNOWN} == set(FAMILIES)
    assert len({known.name for known in KNOWN}) == len(KNOWN)


def test_the_list_has_sizes() -> None:
    listed = {one.name: one for one in medblip.list_models()}
    assert listed["bundled"].here
    assert listed["vit-gpt2"].fp32_gb == pytest.approx(0.96)
    kinds = {"any hub id or folder", "gemini", "gemini:MODEL", "openai:MODEL"}
    assert set(listed) == {"bundled", *(known.name for known in KNOWN)} | kinds
    assert "connector-lora" in listed["blip2-opt-2.7b"].regimes
    assert listed["gemini"].regimes == ()
