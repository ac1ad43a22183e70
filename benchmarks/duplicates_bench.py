"""Are changed copies of real images found, are different images kept apart, and how fast?

    python benchmarks/duplicates_bench.py [--data ../shared/data] [--half report|tune] [--rows N]

1. Every image of half of FOLDER/radiology-open (halves by a hash of the patient; thresholds were
   tuned on the other half) is changed in one way, by chance of the seed, and searched for among
   the originals of the other split: found, and pairs with another image ("false").
2. The same on drawn phantoms.
3. All pairs of different patients among all real images that count as one picture, named: some
   are, because two of the collections overlap. Of the pictures that these two share by name,
   how many are found.
4. Milliseconds per fingerprint, and seconds and memory to compare N random details.

Goals: 95 % of re-encoded, resized and re-brightened copies found, at most 1 % of images in a false
pair, 80,000 rows in 60 s and 500 MB. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from medblip.data.duplicates import FINGERPRINT, fingerprint, near_pairs
from medblip.data.images import open_image
from medblip.data.phantoms.generate import render

Rng = np.random.Generator
FILTERS = list(Image.Resampling)


def jpeg(image: Image.Image, rng: Rng) -> Image.Image:
    """Encode as JPEG of quality 30 to 90."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(30, 91)))
    return Image.open(buffer).copy()


def resized(image: Image.Image, rng: Rng) -> Image.Image:
    """Resize to 0.4 to 2 times, by any filter."""
    factor = float(np.exp(rng.uniform(np.log(0.4), np.log(2))))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, FILTERS[rng.integers(len(FILTERS))])


def mapped(image: Image.Image, values: np.ndarray) -> Image.Image:
    """Replace grey levels."""
    table = np.clip(np.rint(values), 0, 255).astype(int).tolist()
    return image.point(table * len(image.getbands()))


def brightness(image: Image.Image, rng: Rng) -> Image.Image:
    """Shift by 15 to 50 grey levels, up or down."""
    return mapped(image, np.arange(256) + rng.choice([-1, 1]) * rng.uniform(15, 50))


def contrast(image: Image.Image, rng: Rng) -> Image.Image:
    """Stretch about the middle, 0.6 to 1.5 times."""
    return mapped(image, (np.arange(256) - 128) * rng.uniform(0.6, 1.5) + 128)


def gamma(image: Image.Image, rng: Rng) -> Image.Image:
    """Bend by gamma 0.5 to 2."""
    return mapped(image, 255 * (np.arange(256) / 255) ** np.exp(rng.uniform(-0.69, 0.69)))


def all_of_these(image: Image.Image, rng: Rng) -> Image.Image:
    """Resize, stretch, bend and encode."""
    bent = mapped(image, 255 * (np.arange(256) / 255) ** rng.uniform(0.7, 1.4))
    stretched = mapped(bent, (np.arange(256) - 128) * rng.uniform(0.7, 1.3) + 128)
    return jpeg(resized(stretched, rng), rng)


def crop(share: float) -> Callable[[Image.Image, Rng], Image.Image]:
    """Cut so much of each side's length, by chance more at one end."""

    def cut(image: Image.Image, rng: Rng) -> Image.Image:
        left, top = rng.random(2)
        x, y = share * image.width, share * image.height
        box = (left * x, top * y, image.width - (1 - left) * x, image.height - (1 - top) * y)
        return image.crop(tuple(map(round, box)))  # type: ignore[arg-type]

    return cut


def border(share: float) -> Callable[[Image.Image, Rng], Image.Image]:
    """Add a black or white border at every side."""

    def add(image: Image.Image, rng: Rng) -> Image.Image:
        fill = int(rng.choice([0, 255]))
        width = max(1, round(share * max(image.size)))
        return ImageOps.expand(image, width, fill if image.mode == "L" else (fill,) * 3)

    return add


def text(image: Image.Image, rng: Rng) -> Image.Image:
    """Burn a line of text in."""
    image = image.copy()
    x, y = rng.random(2) * (0.6 * image.width, 0.9 * image.height)
    ImageDraw.Draw(image).text((x, y), "L  PORTABLE 12:30", fill=_white(image))
    return image


def arrow(image: Image.Image, rng: Rng) -> Image.Image:
    """Burn a white arrow head in, a tenth of the side."""
    image = image.copy()
    x, y = rng.random(2) * (0.8 * image.width, 0.8 * image.height)
    side = 0.1 * min(image.size)
    corners = [(x, y), (x + side, y + side / 2), (x, y + side)]
    ImageDraw.Draw(image).polygon(corners, fill=_white(image))
    return image


def _white(image: Image.Image) -> int | tuple[int, ...]:
    return 255 if image.mode == "L" else (255, 255, 255)


#: The first seven are what must be found; a mirrored image must not be.
CHANGES: dict[str, Callable[[Image.Image, Rng], Image.Image]] = {
    "jpeg 30-90": jpeg,
    "resized 0.4-2": resized,
    "brightness": brightness,
    "contrast": contrast,
    "gamma": gamma,
    "all of these": all_of_these,
    "colour file": lambda image, _: image.convert("RGB"),
    "squeezed": lambda image, _: image.resize((224, 224), Image.Resampling.BICUBIC),
    "text": text,
    "arrow": arrow,
    "crop 2 %": crop(0.02),
    "crop 5 %": crop(0.05),
    "crop 10 %": crop(0.10),
    "border 2 %": border(0.02),
    "border 5 %": border(0.05),
    "mirrored": lambda image, _: ImageOps.mirror(image),
    "upside down": lambda image, _: ImageOps.flip(image),
}
REQUIRED = 7


