"""Text burnt into images: how much of it `medblip.data.burnt_in` finds, and what it takes for text.

    python benchmarks/burnt_in_bench.py [--data ../shared/data] [--repeats 4]

Plants invented names, dates and labels (two fonts that training never saw) into images without
words, by height of a capital letter and by contrast, and counts how many images are flagged. The
images are phantoms of another seed and, with --data, real ones of groups that training never saw,
looked at by eye: 52 without words (side markers count as none) and 39 with words of their own.
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
from plant import TEST_FONTS, plant

from medblip import phantoms
from medblip.data.burnt_in import find_text
from medblip.data.images import open_image

#: Looked at by eye, one by one; five that were not clear are in neither list.
WORDLESS = [
    "pocus_Reg_northumbria_0409_set3_vid2",
    "pocus_Reg_pat3Image_134711",
    "mhh_53c9be49",
    "pocus_Cov_combatting_Image3",
    "pocus_Pneu_northumbria_0409_set5_img1",
    "mhh_b0500187",
    "mhh_2168a917",
    "covidcxr_5782ae15",
    "pocus_Vir_prospective_file1",
    "pocus_Reg_pat2Image_134240",
    "covidcxr_16745_3_1",
    "mhh_08d780ae",
    "pocus_Pneu_Avi_effusion-and-thickened-diaphragm",
    "mhh_d22964a4",
    "mhh_88859dc1",
    "pocus_Reg_Avi_Image007",
    "mhh_0957ce54",
    "covidcxr_16745_6_1",
    "pocus_Cov-Atlas-pleural",
    "mhh_ba040c5e",
    "mhh_59cb1744",
    "covidcxr_5f619d7e",
    "mhh_c601f50d",
    "mhh_1bc3008e",
    "pocus_Cov_Oliviera_2020_Fig5A",
    "mhh_00d96e05",
    "mhh_3dedeb92",
    "pocus_Cov-Atlas-Day+1",
    "mhh_3a81faf3",
    "mhh_7940dea2",
    "mhh_bf551b8b",
    "mhh_887db78f",
    "mhh_d2af569b",
    "pocus_Pneu_northumbria_0409_set5_vid1",
    "covidcxr_covid-19-pneumonia-22-day2-pa",
    "covidcxr_c17cdd3972b233b97770bb57f7bba6_jumbo",
    "mhh_0578e08b",
    "covidcxr_90986ce4",
    "covidcxr_16674_1_1",
    "mhh_90070cbc",
    "mhh_33ad0dcb",
    "covidcxr_a361d7b7",
    "pocus_Reg_Avi_Image005",
    "pocus_Pneu_northumbria_0409_set6_vid8",
    "covidcxr_2c35005f",
    "pocus_Pneu_Avi_B-lines-hyperechoic-effusion-consolidated-lung",
    "pocus_Reg_liftl_pneucase3_clip1",
    "pocus_Reg_Avi_Image011",
    "pocus_Pneu_northumbria_0409_set6_vid3",
    "pocus_Pneu-Atlas-pneumonia2",
    "mhh_cf35d0c4",
    "pocus_Reg_pat1Image_133232",
]
WORDED = [
    "vqarad_synpic41772",
    "vqarad_synpic49914",
    "covidcxr_pneumocystis-jirovecii-pneumonia-3-1",
    "vqarad_synpic21700",
    "vqarad_synpic45610",
    "vqarad_synpic27013",
    "vqarad_synpic676",
    "vqarad_synpic33892",
    "covidcxr_1e64990d1b40c1758a2aaa9c7f7a85_jumbo",
    "vqarad_synpic24220",
    "vqarad_synpic20626",
    "vqarad_synpic27597",
    "vqarad_synpic31394",
    "vqarad_synpic59935",
    "vqarad_synpic33844",
    "vqarad_synpic52932",
    "vqarad_synpic27655",
    "mhh_527321ee",
    "covidcxr_4e1dc09c3abe03a3efb72d494ddb6f_jumbo-2",
    "vqarad_synpic53978",
    "vqarad_synpic21734",
    "covidcxr_streptococcus-pneumoniae-pneumonia-temporal-evolution-1-day2",
    "covidcxr_covid-19-pneumonia-93",
    "vqarad_synpic45162",
    "covidcxr_covid-19-pneumonia-2",
    "vqarad_synpic31916",
    "vqarad_synpic17848",
    "vqarad_synpic30324",
    "mhh_81089cb4",
    "covidcxr_076d9f1ab85d17bcf0f4f207891974_jumbo",
    "vqarad_synpic17153",
    "mhh_bace1e45",
    "vqarad_synpic54802",
    "covidcxr_covid-19-pneumonia-58-day-10",
    "vqarad_synpic28378",
    "vqarad_synpic26925",
    "vqarad_synpic25105",
    "vqarad_synpic24878",
    "vqarad_synpic54004",
]
HEIGHTS = (7, 8, 10, 12, 16, 24, 32, 40)


def interval(hits: int, of: int) -> str:
    """Return share and Wilson's 95 % interval, in per cent."""
    if not of:
        return "-"
    z, p = 1.96, hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{100 * p:.1f} ({100 * (middle - half):.1f} to {100 * (middle + half):.1f}) of {of}"


