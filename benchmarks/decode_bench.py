"""What captions cost, beside transformers' `generate`, at BLIP-base's shapes.

    python benchmarks/decode_bench.py                                       # CPU, fp32
    python benchmarks/decode_bench.py --device cuda --precision bf16 --batch 64

Random weights of BlipConfig's defaults (ViT-B/16 at 384 px, 577 image tokens; 12 decoder layers;
30,524 words) with a sharper head, so that words differ as clearly as a trained captioner's; the end
token is out of reach, so that every caption has `--tokens` tokens. The same images, one process,
interleaved rounds, the fastest of each counts.

- decode: image tokens in, captions out (transformers is fed the same image tokens).
- total: pixels in, captions out.
- peak: memory above the loaded weights, in a process of its own.

Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from train_bench import END, network_of, processor_of

from medblip.config import DecodeConfig
from medblip.engine import peak_memory_mb, reset_peak_memory
from medblip.models.blip import BlipCaptioner
from medblip.models.blip_patches import stock_attention


class Bench:
    """One network, one batch of images, two ways to caption it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        network = network_of(args.tiny)
        head = network.text_decoder.cls.predictions
        with torch.no_grad():
            head.transform.LayerNorm.weight.mul_(8)
            head.bias[END] = -1e4
        side = network.config.vision_config.image_size
        dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
        self.captioner = BlipCaptioner(network.to(args.device, dtype).eval(), processor_of(side))
        generator = torch.Generator().manual_seed(2)
        pixels = torch.randn(args.batch, 3, side, side, generator=generator)
        self.pixels = pixels.to(args.device, dtype)
        self.decode = DecodeConfig(num_beams=args.beams, max_new_tokens=args.tokens)
        self.how = dict(
            num_beams=args.beams, max_new_tokens=args.tokens, do_sample=False, early_stopping=False
        )
        if args.beams == 1:
            self.how.pop("early_stopping")

    @torch.inference_mode()
    def embeds(self) -> torch.Tensor:
        """Return the image tokens."""
        return self.captioner.encode(self.pixels)

    @torch.inference_mode()
    def stock(self, embeds: torch.Tensor | None) -> list[list[int]]:
        """Return transformers' token ids; of pixels where no image tokens are given."""
        network = self.captioner.network
        with stock_attention(network):
            if embeds is None:
                ids = network.generate(pixel_values=self.pixels, **self.how)
            else:
                config = network.config.text_config
                start = torch.full((len(embeds), 1), config.bos_token_id, device=embeds.device)
                ids = network.text_decoder.generate(
                    input_ids=start, attention_mask=torch.ones_like(start),
                    encoder_hidden_states=embeds, eos_token_id=config.sep_token_id,
                    pad_token_id=config.pad_token_id, **self.how,
                )  # fmt: skip
        rows: list[list[int]] = ids[:, 1:].tolist()
        return rows

    @torch.inference_mode()
    def ours(self, embeds: torch.Tensor | None) -> list[list[int]]:
        """Return our token ids; of pixels where no image tokens are given."""
        if embeds is None:
            embeds = self.captioner.encode(self.pixels)
        found = self.captioner.generate(embeds, self.decode)
        back = self.captioner.processor.tokenizer.convert_tokens_to_ids
        return [back(list(best.tokens)) for best, *_ in found]

    def timed(self, do: Callable[[], Any]) -> float:
        """Return seconds, the device's work included."""
        begun = time.perf_counter()
        do()
        if self.args.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begun


