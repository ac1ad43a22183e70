"""Text burnt into images: how much of it `medblip.data.burnt_in` finds, and what it takes for text.

    python benchmarks/burnt_in_bench.py [--data ../shared/data] [--repeats 2]

Plants invented names, dates and labels (three fonts that training never saw) into images without
words, by height of a capital letter and by look, and counts how many are found where they stand.
The images are phantoms of another seed and, with --data, real ones of groups that training never
saw, looked at by eye (tools/burnt_in/labels.json): 172 without words (a side marker of one letter
counts as none) and 127 with words of their own. What was not clear, and pictures that two sources
hold, one of them for training, are in neither list.
Ends with one JSON line. The limit: an image of 600 x 500 is 0.3 MB; the work is about 60 passes
over it and its halves, so memory bandwidth would allow 3 ms.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools" / "burnt_in"))
from plant import LOOKS, TEST_FONTS, plant

from medblip import phantoms
from medblip.data.burnt_in import find_text
from medblip.data.images import open_image

LABELS = Path(sys.path[0]) / "labels.json"
HEIGHTS = (7, 8, 10, 12, 16, 24, 32, 40)


def interval(hits: int, of: int) -> str:
    """Return share and Wilson's 95 % interval, in per cent."""
    if not of:
        return "-"
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{100 * p:.1f} ({100 * (middle - half):.1f} to {100 * (middle + half):.1f}) of {of}"


def found(
    images: list[Image.Image], rng: np.random.Generator, look: str, height: int, text: str | None
) -> list[bool]:
    """Return whether each planted line was found where it is."""
    hits = []
    for image in images:
        made = plant(image, rng, height=height, fonts=TEST_FONTS, look=look, text=text)
        if made is not None:
            written, (left, top, right, bottom) = made
            hits.append(any(
                a < right and c > left and b < bottom and d > top
                for a, b, c, d in find_text(written).boxes
            ))  # fmt: skip
    return hits


def measure(name: str, images: list[Image.Image], repeats: int) -> dict[str, float]:
    """Print false alarms and recall of one kind of images."""
    rng = np.random.default_rng(len(images))
    alarms = sum(bool(find_text(image)) for image in images)
    print(f"\n{name}: false alarms, per cent: {interval(alarms, len(images))}")
    print("| height of a capital |", " | ".join(LOOKS), "|\n" + "| --- " * (len(LOOKS) + 1) + "|")
    clear: list[bool] = []
    for height in HEIGHTS:
        cells = []
        for look in LOOKS:
            hits = found(images * repeats, rng, look, height, None)
            cells.append(interval(sum(hits), len(hits)))
            clear += hits if look == "clear" and height >= 10 else []
        print(f"| {height} px |", " | ".join(cells), "|", flush=True)
    print(f"clear, 10 px or more: {interval(sum(clear), len(clear))}")
    letters = [hit for letter in "LR" for hit in found(images, rng, "clear", 24, letter)]
    print(f"a single letter L or R of 24 px, flagged: {interval(sum(letters), len(letters))}")
    return {
        "recall": round(sum(clear) / len(clear), 4),
        "false_alarms": round(alarms / len(images), 4),
        "side_markers": round(sum(letters) / len(letters), 4),
    }


def main() -> None:
    """Print the tables, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=2)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = phantoms(Path(folder) / "p", images=200, seed=7, size=320)
        drawn = [open_image(path) for path in sorted((root / "images").glob("*.png"))]
    result: dict[str, object] = {"phantoms": measure("phantoms", drawn, 1)}
    timed = drawn
    if told.data is not None:
        real = told.data / "radiology-open"
        rows = map(json.loads, (real / "pairs.jsonl").open(encoding="utf-8"))
        files = {row["id"]: real / row["image"] for row in rows}
        seen = json.loads(LABELS.read_text(encoding="utf-8"))
        timed, worded = (
            [open_image(files[name]) for name in seen[f"measured_{kind}"]]
            for kind in ("wordless", "worded")
        )
        result["real"] = measure("real images without words", timed, told.repeats)
        hits = sum(bool(find_text(image)) for image in worded)
        print(f"\nreal images with words of their own, flagged: {interval(hits, len(worded))}")
        result["natural_recall"] = round(hits / len(worded), 4)
    timed = [image.resize((600, 500)) for image in timed[:60]]
    begun = time.process_time()
    for image in timed:
        find_text(image)
    result["ms_per_image"] = round((time.process_time() - begun) / len(timed) * 1000, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
