"""Train the network of medblip.data.burnt_in on planted text; write its weights.

    python tools/burnt_in/train.py --data ../shared/data/radiology-open

Uses half of the groups (those that benchmarks/burnt_in_bench.py does not measure on), only images
from sources without printed words, and phantoms.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from plant import TRAIN_FONTS, plant

from medblip.data import burnt_in

OUT = Path(burnt_in.__file__).with_suffix(".json")
WORDLESS = ("pocus", "ml-workgroup")


def tuning_half(group: str) -> bool:
    """Whether a patient's or case's images are for training."""
    return hashlib.blake2b(group.encode(), digest_size=4).digest()[0] % 2 == 0


def windows_of(
    image: Image.Image, box: tuple[int, int, int, int] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return features of windows, and whether each lies well inside the planted line of text."""
    features, labels = [], []
    for scale, found, places in burnt_in._windows(image):
        if box is None:
            features.append(found)
            labels.append(np.zeros(len(found)))
            continue
        left, top, right, bottom = (side * scale for side in box)
        y = places[:, 0] * burnt_in.CELL[0]
        x = places[:, 1] * burnt_in.CELL[1]
        high, wide = (w * c for w, c in zip(burnt_in.WINDOW, burnt_in.CELL, strict=True))
        across = np.minimum(right, x + wide) - np.maximum(left, x)
        down = np.minimum(bottom, y + high) - np.maximum(top, y)
        fits = 6 <= bottom - top <= 20
        inside = (across >= 0.8 * min(wide, right - left)) & (down >= 0.7 * min(high, bottom - top))
        near = (across > -12) & (down > -12)
        chosen = (inside & fits) | ~near
        features.append(found[chosen])
        labels.append((inside & fits)[chosen].astype(float))
    return features, labels


def short(values: object) -> list[float]:
    """Return a few digits: the file is read by people too."""
    return [round(float(value), 5) for value in values]  # type: ignore[attr-defined]


def main() -> None:
    """Collect windows, train, mine the hardest negatives, train again, choose the threshold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    rng = np.random.default_rng(told.seed)
    rows = [json.loads(line) for line in (told.data / "pairs.jsonl").open(encoding="utf-8")]
    rows = [r for r in rows if tuning_half(r["group"]) and any(w in r["source"] for w in WORDLESS)]
    images = [Image.open(told.data / row["image"]).convert("L") for row in rows]
    from medblip import phantoms

    with tempfile.TemporaryDirectory() as folder:
        root = phantoms(Path(folder) / "p", images=240, seed=told.seed + 1, size=320)
        images += [Image.open(p).convert("L") for p in sorted((root / "images").glob("*.png"))]
    print(len(rows), "real images without words,", len(images) - len(rows), "phantoms")
    features, labels, clean = [], [], []
    for image in images:
        a, b = windows_of(image, None)
        clean.append(np.concatenate(a) if a else np.empty((0, burnt_in.FEATURES), np.float32))
        features += a
        labels += b
        for _ in range(4):
            height = int(rng.integers(7, 42))
            faint = "faint" if rng.random() < 0.25 else "clear"
            planted = plant(image, rng, height=height, fonts=TRAIN_FONTS, contrast=faint)
            if planted:
                a, b = windows_of(*planted)
                features += a
                labels += b
    x, y = np.concatenate(features), np.concatenate(labels)
    print(f"{len(x)} windows, {int(y.sum())} of them writing")
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    torch.manual_seed(told.seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(burnt_in.FEATURES, 24), torch.nn.Tanh(), torch.nn.Linear(24, 1)
    )
    inputs = torch.tensor((x - mean) / scale)
    target = torch.tensor(y, dtype=torch.float32)
    optimiser = torch.optim.Adam(net.parameters(), lr=5e-3, weight_decay=1e-4)
    positive, negative = target.nonzero().flatten(), (target == 0).nonzero().flatten()
    generator = torch.Generator().manual_seed(told.seed)
    hard = negative
    for step in range(6000):
        if step % 1500 == 0 and step:  # half of the negatives are then the ones that look worst
            with torch.no_grad():
                order = net(inputs[negative]).flatten().argsort(descending=True)
            hard = negative[order[: max(2000, len(negative) // 50)]]
        pools = [positive, negative, hard] if step > 1500 else [positive, negative]
        chosen = torch.cat(
            [pool[torch.randint(len(pool), (512,), generator=generator)] for pool in pools]
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            net(inputs[chosen]).flatten(), target[chosen]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    first, second = net[0], net[2]
    record = {
        "mean": short(mean), "scale": short(scale),
        "first": [short(row) for row in first.weight.detach().t()],
        "first_bias": short(first.bias.detach()), "second": short(second.weight.detach()[0]),
        "second_bias": short(second.bias.detach())[0],
    }  # fmt: skip
    with torch.no_grad():
        tops = [
            float(net(torch.tensor((found - mean) / scale)).max()) if len(found) else -20.0
            for found in clean
        ]
    record["threshold"] = round(float(np.quantile(tops, 0.975)), 4)
    print("threshold", record["threshold"], "loss", float(loss.detach()))
    OUT.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