def limit_s(bench: Bench) -> float:
    """Return seconds below which the decoder part cannot go on this machine, float for float.

    Products cannot be faster than a large one, reading not faster than a large copy: keys and
    values of the images are made once, then every token reads all weights and all of them.
    """
    args, config = bench.args, bench.captioner.network.config.text_config
    device, dtype = bench.captioner.device, bench.pixels.dtype
    side = 8192 if args.device != "cpu" else 2048
    one = torch.randn(side, side, device=device, dtype=dtype)
    flops = 2 * side**3 / min(bench.timed(lambda: one @ one) for _ in range(4))
    big = torch.empty(2**28 if args.device != "cpu" else 2**26, device=device, dtype=dtype)
    other = torch.empty_like(big)
    size = big.element_size()
    bandwidth = (
        2 * big.numel() * size / min(bench.timed(lambda: other.copy_(big)) for _ in range(4))
    )
    width, layers = config.hidden_size, config.num_hidden_layers
    tokens = bench.captioner.feature_shape[0]
    images = 2 * layers * args.batch * tokens * width  # keys and values, in numbers
    weights = layers * (6 * width**2 + 2 * width * config.intermediate_size)
    weights += width * config.vocab_size
    rows = args.batch * args.beams
    step_flops = 2 * rows * weights + 2 * args.beams * images
    step = max((weights + images) * size / bandwidth, step_flops / flops)
    print(f"limits: {flops / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:,.1f} GB/s")
    return 2 * images * config.encoder_hidden_size / flops + args.tokens * step


def peak_of(args: argparse.Namespace) -> float:
    """Return MB above the loaded weights for one whole call, in this process."""
    bench = Bench(args)
    if args.device == "cpu":
        reset_peak_memory("cpu")
        before = peak_memory_mb("cpu")
    else:
        before = torch.cuda.memory_allocated() / 1e6
        reset_peak_memory(args.device)
    (bench.stock if args.peak == "stock" else bench.ours)(None)
    return peak_memory_mb(args.device) - before


def main() -> None:
    """Time both ways, compare their words, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="small shapes, to try the script")
    parser.add_argument("--peak", choices=["stock", "ours"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(peak_of(args))
        return
    peaks = {}
    for name in ("stock", "ours"):
        again = [sys.executable, *sys.argv, "--peak", name]
        done = subprocess.run(again, capture_output=True, text=True, check=True)
        peaks[name] = float(done.stdout.split()[-1])
    bench = Bench(args)
    embeds = bench.embeds()
    cases: dict[str, Callable[[], Any]] = {
        "encode": bench.embeds,
        "stock_decode": lambda: bench.stock(embeds),
        "decode": lambda: bench.ours(embeds),
        "stock_total": lambda: bench.stock(None),
        "total": lambda: bench.ours(None),
    }
    warm = 1 if args.device != "cpu" or args.tiny else 0
    for _ in range(warm):
        for do in cases.values():
            do()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.rounds):
        for name, do in cases.items():
            seconds[name].append(bench.timed(do))
    best = {name: min(values) for name, values in seconds.items()}
    same = bench.ours(embeds) == bench.stock(embeds)
    for name, value in best.items():
        print(f"{name:14} {value:9.4f} s  {args.batch / value:9.2f} images/s")
    print(f"decoder part {best['stock_decode'] / best['decode']:.2f} times faster")
    print(f"whole call   {best['stock_total'] / best['total']:.2f} times faster")
    print(f"peak {peaks['ours']:.0f} MB of {peaks['stock']:.0f} MB")
    limit = limit_s(bench)
    print(f"decoder part at {limit / best['decode']:.0%} of this machine's limit ({limit:.4f} s)")
    on_cpu = args.device == "cpu"
    device = f"CPU, {torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name()
    print(
        json.dumps(
            {f"{name}_s": round(value, 4) for name, value in best.items()}
            | {
                "decode_limit_s": round(limit, 4), "tokens_identical": same,
                "stock_peak_mb": round(peaks["stock"]), "peak_mb": round(peaks["ours"]),
                "batch": args.batch, "beams": args.beams, "tokens": args.tokens,
                "precision": args.precision, "device": device, "torch": torch.__version__,
                "transformers": transformers.__version__, "date": f"{datetime.date.today()}",
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