def fingerprints(images: list[Image.Image]) -> np.ndarray:
    """Return one row per image."""
    return np.frombuffer(b"".join(map(fingerprint, images)), FINGERPRINT)


def recall(images: list[Image.Image], groups: list[str], seed: int) -> dict[str, dict[str, float]]:
    """Change every image in every way; share found, and images falsely paired, per way."""
    n, table = len(images), {}
    originals = fingerprints(images)
    known = {tuple(pair) for pair in near_pairs(originals).rows.tolist()}
    for name, change in CHANGES.items():
        rng = np.random.default_rng([seed, len(name)])
        changed = fingerprints([change(image, rng) for image in images])
        both = np.concatenate([originals, changed])
        rows = near_pairs(both, ["train"] * n + ["test"] * n).rows
        first, second = rows[:, 0], rows[:, 1] - n
        false = [
            (a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)
            if a != b and groups[a] != groups[b] and (min(a, b), max(a, b)) not in known
        ]  # fmt: skip
        table[name] = {
            "found": len(set(first[first == second].tolist())) / n,
            "false": len({i for pair in false for i in pair}) / n,
        }
    return table


def show(title: str, table: dict[str, dict[str, float]]) -> None:
    """Print a table of shares."""
    print(f"\n{title}\n{'change':16}{'found %':>9}{'false %':>9}")
    for name, row in table.items():
        print(f"{name:16}{100 * row['found']:9.1f}{100 * row['false']:9.2f}")


def planted(images: list[Image.Image], seed: int, count: int = 100) -> int:
    """Plant changed copies, each in one of the required ways, in another split; count the found."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(images), count, replace=False)
    ways = list(CHANGES.values())[:REQUIRED]
    copies = [ways[k % REQUIRED](images[i], rng) for k, i in enumerate(chosen)]
    both = np.concatenate([fingerprints(images), fingerprints(copies)])
    rows = near_pairs(both, ["train"] * len(images) + ["test"] * count).rows.tolist()
    return sum([i, len(images) + k] in rows for k, i in enumerate(chosen.tolist()))


def overlap(images: list[Image.Image], ids: list[str], groups: list[str]) -> dict[str, int]:
    """Name the pairs of different patients that count as one picture."""
    pairs = near_pairs(fingerprints(images), groups)
    # two collections took these films from one source: the names end alike
    source = [
        name.split("_", 1)[1] if name.startswith(("covidcxr", "mhh")) else name for name in ids
    ]
    shared = {name for name in source if source.count(name) > 1}
    print(f"\npairs of different patients that count as one picture: {len(pairs.rows)}")
    found = 0
    for (a, b), score in zip(pairs.rows.tolist(), pairs.similarity.tolist(), strict=True):
        found += source[a] == source[b]
        print(f"  {score:.2f}  {ids[a]}  {ids[b]}")
    print(
        f"films that two collections share by name, in other crops: {len(shared)}; found: {found}"
    )
    return {"pairs": len(pairs.rows), "shared_by_name": len(shared), "shared_found": found}


def speed(rows: int) -> dict[str, float]:
    """Time fingerprints of 600 x 500 pixels, and the comparison of random details."""
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (500, 600), dtype=np.uint8)).save(buffer, "JPEG")
    grey = Image.open(buffer).copy()
    result: dict[str, float] = {}
    for name, image in (("grey", grey), ("colour", grey.convert("RGB"))):
        start = time.perf_counter()
        for _ in range(200):
            fingerprint(image)
        result[f"fingerprint_{name}_ms"] = round((time.perf_counter() - start) * 5, 3)
    table = np.zeros(rows, FINGERPRINT)
    for start_row in range(0, rows, 4096):
        part = table["detail"][start_row : start_row + 4096]
        part[...] = np.clip(rng.standard_normal(part.shape, np.float32) * 24, -96, 96)
    labels = rng.choice(["train", "validation", "test"], rows, p=[0.8, 0.1, 0.1]).tolist()
    for name, given in (("all_pairs", None), ("across_splits", labels)):
        start = time.perf_counter()
        near_pairs(table, given)
        result[f"{name}_s"] = round(time.perf_counter() - start, 1)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--half", choices=["report", "tune"], default="report")
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    record: dict[str, object] = {"benchmark": "duplicates", "half": options.half}
    record |= speed(options.rows)
    print({key: value for key, value in record.items() if key != "benchmark"})
    phantoms = [Image.fromarray(render(0, index, 128)[0]) for index in range(300)]
    table = recall(phantoms, [str(k) for k in range(300)], options.seed)
    show("300 phantoms", table)
    alike = near_pairs(fingerprints(phantoms)).rows
    print(f"pairs of different phantoms that count as one picture: {len(alike)}")
    record |= {"phantoms": table, "phantoms_planted_100_found": planted(phantoms, options.seed),
               "phantom_pairs": len(alike)}  # fmt: skip
    folder = options.data / "radiology-open"
    if folder.is_dir():
        lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
        pairs = [json.loads(line) for line in lines]
        images = [open_image(folder / pair["image"]) for pair in pairs]
        wanted = int(options.half == "report")
        half = [k for k, pair in enumerate(pairs) if _half(pair["group"]) == wanted]
        chosen = [images[k] for k in half]
        table = recall(chosen, [pairs[k]["group"] for k in half], options.seed)
        show(f"{len(half)} real images, the half to {options.half}", table)
        record |= {"real_images": len(half), "real": table,
                   "real_planted_100_found": planted(chosen, options.seed)}  # fmt: skip
        record |= overlap(images, [p["id"] for p in pairs], [p["group"] for p in pairs])
    print(json.dumps(record))


def _half(group: str) -> int:
    return hashlib.blake2b(group.encode(), digest_size=4).digest()[-1] % 2


if __name__ == "__main__":
    main()
