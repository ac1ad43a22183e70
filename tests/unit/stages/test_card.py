"""Cards say what the files say: each number, each licence, and what is missing."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import published_run
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

import medblip
from medblip.data.phantoms.generate import generate
from medblip.errors import ConfigError, DataError, RunError
from medblip.schema import read_predictions
from medblip.stages.card import data_card, model_card


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    return published_run.make(tmp_path_factory.mktemp("study"), tiny_folder)


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "run", tmp_path / "run")
    return tmp_path / "run"


def front(text: str) -> dict[str, Any]:
    """Return the front matter, as a YAML parser that is not ours reads it."""
    return dict(yaml.safe_load(text.split("---\n")[1]))


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"## {title}\n")[1], flags=re.MULTILINE)[0]


def score(run: Path, metric: str = "CIDEr-D") -> float:
    found = json.loads((run / "scores" / "test.json").read_text())["metrics"][metric]["value"]
    return float(found)


def test_every_number_of_the_front_matter_is_that_of_the_scores(run: Path) -> None:
    text = model_card(run)
    scores = json.loads((run / "scores" / "test.json").read_text())
    (result,) = front(text)["model-index"][0]["results"]
    told = {row["name"]: row for row in result["metrics"]}
    stating = {f"audit-{kind}-F1": counts["images"]
               for kind, counts in scores["clinical"]["statements"].items()}  # fmt: skip
    silent = {name for name, images in stating.items() if images == 0}
    assert silent
    assert set(told) == {n for n in scores["metrics"] if not n.endswith(("-P", "-R"))} - silent
    for name, row in told.items():
        score = scores["metrics"][name]
        assert row["value"] == score["value"], name
        assert type(row["value"]) is float
        wanted = {"interval_95": score["ci"], "images": stating.get(name, score["n"]),
                  "signature": score["signature"]}  # fmt: skip
        if name in stating:  # four images: of fewer than ten that state it there is no interval
            del wanted["interval_95"]
        assert row["args"] == wanted
    assert result["dataset"] == {"type": "medblip-prepared", "name": "data", "split": "test"}


def test_the_hub_s_own_reader_takes_it(run: Path) -> None:
    card = ModelCard(model_card(run, name="ann/captioner"))
    assert card.data.pipeline_tag == "image-to-text"
    assert card.data.library_name == "transformers"
    assert card.data.model_name == "ann/captioner"
    assert {one.metric_type for one in card.data.eval_results} >= {"bleu", "rouge", "cider"}
    assert card.data.metrics == ["bleu", "cider", "rouge"]


def test_a_changed_file_changes_the_card(run: Path) -> None:
    before = model_card(run)
    scores = json.loads((run / "scores" / "test.json").read_text())
    scores["metrics"]["BLEU-4"] |= {"value": 0.98765, "ci": [0.91234, 0.99876]}
    scores["metrics"]["error-false-finding"] |= {"value": 0.4321, "ci": [0.1234, 0.5678]}
    scores["degeneration"]["unique_captions"] = 0.3579
    change(run / "scores" / "test.json", **scores)
    change(run / "train.json", peak_memory_mb=4711.5, steps=90210, energy_wh=12.75)
    change(run / "environment.json", python="3.99.1")
    after = model_card(run)
    assert "| BLEU-4 | 0.9877 | [0.9123, 0.9988] |" in section(after, "Results")
    assert "| false finding | 43.2 | [12.3, 56.8] |" in section(after, "What goes wrong")
    assert "false finding 43.2" in section(after, "Intended use and limits")
    assert "| unique captions | 0.3579 |" in after
    assert "90210 steps" in section(after, "Recipe")
    for number in ("4711.5", "12.75", "3.99.1"):
        assert number in section(after, "Hardware, time and versions")
        assert number not in before
    assert "energy: it was not measured" in before
    assert "energy: it was not measured" not in after


def test_a_kind_that_nobody_states_is_not_shown_as_perfect(run: Path) -> None:
    file = run / "scores" / "test.json"
    scores = json.loads(file.read_text())
    for kind, value in (("device", 1.0), ("comparison", 1.0), ("side", 1.0), ("plane", 0.5)):
        scores["metrics"][f"audit-{kind}-F1"] |= {"value": value, "ci": [value, 1.0]}
    scores["clinical"]["statements"] |= {
        "device": {"captions": 0, "references": 0, "images": 0},
        "comparison": {"captions": 1, "references": 1, "images": 1},
        "side": {"captions": 12, "references": 12, "images": 12},
    }  # fmt: skip
    change(file, **scores)
    text = model_card(run)
    faults = section(text, "What goes wrong")
    assert "| device | - | - | 0 |" in faults
    assert "| comparison | 1.0000 | - | 1 |" in faults
    assert "| side | 1.0000 | [1.0000, 1.0000] | 12 |" in faults
    (result,) = front(text)["model-index"][0]["results"]
    told = {row["name"]: row["args"] for row in result["metrics"]}
    assert "audit-device-F1" not in told
    assert told["audit-side-F1"]["images"] == 12
    assert "interval_95" in told["audit-side-F1"]
    assert "interval_95" not in told["audit-comparison-F1"]
    # Scores of an older medblip have no counts: a flawless F1 may be one of nothing.
    del scores["clinical"]["statements"]
    change(file, **scores)
    text = model_card(run)
    assert "| device | - | - | not counted |" in section(text, "What goes wrong")
    assert "| plane | 0.5000 | [0.5000, 1.0000] | not counted |" in section(text, "What goes wrong")
    (result,) = front(text)["model-index"][0]["results"]
    names = {row["name"] for row in result["metrics"]}
    assert {"audit-device-F1", "audit-side-F1"}.isdisjoint(names)
    assert "audit-plane-F1" in names


def test_licences_are_counted_per_image_and_split(run: Path) -> None:
    text = section(model_card(run), "Training data")
    assert "| licence | train | validation | test |" in text
    assert "| CC BY 4.0 | 6 | 2 | 2 |" in text
    assert "| CC BY-NC 4.0 | 3 | 1 | 1 |" in text
    assert "| unknown | 3 | 1 | 1 |" in text
    assert "Images: train 12, validation 4, test 4." in text


def test_of_another_data_set_nothing_is_counted(run: Path, made: Path, tmp_path: Path) -> None:
    other = shutil.copytree(made / "data", tmp_path / "other")
    with (other / "manifest.jsonl").open("a") as file:
        file.write("\n")
    assert "what lies there now is another data set" in model_card(run, data=other)
    gone = model_card(run, data=tmp_path / "gone")
    assert "the data set is no longer where it was" in section(gone, "What is missing here")
    assert "| CC BY 4.0 |" not in gone


def test_no_path_of_this_machine_is_told(run: Path, made: Path, tiny_folder: Path) -> None:
    text = model_card(run)
    for path in (str(made), str(run.parent), str(tiny_folder.parent)):
        assert path not in text
    assert f"a captioner in a folder called {tiny_folder.name}" in text
    assert "base_model" not in front(text)


def test_no_path_is_told_by_what_a_check_advises(run: Path, made: Path, tmp_path: Path) -> None:
    data = shutil.copytree(made / "data", tmp_path / "Ann Smith" / "x")
    phantoms = generate(tmp_path / "Ann Smith" / "p", images=20, seed=3)
    for root in (data, phantoms):
        found = {"level": "error", "what": "damaged files in pixels/128", "count": 1, "first": [],
                 "do": f"delete {root}/pixels/128: it is made again", "leak": False}  # fmt: skip
        record = {"schema_version": 1, "findings": [found]}
        (root / "check.json").write_text(json.dumps(record))
    told = "| error | damaged files in pixels/128 | 1 |"
    assert f"{told} delete 128: it is made again |" in data_card(phantoms)
    text = model_card(run, data=data)
    assert f"{told}\n" in text
    assert "delete" not in text  # advice is the owner's; the card is for strangers
    assert "Smith" not in text + data_card(phantoms)
    (data / "check.json").unlink()
    assert "Not checked for damage" in section(model_card(run, data=data), "Training data")


def test_no_path_is_told_by_why_a_metric_is_missing(run: Path) -> None:
    why = {"BERTScore": "no model in /home/Ann Smith/models/bcb: no config.json"}
    change(run / "scores" / "test.json", unavailable=why)
    missing = section(model_card(run), "What is missing here")
    assert "- BERTScore: no model in bcb: no config.json" in missing


def test_that_images_are_drawn_is_the_first_of_the_limits(
    run: Path, made: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(made / "data", tmp_path / "drawn")

    def first() -> str:
        limits = section(model_card(run, data=data), "Intended use and limits")
        return next(line for line in limits.splitlines() if line.startswith("- "))

    assert "phantoms" not in first()
    (data / "stats.json").write_text(json.dumps({"seed": 3, "modalities": {}}))
    assert first().startswith("- **Trained on drawn phantoms: it has never seen a patient's image")
    (run / "train.json").unlink()
    assert first().startswith("- **Scored on drawn phantoms, not on patients' images")


def test_where_no_interval_was_computed_none_is_told(run: Path) -> None:
    medblip.evaluate(run, meteor=False, resamples=0, force=True)
    text = model_card(run)
    (result,) = front(text)["model-index"][0]["results"]
    assert all("interval_95" not in row["args"] for row in result["metrics"])
    assert all(row["args"]["signature"].endswith("ci:none") for row in result["metrics"])
    assert "[" not in section(text, "Results").split("How each")[0]


@pytest.mark.parametrize(
    ("name", "hub", "licence"),
    [
        ("blip-base", "Salesforce/blip-image-captioning-base", "bsd-3-clause"),
        ("Salesforce/blip2-opt-2.7b", "Salesforce/blip2-opt-2.7b", "other"),
        ("bundled", None, "apache-2.0"),
    ],
)
def test_the_base_model_and_its_licence(
    run: Path, name: str, hub: str | None, licence: str
) -> None:
    config = json.loads((run / "config.json").read_text())
    change(run / "config.json", model=config["model"] | {"name": name})
    said = front(model_card(run))
    assert (said.get("base_model"), said["license"]) == (hub, licence)
    assert said.get("base_model_relation") == ("finetune" if hub else None)
    assert front(model_card(run, licence="cc-by-nc-4.0"))["license"] == "cc-by-nc-4.0"
    with pytest.raises(ConfigError, match="as the hub names it"):
        model_card(run, licence="mine: all\nmine")


def test_a_captioner_used_as_it_is_was_not_trained(run: Path) -> None:
    for name in ("train.json", "trainable.json", "environment.json", "metrics.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints")
    text = model_card(run)
    assert "used as it is" in text
    assert "Trained on" not in text
    assert "train.epochs" not in text
    assert "nothing was trained here" in section(text, "What is missing here")
    assert "no checkpoint of its own" in section(text, "How to use it")


def test_without_scores_the_card_says_so(run: Path) -> None:
    shutil.rmtree(run / "scores")
    text = model_card(run)
    assert "model-index" not in front(text)
    assert "the run was not evaluated" in section(text, "What is missing here")
    with pytest.raises(RunError, match="no scores of the test split"):
        model_card(run, split="test")


def test_paired_tests_of_this_run_are_shown(run: Path) -> None:
    row = {
        "system": "run", "baseline": "zero|shot", "metric": "CIDEr-D", "value": score(run),
        "baseline_value": score(run) - 0.5, "difference": 0.5, "ci": [0.25, 0.75], "p": 0.001,
        "p_holm": 0.012,
    }  # fmt: skip
    record = {"schema_version": 1, "split": "test", "baseline": "zero", "test": "paired bootstrap",
              "correction": "Holm over 9 tests", "n": 4,
              "rows": [row, row | {"system": "other", "difference": 0.111}]}  # fmt: skip
    (run.parent / "comparison.json").write_text(json.dumps(record))
    text = section(model_card(run), "Results")
    assert r"| zero\|shot | CIDEr-D | +0.5000 | [+0.2500, +0.7500] | 0.0120 |" in text
    assert "Holm over 9 tests" in text
    assert "0.1110" not in text
    row["p_holm"] = 0.0009
    change(run.parent / "comparison.json", rows=[row])
    assert "| &lt; 0.001 |" in section(model_card(run), "Results")
    change(run.parent / "comparison.json", split="validation")
    assert "Holm" not in model_card(run)


def test_the_baseline_of_a_comparison_is_tested_too(run: Path) -> None:
    """The flagship of a study is what all others are tested against: the same tests, turned."""
    row = {
        "system": "zero", "baseline": "run", "metric": "CIDEr-D", "value": score(run) - 0.5,
        "baseline_value": score(run), "difference": -0.5, "ci": [-0.75, -0.25], "p": 0.002,
        "p_holm": 0.012,
    }  # fmt: skip
    record = {"schema_version": 1, "split": "test", "baseline": "run", "test": "paired bootstrap",
              "correction": "Holm over 9 tests", "n": 4, "rows": [row]}  # fmt: skip
    file = run.parent / "elsewhere.json"
    file.write_text(json.dumps(record))
    text = model_card(run, comparison=file)
    assert "| zero | CIDEr-D | +0.5000 | [+0.2500, +0.7500] | 0.0120 |" in section(text, "Results")
    assert "paired tests" not in section(text, "What is missing here")
    whole = f"{run.parent.name}/run"  # where two runs have one name `compare` tells their folders
    change(file, rows=[row | {"baseline": whole}])
    assert "| zero | CIDEr-D | +0.5000 |" in model_card(run, comparison=file)
    change(file, rows=[row | {"baseline": "another"}])
    missing = section(model_card(run, comparison=file), "What is missing here")
    assert "names other systems (another, zero)" in missing


def compared(run: Path, folder: Path, **more: Any) -> Path:
    """Write a comparison of the run with another, and return its file."""
    row = {
        "system": "run", "baseline": "zero", "metric": "CIDEr-D", "value": score(run),
        "baseline_value": 0.25, "difference": 0.125, "ci": [0.0, 0.5], "p": 0.002, "p_holm": 0.012,
    }  # fmt: skip
    record = {"schema_version": 1, "split": "test", "baseline": "zero", "test": "paired bootstrap",
              "correction": "Holm over 9 tests", "n": 4, "rows": [row],
              "weakest": overall(run, weak("ultrasound", 0.125, overall=score(run)))}  # fmt: skip
    file = folder / "comparison.json"
    file.write_text(json.dumps(record | more))
    return file


TOLD = "| zero | CIDEr-D | +0.1250 |"


def test_tests_of_other_scores_than_the_run_s_are_left_out_and_that_is_said(run: Path) -> None:
    """Captions are written again, scored again, and the comparison beside them is of the old."""
    file = compared(run, run.parent)
    text = model_card(run)
    assert TOLD in text
    assert "ultrasound" in text
    assert "of other scores" not in text
    scores = json.loads((run / "scores" / "test.json").read_text())
    change(run / "scores" / "test.json", n=5)
    assert TOLD not in model_card(run)
    change(run / "scores" / "test.json", n=4)
    scores["metrics"]["CIDEr-D"]["value"] *= 1 + 1e-14  # a sum in another order is no other score
    change(run / "scores" / "test.json", metrics=scores["metrics"])
    assert TOLD in model_card(run)
    scores["metrics"]["CIDEr-D"]["value"] += 0.001
    change(run / "scores" / "test.json", metrics=scores["metrics"])
    for named in (None, file):
        text = model_card(run, comparison=named)
        assert TOLD not in text
        assert "ultrasound" not in text
        missing = section(text, "What is missing here")
        assert "those of the comparison there are of other scores than the run's" in missing
        assert "2 rows of the comparison: they are of other scores than these" in missing


def test_the_other_system_s_scores_count_where_they_lie_beside_the_run(run: Path) -> None:
    compared(run, run.parent)
    other = run.parent / "zero" / "scores" / "test.json"
    other.parent.mkdir(parents=True)
    for value, shown in ((0.25, True), (0.3, False)):
        record = {"schema_version": 1, "metrics": {"CIDEr-D": {"value": value}}}
        other.write_text(json.dumps(record))
        assert (TOLD in model_card(run)) is shown


def test_a_run_of_a_study_has_the_study_s_comparison_wherever_its_card_is_made(
    run: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.copytree(run, study / "ablation" / "run")
    flagship = study / "ablation" / "run"
    (study / "reproduce.json").write_text("{}")
    compared(flagship, study / "ablation", correction="Holm over 1 test")  # somebody's, later
    whole = compared(flagship, study)
    text = model_card(flagship)
    assert text == model_card(flagship, comparison=whole)
    assert "Holm over 9 tests" in text
    pushed = medblip.push(flagship, "ann/captioner", dry_run=True).card
    assert pushed == model_card(flagship, name="ann/captioner", comparison=whole)
    assert TOLD in pushed
    assert "modality: ultrasound (40 images)" in pushed
    change(whole, rows=[], weakest=[])  # of the study's, not about this run: then what is
    assert "Holm over 1 test" in model_card(flagship)
    (study / "reproduce.json").unlink()
    compared(flagship, study)
    assert "Holm over 1 test" in model_card(flagship)


def test_what_is_no_comparison_of_these_scores_is_told(run: Path) -> None:
    with pytest.raises(RunError, match="is no comparison"):
        model_card(run, comparison=run / "scores" / "test.json")
    shutil.copy(run / "scores" / "test.json", run.parent / "comparison.json")  # a stranger's
    missing = section(model_card(run), "What is missing here")
    assert "there is no comparison of this run" in missing
    compared(run, run.parent, split="validation")
    missing = section(model_card(run), "What is missing here")
    assert "the comparison there is of the validation split" in missing


def weak(level: str, value: float, **more: Any) -> dict[str, Any]:
    return {"system": "run", "metric": "CIDEr-D", "stratum": "modality", "level": level, "n": 40,
            "value": value, "ci": [value / 2, 2 * value], "overall": 0.75, **more}  # fmt: skip


def overall(run: Path, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Set each row's value of all images, in the run's scores as well: they are one number."""
    file = run / "scores" / "test.json"
    metrics = json.loads(file.read_text())["metrics"]
    for row in rows:
        metrics[row["metric"]] |= {"value": row["overall"]}
    change(file, metrics=metrics)
    return list(rows)


