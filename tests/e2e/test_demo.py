"""The demo through the command line: what it leaves, that it goes on, that it shows its point."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from medblip.schema import read_predictions
from medblip.stages.demo import VARIANTS

pytestmark = pytest.mark.timeout(900)  # every demo is a process, on a machine that may be busy

SYSTEMS = ("zero-shot", "encoder", "decoder", "full", "lora")
SMALL = ("--images", "60", "--epochs", "1")
#: Two runs of one seed are equal on a CPU; on a GPU sums may come in another order.
ON_THE_CPU = os.environ | {"CUDA_VISIBLE_DEVICES": ""}


def command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "medblip", "demo", "--out", str(out), "--json", *options]


def demo(out: Path, *options: str) -> dict[str, Any]:
    """Run a demo and return its JSON object."""
    done = subprocess.run(command(out, *options), capture_output=True, text=True, env=ON_THE_CPU)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def stamps(*folders: Path) -> dict[Path, tuple[int, bytes]]:
    """Return when each file was written, and what is in it."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


def outcome(root: Path) -> dict[str, bytes]:
    """Return the files that must not differ between two demos of one seed: no times in them."""
    names = ["data/manifest.jsonl", "comparison.json"]
    names += [
        f"{s}/{file}" for s in SYSTEMS for file in ("predictions/test.jsonl", "scores/test.json")
    ]
    return {name: (root / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A small demo: its folder and its JSON object."""
    root = tmp_path_factory.mktemp("small") / "demo"
    return root, demo(root, *SMALL)


def test_every_system_is_trained_captioned_and_scored(small: tuple[Path, dict[str, Any]]) -> None:
    root, result = small
    assert tuple(result["systems"]) == SYSTEMS
    for name in SYSTEMS:
        assert (root / name / "train.json").exists() == (name != "zero-shot")
        assert len(read_predictions(root / name / "predictions" / "test.jsonl")) == result["n"] == 6
        scores = json.loads((root / name / "scores" / "test.json").read_text())
        assert scores["n"] == 6
        assert scores["metrics"] == result["systems"][name]["scores"]
        assert set(result["columns"]) <= set(scores["metrics"])
        maps = json.loads((root / name / "maps" / "test.json").read_text())
        assert maps["images"]
    compared = json.loads(Path(result["comparison"]).read_text())
    assert compared["baseline"] == "zero-shot"
    assert {row["system"] for row in compared["rows"]} == set(SYSTEMS[1:])
    assert not [path for path in root.rglob("*") if path.name == "LOCK" or "partial" in path.name]


def test_the_report_shows_every_system_and_loads_nothing(
    small: tuple[Path, dict[str, Any]],
) -> None:
    root, result = small
    assert Path(result["report"]) == root / "report.html"
    page = (root / "report.html").read_text(encoding="utf-8")
    for name in SYSTEMS:
        assert name in page
    assert 'src="data:image/' in page
    loads = re.findall(
        r"""\b(?:src|srcset|poster|data|action|xlink:href)\s*=\s*["']([^"']*)""", page
    )
    loads += re.findall(r"""<(?!a\b)\w+[^>]*\bhref\s*=\s*["']([^"']*)""", page)
    loads += re.findall(r"""(?:url\(|@import)\s*["']?([^"')]*)""", page)
    assert [address for address in loads if not address.startswith(("data:", "#"))] == []


def test_a_second_call_does_no_work_again(small: tuple[Path, dict[str, Any]]) -> None:
    root, result = small
    folders = [root / name for name in ("data", *SYSTEMS)]
    before = stamps(*folders)
    again = demo(root, *SMALL)
    assert stamps(*folders) == before
    assert again["systems"] == result["systems"]


def test_other_settings_are_refused(small: tuple[Path, dict[str, Any]]) -> None:
    root, _ = small
    before = stamps(root)
    for other in (("--images", "60", "--epochs", "2"), (*SMALL, "--seed", "1")):
        done = subprocess.run(command(root, *other), capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        for words in ("a demo with other settings", "got:", "expected:", "do:", "--force"):
            assert words in done.stderr
        assert stamps(root) == before


def test_a_killed_demo_goes_on_where_it_stopped(
    small: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Killed in the second training: the first is kept, and all ends as if nothing had been."""
    root = tmp_path / "demo"
    first, second = list(VARIANTS)[:2]
    process = subprocess.Popen(
        command(root, *SMALL), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ON_THE_CPU
    )
    try:
        while not (root / second / "config.json").exists() and process.poll() is None:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    assert (root / second / "config.json").exists(), "the demo ended before it came so far"
    assert not (root / "comparison.json").exists(), "the kill came too late"
    kept = stamps(*(root / name for name in ("data", "zero-shot", first)))
    assert root / first / "scores" / "test.json" in kept
    demo(root, *SMALL)
    after = stamps(root)
    assert {path: after[path] for path in kept} == kept
    assert outcome(root) == outcome(small[0])
    assert not [path for path in after if path.name == "LOCK" or "partial" in path.as_posix()]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The demo as everybody gets it."""
    root = tmp_path_factory.mktemp("real") / "demo"
    return root, demo(root)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_shows_what_the_paper_says(real: tuple[Path, dict[str, Any]]) -> None:
    root, _ = real
    scores = {
        name: json.loads((root / name / "scores" / "test.json").read_text())["metrics"]
        for name in SYSTEMS
    }
    cider = {name: scores[name]["CIDEr-D"] for name in SYSTEMS}
    for name in SYSTEMS[1:]:  # fine-tuning helps, and by more than chance: intervals are apart
        assert cider["zero-shot"]["ci"][1] < cider[name]["ci"][0], name
    for name in ("full", "decoder"):  # what speaks matters more than what sees
        assert cider["encoder"]["value"] < cider[name]["value"], name
    goals = {"fact-modality": 0.95, "fact-finding": 0.70, "fact-side": 0.70}
    reached = {name: scores["full"][name]["value"] for name in goals}
    assert all(reached[name] >= goals[name] for name in goals), reached


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_is_the_same_to_the_byte_when_it_is_run_again(
    real: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    demo(tmp_path / "demo")
    assert outcome(tmp_path / "demo") == outcome(real[0])


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PROBE = """<script>
const errors = []; addEventListener("error", event => errors.push(event.message));
addEventListener("load", () => setTimeout(() => { document.title = "probe " + JSON.stringify(
  {errors, width: innerWidth, needed: document.documentElement.scrollWidth}); }, 500));
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make browser` installs it")
def test_the_report_opens_on_a_phone(small: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    """In a real browser: no script fails, and nothing is wider than the screen."""
    page = (small[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("<head>") == 1
    (tmp_path / "page.html").write_text(page.replace("<head>", "<head>" + PROBE), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync",
         "--no-first-run", "--disable-background-networking", f"--user-data-dir={tmp_path}/profile",
         "--window-size=390,844", "--virtual-time-budget=5000", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True,
    )  # fmt: skip
    told = re.search(r"<title>probe (\{.*?\})</title>", done.stdout)
    assert told, done.stderr[-2000:]
    seen = json.loads(told[1])
    assert seen["errors"] == []
    assert seen["width"] <= 520, "Chromium makes no window narrower than 500"
    assert seen["needed"] <= seen["width"]
