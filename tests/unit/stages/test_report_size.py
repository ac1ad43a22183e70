"""200 real images with several systems' maps still make a page that can be sent by mail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_files import METRICS, NAMES

from medblip.files import write_json, write_text
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, dump_jsonl
from medblip.stages.report import report

MOST, IMAGES, GRID = 15_000_000, 200, (24, 24)


def real_pairs(source: Path) -> list[dict[str, Any]]:
    """Return 200 radiographs, CT and ultrasound with their captions."""
    lines = (source / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    chosen = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:IMAGES]]
    return [pair | {"image": str(source / pair["image"])} for pair in chosen]


def noise_pairs(root: Path, grey: bool) -> list[dict[str, Any]]:
    """Return 200 images that no codec makes small, with captions that share no word."""
    pairs = []
    for index in range(IMAGES):
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 255, (300, 300) if grey else (300, 300, 3), dtype=np.uint8)
        path = root / f"{index}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
        words = " ".join(f"word{number}" for number in rng.integers(0, 10_000, 20))
        pairs.append(
            {"id": f"n{index}", "image": str(path), "caption": words, "licence": "CC0-1.0"}
        )
    return pairs


def long_captions(pairs: list[dict[str, Any]], words: int) -> list[dict[str, Any]]:
    """Return the pairs with captions of exactly so many words."""
    spoken = [(f"{pair['caption']} " * words).split()[:words] for pair in pairs]
    return [p | {"caption": " ".join(s)} for p, s in zip(pairs, spoken, strict=True)]


def write_study(root: Path, chosen: list[dict[str, Any]], systems: int = 3) -> list[Path]:
    """Write systems whose captions are those of other images, with a map for every word."""
    examples = [
        Example(id=pair["id"], image=pair["image"], split="test",
                captions=(pair["caption"],), licence=pair["licence"]) for pair in chosen
    ]  # fmt: skip
    write_text(root / "data" / "manifest.jsonl", dump_jsonl(examples))
    runs = []
    for shift, name in enumerate(NAMES[:systems]):
        run = RunDir(root / name)
        rng = np.random.default_rng(shift)
        score = {"value": 0.1 + shift / 10, "ci": [0.1, 0.2 + shift / 10], "n": IMAGES}
        metrics = {metric: score | {"signature": metric} for metric in METRICS}
        write_json(run.scores("test"), {"split": "test", "n": IMAGES, "metrics": metrics})
        captions = [chosen[(i + shift + 1) % IMAGES]["caption"] for i in range(IMAGES)]
        ids = [example.id for example in examples]
        predictions = [Prediction(id=i, caption=c) for i, c in zip(ids, captions, strict=True)]
        write_text(run.predictions("test"), dump_jsonl(predictions))
        patches = np.ones(GRID[0] * GRID[1])
        images = [
            {
                "id": name_of, "caption": c, "words": c.split(),
                "maps": np.round(rng.dirichlet(patches, len(c.split())), 5).tolist(),
            }
            for name_of, c in zip(ids, captions, strict=True)
        ]  # fmt: skip
        write_json(run.maps("test"), {"grid": list(GRID), "images": images})
        runs.append(run.path)
    return runs


def test_two_hundred_real_images_fit(shared_data: Path, tmp_path: Path) -> None:
    runs = write_study(tmp_path, real_pairs(shared_data / "radiology-open"))
    page = report(runs, data=tmp_path / "data", out=tmp_path / "page.html", limit=IMAGES)
    size = page.stat().st_size
    text = page.read_text(encoding="utf-8")
    assert text.count('<article class="card') == IMAGES
    assert 2_000_000 < size <= MOST
    # the system that leads keeps its maps; whose maps did not fit is said
    assert 'data-system="decoder"' in text
    left_out = [name for name in NAMES[:3] if f'data-system="{name}"' not in text]
    assert f"No maps of: {', '.join(left_out)}." in text if left_out else "No maps of" not in text
    assert "cannot be shown" not in text


def require_whole_and_small(page: Path, leading: str) -> str:
    """Return the page, which is small and shows every image; what it left out, it says."""
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size <= MOST
    assert text.count('<article class="card') == IMAGES
    assert text.count('<div class="picture"><img src="data:image/') == IMAGES
    assert "cannot be shown" not in text
    assert f'data-system="{leading}"' in text
    return text


def test_two_hundred_real_images_with_long_captions_fit(shared_data: Path, tmp_path: Path) -> None:
    """As many words as the captioner writes at most, once 18.3 MB with one system alone."""
    pairs = long_captions(real_pairs(shared_data / "radiology-open"), 60)
    runs = write_study(tmp_path, pairs, systems=1)
    page = report(runs, data=tmp_path / "data", out=tmp_path / "page.html", limit=IMAGES)
    text = require_whole_and_small(page, "zero-shot")
    assert "patches instead of 24 x 24" in text
    assert " of 60 (" in text  # how many words have a tile


@pytest.mark.parametrize(
    ("grey", "words"), [(False, 40), pytest.param(True, 60, marks=pytest.mark.slow)]
)
def test_two_hundred_images_of_noise_fit(tmp_path: Path, grey: bool, words: int) -> None:
    """Once 21.2 MB: the pictures alone were larger than the page may be."""
    runs = write_study(tmp_path, long_captions(noise_pairs(tmp_path, grey), words), systems=1)
    page = report(runs, data=tmp_path / "data", out=tmp_path / "page.html", limit=IMAGES)
    text = require_whole_and_small(page, "zero-shot")
    assert "pictures are shown coarser than the others" in text