def test_weak_groups_and_what_maps_may_say_are_among_the_limits(run: Path) -> None:
    record = {"schema_version": 1, "split": "test", "n": 4, "rows": [],
              "weakest": overall(run, weak("ultrasound", 0.125),
                                 weak("mri", 0.125, system="other"))}  # fmt: skip
    (run.parent / "comparison.json").write_text(json.dumps(record))
    (run / "maps").mkdir()
    truth = {"schema_version": 1, "split": "test", "conclusions": ["No better than <chance>."]}
    (run / "maps" / "test.faithfulness.json").write_text(json.dumps(truth))
    text = section(model_card(run), "Intended use and limits")
    assert (
        "  - modality: ultrasound (40 images): CIDEr-D 0.1250 [0.0625, 0.2500], all images 0.7500"
    ) in text
    assert "not corrected for how many groups" in text
    assert "mri" not in text
    assert "- No better than &lt;chance&gt;." in text


def test_the_weakest_groups_are_few_and_each_is_named_once(run: Path) -> None:
    rows = [
        weak("a", 0.3), weak("a", 0.001, metric="BLEU-1"), weak("b", 0.2),
        weak("none", 0.1, stratum="findings"), weak("c", 0.05, metric="BLEU-4"),
        weak("short (up to 10 words)", 0.02, metric="BLEU-1", stratum="length"),
        weak("d", 0.06, metric="BLEU-4"), weak("e", 0.07, metric="BLEU-4"),
    ]  # fmt: skip
    record = {"schema_version": 1, "split": "test", "n": 4, "rows": [],
              "weakest": overall(run, *rows)}  # fmt: skip
    (run.parent / "comparison.json").write_text(json.dumps(record))
    text = section(model_card(run), "Intended use and limits")
    told = [line.split(" 0.")[0] for line in text.splitlines() if line.startswith("  - ")]
    assert told == [
        "  - references without a finding (40 images): CIDEr-D",
        "  - modality: b (40 images): CIDEr-D",
        "  - modality: a (40 images): CIDEr-D",
        "  - length of the reference: short (up to 10 words) (40 images): BLEU-1",
        "  - modality: c (40 images): BLEU-4",
    ]
    assert "The 5 weakest; the comparison has 2 more." in text