def planted(images: list[Image.Image], repeats: int, seed: int) -> dict[str, dict[int, list[bool]]]:
    """Return contrast -> height -> whether each planted line was found where it is."""
    rng = np.random.default_rng(seed)
    found: dict[str, dict[int, list[bool]]] = {}
    for contrast in ("clear", "faint"):
        for height in HEIGHTS:
            hits = found.setdefault(contrast, {}).setdefault(height, [])
            for image in images * repeats:
                made = plant(image, rng, height=height, fonts=TEST_FONTS, contrast=contrast)
                if made is not None:
                    with_text, (left, top, right, bottom) = made
                    hits.append(any(
                        a < right and c > left and b < bottom and d > top
                        for a, b, c, d in find_text(with_text).boxes
                    ))  # fmt: skip
    return found


def main() -> None:
    """Print the table, then one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = phantoms(Path(folder) / "p", images=60, seed=7, size=320)
        drawn = [open_image(path) for path in sorted((root / "images").glob("*.png"))]
    wordless: list[Image.Image] = []
    worded: list[Image.Image] = []
    if told.data is not None:
        real = told.data / "radiology-open"
        rows = map(json.loads, (real / "pairs.jsonl").open(encoding="utf-8"))
        files = {row["id"]: real / row["image"] for row in rows}
        wordless, worded = (
            [open_image(files[name]) for name in names] for names in (WORDLESS, WORDED)
        )
    result: dict[str, object] = {}
    for name, images in (("phantoms", drawn), ("real", wordless)):
        if not images:
            continue
        alarms = sum(bool(find_text(image)) for image in images)
        print(f"\n{name}: false alarms, per cent: {interval(alarms, len(images))}")
        found = planted(images, told.repeats, seed=len(images))
        print("| height of a capital | clear contrast | faint |\n| --- | --- | --- |")
        for height in HEIGHTS:
            cells = [interval(sum(h := found[c][height]), len(h)) for c in ("clear", "faint")]
            print(f"| {height} px | {cells[0]} | {cells[1]} |")
        large = [hit for height in HEIGHTS if height >= 10 for hit in found["clear"][height]]
        print(f"clear, 10 px or more: {interval(sum(large), len(large))}")
        result[name] = {
            "recall": round(sum(large) / len(large), 4),
            "false_alarms": round(alarms / len(images), 4),
        }
    if worded:
        hits = sum(bool(find_text(image)) for image in worded)
        print(f"\nreal images with words of their own, flagged: {interval(hits, len(worded))}")
        result["natural_recall"] = round(hits / len(worded), 4)
    timed = [image.resize((600, 500)) for image in (wordless or drawn)[:40]]
    begun = time.process_time()
    for image in timed:
        find_text(image)
    result["ms_per_image"] = round((time.process_time() - begun) / len(timed) * 1000, 2)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
