"""One report in five formats: the same numbers everywhere, and no text that becomes markup."""

from __future__ import annotations

import csv
import dataclasses
import html
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_files import HOSTILE_TEXTS, NAMES, N, Page, example, write_all, write_hostile

from medblip.errors import ConfigError, RunError
from medblip.files import read_json, write_json, write_text
from medblip.rundir import RunDir
from medblip.schema import Prediction, dump_jsonl
from medblip.stages.report import report
from medblip.stages.report.cells import Column, Table, cell
from medblip.stages.report.charts import Chart, Line, chart_pdf, chart_svg
from medblip.stages.report.csvs import csv_text
from medblip.stages.report.latex import latex_table, latex_text

PDFLATEX = shutil.which("pdflatex")
TABLES = {
    "scores", "tests", "outcomes", "strata", "weakest", "weakest-all", "agreement",
    "ablation", "ablation-tests",
    "clinical", "statuses", "errors", "hallucinations", "missed", "cost",
    "faithfulness", "faithfulness-tests", "claims",
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("formats")
    return root, dict(write_all(root))


def build(whole: tuple[Path, dict[str, Any]], form: str, out: Path, **options: Any) -> Path:
    root, files = whole
    return report([root / name for name in NAMES], data=root / "data", out=out, format=form,
                  **(files | options))  # fmt: skip


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv_holds_the_numbers_of_the_files(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = build(whole, "csv", tmp_path / "csv")
    assert {path.stem for path in folder.iterdir()} == TABLES | {"scores-all"}
    for row in rows(folder / "scores-all.csv"):
        scores = read_json(RunDir(whole[0] / row["system"]).scores("test"))["metrics"]
        assert float(row["value"]) == scores[row["metric"]]["value"]
    for row in rows(folder / "scores.csv"):
        scores = read_json(RunDir(whole[0] / row["system"]).scores("test"))["metrics"]
        assert float(row["CIDEr-D"]) == scores["CIDEr-D"]["value"]
        assert [float(row["CIDEr-D low"]), float(row["CIDEr-D high"])] == scores["CIDEr-D"]["ci"]
    compared = read_json(whole[1]["comparison"])
    for row, record in zip(rows(folder / "tests.csv"), compared["rows"], strict=True):
        assert float(row["difference"]) == record["difference"]
        assert [float(row["low"]), float(row["high"])] == record["ci"]
        assert float(row["p_holm"]) == record["p_holm"]
    ablated = read_json(whole[1]["ablation"])
    for row, variant in zip(rows(folder / "ablation.csv"), ablated["variants"], strict=True):
        assert float(row["CIDEr-D"]) == variant["metrics"]["CIDEr-D"]["value"]
        assert float(row["seconds"]) == variant["seconds"]
    assert "energy_wh" not in rows(folder / "ablation.csv")[0]  # nothing measured it
    grouped = rows(folder / "strata.csv")
    assert [row["level"] for row in grouped] == ["ct", "mri", "short"]
    assert float(grouped[0]["full"]) == pytest.approx(0.33)


def test_readers_see_the_same_cells_in_every_format(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    text = Page(build(whole, "html", tmp_path / "page.html").read_text(encoding="utf-8")).text
    printed = Page(build(whole, "pdf-ready", tmp_path / "p.html").read_text(encoding="utf-8")).text
    words = build(whole, "md", tmp_path / "md").read_text(encoding="utf-8")
    tables = build(whole, "latex", tmp_path / "latex").parent / "tables"
    latex = "".join(path.read_text(encoding="ascii") for path in tables.iterdir())
    for value in (
        "0.211",
        "0.111 to 0.299",
        "0.625",
        "0.0125",
        "0.350 to 0.825",
        "mass of full",
        "12.5",
        "not testable",
    ):
        assert value in text, value
        assert value in printed, value
        assert value in words, value
        assert value in latex, value
    for claim in read_json(whole[1]["study"])["claims"]:
        assert claim["claim"] in text
        assert claim["claim"] in words
    assert "1,000" in text
    assert "The maps of full point at findings more often than chance." in text
    assert {path.stem for path in tables.iterdir()} == TABLES


def test_printed_page_is_open_and_has_no_script(
    whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    page = Page(build(whole, "pdf-ready", tmp_path / "p.html").read_text(encoding="utf-8"))
    assert not page.all("script")
    details = page.all("details")
    assert len(details) > N
    assert all("open" in attributes for attributes in details)
    assert (
        "script-src 'none'"
        in page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    )


def test_where_a_report_goes_by_itself(whole: tuple[Path, dict[str, Any]]) -> None:
    run = whole[0] / "lora"
    names = {"html": "report.html", "md": "report-md/report.md", "csv": "report-csv",
             "pdf-ready": "report-print.html", "latex": "report-latex/report.tex"}  # fmt: skip
    for form, name in names.items():
        assert report(run, data=whole[0] / "data", format=form, limit=1) == run / name


def test_what_is_wrong_is_explained(whole: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="html, md, pdf-ready, latex, csv"):
        build(whole, "docx", tmp_path / "x")
    with pytest.raises(RunError, match="at most 200"):
        build(whole, "html", tmp_path / "x", limit=201)
    with pytest.raises(RunError, match="no claims in it"):
        build(whole, "html", tmp_path / "x", study=whole[1]["ablation"])
    damaged = tmp_path / "study.json"
    write_json(damaged, {"claims": [{"claim": "x"}]})
    with pytest.raises(RunError, match="no claims: verdict, claims: reason in it"):
        build(whole, "html", tmp_path / "x", study=damaged)
    other = tmp_path / "ablation.json"
    write_json(other, read_json(whole[1]["ablation"]) | {"split": "validation"})
    with pytest.raises(RunError, match="does not belong to this report"):
        build(whole, "html", tmp_path / "x", ablation=other)
    assert not (tmp_path / "x").exists()


def test_a_formula_is_no_formula_in_csv() -> None:
    columns = [Column(key="a", title="a"), Column(key="b", title="b", kind="number")]
    for text in ("=1+1", "+1", "-1", "@x", "\t=1", "  =1", "|x", "%x", "\n=1"):
        table = Table(name="t", title="t", columns=columns, rows=[{"a": text, "b": -0.5}])
        line = list(csv.reader(csv_text(table).splitlines(keepends=True)))[1]
        assert line[0] == f"'{text}"
        assert line[1] == "-0.5"  # a number stays one


@pytest.mark.parametrize("text", HOSTILE_TEXTS)
def test_latex_text_is_plain(text: str) -> None:
    safe = latex_text(text)
    assert safe.isascii()
    assert safe.isprintable()
    known = (
        r"\\(textbackslash|textasciicircum|textasciitilde|textless|textgreater|textbar|dots"
        r"|allowbreak|ss|ensuremath\{\\[a-z]+\})\{?\}?|\\[{}$&#%_]|\\['`^\"~=.uvcrH]\{\\?\w\}"
    )
    rest = re.sub(known, "", safe)
    assert "\\" not in rest
    assert not set(rest) & set("$&#%_^")


def test_wide_and_long_tables_are_cut_but_lose_nothing() -> None:
    columns = [Column(key="system", title="system")] + [
        Column(key=f"m{i}", title=f"metric {i}", kind="score") for i in range(12)
    ]
    lines = [
        {"system": f"s{j}"} | {f"m{i}": {"value": i + j / 100, "ci": [0, 1]} for i in range(12)}
        for j in range(50)
    ]
    table = Table(name="t", title="t", columns=columns, rows=lines)
    text = latex_table(table)
    heads = re.findall(r"\\toprule\n(.*?) \\\\", text)
    named = latex_table(dataclasses.replace(table, keys=2))
    assert all(head.startswith("system & ") for head in heads)
    assert all("system & metric 0 & " in head for head in re.findall(r"\\toprule\n(.*)", named))
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") > 4
    assert text.count(r"\label{tab:t}") == 1
    for row in lines:
        for column in columns[1:]:
            assert text.count(f"& {cell(column, row)} ") == 1


@pytest.mark.skipif(PDFLATEX is None, reason="no pdflatex here; `make latex` installs it")
def test_the_latex_compiles_whatever_the_texts_are(tmp_path: Path) -> None:
    whole = (tmp_path, write_hostile(tmp_path))
    document = build(whole, "latex", tmp_path / "latex")
    done = subprocess.run(
        [str(PDFLATEX), "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape",
         document.name],
        cwd=document.parent, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert document.with_suffix(".pdf").stat().st_size > 20_000
    assert (
        r"\input{/etc" not in document.read_text() + (document.parent / "methods.tex").read_text()
    )
    assert {path.suffix for path in (document.parent / "figures").iterdir()} == {".pdf"}


def test_markdown_has_no_links_and_no_html(tmp_path: Path) -> None:
    words = build((tmp_path, write_hostile(tmp_path)), "md", tmp_path / "md").read_text(
        encoding="utf-8"
    )
    assert not re.search(r"(?<!\\)[<>`\[]", words)
    assert not re.search(r"(?<!\\)https?:(?!\\)", words.replace("http\\:", ""))
    table = [line for line in words.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table[:3]}
    assert len(widths) == 1


@pytest.mark.parametrize("form", ["html", "md", "latex", "csv"])
def test_where_no_interval_was_computed_none_is_shown(tmp_path: Path, form: str) -> None:
    """`evaluate --resamples 0` stores the value as both ends, and `ci:none` in the signature."""
    write_all(tmp_path)
    for name in NAMES:
        path = RunDir(tmp_path / name).scores("test")
        record = read_json(path)
        for metric, score in record["metrics"].items():
            score |= {"ci": [score["value"]] * 2, "signature": f"{metric}|n:20|ci:none"}
        for total in record["clinical"]["totals"].values():
            total["ci"] = [total["value"]] * 2
        write_json(path, record)
    out = report([tmp_path / name for name in NAMES], data=tmp_path / "data",
                 out=tmp_path / "out", format=form)  # fmt: skip
    if form == "csv":
        scores, whole, clinic = (
            rows(out / f"{n}.csv") for n in ("scores", "scores-all", "clinical")
        )
        assert {(row["CIDEr-D low"], row["CIDEr-D high"]) for row in scores} == {("", "")}
        assert {(row["low"], row["high"]) for row in whole} == {("", "")}
        assert {row["side low"] for row in clinic} == {""}
        assert float(scores[-1]["CIDEr-D"]) == pytest.approx(0.5234)
        return
    if form == "html":
        text = Page(out.read_text(encoding="utf-8")).text
    else:
        files = [path for path in out.parent.rglob("*") if path.suffix in (".md", ".tex")]
        text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert "0.523" in text
    assert not re.search("0\\.523 (to|\N{EN DASH}) 0\\.523|0\\.600 to|bootstrap interval", text)
    assert re.search("no intervals were computed", text, re.IGNORECASE)
    assert "An interval says" not in text


@pytest.mark.parametrize("name", [r"a$\x$b", "a$b$", "$", r"a\frac{"])
def test_a_name_with_dollar_signs_is_no_formula_in_a_chart(name: str) -> None:
    line = Line(name, [0.0, 1.0], [0.5, 0.4], "#c97f00", ())
    chart = Chart(name="deletion-0", title=f"Deletion, {name}", x=f"share of {name}", lines=[line])
    assert chart_pdf(chart).startswith(b"%PDF")
    assert f"share of {name}" in html.unescape(chart_svg(chart))
    assert chart_pdf(dataclasses.replace(chart, joined=False)).startswith(b"%PDF")


def test_addresses_in_captions_are_no_links_in_markdown(tmp_path: Path) -> None:
    """GitHub makes links of these without any markup, and of a@b.cd even when @ is an entity."""
    write_all(tmp_path)
    run = RunDir(tmp_path / "full")
    texts = ["see www.evil.example", "mail a@b.cd, WWW.evil.example", "mailto:a.b+c@d.ef",
             "https://evil.example", "- item", "1. item", "+ item", "="]  # fmt: skip
    rows = [Prediction(id=f"case-{i:02d}", caption=texts[i % len(texts)]) for i in range(N)]
    write_text(run.predictions("test"), dump_jsonl(rows))
    page = report(run.path, data=tmp_path / "data", out=tmp_path / "md", format="md", limit=N)
    words = page.read_text(encoding="utf-8")
    assert not re.search(r"www\.", words, re.IGNORECASE)
    assert not re.search("(?<!&#8288;)@", words)
    assert "://" not in words
    assert "www&#46;evil.example" in words
    assert "a&#8288;@b.cd" in words
    for text in ("\\- item", "1\\. item", "\\+ item", "\\="):
        assert f"- full: {text}\n" in words


def test_drawn_images_are_called_so_without_a_gallery(tmp_path: Path) -> None:
    write_all(tmp_path)
    for limit in (0, 3):
        page = report(tmp_path / "full", data=tmp_path / "data", out=tmp_path / "md", format="md",
                      limit=limit)  # fmt: skip
        assert "These images are drawn (phantoms)" in page.read_text(encoding="utf-8")
    plain = [dataclasses.replace(example(index), facts=None) for index in range(N)]
    write_text(tmp_path / "data" / "manifest.jsonl", dump_jsonl(plain))
    page = report(tmp_path / "full", data=tmp_path / "data", out=tmp_path / "md", format="md")
    assert "phantoms" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("zero-shot",), None),
        (("full",), "Each system was trained once"),
        (("zero-shot", "full"), "Each fine-tuned system was trained once"),
    ],
)
def test_only_what_was_trained_was_trained_once(
    tmp_path: Path, names: tuple[str, ...], sentence: str | None
) -> None:
    write_all(tmp_path)
    page = report([tmp_path / name for name in names], data=tmp_path / "data", format="md",
                  out=tmp_path / "md")  # fmt: skip
    text = page.read_text(encoding="utf-8")
    assert sentence in text if sentence else "with one seed" not in text


@pytest.mark.parametrize("counted", [True, False])  # scores of an older medblip are not counted
def test_what_nobody_states_is_not_shown_as_perfect(tmp_path: Path, counted: bool) -> None:
    write_all(tmp_path)
    values = {"audit-device-F1": 1.0, "audit-side-F1": 0.75}
    for name in ("zero-shot", "full"):
        path = RunDir(tmp_path / name).scores("test")
        record = read_json(path)
        for metric, value in values.items():
            record["metrics"][metric] = {
                "value": value, "ci": [value, 1.0], "n": N, "signature": metric
            }  # fmt: skip
        kinds = {"device": 0, "side": 12}
        if counted:
            record["clinical"]["statements"] = {
                kind: {"captions": 0, "references": count, "images": count}
                for kind, count in kinds.items()
            }
        write_json(path, record)
    file = tmp_path / "comparison.json"
    record = read_json(file)
    row = {"system": "full", "baseline": "zero-shot", "difference": 0.0, "ci": [0.0, 0.0],
           "p": 1.0, "p_holm": 1.0}  # fmt: skip
    group = {"stratum": "length", "level": "long", "n": 7, "system": "full", "ci": [0.0, 1.0]}
    for metric, value in values.items():
        record["rows"].append(row | {"metric": metric, "value": value, "baseline_value": value})
        record["strata"].append(group | {"metric": metric, "value": value})
    write_json(file, record)
    options: dict[str, Any] = {"data": tmp_path / "data", "comparison": file}
    runs = [tmp_path / "zero-shot", tmp_path / "full"]
    folder = report(runs, format="csv", out=tmp_path / "csv", **options)
    tests = {row["metric"]: row for row in rows(folder / "tests.csv")}
    assert set(list(tests["audit-device-F1"].values())[2:]) == {""}
    assert tests["audit-side-F1"]["value"] == "0.75"
    assert tests["audit-side-F1"]["p_holm"] == "1.0"
    metrics = {row["metric"] for row in rows(folder / "strata.csv")}
    assert "audit-side-F1" in metrics
    assert "audit-device-F1" not in metrics
    whole = {row["metric"]: row for row in rows(folder / "scores-all.csv")}
    assert whole["audit-device-F1"]["stating"] == ("0" if counted else "")
    assert whole["audit-side-F1"]["stating"] == ("12" if counted else "")
    assert whole["CIDEr-D"]["stating"] == ""
    page = report(runs, out=tmp_path / "page.html", **options)
    text = Page(page.read_text(encoding="utf-8")).text
    dash = "\N{EN DASH}"
    assert f"full audit-device-F1 {' '.join([dash] * 6)}" in text
    assert "full audit-side-F1 0.750 0.750 +0.000" in text
    assert "a kind of statement that neither captions nor references make" in text
    words = report(runs, format="md", out=tmp_path / "md", **options).read_text(encoding="utf-8")
    assert f"| full | audit-device-F1 | {' | '.join([dash] * 6)} |" in words