HOSTILE = (
    'a"b: {x}\\ - [y](javascript:z) <script>alert(1)</script> `c` | d ![e](http://evil) '
    "\n---\nlicense: mit\n# H1\x00\x85\u2028 *f* _g_ \U0001f600 https://evil www.evil.example"
)


def test_hostile_names_stay_names(run: Path) -> None:
    scores = json.loads((run / "scores" / "test.json").read_text())
    scores["metrics"][HOSTILE] = scores["metrics"]["BLEU-1"] | {"signature": HOSTILE}
    scores["unavailable"] = {HOSTILE: HOSTILE}
    change(run / "scores" / "test.json", **scores)
    change(run / "train.json", device=HOSTILE, select=HOSTILE)
    own = run / "checkpoints" / "best" / "medblip.json"
    change(own, prompt=HOSTILE)
    change(run / "predictions" / "test.json", prompt=HOSTILE)
    plain = model_card(run)
    text = model_card(run, name=HOSTILE)
    said = front(text)
    assert said["license"] == "unknown"
    assert said["model-index"][0]["name"] == HOSTILE
    names = {row["name"]: row for row in said["model-index"][0]["results"][0]["metrics"]}
    assert names[HOSTILE]["args"]["signature"] == HOSTILE
    body = text.split("---\n", 2)[2]
    assert "\nlicense: mit" not in body
    assert "\n# H1" not in body
    outside = re.sub(r"```python\n.*?\n```\n", "", body, flags=re.DOTALL)
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", outside)  # code spans show what is in them
    assert "<script>" not in outside
    assert re.search(r"(?<!\\)\]\((?!https://arxiv)", outside) is None
    assert "://" not in outside.replace("(https://arxiv.org", "(")
    heads = [line for line in body.splitlines() if line.startswith("#")]
    assert heads[1:] == [line for line in plain.splitlines() if line.startswith("## ")]


