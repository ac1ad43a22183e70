"""What a replay for maps costs beside the caption it explains, per image.

    python benchmarks/explain_bench.py                                  # the bundled captioner, CPU
    python benchmarks/explain_bench.py --model base --images 4          # BLIP-base's shape
    python benchmarks/explain_bench.py --model base --device cuda

Phantoms; captions with the default search; `base` has random weights and captions of the full
length. The limit of a replay beside its caption is in the products that each needs: a replay reads
the caption once, in one pass and along one path, where the search makes a step per token along
every beam. The same images, one process, the fastest of `--rounds` counts. Ends with one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from train_bench import network_of, processor_of

from medblip.config import DecodeConfig, ModelConfig
from medblip.data.phantoms.generate import render
from medblip.data.store import Resize, normalised
from medblip.flops import flop_counter
from medblip.models.blip import BlipCaptioner
from medblip.models.captioner import load_captioner


def made(model: str, device: str) -> Any:
    """Return the captioner."""
    if model != "base":
        return load_captioner(ModelConfig(name=model), device=device)
    network = network_of(False)
    side = network.config.vision_config.image_size
    return BlipCaptioner(network.to(device).eval(), processor_of(side))


def measured(do: Callable[[], Any], rounds: int, device: str) -> tuple[float, float]:
    """Return seconds and GFLOP of one call."""
    with flop_counter() as counter:
        do()
    best = float("inf")
    for _ in range(rounds):
        begun = time.perf_counter()
        do()
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begun)
    return best, counter.get_total_flops() / 1e9


def main() -> None:
    """Time each part, print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    captioner = made(args.model, args.device)
    decode = DecodeConfig()
    resize = Resize(*captioner.image_size, captioner.image_resample)
    drawn = [resize.apply(Image.fromarray(render(0, at, 256)[0])) for at in range(args.images)]
    pixels = normalised(np.stack(drawn), captioner.image_mean, captioner.image_std)
    pixels = pixels.to(captioner.device)
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        said = [best.tokens for best, *_ in captioner.generate(embeds, decode)]
        parts: dict[str, Callable[[], Any]] = {
            "encode": lambda: captioner.encode(pixels),
            "generate": lambda: captioner.generate(embeds, decode),
            "replay": lambda: captioner.replay(embeds, said),
            "replay_gradient": lambda: captioner.replay(embeds, said, gradients="last"),
            "replay_gradients": lambda: captioner.replay(embeds, said, gradients="all"),
            "vision": lambda: [captioner.vision_attention(one) for one in pixels.split(1)],
        }
        found = {name: measured(do, args.rounds, args.device) for name, do in parts.items()}
    count = args.images
    for name, (seconds, gflop) in found.items():
        print(f"{name:17} {1000 * seconds / count:9.2f} ms  {gflop / count:9.4f} GFLOP per image")
    caption_s = found["encode"][0] + found["generate"][0]
    share, limit = found["replay"][0] / caption_s, found["replay"][1] / (
        found["encode"][1] + found["generate"][1]
    )  # fmt: skip
    tokens = sum(map(len, said)) / count
    print(
        f"a replay takes {share:.0%} of its caption's time ({tokens:.1f} tokens, "
        f"{decode.num_beams} beams); its products are {limit:.0%} of the caption's"
    )
    on_cpu = args.device == "cpu"
    device = f"CPU, {torch.get_num_threads()} threads" if on_cpu else torch.cuda.get_device_name()
    record: dict[str, Any] = {f"{k}_ms": round(1000 * s / count, 3) for k, (s, _) in found.items()}
    record |= {f"{k}_gflop": round(g / count, 5) for k, (_, g) in found.items()}
    record |= {
        "replay_share_of_caption": round(share, 4), "limit_by_products": round(limit, 4),
        "model": args.model, "images": count, "tokens": round(tokens, 2),
        "beams": decode.num_beams, "device": device, "torch": torch.__version__,
    }  # fmt: skip
    print(json.dumps(record))


if __name__ == "__main__":
    main()
