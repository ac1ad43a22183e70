"""`medblip caption` end to end at BLIP-base's shapes, from the pixel store: images/s.

    python benchmarks/caption_split.py --device cuda --images 2000 --batch 128

Phantoms at 384 px and a network of random weights, beams 3, captions of `--tokens` tokens: what is
said means nothing, what it costs does. The store is made first, outside the measurement. The second
of two calls counts, its loading of the network left out. JSON line last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from train_bench import END, network_of, processor_of

import medblip
from medblip.models.blip import BlipCaptioner

TEST_IMAGES = 8176  # of ROCO


def main() -> None:
    """Caption a split twice and print what the second call says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=25)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        network = network_of(args.tiny)
        with torch.no_grad():
            network.text_decoder.cls.predictions.bias[END] = -1e4
        side = network.config.vision_config.image_size
        BlipCaptioner(network, processor_of(side)).save(root / "model")
        # four fifths are the training split
        medblip.phantoms(root / "data", images=args.images * 5 // 4, seed=0)
        for call in ("first", "second"):
            result = medblip.caption(
                root / call, root / "data", split="train", model=str(root / "model"),
                device=args.device,
                overrides=[
                    f"decode.batch_size={args.batch}", f"decode.max_new_tokens={args.tokens}",
                    f"decode.precision={args.precision}",
                ],
            )  # fmt: skip
    rate = result.images / result.seconds
    print(f"{result.images} images, {rate:.1f} images/s")
    print(
        json.dumps(
            {
                "images": result.images, "images_per_second": round(rate, 2),
                "seconds_for_8176": round(TEST_IMAGES / rate, 1), "batch": args.batch,
                "tokens": args.tokens, "precision": args.precision, "device": args.device,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