def test_the_lines_of_the_card_caption_as_the_run_did(run: Path, made: Path) -> None:
    """The Python that the card shows, run as it stands but for the names of folder and image."""
    text = model_card(run, name=str(run / "checkpoints" / "best"))
    assert spoken(lines_of(text)[0], made, run) == written(run)


def lines_of(text: str) -> list[str]:
    """Return the Python of a card: for plain transformers, and for medblip."""
    return [one.split("```")[0] for one in section(text, "How to use it").split("```python\n")[1:]]


def spoken(lines: str, made: Path, run: Path) -> list[str]:
    found = []
    for prediction in read_predictions(run / "predictions" / "test.jsonl"):
        image = str(made / "data" / "images" / f"{prediction.id}.png")
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(lines.replace("image.png", image), {})
        found.append(said.getvalue().strip())
    return found


def written(run: Path) -> list[str]:
    return [one.caption for one in read_predictions(run / "predictions" / "test.jsonl")]


@pytest.mark.parametrize(
    "changed",
    [
        ["decode.repetition_penalty=2.0", "decode.num_beams=1", "decode.max_new_tokens=9"],
        ["decode.min_new_tokens=9", "decode.length_penalty=-4.0", "decode.max_new_tokens=12"],
        ["decode.no_repeat_ngram_size=1", "decode.num_captions=2", "decode.max_new_tokens=11"],
    ],
)
def test_the_lines_of_a_local_card_find_the_weights_and_know_every_setting(
    run: Path, made: Path, monkeypatch: pytest.MonkeyPatch, changed: list[str]
) -> None:
    """The settings of `caption`, which may be others than the training's, as they stand."""
    monkeypatch.chdir(run.parent)
    before = written(run)
    medblip.caption(run, made / "data", device="cpu", overrides=changed, force=True)
    assert written(run) != before
    text = model_card(run)
    plain, ours = lines_of(text)
    assert "'run/checkpoints/best'" in plain
    assert str(run.parent) not in text
    assert spoken(plain, made, run) == written(run)
    told = [json.loads(one)["caption"] for one in spoken(ours, made, run)]
    assert told == written(run)


