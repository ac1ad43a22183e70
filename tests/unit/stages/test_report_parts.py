"""The parts that other stages' files add to the page: groups, clinic, ablation, maps, filters."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_files import NAMES, N, Page, write_all

from medblip.metrics.audit import audit_errors
from medblip.metrics.audit.clinical import STATUSES, clinical_summary
from medblip.rundir import RunDir
from medblip.schema import read_examples, read_predictions
from medblip.stages.report import clinicaltables, report
from medblip.stages.report.clinical import clinical_card
from medblip.stages.report.collect import Case, read_systems
from medblip.stages.report.contents import gather
from medblip.stages.report.curves import all_charts
from medblip.stages.report.wordmaps import fit_maps, pack_maps, pooled


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    root = tmp_path_factory.mktemp("parts")
    files: dict[str, Any] = dict(write_all(root))
    page = report([root / name for name in NAMES], data=root / "data", out=root / "page.html",
                  **files)  # fmt: skip
    text = page.read_text(encoding="utf-8")
    return root, text, Page(text)


def section(text: str, name: str) -> str:
    """Return one section as text."""
    start = text.index(f'<section aria-labelledby="{name}">')
    return Page(text[start : text.index("</section>", start)]).text


def test_claims_come_first_with_verdict_and_reason(study: tuple[Path, str, Page]) -> None:
    _, text, page = study
    assert text.index('id="claims"') < text.index('id="scores"')
    for verdict in ("reproduced", "not reproduced", "not testable"):
        assert f">{verdict}</span>" in text
    assert "We fine-tuned 4 systems on 100 images" in page.text


def test_groups_that_do_worse_are_named(study: tuple[Path, str, Page]) -> None:
    _, text, _ = study
    groups = section(text, "groups")
    assert "lora CIDEr-D modality ct 12 0.211 0.111 to 0.299 0.523" in groups
    assert "lora zero-shot CIDEr-D 11 4 5 20" in groups
    assert "BLEU-1 CIDEr-D 0.625" in groups


def test_ablation_has_quality_against_cost(study: tuple[Path, str, Page]) -> None:
    root, text, _ = study
    ablation = section(text, "ablation")
    assert "full 0.300 0.260 to 0.350" in ablation
    assert "CIDEr-D by training, s; values: 1 encoder 0.100, 2 decoder 0.200" in text
    contents = gather([root / name for name in NAMES], data=root / "data", split="test",
                      comparison=None, ablation=root / "ablation.json", study=None, title=None,
                      limit=0)  # fmt: skip
    chart = next(chart for chart in all_charts(contents) if chart.name == "quality-against-cost")
    points = [(line.x[0], line.y[0], line.ci[0]) for line in chart.lines]
    assert points[0] == (12.5, 0.1, (0.1 - 0.04, 0.1 + 0.05))
    assert [x for x, _, _ in points] == [12.5, 32.5, 52.5, 72.5]


def test_maps_are_judged_side_by_side(study: tuple[Path, str, Page]) -> None:
    _, text, _ = study
    maps = section(text, "faithfulness")
    assert "measure map zero-shot n (zero-shot) full n (full)" in maps
    assert "pointing-game attention 0.500 0.450 to 0.550 33 0.600 0.550 to 0.650 32" in maps
    for name in ("zero-shot", "full"):
        assert f"The maps of {name} point at findings more often than chance." in maps
    for title in ("Deletion, zero-shot", "Deletion, full", "Insertion, zero-shot"):
        assert f"<figcaption>{title}</figcaption>" in text


def test_the_gallery_says_which_view_its_maps_are(
    study: tuple[Path, str, Page], tmp_path: Path
) -> None:
    root, _, whole = study
    told = "; ".join(f"{name}: view of {name}" for name in NAMES)
    assert f"where the decoder looked when it wrote it ({told})." in whole.text
    page = report(root / "full", data=root / "data", out=tmp_path / "one.html")
    gallery = Page(page.read_text(encoding="utf-8")).text
    assert "where the decoder looked when it wrote it (view of full)." in gallery
    assert "Words of full, all at once (view of full)" in gallery


def test_clinical_totals_and_hallucinations(study: tuple[Path, str, Page]) -> None:
    _, text, _ = study
    clinic = section(text, "clinical")
    assert "full 0.600 0.350 to 0.825" in clinic
    assert "full modality 9 2 3 1 0 5" in clinic
    assert "full false finding mass of full 7 case-01, case-02" in clinic
    assert "full missed finding pneumonia 4 case-03" in clinic
    assert "0.457" in clinic


def test_statuses_are_those_of_the_scores_and_each_is_explained() -> None:
    captions, references = ["fracture", "lesion", "CT"], [["no fracture"], ["metastasis"], ["CT"]]
    totals = clinical_summary(captions, references, ["a", "b", "c"], resamples=0, seed=0)["totals"]
    old = {name: {key: value for key, value in row.items()
                  if key not in ("less specific", "contradicted")}
           for name, row in totals.items()}  # fmt: skip

    def tables(**systems: Any) -> tuple[Any, Any]:
        found: Any = SimpleNamespace(systems=[
            SimpleNamespace(name=name, scores={"clinical": {"totals": one}})
            for name, one in systems.items()
        ])  # fmt: skip
        return clinicaltables.clinical(found), clinicaltables.statuses(found)

    shares, statuses = tables(new=totals)
    assert [column.key for column in statuses.columns[2:]] == list(STATUSES)
    row = next(row for row in statuses.rows if row["row"] == "diagnosis")
    assert (row["contradicted"], row["less specific"], row["not stated"]) == (1, 1, 1)
    for word in STATUSES[1:-1]:
        assert f"{word.capitalize()}" in statuses.note
    assert "older medblip" not in shares.note
    shares, statuses = tables(old=old)
    assert "contradicted" not in [column.key for column in statuses.columns]
    assert "Contradicted" not in statuses.note
    assert "older medblip, which took wider terms" in shares.note
    shares, statuses = tables(old=old, new=totals)
    assert "contradicted" in [column.key for column in statuses.columns]
    assert "older medblip" in shares.note


def test_a_denial_of_what_is_there_stands_in_the_card_as_wrong(
    study: tuple[Path, str, Page], tmp_path: Path
) -> None:
    root, _, _ = study
    run = shutil.copytree(root / "full", tmp_path / "full")
    captions = RunDir(run).predictions("test")
    lines = [json.loads(line) | {"caption": "No nodule.", "tokens": None, "logprobs": None}
             for line in captions.read_text().splitlines()]  # fmt: skip
    captions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report(run, data=root / "data", out=tmp_path / "page.html")
    assert '<span class="wrong">no nodule (contradicted)</span>' in page.read_text()


def test_the_card_says_what_the_audit_says(study: tuple[Path, str, Page]) -> None:
    root, _, _ = study
    run = RunDir(root / "full")
    system = read_systems([run], "test")[0]
    examples = read_examples(root / "data" / "manifest.jsonl")
    captions = {p.id: p.caption for p in read_predictions(run.predictions("test"))}
    for example in list(examples)[:4]:
        card = clinical_card(Case(example, "random"), [system])
        expected = audit_errors(captions[example.id], example.captions[0])
        assert [e["kind"] for e in card["errors"]["full"]] == [e.kind for e in expected]
        side = next(row for row in card["rows"] if row["title"] == "diagnosis")
        assert side["reference"] == ["nodule"]
        assert side["cells"]["full"]["status"] == "right"


def test_filters_are_tokens_that_match_cards(study: tuple[Path, str, Page]) -> None:
    """Every option hides exactly the cards of other values, by a rule without any file's text."""
    _, text, page = study
    rules = dict(re.findall(r"option\[value=\"(\w+)\"\]:checked\) \.card:not\(\.(\w+)\)", text))
    options = re.findall(r'<option value="(\w+)">([^<]+)</option>', text)
    tokens = {token: value for token, value in options if re.fullmatch(r"[kme]\d+", token)}
    assert rules == {token: token for token in tokens}
    cards = page.all("article")
    assert len(cards) == N
    key = {"k": "data-kind", "m": "data-modality", "e": "data-errors"}
    for card in cards:
        classes = set(card["class"].split())
        for token, value in tokens.items():
            assert (token in classes) == (value in card[key[token[0]]].split()), (token, value)
    assert {value for token, value in tokens.items() if token[0] == "m"} == {"CT", "X-ray"}


