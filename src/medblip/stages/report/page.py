"""The page itself: plain records in, one HTML file out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, RunError, explain, nearest
from medblip.files import read_json, write_bytes, write_text
from medblip.pictures import script
from medblip.rundir import RunDir
from medblip.stages.report.collect import (
    HEADLINE,
    Case,
    System,
    best_system,
    choose_cases,
    data_root,
    find_split,
    read_comparison,
    read_split,
    read_systems,
)
from medblip.stages.report.figures import COLOURS, DASHES, Line, cost_chart, curve_svg
from medblip.stages.report.gallery import build_card, pack_maps
from medblip.stages.report.sections import sections
from medblip.stages.report.sheets import metric_names, sheets

__all__ = ["report"]

#: Format -> its file or folder in the first run.
_NAMES = {
    "html": "report.html", "pdf-ready": "report-print.html", "md": "report.md",
    "latex": "report-latex", "csv": "report-csv",
}  # fmt: skip

#: Settings that the table shows even when all systems agree; all others are in the full listing.
_SHOWN = ("model.name", "freeze.preset", "optim.lr", "train.epochs", "train.batch_size",
          "train.seed", "eval.seed", "decode.num_beams")  # fmt: skip
#: Sections that mean nothing for a captioner that was used as it is.
_OF_TRAINING = ("freeze", "lora", "optim", "train")


def report(
    runs: Path | str | Sequence[Path | str],
    *,
    data: Path | str | None = None,
    split: str | None = "test",
    out: Path | str | None = None,
    comparison: Path | str | None = None,
    ablation: Path | str | None = None,
    study: Path | str | None = None,
    format: str = "html",
    title: str | None = None,
    limit: int = 24,
) -> Path:
    """Write one HTML page: no external address, opens from disk, light and dark, phone and print.

    Reads files only, never a model. Parts that a run does not have yet (curves, maps, costs) are
    left out and the page says so.

    Args:
        runs: One run directory or several, captioned and evaluated.
        data: Prepared data set, for images and references; None: the first run's.
        split: Which split; when it has no scores or None, the first of test, validation, train
            that has.
        out: The file, or the folder of `latex` and `csv`; None: `report.html`, `report-print.html`,
            `report.md`, `report-latex` or `report-csv` in the first run.
        comparison: JSON of `compare`; None: without paired tests.
        ablation: JSON of `ablate`; None: without it.
        study: JSON of `reproduce`: claims and methods; None: without them.
        format: `html`; `pdf-ready`, a page for paper: all is unfolded, nothing needs a script;
            `md`; `latex`, which compiles; `csv`.
        title: Headline; None: the run's name.
        limit: Images in the gallery, 0 or more.

    Returns:
        The file or folder.

    Raises:
        ConfigError: The format is unknown.
        RunError: The runs share no scored split, a file is damaged, `comparison` is of another
            split, or `limit` is negative.
        DataError: The data set is not where the run says it was.
    """
    _check(format, limit)
    folders = [RunDir(path) for path in ([runs] if isinstance(runs, str | Path) else runs)]
    found = find_split(folders, split)
    systems = read_systems(folders, found)
    headline = title or (systems[0].name if len(systems) == 1 else "Captioners compared")
    files = {
        "compared": None
        if comparison is None
        else read_comparison(Path(comparison), found, systems),
        "ablation": None if ablation is None else read_json(Path(ablation)),
        "study": None if study is None else read_json(Path(study)),
    }
    target = Path(out) if out is not None else folders[0].path / _NAMES[format]
    if format not in ("html", "pdf-ready"):
        return _for_programs(format, target, systems, files, headline)
    root = Path(data) if data is not None else data_root(systems[0])
    cases = choose_cases(read_split(root, found), systems, limit=limit)
    page = _view(systems, cases, root) | files | sections(systems, **files)
    page |= {"title": headline, "split": found, "wanted": split, "paper": format == "pdf-ready"}
    write_text(target, _render(page))
    return target


def _check(format: str, limit: int) -> None:
    if format not in _NAMES:
        raise ConfigError(
            explain(
                "unknown format",
                got=format,
                expected=", ".join(_NAMES),
                do=f"did you mean {nearest(format, list(_NAMES))}?",
            )
        )
    if limit < 0:
        raise RunError(
            explain("bad limit", got=limit, expected="0 or more images", do="leave --limit out")
        )


def _for_programs(
    format: str, target: Path, systems: list[System], files: dict[str, Any], title: str
) -> Path:
    """Write Markdown, LaTeX or CSV; returns the file or folder."""
    from medblip.stages.report.formats import write_csv, write_latex, write_markdown

    tables = sheets(systems, **files)
    if format == "csv":
        return write_csv(target, tables)
    if format == "md":
        return write_markdown(target, tables, title=title, study=files["study"])
    figures = {}
    if files["ablation"]:
        chart = cost_chart(files["ablation"], "pdf")
        write_bytes(target / "figures" / "quality-against-cost.pdf", chart)
        figures["figures/quality-against-cost.pdf"] = "Quality against training time."
    return write_latex(target, tables, title=title, study=files["study"], figures=figures)


def _render(page: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medblip.stages.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["p"] = _p_value
    here = Path(__file__).parent
    style = (here / "style.css").read_text(encoding="utf-8")
    code = "" if page["paper"] else script() + (here / "report.js").read_text(encoding="utf-8")
    return environment.get_template("template.html").render(
        page, style=style, script=code, style_hash=_digest(style), script_hash=_digest(code)
    )


def _digest(text: str) -> str:
    """Return what a Content-Security-Policy calls a script or a style by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _view(systems: list[System], cases: list[Case], root: Path) -> dict[str, Any]:
    """Return what the template shows; everything is computed here, nothing there."""
    best = best_system(systems)
    first = 2 if len(systems) == 1 else 0  # the first colour, grey, is for a baseline among others
    marks = {
        system.name: {
            "colour": COLOURS[index % len(COLOURS)],
            "dash": DASHES[(index - first) % len(DASHES)],
        }
        for index, system in enumerate(systems, start=first)
    }
    cards = [build_card(case, systems, best, root) for case in cases]
    maps = pack_maps(systems, cases)
    return {
        "n": best.scores["n"],
        "unequal": len({system.scores["n"] for system in systems}) > 1,
        "headline": HEADLINE,
        "systems": systems,
        "best": best,
        "marks": marks,
        "metrics": _metrics(systems),
        "charts": _charts(systems, marks),
        "costs": _costs(systems),
        "cards": cards,
        "modalities": sorted({card["modality"] for card in cards if card["modality"]}),
        "kinds": list(dict.fromkeys(card["kind"] for card in cards)),
        "errors": sorted({kind for card in cards for kind in card["errors"]}),
        "maps": maps,
        "unmapped": [system.name for system in systems if system.name not in maps],
        "synthetic": any("findings" in (case.example.facts or {}) for case in cases),
        **_repetition(systems),
    }


