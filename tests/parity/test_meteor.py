"""Equal to METEOR 1.5 as pycocoevalcap 1.2 runs it: corpus and per image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medblip.metrics.base import Statistics
from medblip.metrics.meteor import meteor_available, meteor_statistics

pytestmark = pytest.mark.skipif(
    meteor_available() is not None, reason=f"needs the extra: {meteor_available()}"
)

# Tokens of synthetic captions; two images have two references.
HYPOTHESES = [
    "chest x-ray showing a nodule in the left upper lobe",
    "ct scan of the abdomen",
    "sagittal mri of the left knee can not exclude effusion",
    "normal chest",
]
REFERENCES = [
    ["chest x-ray -lrb- pa view -rrb- showing a 3.5-cm nodule in the right upper lobe",
     "pa chest radiograph with a nodule of the right upper lobe"],
    ["axial ct scan of the patient 's abdomen no free air"],
    ["mri t1-weighted of the left knee effusion ca n't be excluded",
     "sagittal t1-weighted mri of the knee"],
    ["ultrasound of the gallbladder showing stones -lsb- arrow -rsb-"],
]  # fmt: skip
METEOR = 0.22284393483445125
SEGMENTS = [0.30877207746563057, 0.23179574025884792, 0.2839993814336301, 0.0]

Tokens = tuple[list[list[str]], list[list[list[str]]], list[float]]


def golden(folder: Path) -> Tokens:
    """Return captions, references and METEOR of 8,179 real captions."""
    with (folder / "ptb_tokens.jsonl").open(encoding="utf-8") as file:
        rows = {row["id"]: row for row in map(json.loads, file)}
    values = json.loads((folder / "per_image.json").read_text())
    first = lambda value: value[0] if isinstance(value, list) else value  # noqa: E731
    hypotheses = [first(rows[name]["hyp"]).split(" ") for name in values["ids"]]
    references = [[first(rows[name]["ref"]).split(" ")] for name in values["ids"]]
    return hypotheses, references, values["METEOR"]


@pytest.fixture(scope="module")
def scored() -> tuple[Statistics, Statistics, list[float]]:
    """Synthetic captions and, where they are, the first 400 golden ones: one start of Java."""
    hypotheses = [text.split(" ") for text in HYPOTHESES]
    references = [[text.split(" ") for text in texts] for texts in REFERENCES]
    values: list[float] = []
    folder = Path(__file__).resolve().parents[3] / "shared" / "data" / "caption-metrics-golden"
    if folder.is_dir():
        real = golden(folder)
        hypotheses += real[0][:400]
        references += real[1][:400]
        values = real[2][:400]
    found = meteor_statistics(hypotheses, references)
    split = (found.values[:4], found.values[4:])
    return Statistics(found.metric, split[0]), Statistics(found.metric, split[1]), values


def test_two_references(scored: tuple[Statistics, Statistics, list[float]]) -> None:
    statistics = scored[0]
    np.testing.assert_allclose(statistics.per_image()[:, 0], SEGMENTS, rtol=0, atol=1e-12)
    expected = [METEOR, np.mean(SEGMENTS)]
    np.testing.assert_allclose(statistics.corpus(), expected, rtol=0, atol=1e-12)


def test_400_golden_captions(
    shared_data: Path, scored: tuple[Statistics, Statistics, list[float]]
) -> None:
    ours = scored[1].per_image()[:, 0]
    assert len(ours) == 400
    np.testing.assert_allclose(ours, scored[2], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_all_golden_captions(shared_data: Path) -> None:
    hypotheses, references, values = golden(shared_data / "caption-metrics-golden")
    statistics = meteor_statistics(hypotheses, references)
    np.testing.assert_allclose(statistics.per_image()[:, 0], values, rtol=0, atol=1e-12)
    expected = [0.11754966362579236, 0.1412589485210713]
    np.testing.assert_allclose(statistics.corpus(), expected, rtol=0, atol=1e-12)