def size_of(found: dict[str, Any]) -> int:
    """Return what maps take in the page, their words as buttons included."""
    words = sum(len(i["peaks"]) for system in found.values() for i in system["images"].values())
    return len(json.dumps(found)) + 60 * words


def test_maps_that_do_not_fit_are_left_out_and_said(study: tuple[Path, str, Page]) -> None:
    root, _, _ = study
    systems = read_systems([RunDir(root / name) for name in NAMES], "test")
    cases = [Case(e, "random") for e in list(read_examples(root / "data" / "manifest.jsonl"))]
    lora = systems[-1]

    def fit(room: int) -> tuple[dict[str, Any], list[str], set[tuple[str, str]]]:
        cards: list[dict[str, Any]] = [
            {"id": case.example.id, "captions": [{"system": name} for name in NAMES]}
            for case in cases
        ]
        fitted = fit_maps(systems, cases, cards, lora, room=room)
        mapped = {
            (caption["system"], card["id"])
            for card in cards for caption in card["captions"] if caption["mapped"]
        }  # fmt: skip
        return fitted.maps, fitted.notes, mapped

    whole = pack_maps(systems, cases)
    maps, notes, mapped = fit(10_000_000)
    assert maps == whole
    assert notes == []
    assert len(mapped) == N * len(NAMES)
    one = size_of({"lora": whole["lora"]})
    maps, notes, mapped = fit(int(1.5 * one))  # the leading system comes first
    assert list(maps) == ["lora"]
    assert mapped == {("lora", case.example.id) for case in cases}
    assert "Of full, the maps of 0 of 20 images are shown" in " ".join(notes)
    maps, notes, mapped = fit(one // 2)  # not even those: the first cards have some
    assert list(maps) == ["lora"]
    assert 0 < len(mapped) < N
    assert [name for _, name in sorted(mapped)] == [c.example.id for c in cases[: len(mapped)]]
    assert f"Of lora, the maps of {len(mapped)} of 20 images are shown" in " ".join(notes)
    for room in (10, one // 3, one, 3 * one):
        maps, _, _ = fit(room)
        assert not maps or size_of(maps) <= room
    assert fit(10)[0] == {}


def test_maps_without_room_become_coarser_and_say_so(study: tuple[Path, str, Page]) -> None:
    root, _, _ = study
    system = read_systems([RunDir(root / "full")], "test")[0]
    cases = [Case(e, "random") for e in list(read_examples(root / "data" / "manifest.jsonl"))]
    rng = np.random.default_rng(0)
    fine = {
        name: image | {"maps": rng.dirichlet(np.ones(24 * 24), len(image["words"])).tolist()}
        for name, image in system.maps.items()
    }
    system = dataclasses.replace(system, maps=fine, grid=(24, 24))
    cards = [{"id": c.example.id, "captions": [{"system": "full"}]} for c in cases]
    room = size_of(pack_maps([system], cases)) // 2
    fitted = fit_maps([system], cases, cards, system, room=room)
    assert fitted.maps["full"]["grid"] == [12, 12]
    assert len(fitted.maps["full"]["images"]) == N
    assert fitted.notes == [
        "Maps of full are shown with 12 x 12 patches instead of 24 x 24: all would make the page "
        "too large."
    ]
    name = cases[0].example.id
    maps = np.array(fine[name]["maps"])
    found = pooled(maps, (24, 24), 2).reshape(-1, 12, 12)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1)
    np.testing.assert_allclose(found[:, 0, 1], maps.reshape(-1, 24, 24)[:, :2, 2:4].sum((1, 2)))
    peaks = fitted.maps["full"]["images"][name]["peaks"]
    np.testing.assert_allclose(peaks, found.max(axis=(1, 2)), atol=1e-4)
