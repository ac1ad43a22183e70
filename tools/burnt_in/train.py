"""Train the network of medblip.data.burnt_in on planted text; write its weights.

    python tools/burnt_in/train.py --data ../shared/data/radiology-open

Uses half of the groups, those that benchmarks/burnt_in_bench.py does not measure on: images in
which nobody saw a word, the middle of others, and phantoms; each as it is, with clutter, and with
planted text. The threshold lets 3 % of the real images pass when each half of them is scored by a
network that was trained on the other. About three minutes on one core.
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
from plant import LOOKS, TRAIN_FONTS, clutter, plant

from medblip import phantoms
from medblip.data import burnt_in

OUT = Path(burnt_in.__file__).with_suffix(".json")
FALSE_ALARMS = 0.03
HIDDEN = 32
#: `training_worded`: images of the training half with words, or what may be one, by eye.
LABELS = Path(__file__).with_name("labels.json")
Windows = tuple[np.ndarray, np.ndarray]


def tuning_half(group: str) -> bool:
    """Whether a patient's or case's images are for training."""
    return _hash(group)[0] % 2 == 0


def _hash(group: str) -> bytes:
    return hashlib.blake2b(group.encode(), digest_size=4).digest()


def features_of(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Return all windows of an image, or those that lie well inside the planted line of text."""
    found = []
    for scale, features, places in burnt_in._windows(image):
        if box is not None:
            left, top, right, bottom = (side * scale for side in box)
            y, x = places[:, 0] * burnt_in.CELL[0], places[:, 1] * burnt_in.CELL[1]
            high, wide = (w * c for w, c in zip(burnt_in.WINDOW, burnt_in.CELL, strict=True))
            across = np.minimum(right, x + wide) - np.maximum(left, x)
            down = np.minimum(bottom, y + high) - np.maximum(top, y)
            inside = across >= 0.8 * min(wide, right - left)
            inside &= down >= 0.7 * min(high, bottom - top)
            features = features[inside & (6 <= bottom - top <= 20)]
        found.append(features)
    return np.concatenate(found) if found else np.empty((0, burnt_in.FEATURES), np.float32)


def collect(image: Image.Image, rng: np.random.Generator) -> tuple[np.ndarray, Windows]:
    """Return the windows of the image as it is, and those to learn from: features, labels."""
    clean = features_of(image)
    nothing = [clean, *(features_of(clutter(image, rng)) for _ in range(2))]
    nothing = [f[rng.random(len(f)) < 0.5] for f in nothing]  # enough, and half of the memory
    writing = []
    for _ in range(5):
        look = str(rng.choice(LOOKS, p=[0.5, 0.16, 0.17, 0.17]))
        made = plant(image, rng, height=int(rng.integers(7, 42)), fonts=TRAIN_FONTS, look=look)
        if made:
            writing.append(features_of(*made))
    features = np.concatenate([*nothing, *writing])
    labels = np.zeros(len(features), np.float32)
    labels[sum(map(len, nothing)) :] = 1
    return clean, (features, labels)


def fit(parts: list[Windows], seed: int) -> tuple[torch.nn.Sequential, np.ndarray, np.ndarray]:
    """Train on windows; from the second thousand of steps on a third is the worst mistakes."""
    x = np.concatenate([features for features, _ in parts])
    target = torch.tensor(np.concatenate([labels for _, labels in parts]))
    mean, scale = x.mean(axis=0), x.std(axis=0) + np.float32(1e-6)
    inputs = torch.tensor((x - mean) / scale)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(burnt_in.FEATURES, HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1)
    )
    optimiser = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
    steps = 6000
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=steps)
    pools = [target.nonzero().flatten(), (target == 0).nonzero().flatten()]
    for step in range(steps):
        if step % 1000 == 0 and step:
            with torch.no_grad():
                order = net(inputs[pools[1]]).flatten().argsort(descending=True)
            pools[2:] = [pools[1][order[: max(3000, len(order) // 100)]]]
        chosen = torch.cat(
            [pool[torch.randint(len(pool), (768,), generator=generator)] for pool in pools]
        )
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            net(inputs[chosen]).flatten(), target[chosen]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    print(f"{len(x)} windows, {int(target.sum())} of them writing; loss {loss.item():.3f}")
    return net, mean, scale


def short(values: torch.Tensor | np.ndarray) -> list[float]:
    """Return a few digits: the file is read by people too."""
    return [round(float(value), 4) for value in values]


def images(data: Path, seed: int) -> tuple[list[tuple[Image.Image, int]], int]:
    """Return images with their fold, and how many of them (the first) are whole real ones."""
    worded = frozenset(json.loads(LABELS.read_text(encoding="utf-8"))["training_worded"])
    whole, middles = [], []
    for row in map(json.loads, (data / "pairs.jsonl").open(encoding="utf-8")):
        if not tuning_half(row["group"]) or row["id"] in worded:
            continue
        image = Image.open(data / row["image"]).convert("L")
        fold = _hash(row["group"])[1] % 2
        if row["id"].startswith("vqarad"):  # all have words near the edge
            w, h = image.size
            middle = (int(0.18 * w), int(0.18 * h), int(0.82 * w), int(0.82 * h))
            middles.append((image.crop(middle), fold))
        else:
            whole.append((image, fold))
    drawn = []
    for side, count in ((256, 60), (320, 200), (512, 100)):
        with tempfile.TemporaryDirectory() as folder:
            root = phantoms(Path(folder) / "p", images=count, seed=seed + side, size=side)
            paths = sorted((root / "images").glob("*.png"))
            drawn += [(Image.open(p).convert("L"), n % 2) for n, p in enumerate(paths)]
    print(
        len(whole), "real images without words,", len(middles), "middles,", len(drawn), "phantoms"
    )
    return whole + middles + drawn, len(whole)


def main() -> None:
    """Collect windows, choose the threshold by cross-validation, train on all, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    rng = np.random.default_rng(told.seed)
    sources, real = images(told.data, told.seed)
    parts = [collect(image, rng) for image, _ in sources]
    tops = []
    for fold in (0, 1):
        net, mean, scale = fit(
            [p for (_, p), (_, f) in zip(parts, sources, strict=True) if f != fold], told.seed
        )
        with torch.no_grad():
            tops += [
                float(net(torch.tensor((clean - mean) / scale)).max()) if len(clean) else -20.0
                for (clean, _), (_, f) in zip(parts[:real], sources[:real], strict=True)
                if f == fold
            ]
    threshold = round(float(np.quantile(tops, 1 - FALSE_ALARMS)), 4)
    net, mean, scale = fit([part for _, part in parts], told.seed)
    first, second = net[0], net[2]
    record = {
        "mean": short(mean), "scale": short(scale),
        "first": [short(row) for row in first.weight.detach().t()],
        "first_bias": short(first.bias.detach()), "second": short(second.weight.detach()[0]),
        "second_bias": short(second.bias.detach())[0], "threshold": threshold,
    }  # fmt: skip
    print("highest scores of real images, cross-validated:", sorted(tops)[-12:])
    print("threshold", threshold)
    OUT.write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
