"""Random captioners that say different things, and both ways to let them speak."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BlipConfig,
    BlipForConditionalGeneration,
    GPT2Config,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
)

from medblip.config import DecodeConfig
from medblip.models.decode import Hypothesis, Search, Special
from medblip.models.decode.blip import BlipStack
from medblip.models.decode.gpt2 import Gpt2Stack
from medblip.models.vision_encoder_decoder import VisionEncoderDecoderCaptioner

BLIP, GPT2 = Special(end=3, pad=0), Special(end=1, pad=1)
TEXTS = ["chest x-ray with left pleural effusion", "normal chest x-ray", "right nodule, no edema"]


def sharpened(network: Any, norm: Any, seed: int) -> Any:
    """Draw larger weights, so that no two words are equally likely to six digits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
        norm.weight.mul_(6)
    return network.eval()


def blip_network(
    seed: int = 0, *, layers: int = 2, heads: int = 4, width: int = 32, words: int = 61,
    end_bias: float = 0.0,
) -> Any:  # fmt: skip
    """Return a random BLIP; 3 ends a caption, 0 pads, 5 starts."""
    size = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "projection_dim": width}  # fmt: skip
    config = BlipConfig(
        text_config={
            **size, "encoder_hidden_size": width, "vocab_size": words, "bos_token_id": 5,
            "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0,
            "max_position_embeddings": 64,
        },
        vision_config={**size, "image_size": 32, "patch_size": 8},
    )  # fmt: skip
    network = BlipForConditionalGeneration(config)
    head = network.text_decoder.cls.predictions
    sharpened(network, head.transform.LayerNorm, seed)
    with torch.no_grad():
        head.bias[3] += end_bias
    return network


def ved_network(seed: int = 0, *, decoder: str = "gpt2", layers: int = 2, words: int = 61) -> Any:
    """Return a random ViT with a random GPT-2 or BERT; 1 starts, ends and pads, as GPT-2's does."""
    vision = ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        image_size=32, patch_size=8,
    )  # fmt: skip
    text: Any
    if decoder == "gpt2":
        text = GPT2Config(
            n_embd=48, n_layer=layers, n_head=4, vocab_size=words, n_positions=64,
            bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
    else:
        text = BertConfig(
            hidden_size=48, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4,
            vocab_size=words, max_position_embeddings=64, pad_token_id=0, bos_token_id=1,
            eos_token_id=1,
        )  # fmt: skip
    config: Any = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 1
    network = VisionEncoderDecoderModel(config)
    for name in ("decoder_start_token_id", "pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(network.generation_config, name, 1)
    body = network.decoder
    norm = body.transformer.ln_f if decoder == "gpt2" else body.cls.predictions.transform.LayerNorm
    return sharpened(network, norm, seed)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a small tokenizer of GPT-2's kind: bytes, pairs, one special token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["!", "<|endoftext|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    made.train_from_iterator(TEXTS * 3, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )


def ved_captioner(seed: int = 0, decoder: str = "gpt2") -> VisionEncoderDecoderCaptioner:
    """Return a random captioner of this family with its processors."""
    tokenizer = byte_tokenizer()
    network = ved_network(seed, decoder=decoder, words=len(tokenizer))
    processor = ViTImageProcessorPil(size={"height": 32, "width": 32})
    return VisionEncoderDecoderCaptioner(network, processor, tokenizer)


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def ours(
    network: Any, pixels: torch.Tensor, decode: DecodeConfig,
    prompts: list[list[int]] | None = None, keys: list[str] | None = None,
) -> list[list[Hypothesis]]:  # fmt: skip
    if hasattr(network, "text_decoder"):
        embeds = network.vision_model(pixel_values=pixels).last_hidden_state
        stack, special, start = BlipStack(network.text_decoder), BLIP, 5
    else:
        embeds = network.enc_to_dec_proj(network.encoder(pixel_values=pixels).last_hidden_state)
        stack, special, start = Gpt2Stack(network.decoder), GPT2, 1
    heads = prompts or [[start]] * len(pixels)
    search = Search(
        stack, decode, special, room=len(pixels), image_tokens=embeds.shape[1],
        prompt=max(map(len, heads)), like=embeds,
    )  # fmt: skip
    return search.run(embeds, heads, keys or [""] * len(pixels))


@torch.inference_mode()
def stock(
    network: Any, pixels: torch.Tensor, decode: DecodeConfig, prompt: list[int] | None = None
) -> list[list[Hypothesis]]:
    """Return transformers' captions and the log-probabilities of their tokens."""
    how: dict[str, Any] = {
        "num_beams": decode.num_beams, "max_new_tokens": decode.max_new_tokens,
        "min_new_tokens": decode.min_new_tokens or None, "do_sample": False,
        "num_return_sequences": decode.num_captions,
        "repetition_penalty": decode.repetition_penalty,
        "no_repeat_ngram_size": decode.no_repeat_ngram_size,
        "return_dict_in_generate": True, "output_logits": True,
    }  # fmt: skip
    if decode.num_beams > 1:
        how |= {"length_penalty": decode.length_penalty, "early_stopping": False}
    blip = hasattr(network, "text_decoder")
    start = torch.tensor([prompt or [5 if blip else 1]], device=pixels.device).repeat(
        len(pixels), 1
    )
    if blip:
        writer, special = network.text_decoder, BLIP
        made = writer.generate(
            input_ids=start, attention_mask=torch.ones_like(start), eos_token_id=3, pad_token_id=0,
            encoder_hidden_states=network.vision_model(pixel_values=pixels).last_hidden_state,
            **how,
        )  # fmt: skip
    else:
        writer, special = network, GPT2
        made = writer.generate(pixel_values=pixels, decoder_input_ids=start, **how)
    values = writer.compute_transition_scores(
        made.sequences, made.logits, made.get("beam_indices"), normalize_logits=True
    ).tolist()
    rows = []
    for ids, logprobs in zip(made.sequences[:, start.shape[1] :].tolist(), values, strict=True):
        length = ids.index(special.end) + 1 if special.end in ids else len(ids)
        rows.append(Hypothesis(ids[:length], logprobs[:length]))
    many = decode.num_captions
    return [rows[at : at + many] for at in range(0, len(rows), many)]


def check_same(got: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert [[one.ids for one in row] for row in got] == [
        [one.ids for one in row] for row in expected
    ]
    for row, other in zip(got, expected, strict=True):
        for one, two in zip(row, other, strict=True):
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5, rel=1e-5)
