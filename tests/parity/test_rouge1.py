"""Equal to rouge_score 0.1.2 on text normalised as ImageCLEFmedical does (values stored)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medblip.metrics.imageclef import rouge1_statistics

# Made-up pairs (caption, reference) and `RougeScorer(["rouge1"]).score(...)["rouge1"].fmeasure`
# of the normalised texts.
PAIRS = [
    ("Chest X-ray showing a nodule in the left upper lobe",
     "Chest X-ray (PA view) showing a 3.5-cm nodule in the right upper lobe.", 0.7826086956521738),
    ("CT scan of the abdomen", "Axial CT scan of the patient's abdomen: no free air.",
     0.6666666666666666),
    ("the lung and the heart and the aorta", "The heart, the aorta, the lung; the rest", 0.75),
    ("Größe 12 mm – naïve µm", "GRÖSSE 7 mm naïve μm", 0.8571428571428571),
    ("T1-weighted MRI, 21\u00a03/7 weeks", "t1weighted mri of 20 weeks", 0.8000000000000002),
    ("...", "?!", 0.0),  # both are empty only once normalised: no rule for that
    ("", "a caption", 0.0),
    ("40°C 2½ ×١٢", "41 °C 2 ½ x 12", 0.888888888888889),
    ("word\u2028word\nword\x1cword", "word word", 0.6666666666666666),
    ("İstanbul K", "i stanbul k", 1.0),
    ("Normal chest.", "Ultrasound of the gallbladder showing stones [arrow].", 0.0),
]  # fmt: skip


def test_made_up_pairs() -> None:
    statistics = rouge1_statistics([h for h, _, _ in PAIRS], [[r] for _, r, _ in PAIRS])
    theirs = [value for _, _, value in PAIRS]
    np.testing.assert_allclose(statistics.per_image()[:, 0], theirs, rtol=0, atol=1e-15)
    assert statistics.corpus()[0] == pytest.approx(np.mean(theirs), abs=1e-15)


def test_golden_captions(shared_data: Path) -> None:
    folder = shared_data / "caption-metrics-golden"
    load = lambda name: list(map(json.loads, (folder / name).open(encoding="utf-8")))  # noqa: E731
    captions = {row["id"]: row["caption"] for row in load("hyp.jsonl")}
    references = {row["id"]: row["captions"] for row in load("ref.jsonl")}
    statistics = rouge1_statistics(list(captions.values()), [references[name] for name in captions])
    assert len(statistics.values) == 8_179
    assert float(statistics.corpus()[0]) == pytest.approx(0.30991948359421007, abs=1e-12)
