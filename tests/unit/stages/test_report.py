"""The page: what it shows, what it leaves out, what it never does."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_files import NAMES, N, Page, example, write_run, write_runs

from medblip.errors import DataError, RunError
from medblip.files import write_json, write_text
from medblip.pictures import align
from medblip.rundir import RunDir
from medblip.schema import Prediction, dump_jsonl
from medblip.stages.report import report
from medblip.stages.report.collect import Case, choose_cases, gallery_ids, read_systems
from medblip.stages.report.wordmaps import drawing_command, pack_maps

HOSTILE = 'a <script>alert(1)</script> </script><img src=x onerror=alert(2)> & \u2028 "quote" left'


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_runs(root)
    return root


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    """Copy the study, so that a test may damage it; the runs still name their data by path."""
    return Path(shutil.copytree(template, tmp_path / "study"))


def build(root: Path, *names: str, **options: Any) -> tuple[str, Page]:
    runs = [root / name for name in names or NAMES]
    page = report(runs, data=root / "data", out=root / "page.html", **options)
    text = page.read_text(encoding="utf-8")
    return text, Page(text)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_five_systems_with_all_parts(study: Path) -> None:
    text, page = build(study, comparison=study / "comparison.json", title="A study")
    assert len(text) < 15_000_000
    assert "Research use only. Not a medical device." in page.text
    assert (
        "lora has the highest CIDEr-D of 5 systems: 0.523 (95 % interval 0.473 to 0.573)"
        in page.text
    )
    assert (
        "Against zero-shot (0.123) that is +0.400, more than chance explains "
        "(p = 0.0321, Holm over 8 tests)" in page.text
    )
    assert "All 8 tests" in page.text
    assert len(page.all("article")) == N
    assert text.count("<figure>") == 3
    assert "zero-shot has no curve: it was not trained." in page.text
    assert [p.name for p in study.iterdir() if "partial" in p.name] == []


def test_numbers_are_those_of_the_files(study: Path) -> None:
    edit(study / "full" / "train.json", seconds_per_step=0.4567, peak_memory_mb=1234.4)
    _, page = build(study, comparison=study / "comparison.json")
    shown = {float(cell["data-value"]) for cell in page.all("td") if "data-value" in cell}
    for name in NAMES:
        scores = json.loads((study / name / "scores" / "test.json").read_text())
        for metric, score in scores["metrics"].items():
            if metric != "BLEU-2":  # has no column
                assert score["value"] in shown
                assert f"{score['value']:.3f}" in page.text
                assert f"{score['ci'][0]:.3f} – {score['ci'][1]:.3f}" in page.text
    row = page.text[page.text.index("Cost system") :]
    assert re.search(r"full 81\.5 0\.457 100 % 1234 500 25\.0 % 12\.5", row)
    assert re.search(r"encoder 81\.5 0\.500 109 % 640", row)  # 0.5 / 0.4567
    assert "zero-shot – – – – – – 12.5" in row


def test_nothing_is_loaded_from_outside(study: Path) -> None:
    text, page = build(study, comparison=study / "comparison.json")
    assert "http:" not in text
    assert "https:" not in text
    for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
        for _, attributes in page.elements:
            assert attributes.get(name, "#").startswith(("data:image/", "#"))
    for url in re.findall(r"url\(([^)]*)", text):
        assert url.startswith("#")
    assert "@import" not in text
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert "default-src 'none'" in policy
    assert not page.all("link")


def test_ids_are_unique_and_references_resolve(study: Path) -> None:
    text, page = build(study, comparison=study / "comparison.json")
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|aria-labelledby="([^"]+)"', text))
    assert {next(filter(None, groups)) for groups in wanted} <= set(ids)


def test_hostile_text_is_inert(study: Path) -> None:
    name = "case-00"
    rows = [
        dataclasses.replace(example(i), captions=(HOSTILE,), licence="<b onclick=x>")
        for i in range(N)
    ]
    write_text(study / "data" / "manifest.jsonl", dump_jsonl(rows))
    run = RunDir(study / "full")
    write_text(run.predictions("test"), dump_jsonl([Prediction(id=name, caption=HOSTILE)]))
    words = HOSTILE.lower().split()
    image = {"id": name, "caption": HOSTILE, "words": words, "maps": [[0.4, 0.6]] * len(words)}
    write_json(run.maps("test"), {"grid": [1, 2], "images": [image]})
    evil = study / "<script>alert(3)<"  # a run's name is text, too
    (study / "lora").rename(evil)
    text, page = build(study, "zero-shot", "full", evil.name, title=HOSTILE)
    assert len(page.all("script")) == 2
    assert not page.all("img", src="x")
    assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert "\u2028" not in text[text.index('<script id="maps"') :]
    assert "<script>alert(1)</script>" in page.text  # shown, as text
    maps = re.search(r'<script id="maps" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert maps is not None
    assert evil.name in json.loads(maps[1])


def test_without_scripts_all_captions_can_be_read(study: Path) -> None:
    _, page = build(study)
    for index in range(N):
        assert f"Chest X-ray with a nodule in zone {index}." in page.text
        for name in NAMES:
            assert f"chest film {name} word{index}, nodule" in page.text
    assert len(page.all("img", alt="")) > N  # the strips of attention tiles


def test_words_that_differ_are_marked(study: Path) -> None:
    text, _ = build(study, "full")
    first = re.search(r'data-id="case-00".*?</article>', text, re.DOTALL)
    assert first is not None
    assert re.findall(r'class="extra">([^<]+)<', first[0]) == ["film", "full", "word0"]
    missed = re.findall(r'class="missed">([^<]+)<', first[0])
    assert missed == ["X-ray", "with", "a", "in", "zone", "0."]


def test_one_run_writes_into_itself_and_finds_its_data(template: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(template / "full", tmp_path / "full"))
    assert report(run) == run / "report.html"
    page = Page((run / "report.html").read_text())
    assert "full reaches a CIDEr-D of 0.423" in page.text
    assert "more than chance" not in page.text.lower().replace("is it more than chance?", "")
    assert report(str(run), limit=3, out=tmp_path / "b.html") == tmp_path / "b.html"
    assert len(Page((tmp_path / "b.html").read_text()).all("article")) == 3


def test_the_same_files_give_the_same_bytes(study: Path) -> None:
    assert build(study)[0] == build(study)[0]


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        ("maps", "There are no attention maps of these images"),
        ("metrics.jsonl", "No curves were recorded."),
        ("train.json", "Nothing was trained here."),
        ("predictions", "not captioned"),
        ("scores/test.per_image.jsonl", "drawn with seed 0, as there are no values per image"),
        ("config.json", "signatures"),
        ("environment.json", "signatures"),
        ("trainable.json", "signatures"),
    ],
)
def test_absent_parts_are_left_out_and_said(study: Path, gone: str, sentence: str) -> None:
    path = study / "full" / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, page = build(study, "full")
    assert sentence.lower() in page.text.lower()
    assert "0.423" in page.text


def test_a_captioner_used_as_it_is_has_no_training_settings(study: Path) -> None:
    (study / "zero-shot" / "metrics.jsonl").unlink(missing_ok=True)
    _, page = build(study, "zero-shot")
    assert "Nothing was trained here: no curves." in page.text
    assert "freeze.preset" not in page.text
    assert "freeze.preset" in build(study, "full")[1].text


def test_maps_of_other_captions_are_not_shown(study: Path) -> None:
    rows = [Prediction(id=f"case-{i:02d}", caption="written later") for i in range(N)]
    write_text(study / "full" / "predictions" / "test.jsonl", dump_jsonl(rows))
    text, page = build(study, "full")
    assert "There are no attention maps" in page.text
    assert '<script id="maps" type="application/json">{}</script>' in text


def test_images_without_maps_are_counted_and_the_command_draws_them(study: Path) -> None:
    """`explain RUN` draws images by seed, the gallery has others: few of its cards have maps."""
    assert "How to draw the maps" not in build(study)[1].text  # all are drawn
    path = study / "full" / "maps" / "test.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"images": record["images"][:5]}))
    for options in ({}, {"format": "pdf-ready"}):
        _, page = build(study, **options)
        assert f"15 of the {N} images here have no map of full" in page.text
        assert "have no map of lora" not in page.text
        command = re.search(
            r"medblip explain RUN (--split test --force (?:--image=\S+ ?)+)", page.text
        )
        assert command is not None
        shown = {a["data-id"] for a in page.all("article")}
        assert set(re.findall(r"--image=(\S+)", command[1])) == shown
    shutil.rmtree(study / "full" / "maps")
    _, page = build(study, "full")
    assert "There are no attention maps of these images" in page.text
    assert "medblip explain RUN" in page.text


def test_the_command_that_draws_maps_is_one_that_explain_takes(study: Path) -> None:
    """Ids may hold what a shell or an option parser would take for its own."""
    shutil.rmtree(study / "full" / "maps")
    odd = ["-x", "a b", "$(touch mine)", "it's", "é"]
    rows = [dataclasses.replace(example(i), id=name) for i, name in enumerate(odd)]
    cases = [Case(row, "random") for row in rows]
    system = read_systems([RunDir(study / "full")], "test")[0]
    system = dataclasses.replace(system, captions=dict.fromkeys(odd, "x"))
    words = shlex.split(drawing_command([system], cases, "test") or "")
    assert words[:6] == ["medblip", "explain", "RUN", "--split", "test", "--force"]
    assert words[6:] == [f"--image={name}" for name in odd]


def test_a_picture_that_is_gone_is_named(study: Path) -> None:
    (study / "data" / "images" / "3.png").unlink()
    _, page = build(study, "full")
    assert "The picture cannot be shown: file not found." in page.text
    assert len([a for a in page.all("img") if a["alt"].startswith("Image ")]) == N - 1


def test_the_scored_split_is_shown_when_the_wanted_one_has_none(study: Path) -> None:
    write_run(study / "other", study / "data", 2, split="validation")
    rows = [example(i, "validation") for i in range(N)]
    write_text(study / "data" / "manifest.jsonl", dump_jsonl(rows))
    _, page = build(study, "other")
    assert "The test split has no scores; this page shows the validation split." in page.text
    assert "has no scores" not in build(study, "other", split=None)[1].text
    with pytest.raises(RunError, match="tests on the test split"):
        build(study, "other", comparison=study / "comparison.json")


def test_what_cannot_be_reported_is_explained(study: Path, tmp_path: Path) -> None:
    (study / "empty").mkdir()
    before = report([study / "full"], out=study / "page.html").read_bytes()
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (RunError, "no scores of the test split", {"runs": [study / "full", study / "empty"]}),
        (RunError, "no run directory", {"runs": []}),
        (RunError, "0 or more", {"runs": study / "full", "limit": -1}),
        (DataError, "manifest.jsonl", {"runs": study / "full", "data": tmp_path / "nowhere"}),
        (RunError, "file not found", {"runs": study / "full", "comparison": study / "none.json"}),
    ]
    for kind, words, arguments in cases:
        with pytest.raises(kind, match=words) as caught:
            report(**arguments, out=study / "page.html")
        for part in ("got:", "expected:", "do:"):
            assert part in str(caught.value)
    assert (study / "page.html").read_bytes() == before


def test_damaged_maps_are_refused(study: Path) -> None:
    path = study / "full" / "maps" / "test.json"
    record = json.loads(path.read_text())
    record["images"][0]["maps"][0] = [1.0]
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match="damaged map of case-00"):
        build(study, "full")


def test_two_runs_of_one_name_stay_apart(study: Path) -> None:
    shutil.copytree(study / "full", study / "again" / "full")
    _, page = build(study, "full", "again/full")
    assert "study/full" in page.text
    assert "again/full" in page.text


def test_cases_are_chosen_by_rule(study: Path) -> None:
    systems = read_systems([RunDir(study / name) for name in NAMES], "test")
    examples = [example(index) for index in range(N)]
    cases = choose_cases(examples, systems, limit=12)
    values = systems[-1].per_image
    ranked = sorted(values, key=lambda name: -values[name]["CIDEr-D"])
    kinds = {
        k: [c.example.id for c in cases if c.kind == k]
        for k in ("best", "median", "worst", "random")
    }
    assert kinds["best"] == ranked[:2]
    assert kinds["median"] == ranked[9:11]
    assert kinds["worst"] == ranked[-2:]
    assert len(kinds["random"]) == 6
    assert (
        kinds["random"]
        != [c.example.id for c in choose_cases(examples, systems, limit=12, seed=1)][6:]
    )
    assert [c.example.id for c in choose_cases(examples, systems)] == gallery_ids(
        study / "data", "test", [study / name for name in NAMES]
    )


@pytest.mark.parametrize(
    ("caption", "words", "spans"),
    [
        ("Left, right", ["left", ",", "right"], [(0, 4), (4, 5), (6, 11)]),
        ("a  b ", ["a", "b"], [(0, 1), (3, 4)]),
        ("", [], []),
        ("a b", ["a"], None),  # a letter is left over
        ("a b", ["b"], None),  # one is skipped
        ("a", ["z"], None),
        ("\u0130 a", ["a"], None),  # lower() makes two letters of one
    ],
)
def test_align(caption: str, words: list[str], spans: list[tuple[int, int]] | None) -> None:
    assert align(caption, words) == spans


def test_packed_maps_keep_peak_and_place(study: Path) -> None:
    import base64

    system = read_systems([RunDir(study / "full")], "test")[0]
    cases = choose_cases([example(index) for index in range(N)], [system])
    packed = pack_maps([system], cases)["full"]
    assert packed["grid"] == [2, 3]
    name = cases[0].example.id
    values = np.frombuffer(base64.b64decode(packed["images"][name]["data"]), np.uint8).reshape(
        -1, 6
    )
    maps = np.array(system.maps[name]["maps"])
    assert (values.argmax(axis=1) == maps.argmax(axis=1)).all()
    assert (values.max(axis=1) == 255).all()
    np.testing.assert_allclose(packed["images"][name]["peaks"], maps.max(axis=1), atol=1e-4)
    back = values / 255 * np.array(packed["images"][name]["peaks"])[:, None]
    np.testing.assert_allclose(back, maps, atol=0.003)


def test_a_large_study_stays_small(study: Path) -> None:
    """Images of any size are reduced; BLIP's 24 x 24 patches take a byte each."""
    for index in range(N):
        noise = np.random.default_rng(index).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
        Image.fromarray(noise).save(study / "data" / "images" / f"{index}.png", compress_level=1)
    for name in NAMES:
        path = study / name / "maps" / "test.json"
        record = json.loads(path.read_text())
        for image in record["images"]:
            image["maps"] = [[1 / 576] * 576 for _ in image["words"]]
        path.write_text(json.dumps(record | {"grid": [24, 24]}))
    text, _ = build(study)
    assert len(text) < 15_000_000
    assert 'width="384" height="288"' in text


def test_heavy_packages_are_not_imported_with_the_stage() -> None:
    heavy = "{'torch', 'transformers', 'matplotlib', 'jinja2'}"
    code = f"import sys, medblip.stages.report; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
