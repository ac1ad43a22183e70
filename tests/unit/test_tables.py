"""What commands print: no number that the method behind it cannot tell."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from medblip import evaluate
from medblip.stages.ablate import Ablated
from medblip.stages.compare import Compared
from medblip.stages.demo import Demonstrated
from medblip.stages.systems import Studied
from medblip.tables import audit_table, comparison_tables, demo_table, systems_table
from medblip.tables_ablation import ablation_tables


def printed(*parts: Any) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    for part in parts:
        console.print(part)
    return console.export_text()


def test_what_nobody_states_has_no_perfect_score(tmp_path: Path) -> None:
    """The F1 of nothing against nothing is 1 in the file, by contract; a reader sees a dash."""
    captions = tmp_path / "captions.jsonl"
    captions.write_text('{"id": "a", "caption": "chest X-ray with a mass"}\n')
    references = tmp_path / "references.jsonl"
    references.write_text('{"id": "a", "captions": ["chest X-ray, mass in the left lung"]}\n')
    found = evaluate(captions, references, resamples=50, meteor=False)
    assert found.scores["audit-device-F1"].value == 1
    assert found.stating["device"] == 0
    assert found.stating["finding"] == found.stating["side"] == 1
    lines = printed(audit_table(found.scores, found.stating)).splitlines()
    bar = "\N{BOX DRAWINGS LIGHT VERTICAL}"
    split = [[cell.strip() for cell in line.strip(bar).split(bar)] for line in lines]
    cells = {row[0]: row[1:] for row in split}
    assert cells["device"] == ["0", "-", "-", "-", "-"]
    assert cells["finding"][:4] == ["1", "1.000", "1.000", "1.000"]
    assert cells["side"][0] == "1"


def test_a_p_below_what_resamples_tell_apart_is_a_bound() -> None:
    """10,000 resamples give 0.0001 at the least; nine tests by Holm make 0.0009 of it."""
    row = {"metric": "CIDEr-D", "value": 0.5, "difference": 0.1, "ci": [0.05, 0.15]}
    small, large = {"p": 0.0001, "p_holm": 0.0009}, {"p": 0.0312, "p_holm": 0.001}
    compared = Compared(
        comparison_file=None, rows=[row | small | {"system": "a"}, row | large | {"system": "b"}],
        split="test", baseline="base", test="t", correction="c", n=9, outcomes=[], weakest=[],
        notes=[],
    )  # fmt: skip
    text = printed(*comparison_tables(compared))
    assert text.count("< 0.001") == 2
    assert "0.0001" not in text
    assert "0.0009" not in text
    assert "0.0312" in text
    assert "0.0010" in text


def test_ablation_demo_and_list_print_the_same_bound() -> None:
    test = {"metric": "CIDEr-D", "difference": 0.1, "ci": [0.05, 0.15], "p": 0.0001,
            "p_holm": 0.0004}  # fmt: skip
    ablated = Ablated(
        ablation_file="x", chart="x", baseline="b", runs=2,
        variants=(), headline="CIDEr-D", seeds=(0,), n=9, test="t",
        correction="c", tests=(test | {"variant": "v", "baseline": "b"},),
    )  # fmt: skip
    score = {"value": 0.5, "ci": [0.4, 0.6]}
    shown = {"scores": {"CIDEr-D": score}, "p_vs_zero_shot": 0.0004, "p_vs_encoder": None,
             "seconds": None, "trainable": None}  # fmt: skip
    demonstrated = Demonstrated(
        report="r", comparison="c", n=9, seconds=1.0, columns=("CIDEr-D",), systems={"full": shown}
    )
    line = {"system": "a", "folder": "a", "n": 9, "scores": {"BLEU-4": score},
            "images_per_second": None}  # fmt: skip
    studied = Studied(
        report="r", comparison="c", baseline="b", rows=(line,), tests=(test | {"system": "a"},)
    )
    for part in (
        [ablation_tables(ablated)[1]],
        [demo_table(demonstrated)],
        [systems_table(studied)],
    ):
        text = printed(*part)
        assert "< 0.001" in text
        assert "0.0004" not in text
        assert "0.000 " not in text