def test_what_transformers_has_no_setting_for_is_said(run: Path) -> None:
    record = run / "predictions" / "test.json"
    decode = json.loads(record.read_text())["decode"] | {
        "num_beams": 1, "sample": True, "top_k": 7, "temperature": 0.5, "num_captions": 3,
        "seed": 5, "precision": "bf16",
    }  # fmt: skip
    change(record, decode=decode)
    assert "| `decode.num_beams` | 1 |" in section(model_card(run), "Recipe")
    text = section(model_card(run), "How to use it")
    assert "num_beams=1, max_new_tokens=8, do_sample=True, temperature=0.5, top_k=7)" in text
    assert "words an image otherwise at each call" in text
    assert "the likeliest of 3 draws" in text
    assert "written in bf16" in text
    for one in ("sample=true", "seed=5", 'precision="bf16"', "top_k=7", "temperature=0.5"):
        assert f"decode.{one}" in text


def test_the_prompt_is_that_of_the_captions(run: Path) -> None:
    assert "| prompt | none |" in model_card(run)
    change(run / "predictions" / "test.json", prompt="a picture of")
    text = model_card(run)
    assert "| prompt | 'a picture of' |" in text
    assert "text='a picture of'" in text
    shutil.rmtree(run / "checkpoints")  # a captioner as it is
    assert "| prompt | 'a picture of' |" in model_card(run)


