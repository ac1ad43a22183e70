"""Tiny random BLIP-2 and InstructBLIP: OPT, Llama (Vicuna) and T5 behind a Q-Former."""

from __future__ import annotations

from typing import Any

import torch
from tiny_decoders import TEXTS, byte_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from medblip.models.qformer import QFormerCaptioner

QUERIES = 4
INSTRUCTION = "write a short description ."


def opt_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte tokenizer that begins with its start token, as OPT's does."""
    made = byte_tokenizer()
    backend = made.backend_tokenizer
    backend.add_tokens(["<image>"])
    start = made.convert_tokens_to_ids("<|endoftext|>")
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )  # fmt: skip


def t5_tokenizer() -> PreTrainedTokenizerFast:
    """Return a word tokenizer that ends with its end token, as T5's does; 0 pads, 1 ends."""
    words = sorted({w for text in [*TEXTS, INSTRUCTION] for w in text.replace(",", " ,").split()})
    vocab = {name: i for i, name in enumerate(["<pad>", "</s>", "<unk>", "<image>", *words])}
    made = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def qformer_captioner(family: str, seed: int = 0, prompt: str = "") -> QFormerCaptioner:
    """Return a random captioner; `family` is `blip2-opt`, `instructblip-llama` and the like."""
    kind, language = family.split("-")
    tokenizer = t5_tokenizer() if language == "t5" else opt_tokenizer()
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "hidden_size": 32}
    image = tokenizer.convert_tokens_to_ids("<image>")
    end = tokenizer.eos_token_id
    text: Any
    if language == "opt":
        text = OPTConfig(
            **size, num_hidden_layers=2, ffn_dim=64, num_attention_heads=4, word_embed_proj_dim=32,
            max_position_embeddings=128, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        )  # fmt: skip
    elif language == "llama":
        text = LlamaConfig(
            **size, num_hidden_layers=2, intermediate_size=64, num_attention_heads=4,
            bos_token_id=end, eos_token_id=end, pad_token_id=end,
        )  # fmt: skip
    else:
        text = T5Config(
            vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
            decoder_start_token_id=0, tie_word_embeddings=False, feed_forward_proj="gated-gelu",
        )  # fmt: skip
    vision = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8}  # fmt: skip
    qformer: dict[str, Any] = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "encoder_hidden_size": 24, "cross_attention_frequency": 2,
    }  # fmt: skip
    reader = None
    configs = {"blip2": Blip2Config, "instructblip": InstructBlipConfig}
    networks = {
        "blip2": Blip2ForConditionalGeneration,
        "instructblip": InstructBlipForConditionalGeneration,
    }
    if kind == "instructblip":
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *INSTRUCTION.split(), "a", "chest"]
        reader = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
        qformer |= {"vocab_size": len(words), "pad_token_id": 0}
    config = configs[kind](
        vision_config=vision, qformer_config=qformer, text_config=text.to_dict(),
        num_query_tokens=QUERIES, image_token_index=image,
    )  # fmt: skip
    network: Any = networks[kind](config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    processor = BlipImageProcessorPil(size={"height": 32, "width": 32})
    return QFormerCaptioner(network.eval(), processor, tokenizer, reader, prompt)
