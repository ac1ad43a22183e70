"""Stage `report`: files of one or more runs in, one report out, in one of five formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from medblip.errors import ConfigError, RunError, explain
from medblip.files import write_text
from medblip.stages.report.contents import Contents, gather
from medblip.stages.report.csvs import csv_text
from medblip.stages.report.folders import opened
from medblip.stages.report.latex import latex_document, latex_table, latex_text
from medblip.stages.report.markdown import markdown_text
from medblip.stages.report.outputs import require_free, write_folder
from medblip.stages.report.page import render_page
from medblip.stages.report.tables import all_tables, every_score

__all__ = ["FORMATS", "report"]

#: Name of each format -> what it is called inside the run when `out` does not say.
FORMATS = {
    "html": "report.html",
    "md": "report-md",
    "pdf-ready": "report-print.html",
    "latex": "report-latex",
    "csv": "report-csv",
}
#: Format of a folder -> the file in it that is named to the user; "": the folder.
_MAIN = {"md": "report.md", "latex": "report.tex", "csv": ""}


def report(
    runs: Path | str | Sequence[Path | str],
    *,
    data: Path | str | None = None,
    split: str | None = "test",
    out: Path | str | None = None,
    comparison: Path | str | None = None,
    ablation: Path | str | None = None,
    study: Path | str | None = None,
    title: str | None = None,
    limit: int = 24,
    format: str = "html",
) -> Path:
    r"""Write a report from files, never from a model; the same files give the same report.

    `html` is one page: no external address, opens from disk, light and dark, phone and print.
    `pdf-ready` is its print variant: all open, no script. `md`, `latex` and `csv` are folders:
    report.md; report.tex with tables/*.tex to `\input` and vector figures; one CSV per table.
    Parts that a run does not have yet (curves, maps, costs) are left out.

    Args:
        runs: One run directory or several, captioned and evaluated; or the folder of a study, of
            an ablation, or of a list of systems: its runs, tests and claims.
        data: Prepared data set, for images and references; None: the first run's.
        split: Which split; when it has no scores or None, the first of test, validation, train
            that has.
        out: The file (html, pdf-ready) or folder; None: in the first run, by FORMATS.
        comparison: JSON of `compare`; None: without paired tests.
        ablation: JSON of `ablate`; None: without the ablation.
        study: JSON of `reproduce`; None: without claims and methods.
        title: Headline; None: the run's name.
        limit: Images in the gallery, 0 to 200.
        format: One of FORMATS.

    Returns:
        The page, report.md, report.tex, or the folder of CSV files.

    Raises:
        ConfigError: There is no such format, or its place is taken by something that is no report
            of ours.
        RunError: The runs share no scored split, a file is damaged or of another split, or
            `limit` is out of range.
        DataError: The data set is not where the run says it was.
    """
    if format not in FORMATS:
        raise ConfigError(
            explain("unknown format", got=format, expected=", ".join(FORMATS), do="choose one")
        )
    named = [Path(path) for path in ([runs] if isinstance(runs, str | Path) else runs)]
    if not named:
        raise RunError(
            explain(
                "nothing to report",
                got="no run directory",
                expected="one or more that were captioned and evaluated",
                do="name them",
            )
        )
    found = opened(named)
    target = Path(out) if out is not None else found.home / FORMATS[format]
    require_free(target, format)
    contents = gather(
        found.runs,
        data=None if data is None else Path(data),
        split=split,
        comparison=found.comparison if comparison is None else Path(comparison),
        ablation=found.ablation if ablation is None else Path(ablation),
        study=found.study if study is None else Path(study),
        title=title or found.title,
        limit=limit,
    )
    if format in ("html", "pdf-ready"):
        write_text(target, render_page(contents, printed=format == "pdf-ready"))
        return target
    write_folder(target, _FOLDERS[format](contents), format)
    return target / _MAIN[format]


def _markdown(contents: Contents) -> dict[str, bytes]:
    return {"report.md": markdown_text(contents, all_tables(contents)).encode()}


def _csv(contents: Contents) -> dict[str, bytes]:
    tables = [*all_tables(contents), every_score(contents)]
    return {f"{table.name}.csv": csv_text(table).encode() for table in tables}


def _latex(contents: Contents) -> dict[str, bytes]:
    from medblip.stages.report.charts import chart_pdf
    from medblip.stages.report.curves import all_charts

    tables = all_tables(contents)
    files = {f"tables/{table.name}.tex": latex_table(table).encode() for table in tables}
    figures = {}
    for chart in all_charts(contents):
        files[f"figures/{chart.name}.pdf"] = chart_pdf(chart)
        figures[f"{chart.name}.pdf"] = f"{chart.title} by {chart.x}."
    methods = (contents.study or {}).get("methods")
    if methods:
        files["methods.tex"] = latex_text(methods).encode() + b"\n"
    # last, so that a document that is there has all that it names
    return files | {"report.tex": latex_document(contents, tables, figures).encode()}


_FOLDERS: dict[str, Callable[[Contents], dict[str, bytes]]] = {
    "md": _markdown,
    "latex": _latex,
    "csv": _csv,
}