def test_adapters_need_medblip(run: Path) -> None:
    own = run / "checkpoints" / "best" / "medblip.json"
    change(own, adapter={"width": 8})
    text = model_card(run)
    assert front(text)["library_name"] == "medblip"
    assert "from transformers" not in section(text, "How to use it")


def test_the_command_writes_and_keeps_what_is_not_its_own(run: Path) -> None:
    first = medblip.card(run)
    assert first.kind == "model"
    assert Path(first.card) == run / "README.md"
    assert medblip.card(run) == first  # an earlier card gives way
    (run / "README.md").write_text("my own notes")
    with pytest.raises(RunError, match="is taken"):
        medblip.card(run)
    assert (run / "README.md").read_text() == "my own notes"
    medblip.card(run, force=True)
    assert (run / "README.md").read_text() == model_card(run)
    with pytest.raises(RunError, match="is no run"):
        medblip.card(run.parent)


def test_a_prepared_data_set_has_a_card_of_the_hub(made: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (made / "data" / "manifest.jsonl").read_text().split("\n")
            if line]  # fmt: skip
    table = made / "data" / "table.jsonl"
    table.write_text("".join(json.dumps(row | {"caption": row["captions"][0], "group": "p1"}) + "\n"
                             for row in rows))  # fmt: skip
    medblip.prepare(table, tmp_path / "x", size=0, group_column="group")
    written = (tmp_path / "x" / "README.md").read_text()
    assert data_card(tmp_path / "x") == written
    card = DatasetCard(written)
    assert card.data.task_categories == ["image-to-text"]
    assert card.data.size_categories == ["n<1K"]
    assert set(card.data.license) == {"cc-by-4.0", "cc-by-nc-4.0", "unknown"}
    assert "| CC BY 4.0 | 10 |" in written
    assert "groups lie in several splits" in written
    assert "p1" not in written  # a group may be called by a patient
    assert "Not checked" in written
    medblip.check(tmp_path / "x")
    (leak,) = [one for one in json.loads((tmp_path / "x" / "check.json").read_text())["findings"]
               if one["what"].startswith("patients")]  # fmt: skip
    medblip.card(tmp_path / "x")
    checked = (tmp_path / "x" / "README.md").read_text()
    assert f"| error | {leak['what']} | {leak['count']} |" in checked
    assert "Not checked" not in checked


def test_phantoms_have_one_too(tmp_path: Path) -> None:
    generate(tmp_path / "p", images=20, seed=3)
    text = (tmp_path / "p" / "README.md").read_text()
    assert data_card(tmp_path / "p") == text
    assert front(text)["license"] == "cc0-1.0"
    assert "Train 16, validation 2, test 2." in text
    assert "synthetic" in front(text)["tags"]
    (tmp_path / "p" / "stats.json").unlink()
    with pytest.raises(DataError, match="not a prepared data set"):
        data_card(tmp_path / "p")