def _metrics(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Return the columns of the score table: name, best value, right end of the interval bars."""
    columns = []
    for name in metric_names(systems):
        scores = [s.scores["metrics"][name] for s in systems if name in s.scores["metrics"]]
        values = {score["value"] for score in scores}
        top = max(score["ci"][1] for score in scores)
        columns.append(
            {
                "name": name,
                # where all are equal, none is better
                "best": max(values) if len(values) > 1 else None,
                "top": 1.0 if name.startswith("fact-") else max(top, 1e-9),
            }
        )
    return columns


def _charts(
    systems: Sequence[System], marks: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return the charts: training loss (smoothed), validation loss, validation CIDEr-D."""
    charts = []
    for kind, key, label in (
        ("train", "loss", "Training loss per token"),
        ("validation", "loss", "Validation loss per token"),
        ("validation", HEADLINE, f"Validation {HEADLINE}"),
    ):
        lines = []
        for system in systems:
            rows = [r for r in system.curves if r.get("kind") == kind and r.get(key) is not None]
            if rows:
                values = [float(row[key]) for row in rows]
                lines.append(
                    Line(
                        system.name,
                        [float(row["step"]) for row in rows],
                        _smooth(values) if kind == "train" else values,
                        marks[system.name]["colour"],
                        marks[system.name]["dash"],
                    )
                )
        if lines:
            charts.append({"title": label, "svg": curve_svg(lines, label)})
    return charts


def _smooth(values: list[float], share: float = 0.08) -> list[float]:
    """Return an exponential mean: single batches are noisy."""
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else smooth[-1] + share * (value - smooth[-1]))
    return smooth


def _costs(systems: Sequence[System]) -> dict[str, Any]:
    """Return the reference of relative times: the full fine-tuning, else the slowest run."""
    trained = [system for system in systems if system.trained]
    if not trained:
        return {"relative_to": None, "seconds_per_step": 0.0}
    full = [s for s in trained if s.settings["config"].get("freeze", {}).get("preset") == "full"]
    reference = full[0] if full else max(trained, key=lambda s: s.cost["seconds_per_step"])
    return {
        "relative_to": reference.name,
        "seconds_per_step": float(reference.cost["seconds_per_step"]),
    }


def _repetition(systems: Sequence[System]) -> dict[str, Any]:
    """Return what somebody needs who wants the same numbers again."""
    flat = {}
    for system in systems:
        config = dict(system.settings["config"])
        if not system.trained:
            config = {name: part for name, part in config.items() if name not in _OF_TRAINING}
        flat[system.name] = _flatten(config)
    keys = list(dict.fromkeys(key for settings in flat.values() for key in settings))
    shown = [
        key
        for key in keys
        if key in _SHOWN or len({json.dumps(s[key]) for s in flat.values() if key in s}) > 1
    ]
    listing = json.dumps(
        {system.name: system.settings for system in systems}, indent=1, ensure_ascii=False
    )
    signatures = dict.fromkeys(
        score["signature"] for system in systems for score in system.scores["metrics"].values()
    )
    return {
        "settings": [
            {"key": k, "values": [s.get(k, "\N{EN DASH}") for s in flat.values()]} for k in shown
        ],
        # the page is made to be passed on: nobody needs the reader's account name
        "listing": listing.replace(str(Path.home()) + "/", "~/"),
        "signatures": list(signatures),
    }


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        elif f"{prefix}{key}" not in ("schema_version", "data.root"):
            flat[f"{prefix}{key}"] = value
    return flat


def _p_value(p: float) -> str:
    """Return p with four decimals; the bootstrap's smallest is 1 / (resamples + 1), never 0.

    >>> _p_value(0.03), _p_value(0.00001)
    ('0.0300', '< 0.0001')
    """
    return f"{p:.4f}" if p >= 0.00005 else "< 0.0001"
