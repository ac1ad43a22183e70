"""What a study says in words: claims judged both ways, every number read from a file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from medblip.errors import RunError
from medblip.files import write_json
from medblip.stages.reproduce.claims import CLOSE, claims
from medblip.stages.reproduce.ledger import Ledger, read_key, shown

HEADLINE = "CIDEr-D"


def variant(name: str, value: float, seconds: float | None) -> dict[str, Any]:
    score = {
        "value": value,
        "ci": [value - 0.1, value + 0.1],
        "sd_seeds": 0.01,
        "per_seed": [value],
    }
    return {
        "name": name, "set": {}, "runs": [f"{name}-0"], "metrics": {HEADLINE: score},
        "seconds": seconds,
    }  # fmt: skip


def row_of(
    one: str, other: str, difference: float, p: float, metric: str = HEADLINE
) -> dict[str, Any]:
    return {
        "variant": one, "baseline": other, "metric": metric, "difference": difference,
        "ci": [difference - 0.1, difference + 0.1], "p": p, "p_holm": p,
    }  # fmt: skip


def study(
    root: Path, *, full: float, decoder: float, encoder: float, p: float, seconds: float = 20.0
) -> Ledger:
    values = {"zero-shot": 0.1, "full": full, "decoder": decoder, "encoder": encoder}
    pairs = [
        ("full", "zero-shot"),
        ("full", "decoder"),
        ("full", "encoder"),
        ("decoder", "encoder"),
    ]
    record = {
        "headline": HEADLINE, "n": 50, "seeds": [0],
        "variants": [
            variant("zero-shot", 0.1, None), variant("full", full, 100.0),
            variant("decoder", decoder, seconds), variant("encoder", encoder, 90.0),
        ],
        "tests": [row_of(a, b, values[a] - values[b], p) for a, b in pairs],
    }  # fmt: skip
    (root / "ablation").mkdir(exist_ok=True)
    write_json(root / "ablation" / "ablation.json", record)
    return Ledger(root)


def verdicts(ledger: Ledger) -> list[str]:
    return [one.verdict for one in claims(ledger, split="test", runs={})]


def test_the_papers_order_is_reproduced(tmp_path: Path) -> None:
    found = verdicts(study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001))
    assert found == [
        "reproduced", "not testable", "reproduced", "reproduced", "reproduced", "not testable",
        "not testable", "not testable",
    ]  # fmt: skip


def test_the_opposite_order_is_not(tmp_path: Path) -> None:
    found = verdicts(study(tmp_path, full=0.05, decoder=0.5, encoder=1.5, p=0.001, seconds=120.0))
    assert found[0] == found[2] == found[3] == found[4] == "not reproduced"


def test_what_may_be_chance_is_left_open(tmp_path: Path) -> None:
    found = verdicts(study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.2))
    assert found[0] == found[2] == found[3] == "not testable"


def test_a_decoder_that_loses_too_much_is_not_close(tmp_path: Path) -> None:
    gain = 1.5
    for kept, verdict in ((CLOSE + 0.01, "reproduced"), (CLOSE - 0.01, "not reproduced")):
        ledger = study(tmp_path, full=0.1 + gain, decoder=0.1 + kept * gain, encoder=0.5, p=0.001)
        assert verdicts(ledger)[3] == verdict


def test_an_encoder_that_comes_close_too_contradicts_the_paper(tmp_path: Path) -> None:
    ledger = study(tmp_path, full=1.6, decoder=1.59, encoder=1.55, p=0.001)
    assert verdicts(ledger)[3] == "not reproduced"


def test_an_encoder_that_may_be_close_is_left_open(tmp_path: Path) -> None:
    """It keeps 97 % of the gain; no test tells it from full or from the decoder."""
    study(tmp_path, full=1.6, decoder=1.59, encoder=1.55, p=0.001)
    file = tmp_path / "ablation" / "ablation.json"
    record = json.loads(file.read_text())
    for row in record["tests"]:
        if row["baseline"] != "zero-shot":
            row["p_holm"] = 0.9
    write_json(file, record)
    assert verdicts(Ledger(tmp_path))[3] == "not testable"


def test_shares_that_may_be_chance_do_not_contradict(tmp_path: Path) -> None:
    """The decoder keeps 60 % of a gain that no test bears out."""
    found = claims(
        study(tmp_path, full=1.6, decoder=1.0, encoder=0.5, p=0.4), split="test", runs={}
    )[3]
    assert found.verdict == "not testable"
    assert found.reason.endswith("Tested: the figures do not decide it at this scale.")


def test_a_regime_with_further_rules_is_not_called_alone(tmp_path: Path) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    runs = {}
    for name, rules in (("decoder", []), ("encoder", [["\\.word_embeddings\\.", 0.01]])):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", {"freeze": {"rules": rules}})
        runs[name] = name
    found = claims(Ledger(tmp_path), split="test", runs=runs)[3]
    assert "the vision encoder with the word embeddings at the rate 0.01" in found.reason
    assert "the rate 0.01" in found.reason
    assert "regime of the decoder" not in found.reason


def test_masks_without_a_hit_are_not_called_absent(tmp_path: Path) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    write_json(tmp_path / "maps-compared.json", {"tests": [], "placed": {"hits": 0, "wrong": 0}})
    found = claims(Ledger(tmp_path), split="test", runs={})[6]
    assert "no map of the fine-tuned captioner points at a finding" in found.reason


def test_a_metric_that_goes_the_other_way_is_named(tmp_path: Path) -> None:
    ledger = study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    file = tmp_path / "ablation" / "ablation.json"
    record = json.loads(file.read_text())
    record["tests"].append(row_of("full", "zero-shot", -0.2, 0.001, "BLEU-1"))
    write_json(file, record)
    first = claims(Ledger(tmp_path), split="test", runs={})[0]
    assert first.verdict == "not reproduced"
    assert "worse by BLEU-1" in first.reason
    assert verdicts(ledger)[0] == "not reproduced"


def test_other_captioners_are_judged_from_the_comparison(tmp_path: Path) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    row = {"system": "BLIP-2", "baseline": "full", "metric": HEADLINE, "value": 0.3,
           "baseline_value": 1.6, "difference": -1.3, "ci": [-1.4, -1.2], "p": 0.001,
           "p_holm": 0.001}  # fmt: skip
    for difference, verdict in ((-1.3, "reproduced"), (1.3, "not reproduced")):
        write_json(tmp_path / "comparison.json", {"rows": [row | {"difference": difference}]})
        second = claims(Ledger(tmp_path), split="test", runs={})[1]
        assert second.verdict == verdict
        assert "BLIP-2" in second.reason


@pytest.mark.parametrize(
    ("zero_shot", "centre", "verdict"),
    [(0.2, 0.5, "reproduced"), (-0.2, 0.5, "not reproduced"), (0.2, -0.5, "not reproduced")],
)
def test_maps_must_beat_zero_shot_and_the_centre(
    tmp_path: Path, zero_shot: float, centre: float, verdict: str
) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    row = {"measure": "pointing-game", "map": "attention", "value": 0.7, "baseline_value": 0.5,
           "difference": zero_shot, "ci": [0.1, 0.3], "p": 0.01, "p_holm": 0.01,
           "n": 9}  # fmt: skip
    write_json(tmp_path / "maps-compared.json", {"tests": [row], "placed": {"hits": 9, "wrong": 2}})
    own = {**row, "baseline": "centre", "difference": centre}
    run = tmp_path / "ablation" / "full-0" / "maps"
    run.mkdir(parents=True)
    write_json(run / "test.faithfulness.json", {"tests": [own]})
    found = claims(Ledger(tmp_path), split="test", runs={"full": "ablation/full-0"})
    assert found[5].verdict == verdict
    assert "On 9 images" in found[5].reason
    assert (found[6].verdict, "in 2 of these" in found[6].reason) == ("reproduced", True)


def test_errors_that_remain_are_counted_in_the_run(tmp_path: Path) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    scores = tmp_path / "ablation" / "full-0" / "scores" / "test.json"
    scores.parent.mkdir(parents=True)
    for value, low, verdict in (
        (0.25, 0.1, "reproduced"), (0.25, 0.0, "not testable"), (0.0, 0.0, "not reproduced")
    ):  # fmt: skip
        metrics = {"error-false-finding": {"value": value, "ci": [low, 0.4]}}
        write_json(scores, {"metrics": metrics})
        last = claims(Ledger(tmp_path), split="test", runs={"full": "ablation/full-0"})[-1]
        assert last.verdict == verdict
        assert f"false-finding {value:.3f}" in last.reason


def test_one_kind_of_error_that_is_gone_leaves_the_claim_open(tmp_path: Path) -> None:
    study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    scores = tmp_path / "ablation" / "full-0" / "scores" / "test.json"
    scores.parent.mkdir(parents=True)
    kinds = {"false-finding": 0.3, "wrong-location": 0.0, "missed-finding": 0.4}
    metrics = {f"error-{k}": {"value": v, "ci": [v / 2, v * 2]} for k, v in kinds.items()}
    write_json(scores, {"metrics": metrics})
    last = claims(Ledger(tmp_path), split="test", runs={"full": "ablation/full-0"})[-1]
    assert last.verdict == "not testable"


def test_every_number_of_the_claims_is_a_files(tmp_path: Path) -> None:
    ledger = study(tmp_path, full=1.6, decoder=1.55, encoder=0.5, p=0.001)
    told = " ".join(one.reason for one in claims(ledger, split="test", runs={}))
    assert ledger.numbers
    for number in ledger.numbers:
        content = json.loads((tmp_path / number.file).read_text())
        assert shown(read_key(content, number.key), number.form) == number.text
    assert not re.search(r"\d", without(told, ledger))


def without(text: str, ledger: Ledger) -> str:
    """Take the accounted numbers out of a text, longest first."""
    for number in sorted(ledger.numbers, key=lambda one: -len(one.text)):
        text = text.replace(number.text, "")
    return text.replace("95 %", "")


def test_a_missing_number_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [1]})
    with pytest.raises(RunError, match="x > 3"):
        Ledger(tmp_path).tell("a.json", "x", 3)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(0.12345, ".3f", "0.123"), (-0.5, "+.3f", "-0.500"),
     (0.5, "p", "0.500"), (1e-6, "p", "< 0.001"),
     (0.931, "percent", "93.1 %"), (65448, ",", "65,448"), ("fp32", "word", "fp32")],
)  # fmt: skip
def test_numbers_as_text(value: Any, form: str, text: str) -> None:
    assert shown(value, form) == text
