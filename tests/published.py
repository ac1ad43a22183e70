"""The published captioners, shrunk: their special ids, vocabularies, image sizes and layouts.

Only width and depth are small; weights are random. Where a number comes from stands beside it:
`hub` is the config.json of the hub id, `class` a default of transformers' configuration, which the
published file relies on. Tokenizers have the published ids of special tokens, and invented words.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch
from tiny_decoders import TEXTS
from tiny_vlm import VLMS, vlm_captioner
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
    GPT2Config,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
)

NAMES = [
    "blip-base", "blip-large", "blip2-opt-2.7b", "blip2-flan-t5-xl", "instructblip-flan-t5-xl",
    "instructblip-vicuna-7b", "vit-gpt2", *VLMS,
]  # fmt: skip
PROMPTS = ["a picture of", "a photo of", "Write a short description for the image."]
WORDS = sorted(
    {w for text in [*TEXTS, *PROMPTS] for w in text.lower().replace(",", " ,").replace(".", " .")
     .replace("x-ray", "x - ray").split()} | {"Write"} | set(string.ascii_lowercase)
)  # fmt: skip
_SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip


def published(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a folder that looks like the hub's, and return it."""
    if name in VLMS:
        vlm_captioner(name, seed).save(folder)
        (folder / "medblip.json").unlink()
        return folder
    if name.startswith("blip-"):
        network, parts = _blip(name)
    elif name == "vit-gpt2":
        network, parts = _vit_gpt2()
    else:
        network, parts = _qformer(name)
    _draw(network, seed)
    network.save_pretrained(folder)
    for place, part in parts:
        part.save_pretrained(folder / place)
    return folder


def _blip(name: str) -> tuple[Any, list[tuple[str, Any]]]:
    """hub Salesforce/blip-image-captioning-base and -large."""
    config = BlipConfig(
        text_config={
            **_SMALL, "vocab_size": 30524, "bos_token_id": 30522, "pad_token_id": 0,
            "sep_token_id": 102, "eos_token_id": 2, "encoder_hidden_size": 32,
            "max_position_embeddings": 512,
        },
        # the large one's towers differ in width: 1024 and 768
        vision_config={
            **_SMALL, "hidden_size": 48 if name == "blip-large" else 32, "image_size": 384,
            "patch_size": 16,
        },
        projection_dim=16,
    )  # fmt: skip
    if name == "blip-large":
        config.text_config.encoder_hidden_size = 48
    # the tokenizer on the hub ends at 30,522: [DEC] and [ENC] have embeddings, but no words
    names = _fill(30522, {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103},
                  WORDS)  # fmt: skip
    images = BlipImageProcessorPil(size={"height": 384, "width": 384})
    processor = BlipProcessor(images, BertTokenizer(vocab=names))
    return BlipForConditionalGeneration(config), [("", processor)]


def _vit_gpt2() -> tuple[Any, list[tuple[str, Any]]]:
    """hub nlpconnect/vit-gpt2-image-captioning; encoder google/vit-base-patch16-224-in21k."""
    vision = ViTConfig(**_SMALL, image_size=224, patch_size=16)
    text = GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50257, n_positions=1024, bos_token_id=50256,
        eos_token_id=50256,
    )  # fmt: skip
    config: Any = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 50256
    network = VisionEncoderDecoderModel(config)
    for part in ("decoder_start_token_id", "pad_token_id", "eos_token_id", "bos_token_id"):
        setattr(network.generation_config, part, 50256)
    made = Tokenizer(models.WordLevel(_fill(50257, {"<|endoftext|>": 50256}, WORDS, "Ġ"),
                                      unk_token="<|endoftext|>"))  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    made.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    images = ViTImageProcessorPil(size={"height": 224, "width": 224})
    return network, [("", images), ("", tokenizer)]


