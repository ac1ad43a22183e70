"""Captions per second and memory of each named captioner at its published shape, random weights.

    python benchmarks/families_bench.py --device cuda --precision bf16 --batch 32

What is said means nothing, what it costs does: the shapes are those of the hub's configurations
(tests/unit/models/test_known.py counts their parameters), the captions have `--tokens` tokens, the
search `--beams` beams. The limit beside is the reading of all weights of the language side once
per token. `--tiny` tries the script. JSON line last.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from typing import Any

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

T5 = {"vocab_size": 32128, "d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24,
      "num_heads": 32, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "num_attention_heads": 4}  # fmt: skip


def build(name: str, tiny: bool) -> tuple[Any, int]:
    """Return a network and the side of its images."""
    if name in ("blip-base", "blip-large"):
        wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                "num_attention_heads": 16} if name == "blip-large" else {}  # fmt: skip
        if tiny:
            wide = SMALL
        text = {"encoder_hidden_size": wide.get("hidden_size", 768)}
        config = BlipConfig(vision_config=wide, text_config=text | (SMALL if tiny else {}))
        return BlipForConditionalGeneration(config), config.vision_config.image_size
    if name == "vit-gpt2":
        parts = (ViTConfig(**SMALL) if tiny else ViTConfig(),
                 GPT2Config(n_embd=64, n_layer=2, n_head=4) if tiny else GPT2Config())  # fmt: skip
        made: Any = VisionEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
        made.decoder_start_token_id = made.pad_token_id = made.eos_token_id = 50256
        return VisionEncoderDecoderModel(made), parts[0].image_size
    language: Any
    if "opt" in name:
        size = (64, 2, 128, 4) if tiny else (2560, 32, 10240, 32)
        language = OPTConfig(
            hidden_size=size[0], num_hidden_layers=size[1], ffn_dim=size[2],
            num_attention_heads=size[3], word_embed_proj_dim=size[0], vocab_size=50304,
        )  # fmt: skip
    elif "t5" in name:
        less = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4}
        language = T5Config(**(T5 | less if tiny else T5), tie_word_embeddings=False)
    else:
        language = LlamaConfig(vocab_size=32001, **(SMALL if tiny else {}))
    own: dict[str, Any] = {"text_config": language.to_dict(), "image_token_index": 32000}
    if tiny:
        own |= {"vision_config": SMALL, "qformer_config": {**SMALL, "encoder_hidden_size": 64}}
    config = InstructBlipConfig(**own) if name.startswith("instruct") else Blip2Config(**own)
    kind: Any = (
        InstructBlipForConditionalGeneration
        if name.startswith("instruct")
        else Blip2ForConditionalGeneration
    )
    return kind(config), config.vision_config.image_size


class Words:
    """A tokenizer that is not there: what a caption says is not looked at."""

    unk_token_id = None

    def __call__(self, text: Any, **_: Any) -> Any:
        """Return eight tokens for a prompt."""
        ids = [2] * 8
        if isinstance(text, list):
            row = torch.tensor([ids] * len(text))
            return {"input_ids": row, "attention_mask": torch.ones_like(row)}
        return {"input_ids": ids}

    def decode(self, ids: Any, **_: Any) -> str:
        """Return the ids as text."""
        return " ".join(map(str, ids))

    def convert_ids_to_tokens(self, ids: Any) -> list[str]:
        """Return each id as text."""
        return [str(i) for i in ids]

    def tokenize(self, _: str) -> list[str]:
        """Return no pieces."""
        return []


class Images:
    """What `Family` asks an image processor for."""

    resample, image_mean, image_std = 3, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

    def __init__(self, side: int) -> None:
        self.size = {"height": side, "width": side}


def captioner_of(name: str, network: Any, side: int) -> Any:
    """Return the family's own class around a network."""
    from medblip.models.blip import BlipCaptioner
    from medblip.models.qformer import QFormerCaptioner
    from medblip.models.vision_encoder_decoder import VisionEncoderDecoderCaptioner

    words: Any = Words()
    if name.startswith("blip-"):
        processor: Any = type("Processor", (), {"image_processor": Images(side),
                                                "tokenizer": words})()  # fmt: skip
        return BlipCaptioner(network, processor, "a picture of")
    if name == "vit-gpt2":
        return VisionEncoderDecoderCaptioner(network, Images(side), words)
    reader = words if name.startswith("instruct") else None
    return QFormerCaptioner(network, Images(side), words, reader, "a photo of")


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Return what one captioner costs."""
    from medblip.config import DecodeConfig

    device = torch.device(args.device)
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            network, side = build(name, args.tiny)
    finally:
        torch.set_default_dtype(before)
    captioner = captioner_of(name, network.eval(), side)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    decode = DecodeConfig(
        num_beams=args.beams, max_new_tokens=args.tokens, min_new_tokens=args.tokens
    )
    pixels = torch.rand(args.batch, 3, side, side, device=device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    with torch.inference_mode():
        for _ in range(3):
            started = time.perf_counter()
            captioner.generate(captioner.encode(pixels), decode)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    rate = args.batch / min(seconds[1:])
    found = {
        "weights_gb": round(weights / 1e9, 2), "peak_gb": round(peak / 1e9, 2),
        "images_per_second": round(rate, 2), "minutes_for_8176": round(8176 / rate / 60, 1),
    }  # fmt: skip
    print(f"{name:26} {found}", flush=True)
    del network, captioner
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def main() -> None:
    """Measure each named captioner; one that fails is told and left out."""
    from medblip.models.known import KNOWN

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--only", nargs="*", default=[known.name for known in KNOWN])
    args = parser.parse_args()
    result: dict[str, Any] = {}
    for name in args.only:
        try:
            result[name] = measure(name, args)
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    card = torch.cuda.get_device_name() if args.device.startswith("cuda") else args.device
    print(json.dumps({"captioners": result, "device": card, "batch": args.batch,
                      "beams": args.beams, "tokens": args.tokens, "precision": args.precision,
                      "tiny": args.tiny, "torch": torch.__version__}))  # fmt: skip


if __name__ == "__main__":
    main()
