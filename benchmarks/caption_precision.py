"""Do captions depend on the batch size, or on bf16? The bundled captioner on a folder of images.

    python benchmarks/caption_precision.py --images FOLDER

Counts captions that differ between batches of 60 and of 7, and between fp32 and bf16, with one beam
and with three; and the largest difference of mean log-probabilities where the words are the same.
JSON line last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from medblip.config import DecodeConfig, ModelConfig
from medblip.data.images import open_image
from medblip.data.readers.names import IMAGE_SUFFIXES
from medblip.data.store import Resize, normalised
from medblip.models.captioner import Generated, load_captioner


def difference(one: list[Generated], other: list[Generated]) -> tuple[int, float]:
    """Return how many captions differ, and by how much the others' log-probabilities do."""
    pairs = list(zip(one, other, strict=True))
    apart = [abs(a.logprob - b.logprob) for a, b in pairs if a.tokens == b.tokens]
    return sum(a.tokens != b.tokens for a, b in pairs), max(apart, default=0.0)


@torch.inference_mode()
def main() -> None:
    """Caption every image eight times and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    captioner = load_captioner(ModelConfig(), device=args.device)
    resize = Resize(*captioner.image_size, captioner.image_resample)
    shape = (3, *captioner.image_size)
    files = sorted(p for p in args.images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    stacked = np.stack([np.broadcast_to(resize.apply(open_image(f)), shape) for f in files])
    pixels = normalised(stacked, captioner.image_mean, captioner.image_std)
    found: dict[tuple[str, int, int], list[Generated]] = {}
    for precision in ("fp32", "bf16"):
        if precision == "bf16":
            captioner.network.to(torch.bfloat16)
        for beams in (1, 3):
            decode = DecodeConfig(num_beams=beams)
            for size in (60, 7):
                rows: list[Generated] = []
                for at in range(0, len(pixels), size):
                    embeds = captioner.encode(pixels[at : at + size])
                    rows += [best for best, *_ in captioner.generate(embeds, decode)]
                found[precision, beams, size] = rows
    result: dict[str, object] = {"images": len(files), "device": args.device}
    for beams in (1, 3):
        for name, one, other in (
            ("fp32, batch 60 and 7", ("fp32", beams, 60), ("fp32", beams, 7)),
            ("bf16, batch 60 and 7", ("bf16", beams, 60), ("bf16", beams, 7)),
            ("fp32 and bf16", ("fp32", beams, 60), ("bf16", beams, 60)),
        ):
            count, apart = difference(found[one], found[other])
            print(f"{beams} beams, {name}: {count} of {len(files)} differ; others by {apart:.2g}")
            result[f"{name}, {beams} beams"] = [count, apart]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
