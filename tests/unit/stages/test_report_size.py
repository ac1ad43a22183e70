"""200 real images with several systems' maps still make a page that can be sent by mail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from report_files import METRICS, NAMES

from medblip.files import write_json, write_text
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, dump_jsonl
from medblip.stages.report import report

MOST, IMAGES, GRID = 15_000_000, 200, (24, 24)


def write_real_study(root: Path, source: Path) -> list[Path]:
    """Write three systems whose captions are those of other images, with a map for every word."""
    lines = (source / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line) for line in lines]
    chosen = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:IMAGES]]
    examples = [
        Example(id=pair["id"], image=str(source / pair["image"]), split="test",
                captions=(pair["caption"],), licence=pair["licence"]) for pair in chosen
    ]  # fmt: skip
    write_text(root / "data" / "manifest.jsonl", dump_jsonl(examples))
    runs = []
    for shift, name in enumerate(NAMES[:3]):
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
    runs = write_real_study(tmp_path, shared_data / "radiology-open")
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
