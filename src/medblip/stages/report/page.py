"""The page itself: plain records in, one HTML file out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medblip import pictures
from medblip.stages.report.cells import cell, p_value, visible
from medblip.stages.report.collect import HEADLINE, System
from medblip.stages.report.contents import Contents
from medblip.stages.report.curves import (
    cost_chart,
    faithfulness_charts,
    marks,
    system_marks,
    training_charts,
)
from medblip.stages.report.gallery import build_cards
from medblip.stages.report.tables import all_tables, score_names
from medblip.stages.report.wordmaps import Fitted, drawing_command, fit_maps, undrawn
from medblip.stages.report.words import conclusions

__all__ = ["render_page"]

#: Bytes of a page: more is not sent by mail. The maps get what all else leaves of it.
MOST_BYTES = 14_900_000
#: Settings that the table shows even when all systems agree; all others are in the full listing.
_SHOWN = ("model.name", "freeze.preset", "optim.lr", "train.epochs", "train.batch_size",
          "train.seed", "eval.seed", "decode.num_beams")  # fmt: skip
#: Sections that mean nothing for a captioner that was used as it is.
_OF_TRAINING = ("freeze", "lora", "optim", "train")


def render_page(contents: Contents, *, printed: bool = False) -> str:
    """Return the page; `printed`: all parts open, no script, for `chromium --print-to-pdf`.

    The page's policy names the one script and the one style sheet by their SHA-256 and allows
    nothing else but pictures that are in the page itself.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medblip.stages.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters["p"] = p_value
    environment.globals["cell"] = cell
    view = _view(contents)
    here = Path(__file__).parent
    style = (here / "style.css").read_text(encoding="utf-8") + _filter_rules(view["filters"])
    script = "" if printed else pictures.script() + (here / "report.js").read_text("utf-8")
    allowed = f"'sha256-{_digest(script)}'" if script else "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    template = environment.get_template("template.html")
    fixed = {"style": style, "script": script, "policy": policy, "printed": printed}
    if printed:  # no script: no maps but the tiles
        return template.render(view, **fixed)
    bare = len(template.render(view, **fixed).encode())
    fitted = fit_maps(
        contents.systems, contents.cases, view["cards"], contents.best, room=MOST_BYTES - bare
    )
    return template.render(view | _of_maps(contents, fitted), **fixed)


def _finalize(value: Any) -> Any:
    """Return what a template puts out without characters that a page cannot hold."""
    if not isinstance(value, str):
        return value
    return type(value)(visible(value))  # markup stays markup


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _filter_rules(filters: Sequence[Mapping[str, Any]]) -> str:
    """Return the rules that hide cards: they work without a script, and no text of a file is in."""
    return "".join(
        f'.pictures:has(#{group["id"]} option[value="{option["token"]}"]:checked) '
        f".card:not(.{option['token']}) {{ display: none; }}\n"
        for group in filters
        for option in group["options"]
    )


def _of_maps(contents: Contents, fitted: Fitted) -> dict[str, Any]:
    """Return what the template shows of the maps: themselves, and which there are none of."""
    names = [system.name for system in contents.systems]
    return {
        "maps": fitted.maps,
        "map_notes": [*undrawn(contents.systems, contents.cases), *fitted.notes],
        "drawing": drawing_command(contents.systems, contents.cases, contents.split),
        "unmapped": [name for name in names if visible(name) not in fitted.maps],
    }


def _view(contents: Contents) -> dict[str, Any]:
    """Return what the template shows; everything is computed here, nothing there."""
    from medblip.stages.report.charts import chart_svg

    systems, best = contents.systems, contents.best
    gallery = build_cards(contents)
    tables = {table.name: table for table in all_tables(contents)}
    cost = cost_chart(contents)
    curves = [
        {"title": chart.title, "svg": chart_svg(chart)} for chart in faithfulness_charts(contents)
    ]
    maps_shown = list(
        dict.fromkeys(m for f in contents.faithfulness.values() for m in f["curves"]["deletion"])
    )
    return {
        "title": contents.title,
        "split": contents.split,
        "wanted": contents.wanted,
        "compared": contents.compared,
        "study": contents.study,
        "ablation": contents.ablation,
        "n": best.scores["n"],
        "unequal": len({system.scores["n"] for system in systems}) > 1,
        "headline": HEADLINE,
        "intervals": any(system.intervals for system in systems),
        "systems": systems,
        "best": best,
        "marks": system_marks(systems),
        "metrics": _metrics(systems),
        "tables": tables,
        "charts": [
            {"title": chart.title, "svg": chart_svg(chart)} for chart in training_charts(systems)
        ],
        "cost_chart": None if cost is None else {"title": cost.title, "svg": chart_svg(cost)},
        "cost_lines": [] if cost is None else cost.lines,
        "faithfulness": contents.faithfulness,
        "faithfulness_charts": curves,
        "faithfulness_maps": marks(maps_shown),
        "costs": _costs(systems),
        "cards": gallery["cards"],
        "filters": gallery["filters"],
        "kinds": list(dict.fromkeys(case.kind for case in contents.cases)),
        **_of_maps(contents, Fitted({}, [])),
        "conclusions": conclusions(contents),
        **_repetition(systems),
    }


def _metrics(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Return the columns of the score table: name, best value, right end of the interval bars."""
    columns = []
    for name in score_names(systems):
        scores = [s.scores["metrics"][name] for s in systems if name in s.scores["metrics"]]
        values = {score["value"] for score in scores}
        top = max(score["ci"][1] if score["ci"] else score["value"] for score in scores)
        columns.append(
            {
                "name": name,
                # where all are equal, none is better
                "best": max(values) if len(values) > 1 else None,
                "top": 1.0 if name.startswith("fact-") else max(top, 1e-9),
            }
        )
    return columns


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