def _qformer(name: str) -> tuple[Any, list[tuple[str, Any]]]:
    """hub Salesforce/blip2-*, Salesforce/instructblip-*; vision and Q-Former: class."""
    asks = name.startswith("instruct")
    vision = {**_SMALL, "image_size": 224, "patch_size": 14}
    bridge: dict[str, Any] = {
        **_SMALL,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 2,
        "vocab_size": 30522,
    }
    special: dict[str, int]
    if "opt" in name:
        # hub blip2-opt-2.7b: 50118 is OPT's line feed, 50265 the image's place
        text: dict[str, Any] = {
            "model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "word_embed_proj_dim": 32, "vocab_size": 50304,
            "eos_token_id": 50118, "max_position_embeddings": 2048,
        }  # fmt: skip
        special = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "Ċ": 50118, "<image>": 50265}
        image, size, first, last, mark = 50265, 50266, "</s>", None, "Ġ"
    elif "t5" in name:
        # hub blip2-flan-t5-xl
        text = {
            "model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2,
            "num_decoder_layers": 2, "num_heads": 4, "vocab_size": 32128, "bos_token_id": 1,
            "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0,
            "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
        }  # fmt: skip
        special = {"<pad>": 0, "</s>": 1, "<unk>": 2, "<image>": 32100}
        image, size, first, last, mark = 32100, 32101, None, "</s>", "▁"
    else:
        # Vicuna: class LlamaConfig; 32000 is the first id behind Llama's vocabulary
        text = {
            **_SMALL, "model_type": "llama", "vocab_size": 32064, "bos_token_id": 1,
            "eos_token_id": 2, "pad_token_id": 0,
        }  # fmt: skip
        special = {"<unk>": 0, "<s>": 1, "</s>": 2, "<image>": 32000}
        image, size, first, last, mark = 32000, 32001, "<s>", None, "▁"
    tokenizer = _words(_fill(size, special, WORDS, mark), mark, special, first, last)
    kind: Any = InstructBlipConfig if asks else Blip2Config
    config = kind(
        vision_config=vision, qformer_config=bridge, text_config=text, num_query_tokens=32,
        image_token_index=image,
    )  # fmt: skip
    make: Any = InstructBlipForConditionalGeneration if asks else Blip2ForConditionalGeneration
    images = BlipImageProcessorPil(size={"height": 224, "width": 224})
    parts: list[tuple[str, Any]] = [("", images), ("", tokenizer)]
    if asks:  # bert-base-uncased
        names = _fill(30522, {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}, WORDS)
        parts.append(("qformer_tokenizer", BertTokenizer(vocab=names)))
    return make(config), parts


def _words(
    vocab: dict[str, int], mark: str, special: dict[str, int], first: str | None, last: str | None
) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words, marked as GPT-2's or as SentencePiece's are."""
    unknown = "<unk>"
    made = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    split: Any = pre_tokenizers.Metaspace(replacement="▁")
    back: Any = decoders.Metaspace(replacement="▁")
    if mark == "Ġ":
        split, back = pre_tokenizers.ByteLevel(add_prefix_space=True), decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), split])
    made.decoder = back
    around = f"{first} $A" if first else f"$A {last}"
    token = str(first or last)
    made.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(token, special[token])]
    )
    names = {"bos_token": first, "eos_token": "</s>", "unk_token": unknown}
    pad = "<pad>" if "<pad>" in special else unknown
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, additional_special_tokens=["<image>"],
        **{key: value for key, value in names.items() if value},
    )  # fmt: skip


def _fill(size: int, special: dict[str, int], words: list[str], mark: str = "") -> dict[str, int]:
    """Return a vocabulary of a size: special tokens at their ids, words, then fillers."""
    taken = set(special.values())
    free = (place for place in range(2000, size) if place not in taken)
    vocab = dict(special)
    for word in words:
        vocab[mark + word] = next(free)
    used = set(vocab.values())
    for place in range(size):
        if place not in used:
            vocab[f"{mark}w{place}"] = place
    return vocab


def _draw(network: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def cached(name: str, hub: str, home: Path) -> None:
    """Put one where `hf download` would: into the hub's cache below HF_HOME, and nothing else.

    A cache that was filled while loading also notes which files are not in a repository; this one
    cannot know.
    """
    commit = "a" * 40
    repository = home / "hub" / f"models--{hub.replace('/', '--')}"
    published(name, repository / "snapshots" / commit)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
