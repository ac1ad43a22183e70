"""The page in headless Chromium: hostile text, accessibility, no JavaScript, print, pictures."""

from __future__ import annotations

import importlib.util
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import needs_chromium, open_page
from PIL import Image
from report_files import HOSTILE_TEXTS, NAMES, write_all, write_hostile, write_runs

from medblip.stages.report import report

pytestmark = [needs_chromium, pytest.mark.timeout(180)]
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with all parts and few images, for the screen and for print."""
    root = tmp_path_factory.mktemp("browser")
    files: dict[str, Any] = dict(write_all(root))
    return {
        form: report([root / name for name in NAMES], data=root / "data", limit=3, format=form,
                     out=root / f"{form}.html", **files)
        for form in ("html", "pdf-ready")
    }  # fmt: skip


@pytest.fixture
def requests() -> Iterator[tuple[str, list[str]]]:
    """Address of a server on this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("policy", [True, False])
def test_hostile_text_neither_runs_nor_asks(
    policy: bool, requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    """With its policy, and without it: what is escaped needs no policy."""
    address, asked = requests
    texts = [
        *HOSTILE_TEXTS,
        f'<img src="{address}/img"><link rel=stylesheet href="{address}/css">',
        f'" style="background:url({address}/style)" ',
        f'" onfocus="fetch(\'{address}/focus\')" autofocus="',
        f"</style><style>*{{background:url({address}/bg)}}</style>",
    ]
    files = write_hostile(tmp_path, texts)
    runs = []
    for index, name in enumerate(NAMES):
        evil = f'<img src=x onerror="document.documentElement.dataset.ran={index}"> {name}'
        runs.append((tmp_path / name).rename(tmp_path / evil))
    del files["comparison"]  # it names the systems as they were
    page = report(runs, data=tmp_path / "data", out=tmp_path / "page.html", title=texts[1], **files)
    if not policy:
        page.write_text(POLICY.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")
    dom, log = open_page(page, tmp_path / "profile", "--dump-dom", milliseconds=4000)
    html = dom[dom.index("<html") : dom.index(">", dom.index("<html"))]
    assert 'class="js"' in html, "the page's own script did not run"
    assert "data-ran" not in html
    assert "Refused" not in log
    assert "violates" not in log
    assert "Uncaught" not in log
    assert asked == []
    assert dom.count("<script") == 2
    assert dom.count("<style") == 1
    assert 'aria-selected="true"' not in dom
    assert dom.count(' class="card') == 20


def test_the_policy_stops_what_is_not_the_page(
    pages: dict[str, Path], requests: tuple[str, list[str]], tmp_path: Path
) -> None:
    """Would an escape be missing, the policy still held: this injects after it and must fail."""
    address, asked = requests
    bad = (
        "<script>document.documentElement.dataset.ran=1</script><p style='color:red' id=p>x</p>"
        f"<img src='{address}/a' onerror='document.documentElement.dataset.ran=2'>"
        f"<style>body{{background:url({address}/b)}}</style>"
        f"<link rel=stylesheet href='{address}/c'>"
        f"<iframe src='{address}/d'></iframe><script src='{address}/e'></script>"
    )
    page = tmp_path / "page.html"
    text = pages["html"].read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", bad + "</body>"), encoding="utf-8")
    dom, log = open_page(page, tmp_path / "profile", "--dump-dom")
    assert "data-ran" not in dom[: dom.index("<head")]
    assert asked == []
    assert len(re.findall(r"violates the following Content Security Policy", log)) >= 5


@pytest.mark.parametrize("size", ["500,900", "1280,900"])
def test_long_words_do_not_widen_the_page(size: str, tmp_path: Path) -> None:
    """Tables scroll by themselves, all else breaks; with hostile texts, and all parts open."""
    files = write_hostile(tmp_path)
    page = report([tmp_path / name for name in NAMES], data=tmp_path / "data", limit=11,
                  out=tmp_path / "page.html", title="W" * 300, **files)  # fmt: skip
    probe = (
        "<script>addEventListener('load', () => setTimeout(() => {"
        "for (const d of document.querySelectorAll('details')) d.open = true;"
        "document.title = 'probe ' + innerWidth + ' ' + document.documentElement.scrollWidth;"
        "}, 300));</script>"
    )
    text = POLICY.sub(probe, page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    dom, log = open_page(page, tmp_path / "profile", "--dump-dom", size=size)
    told = re.search(r"<title>probe (\d+) (\d+)</title>", dom)
    assert told, log[-2000:]
    assert int(told[2]) <= int(told[1])


@pytest.mark.parametrize("shape", [(300, 300), (900, 300)])
def test_a_focused_word_is_not_under_the_picture_of_a_phone(
    tmp_path: Path, shape: tuple[int, int]
) -> None:  # fmt: skip
    """Shift+Tab scrolls up to a word, and there the picture stays on top of the page."""
    write_runs(tmp_path)
    for index in range(20):
        pixels = np.full(shape, 90, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "images" / f"{index}.png")
    page = report([tmp_path / name for name in NAMES], data=tmp_path / "data", limit=3,
                  out=tmp_path / "page.html")  # fmt: skip
    probe = """<script>
      document.documentElement.style.scrollBehavior = "auto";
      const words = [...document.querySelectorAll(".card:nth-child(2) .words button")].reverse();
      let hidden = 0, seen = 0;
      for (const word of words) {
        word.focus();
        const box = word.getClientRects()[0];
        const on = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        seen += 1; hidden += on !== word;
      }
      document.title = `probe ${seen} ${hidden}`;
    </script>"""
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    page.write_text(text.replace("</body>", probe + "</body>"), encoding="utf-8")
    dom, log = open_page(page, tmp_path / "profile", "--dump-dom", size="500,700")
    told = re.search(r"<title>probe (\d+) (\d+)</title>", dom)
    assert told, log[-2000:]
    assert int(told[1]) > 20
    assert int(told[2]) == 0


def axe(page: Path, folder: Path, theme: str, size: str) -> list[dict[str, Any]]:
    """Return what axe-core finds in a copy of the page, all parts open."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe-core is not here; `make test` installs it")
    source = (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    probe = (
        "<script>for (const d of document.querySelectorAll('details')) d.open = true;"
        "axe.run().then((r) => { const s = document.createElement('script');"
        "s.type = 'application/json'; s.id = 'axe'; s.textContent = JSON.stringify({"
        "passes: r.passes.length, violations: r.violations.map((v) => ({id: v.id, impact: v.impact,"
        "nodes: v.nodes.map((n) => n.html.slice(0, 200))}))}); document.body.append(s); });"
        "</script>"
    )
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    text = text.replace('<html lang="en"', f'<html data-theme="{theme}" lang="en"', 1)
    script = source.replace("</script", "<\\/script")
    copy = folder / "axe.html"
    copy.write_text(
        text.replace("</body>", f"<script>{script}</script>{probe}</body>"), encoding="utf-8"
    )
    dom, log = open_page(copy, folder / "profile", "--dump-dom", size=size, milliseconds=60_000)
    told = re.search(r'id="axe">(.*?)</script>', dom, re.DOTALL)
    assert told, log[-2000:]
    result = json.loads(told[1])
    assert result["passes"] > 20, "axe-core checked next to nothing"
    return list(result["violations"])


@pytest.mark.parametrize(
    ("theme", "size"),
    [
        ("light", "500,900"),
        ("dark", "1280,900"),
        pytest.param("light", "1280,900", marks=pytest.mark.slow),
        pytest.param("dark", "500,900", marks=pytest.mark.slow),
    ],
)
def test_axe_finds_nothing_serious(
    theme: str, size: str, pages: dict[str, Path], tmp_path: Path
) -> None:
    found = axe(pages["html"], tmp_path, theme, size)
    assert [v for v in found if v["impact"] in ("serious", "critical")] == []


def test_axe_would_find_something(tmp_path: Path) -> None:
    """The check itself can fail: a picture without words, a grey that cannot be read."""
    write_runs(tmp_path)
    bad = report(tmp_path / "full", data=tmp_path / "data", limit=1, out=tmp_path / "bad.html")
    text = bad.read_text(encoding="utf-8")
    wrong = "<p><img src='data:,'><span style='color:#ccc;background:#fff'>too pale</span></p>"
    bad.write_text(text.replace("<main>", "<main>" + wrong, 1), encoding="utf-8")
    names = {v["id"] for v in axe(bad, tmp_path, "light", "1280,900")}
    assert {"image-alt", "color-contrast"} <= names


def screenshot(page: Path, folder: Path, *options: str, size: str) -> np.ndarray[Any, Any]:
    picture = folder / "picture.png"
    open_page(page, folder / "profile", f"--screenshot={picture}", *options, size=size)
    return np.asarray(Image.open(picture).convert("L"), dtype=np.float64)


@pytest.mark.parametrize(
    ("theme", "size", "dark"),
    [("light", "1200,1600", False), ("dark", "1200,1600", True), ("light", "500,1200", False)],
)
def test_screenshots_are_not_blank(
    theme: str, size: str, dark: bool, pages: dict[str, Path], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    text = pages["html"].read_text(encoding="utf-8")
    page.write_text(text.replace("<html ", f'<html data-theme="{theme}" ', 1), encoding="utf-8")
    pixels = screenshot(page, tmp_path, size=size)
    assert (np.median(pixels) < 60) == dark
    ink = np.abs(pixels - np.median(pixels)) > 60
    assert 0.01 < ink.mean() < 0.5
    bands = np.array_split(ink, 8)  # from top to bottom, not only a heading
    assert sum(bool(band.mean() > 0.003) for band in bands) >= 7


def test_without_javascript_all_is_there_and_filters_work(tmp_path: Path) -> None:
    """No script may run here: what needs one is hidden, the style sheet filters."""
    off = '<head><meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    write_runs(tmp_path)
    short = report(tmp_path / "full", data=tmp_path / "data", limit=3, out=tmp_path / "page.html")
    text = short.read_text(encoding="utf-8").replace("<head>", off)
    token = re.search(r'<option value="(k\d)">worst', text)
    assert token
    chosen = text.replace(f'<option value="{token[1]}">', f'<option selected value="{token[1]}">')
    heights, tops = [], []
    for name, content in (("all", text), ("only", chosen)):
        page = tmp_path / f"{name}.html"
        page.write_text(content, encoding="utf-8")
        pixels = screenshot(page, tmp_path, size="1000,4600")
        ink = np.abs(pixels - np.median(pixels[-50:])) > 40
        heights.append(int(np.flatnonzero(ink.any(axis=1)).max()))
        tops.append(ink[15:60])
    assert heights[0] - heights[1] > 200  # two of three cards are gone
    assert 'class="js"' not in open_page(page, tmp_path / "profile", "--dump-dom")[0]
    for top in tops:
        assert top[:, :500].any()
        assert not top[:, 800:].any(), "the button for the theme works by script alone"


def test_print_makes_a_pdf(pages: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "page.pdf"
    open_page(pages["pdf-ready"], tmp_path / "profile", "--no-pdf-header-footer",
              f"--print-to-pdf={target}")  # fmt: skip
    data = target.read_bytes()
    assert data.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 40
