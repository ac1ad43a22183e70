"""One epoch of `medblip train` end to end at BLIP-base's shapes: seconds, data-wait share.

    python benchmarks/train_epoch.py --device cuda --images 4000

Phantoms at 384 px and a network of random weights: what is learned means nothing, what it costs
does. Each regime is trained for one epoch through the public function; JSON line last.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from train_bench import network_of, processor_of

import medblip
from medblip.models.blip import BlipCaptioner


def main() -> None:
    """Train each regime for an epoch and print what `train.json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    keep = ("seconds_in_steps", "seconds_per_step", "captions_per_second", "data_wait_share",
            "seconds_in_features", "peak_memory_mb", "micro_batch_size", "precision")  # fmt: skip
    found = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        network = network_of(args.tiny)
        side = network.config.vision_config.image_size
        BlipCaptioner(network, processor_of(side)).save(root / "model")
        medblip.phantoms(root / "data", images=args.images, seed=0)
        for preset in ("full", "decoder"):
            medblip.train(
                None, root / "data", root / preset, device=args.device,
                overrides=[
                    f"model.name={root / 'model'}", f"freeze.preset={preset}", "train.epochs=1",
                    f"train.batch_size={args.batch}", "train.validations=1",
                    "train.validation_images=64", "train.loss_validations=1", "optim.lr=1e-5",
                    f"train.workers={args.workers}", "train.collapse=off", "optim.words_factor=1.0",
                    f"train.compile={str(args.compile).lower()}", "decode.max_new_tokens=4",
                    "decode.batch_size=64",
                ],
            )  # fmt: skip
            record = json.loads((root / preset / "train.json").read_text())
            lines = (root / preset / "metrics.jsonl").read_text().splitlines()
            rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
            late = rows[len(rows) // 3 :]  # after the first steps: warm
            spent = late[-1]["seconds"] - late[0]["seconds"]
            found[preset] = {name: record[name] for name in keep} | {
                "warm_seconds_per_step": round(spent / max(1, len(late) - 1), 5)
            }
            print(preset, json.dumps(found[preset]))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
