"""Equal to pycocoevalcap 1.2 (run once, values stored): corpus and per image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medblip.metrics import evaluate_captions
from medblip.metrics.base import Metric, Statistics
from medblip.metrics.bleu import Bleu
from medblip.metrics.cider import Cider
from medblip.metrics.ngrams import TokenPairs
from medblip.metrics.rouge import RougeL
from medblip.metrics.tokenize import tokenize

# Synthetic captions; two items have two references. Tokens and values: pycocoevalcap 1.2 (Java).
REFERENCES = {
    "a": ["Chest X-ray (PA view) showing a 3.5-cm nodule in the right upper lobe.",
          "PA chest radiograph with a nodule of the right upper lobe"],
    "b": ["Axial CT scan of the patient's abdomen: no free air."],
    "c": ["MRI, T1-weighted, of the left knee; effusion can't be excluded.",
          "Sagittal T1-weighted MRI of the knee."],
    "d": ["Ultrasound of the gallbladder showing stones [arrow]."],
}  # fmt: skip
HYPOTHESES = {
    "a": "Chest X-ray showing a nodule in the left upper lobe",
    "b": "CT scan of the abdomen",
    "c": "Sagittal MRI of the left knee cannot exclude effusion",
    "d": "Normal chest.",
}
REFERENCE_TOKENS = {
    "a": ["chest x-ray -lrb- pa view -rrb- showing a 3.5-cm nodule in the right upper lobe",
          "pa chest radiograph with a nodule of the right upper lobe"],
    "b": ["axial ct scan of the patient 's abdomen no free air"],
    "c": ["mri t1-weighted of the left knee effusion ca n't be excluded",
          "sagittal t1-weighted mri of the knee"],
    "d": ["ultrasound of the gallbladder showing stones -lsb- arrow -rsb-"],
}  # fmt: skip
BLEU = [0.4462526605405031, 0.3804177838508506, 0.2970855440542466, 0.20824278586639847]
BLEU_4 = [5.17679965127322e-05, 0.21297646958633104, 0.3251118048869399, 8.029931010643379e-13]
ROUGE = [0.6949367088607595, 0.5854126679462572, 0.7187745483110761, 0.0]
CIDER = [2.081853642974636, 2.421802060318689, 2.211688769226115, 0.0]


def scored(metric: Metric) -> Statistics:
    hypotheses = [tokenize(HYPOTHESES[key]) for key in "abcd"]
    references = [[tokenize(text) for text in REFERENCES[key]] for key in "abcd"]
    return Statistics(metric, metric.statistics(TokenPairs(hypotheses, references)))


def test_tokens() -> None:
    for key in "abcd":
        assert [" ".join(tokenize(text)) for text in REFERENCES[key]] == REFERENCE_TOKENS[key]


def test_bleu_with_two_references() -> None:
    statistics = scored(Bleu())
    np.testing.assert_allclose(statistics.corpus(), BLEU, rtol=0, atol=1e-12)
    np.testing.assert_allclose(statistics.per_image()[:, 3], BLEU_4, rtol=0, atol=1e-12)


def test_rouge_with_two_references() -> None:
    np.testing.assert_allclose(scored(RougeL()).per_image()[:, 0], ROUGE, rtol=0, atol=1e-12)


def test_cider_with_two_references() -> None:
    statistics = scored(Cider())
    np.testing.assert_allclose(statistics.per_image()[:, 0], CIDER, rtol=0, atol=1e-12)
    np.testing.assert_allclose(statistics.corpus()[0], np.mean(CIDER), rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", [Bleu(), RougeL(), Cider()], ids=lambda m: m.names[-1])
def test_golden_captions(shared_data: Path, metric: Metric) -> None:
    """8,179 real caption pairs, from their exact tokens; plain CIDEr has a corpus value only."""
    folder = shared_data / "caption-metrics-golden"
    lines = (folder / "ptb_tokens.jsonl").read_text(encoding="utf-8").split("\n")
    rows = {row["id"]: row for row in map(json.loads, filter(None, lines))}
    golden = json.loads((folder / "per_image.json").read_text())
    first = lambda value: value[0] if isinstance(value, list) else value  # noqa: E731
    hypotheses = [first(rows[name]["hyp"]).split(" ") for name in golden["ids"]]
    references = [[first(rows[name]["ref"]).split(" ")] for name in golden["ids"]]
    statistics = Statistics(metric, metric.statistics(TokenPairs(hypotheses, references)))
    corpus = {
        "BLEU-1": 0.21500053209351822, "BLEU-2": 0.13196475475895372,
        "BLEU-3": 0.08613796966068046, "BLEU-4": 0.0605475200810451,
        "ROUGE-L": 0.2534519570861976, "CIDEr-D": 0.6404643325210299,
        "CIDEr": 1.184060265470151,
    }  # fmt: skip
    for index, name in enumerate(metric.names):
        assert float(statistics.corpus()[index]) == pytest.approx(corpus[name], abs=1e-12)
        if name != "CIDEr":
            theirs = golden["CIDEr" if name == "CIDEr-D" else name]
            ours = statistics.per_image()[:, index]
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_golden_tokens(shared_data: Path) -> None:
    """Share of real captions with the tokens of the Java tokenizer: a floor against regressions."""
    folder = shared_data / "caption-metrics-golden"
    load = lambda name: list(map(json.loads, (folder / name).open(encoding="utf-8")))  # noqa: E731
    tokens = {row["id"]: row for row in load("ptb_tokens.jsonl")}
    first = lambda value: value[0] if isinstance(value, list) else value  # noqa: E731
    pairs = [(row["caption"], first(tokens[row["id"]]["hyp"])) for row in load("hyp.jsonl")]
    pairs += [(row["captions"][0], first(tokens[row["id"]]["ref"])) for row in load("ref.jsonl")]
    same = sum(" ".join(tokenize(text)) == expected for text, expected in pairs)
    assert len(pairs) == 16_358
    assert same >= 16_355


def test_golden_scores_from_raw_captions(shared_data: Path) -> None:
    """What the texts with other tokens do to the corpus scores: docs/metrics.md."""
    folder = shared_data / "caption-metrics-golden"
    load = lambda name: list(map(json.loads, (folder / name).open(encoding="utf-8")))  # noqa: E731
    captions = {row["id"]: row["caption"] for row in load("hyp.jsonl")}
    references = {row["id"]: row["captions"] for row in load("ref.jsonl")}
    table = evaluate_captions(
        list(captions.values()), [references[name] for name in captions], resamples=0
    )
    golden = json.loads((folder / "scores.json").read_text())["pycocoevalcap"]["corpus"]
    for name in ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"):
        theirs = golden["CIDEr" if name == "CIDEr-D" else name]
        assert abs(table.scores[name].value - theirs) <= 1e-5, name
