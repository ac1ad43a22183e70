"""The page itself: plain records in, one HTML file out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import DataError, RunError, explain
from medblip.metrics.tokenize import tokenize
from medblip.rundir import RunDir, read_json, write_text
from medblip.schema import Example, read_examples
from medblip.stages.report.collect import Case, System, choose_cases, find_split, read_system
from medblip.stages.report.figures import COLOURS, curve_svg, image_uri, outline_uri

__all__ = ["report"]

_MAIN = ("CIDEr-D", "BLEU-1", "BLEU-4", "ROUGE-L",
         "fact-modality", "fact-region", "fact-finding", "fact-side")  # fmt: skip


def report(
    runs: Path | str | Sequence[Path | str],
    *,
    data: Path | str | None = None,
    split: str = "test",
    out: Path | str | None = None,
    comparison: Path | str | None = None,
    title: str | None = None,
    limit: int = 24,
) -> Path:
    """Write one HTML page: no external address, opens from disk, light and dark, phone and print.

    Args:
        runs: One run directory or several, captioned and evaluated.
        data: Prepared data set, for images and references; None: the first run's.
        split: Which split; when it has no scores, the one that has.
        out: The file; None: `report.html` in the first run.
        comparison: JSON of `compare`; None: without paired tests.
        title: Headline.
        limit: Images in the gallery.

    Raises:
        RunError: The runs share no scored split.
        DataError: The data set is not where the run says it was.
    """
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    folders = [RunDir(path) for path in paths]
    split = find_split(folders, split)
    systems = [read_system(folder, split) for folder in folders]
    root = Path(data) if data is not None else _data_root(systems[0])
    examples = _examples(root, split)
    cases = choose_cases(examples, systems, limit=limit)
    compared = read_json(Path(comparison)) if comparison is not None else None
    target = Path(out) if out is not None else folders[0].report
    write_text(target, _render(systems, cases, root, split, compared, title))
    return target


def _data_root(system: System) -> Path:
    root = system.settings["captioned"].get("data") or (
        system.settings["config"].get("data", {}).get("root")
    )
    if root is None:
        raise RunError(
            explain(
                f"{system.name} does not say which data it was captioned on",
                got="no predictions/<split>.json",
                expected="the folder of a prepared data set",
                do="name it with --data",
            )
        )
    return Path(root)


def _examples(root: Path, split: str) -> list[Example]:
    manifest = root / "manifest.jsonl"
    if not manifest.exists():
        raise DataError(
            explain(
                "the data set is not there",
                got=f"no {manifest}",
                expected="the prepared data set that was captioned",
                do="name it with --data",
            )
        )
    return [example for example in read_examples(manifest) if example.split == split]


def _render(
    systems: list[System],
    cases: list[Case],
    root: Path,
    split: str,
    compared: dict[str, Any] | None,
    title: str | None,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("medblip.stages.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here = Path(__file__).parent
    colours = {system.name: COLOURS[i % len(COLOURS)] for i, system in enumerate(systems)}
    metrics = [m for m in _MAIN if all(m in system.scores["metrics"] for system in systems)]
    cards = [_card(case, systems, root) for case in cases]
    return environment.get_template("template.html").render(
        title=title or (systems[0].name if len(systems) == 1 else "Captioners compared"),
        style=(here / "style.css").read_text(encoding="utf-8"),
        script=(here / "report.js").read_text(encoding="utf-8"),
        split=split,
        n=systems[0].scores["n"],
        systems=systems,
        colours=colours,
        metrics=metrics,
        best={m: max(s.scores["metrics"][m]["value"] for s in systems) for m in metrics},
        top={m: max(s.scores["metrics"][m]["ci"][1] for s in systems) or 1.0 for m in metrics},
        winner=max(systems, key=lambda s: s.scores["metrics"]["CIDEr-D"]["value"]),
        compared=compared,
        curves=_curves(systems, colours),
        slowest=max((s.cost.get("seconds_per_step", 0.0) for s in systems), default=0.0),
        cards=cards,
        modalities=sorted({card["modality"] for card in cards if card["modality"]}),
        kinds=list(dict.fromkeys(card["kind"] for card in cards)),
        maps=json.dumps(_maps(systems, cases)),
        settings=json.dumps({s.name: s.settings for s in systems}, indent=1, ensure_ascii=False),
        signatures=[v["signature"] for v in systems[0].scores["metrics"].values()],
        synthetic=any(case.example.facts for case in cases),
    )


def _card(case: Case, systems: list[System], root: Path) -> dict[str, Any]:
    """Return one image of the gallery: pictures, reference, and every system's words."""
    example = case.example
    facts = example.facts or {}
    reference = {token for caption in example.captions for token in tokenize(caption)}
    return {
        "id": example.id,
        "kind": case.kind,
        "modality": facts.get("modality"),
        "image": image_uri(root / example.image),
        "outline": outline_uri(facts.get("findings", [])),
        "references": example.captions,
        "licence": example.licence,
        "captions": [
            {
                "system": system.name,
                "words": _words(system, example.id, reference),
                "mapped": example.id in system.maps,
                "score": system.per_image.get(example.id, {}).get("CIDEr-D"),
            }
            for system in systems
        ],
    }


def _words(system: System, name: str, reference: set[str]) -> list[dict[str, Any]]:
    """Return the caption's words, each with whether the reference has it too."""
    mapped = system.maps.get(name)
    words = mapped["words"] if mapped else system.captions.get(name, "").split()
    return [
        {"text": word, "extra": any(token not in reference for token in tokenize(word))}
        for word in words
    ]


def _maps(systems: list[System], cases: list[Case]) -> dict[str, Any]:
    """Return maps as small integers: 255 is the strongest patch of its word."""
    shown = {case.example.id for case in cases}
    found: dict[str, Any] = {}
    for system in systems:
        images = {
            name: [[round(255 * value / max(*row, 1e-12)) for value in row] for row in image["maps"]]
            for name, image in system.maps.items()
            if name in shown
        }
        if images:
            found[system.name] = {"grid": system.grid, "images": images}
    return found


def _curves(systems: list[System], colours: dict[str, str]) -> list[str]:
    """Return the charts: training loss (smoothed), validation loss, validation CIDEr-D."""
    charts = []
    for kind, key, label in (
        ("train", "loss", "training loss per token"),
        ("validation", "loss", "validation loss per token"),
        ("validation", "CIDEr-D", "validation CIDEr-D"),
    ):
        lines = []
        for system in systems:
            rows = [row for row in system.curves if row["kind"] == kind and key in row]
            if rows:
                values = [float(row[key]) for row in rows]
                steps = [float(row["step"]) for row in rows]
                if kind == "train":
                    values = _smooth(values)
                lines.append((system.name, steps, values, colours[system.name]))
        if lines:
            charts.append(curve_svg(lines, label))
    return charts


def _smooth(values: list[float], share: float = 0.08) -> list[float]:
    """Return an exponential mean: single batches are noisy."""
    smooth: list[float] = []
    for value in values:
        smooth.append(value if not smooth else smooth[-1] + share * (value - smooth[-1]))
    return smooth
