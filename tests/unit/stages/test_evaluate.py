"""Captions of any system from files: scored, written whole or not at all, compared in pairs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import medblip
from medblip.errors import MedblipError, MetricError, RunError
from medblip.metrics import load_statistics

REFERENCES = {
    "a": ["Chest X-ray showing a left pleural effusion.", "Left-sided effusion on a radiograph."],
    "b": ["Axial CT of the abdomen with a liver lesion."],
    "c": ["MRI of the brain: a ring-enhancing lesion in the right frontal lobe."],
    "d": ["Ultrasound of the right kidney without hydronephrosis."],
}
GOOD = {
    "a": "Chest X-ray with a left pleural effusion.",
    "b": "CT of the abdomen with a liver lesion.",
    "c": "MRI of the brain with a lesion in the right frontal lobe.",
    "d": "Ultrasound of the right kidney, no hydronephrosis.",
}
BAD = dict.fromkeys(GOOD, "Normal hand radiograph.")
CHEAP = {"meteor": False, "resamples": 50}


def table(path: Path, captions: dict[str, str]) -> Path:
    rows = [{"id": name, "caption": caption} for name, caption in captions.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [{"id": name, "captions": captions} for name, captions in REFERENCES.items()]
    (tmp_path / "ref.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table(tmp_path / "good.jsonl", dict(reversed(GOOD.items())))  # the order does not matter
    table(tmp_path / "bad.jsonl", BAD)
    return tmp_path


def test_scores_of_a_table(files: Path) -> None:
    found = medblip.evaluate(
        files / "good.jsonl", files / "ref.jsonl", out=files / "s" / "scores.json", **CHEAP
    )
    wanted = {"BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D", "CIDEr", "ROUGE-1"}
    assert wanted <= found.scores.keys()
    assert {"audit-side-F1", "error-missed-finding"} <= found.scores.keys()
    record = json.loads((files / "s" / "scores.json").read_text())
    assert record["n"] == found.n == 4
    assert record["metrics"].keys() == found.scores.keys()
    for name, score in found.scores.items():
        assert score.ci[0] <= score.value <= score.ci[1]
        assert score.signature.startswith(f"{name}|")
        assert "refs:1-2" in score.signature
    rows = [json.loads(line) for line in (files / "s" / "scores.per_image.jsonl").open()]
    assert [row["id"] for row in rows] == list("abcd")
    assert rows[0]["ROUGE-L"] > rows[2]["ROUGE-L"] * 0.5
    stored = load_statistics(files / "s" / "scores.npz")
    for family in stored.families.values():
        for name, value in zip(family.metric.names, family.corpus(), strict=True):
            assert value == pytest.approx(found.scores[name].value, abs=1e-12)


def test_nothing_is_written_unless_asked_for(files: Path) -> None:
    before = sorted(files.iterdir())
    assert medblip.evaluate(files / "good.jsonl", files / "ref.jsonl", **CHEAP).scores_file is None
    assert sorted(files.iterdir()) == before


def test_scores_are_replaced_on_purpose_only(files: Path) -> None:
    arguments = files / "good.jsonl", files / "ref.jsonl"
    medblip.evaluate(*arguments, out=files / "s.json", **CHEAP)
    before = (files / "s.json").read_bytes()
    with pytest.raises(RunError, match="--force"):
        medblip.evaluate(files / "bad.jsonl", files / "ref.jsonl", out=files / "s.json", **CHEAP)
    assert (files / "s.json").read_bytes() == before
    medblip.evaluate(*arguments, out=files / "s.json", force=True, **CHEAP)
    assert (files / "s.json").read_bytes() == before


def test_references_are_needed(files: Path) -> None:
    with pytest.raises(RunError, match="--references"):
        medblip.evaluate(files / "good.jsonl", **CHEAP)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({name: GOOD[name] for name in "abc"}, r"1 images without a caption \(d\)"),
        (GOOD | {"x": "CT"}, r"1 unknown ids \(x\)"),
        ({}, "no captions"),
    ],
)
def test_a_smaller_set_is_never_scored(files: Path, captions: dict[str, str], message: str) -> None:
    wrong = table(files / "wrong.jsonl", captions)
    with pytest.raises(MedblipError, match=message):
        medblip.evaluate(wrong, files / "ref.jsonl", out=files / "s.json", **CHEAP)
    assert not (files / "s.json").exists()


def test_what_training_captions_were_repeated(files: Path) -> None:
    found = medblip.evaluate(
        files / "good.jsonl", files / "ref.jsonl", training=files / "good.jsonl", **CHEAP
    )
    assert found.degeneration["seen_in_training"] == 1
    fresh = medblip.evaluate(
        files / "good.jsonl", files / "ref.jsonl", training=files / "ref.jsonl", **CHEAP
    )
    assert fresh.degeneration["seen_in_training"] == 0


def test_the_challenge_names_what_is_missing(files: Path) -> None:
    found = medblip.evaluate(
        files / "good.jsonl", files / "ref.jsonl", protocol="imageclef", resamples=0
    )
    assert "BLEU-1" not in found.scores
    assert 0 < found.scores["ROUGE-1"].value <= 1
    assert {"BERTScore-F1(imageclef)", "similarity", "BLEURT", "MedCAT-F1", "AlignScore"} <= (
        found.unavailable.keys()
    )
    assert not any("relevance" in name or "factuality" in name for name in found.scores)


def test_compare_scores_files_and_tables(files: Path) -> None:
    for name in ("good", "bad"):
        medblip.evaluate(
            files / f"{name}.jsonl", files / "ref.jsonl", out=files / f"{name}.json", **CHEAP
        )
    scored = medblip.compare(
        [files / "bad.json", files / "good.json"], resamples=200, out=files / "c.json"
    )
    live = medblip.compare(
        [files / "bad.jsonl", files / "good.jsonl"],
        references=files / "ref.jsonl", resamples=200, metrics=["CIDEr-D", "BLEU-1"],
    )  # fmt: skip
    row = next(row for row in scored.rows if row["metric"] == "CIDEr-D")
    again = next(row for row in live.rows if row["metric"] == "CIDEr-D")
    assert {row[key] for key in ("system", "baseline")} == {"good", "bad"}
    assert row["difference"] == again["difference"] > 0
    assert row["p"] == again["p"]
    assert row["p_holm"] >= again["p_holm"]  # more tests, more correction
    assert live.comparison_file is None
    assert len(live.rows) == 2
    written = json.loads((files / "c.json").read_text())
    assert written["rows"] == scored.rows
    assert "Holm over" in written["correction"]


def test_the_other_paired_test(files: Path) -> None:
    arguments = {"references": files / "ref.jsonl", "metrics": ["ROUGE-L"], "resamples": 2000}
    pair = [files / "bad.jsonl", files / "good.jsonl"]
    swapped = medblip.compare(pair, test="randomisation", **arguments).rows[0]
    drawn = medblip.compare(pair, test="bootstrap", **arguments).rows[0]
    assert swapped["ci"] == drawn["ci"]
    # Of the 16 ways to swap four images, 2 are as far apart; 2,000 draws, 3 standard errors.
    assert swapped["p"] == pytest.approx(1 / 8, abs=0.023)
    itself = medblip.compare(
        [files / "bad.jsonl", table(files / "same.jsonl", BAD)], test="randomisation", **arguments
    )
    assert itself.rows[0]["p"] == 1


def test_scores_against_other_references_are_not_compared(files: Path) -> None:
    rows = [{"id": name, "captions": captions[:1]} for name, captions in REFERENCES.items()]
    rows[0]["captions"] = ["Something else."]
    (files / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, references in (("good", "ref"), ("bad", "other")):
        medblip.evaluate(
            files / f"{name}.jsonl", files / f"{references}.jsonl", out=files / f"{name}.json",
            **CHEAP,
        )  # fmt: skip
    with pytest.raises(MetricError, match="different references"):
        medblip.compare([files / "good.json", files / "bad.json"])


def test_a_metric_that_nobody_has(files: Path) -> None:
    pair = [files / "bad.jsonl", files / "good.jsonl"]
    with pytest.raises(MetricError, match="METEOR"):
        medblip.compare(pair, references=files / "ref.jsonl", metrics=["METEOR"])
    everything = medblip.compare(
        pair, references=files / "ref.jsonl", metrics=["all"], resamples=20
    )
    assert any(row["metric"].startswith("audit-") for row in everything.rows)


def test_the_command_prints_tables_and_signatures_without_torch(files: Path) -> None:
    code = (
        "import sys\nfrom medblip.cli import app\n"
        f"app(['evaluate', {str(files / 'good.jsonl')!r}, '--references',"
        f" {str(files / 'ref.jsonl')!r}, '--no-meteor', '--resamples', '20'],"
        " standalone_mode=False)\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False"
    for part in ("CIDEr-D", "Clinical audit", "tok:ptb-compat", "unique captions"):
        assert part in done.stderr


def test_an_install_line_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from medblip.cli.options import print_table
    from medblip.tables import missing_lines

    print_table(missing_lines({"METEOR": "pip install 'medblip[meteor]'"}, ["x: lower is better"]))
    assert capsys.readouterr().err.splitlines() == [
        "not computed: METEOR: pip install 'medblip[meteor]'", "note: x: lower is better",
    ]  # fmt: skip


def test_what_is_read_is_never_written_over(files: Path) -> None:
    good, references = files / "good.jsonl", files / "ref.jsonl"
    before = good.read_bytes(), references.read_bytes()
    for target in (good, references):
        with pytest.raises(RunError, match="choose another --out"):
            medblip.evaluate(good, references, out=target, force=True, **CHEAP)
    assert (good.read_bytes(), references.read_bytes()) == before
    (files / "s.npz").write_bytes(b"a table of mine")
    with pytest.raises(RunError, match=r"s\.npz is there already"):
        medblip.evaluate(good, references, out=files / "s.json", **CHEAP)
    for name in ("good", "bad"):
        medblip.evaluate(files / f"{name}.jsonl", references, out=files / f"{name}.json", **CHEAP)
    pair = [files / "good.json", files / "bad.json"]
    with pytest.raises(RunError, match="no comparison"):
        medblip.compare(pair, resamples=20, out=references)
    assert references.read_bytes() == before[1]
    for _ in range(2):  # an earlier comparison is replaced
        medblip.compare(pair, resamples=20, out=files / "c.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resamples": -5}, "resamples cannot be negative"),
        ({"seed": -1}, "seed cannot be negative"),
        ({"protocol": "foo"}, "unknown protocol"),
        ({"tokenizer": "foo"}, "unknown tokenizer"),
        ({"year": 2024}, "unknown year"),
        ({"idf": True}, "idf without BERTScore"),
    ],
)
def test_options_that_cannot_be_meant(files: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError, match=message):
        medblip.evaluate(files / "good.jsonl", files / "ref.jsonl", **({"meteor": False} | options))


@pytest.mark.parametrize("options", [{"resamples": 0}, {"seed": -1}, {"test": "foo"}])
def test_comparisons_that_cannot_be_made(files: Path, options: dict[str, Any]) -> None:
    pair = [files / "bad.jsonl", files / "good.jsonl"]
    with pytest.raises(MetricError, match="cannot be made"):
        medblip.compare(pair, references=files / "ref.jsonl", **options)


def test_a_system_that_is_not_there(files: Path) -> None:
    with pytest.raises(RunError, match="file not found"):
        medblip.compare(
            [files / "good.jsonl", files / "absent.json"], references=files / "ref.jsonl"
        )


def test_collapse_is_said_aloud(files: Path) -> None:
    from medblip.tables import degeneration_line

    rows = {str(i): "The same caption." for i in range(30)}
    found = medblip.evaluate(
        table(files / "same.jsonl", rows),
        table(files / "true.jsonl", {name: f"Caption {name}." for name in rows}), **CHEAP,
    )  # fmt: skip
    assert "WARNING" in degeneration_line(found.degeneration, found.n)
    assert "WARNING" not in degeneration_line(found.degeneration, 5)  # too few to tell
