"""The report's tables as plain records: the same numbers for the page, Markdown, LaTeX and CSV."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from medblip.stages.report.collect import System

__all__ = ["COLUMNS", "Cell", "Sheet", "agreement_sheets", "metric_names", "sheets"]

Value = str | float | int | None

#: Columns of the score table, in this order; a metric that is not named here follows them.
COLUMNS = ("CIDEr-D", "BLEU-1", "BLEU-4", "ROUGE-L",
           "fact-modality", "fact-region", "fact-finding", "fact-side")  # fmt: skip
#: In the files and the signatures, but too close to their neighbours for a column of their own.
_LEFT_OUT = ("BLEU-2", "BLEU-3", "CIDEr", "METEOR-segments", "BERTScore-P", "BERTScore-R")
#: The clinical audit is a table of its own kind: in the files, not among the columns.
_OTHER_TABLES = ("audit-", "error-")


@dataclasses.dataclass(frozen=True)
class Cell:
    """One value of a table.

    Args:
        value: Number or text; None where there is none.
        form: A format of Python, `p` (a p-value), `percent` or `text`.
        ci: 95 % interval.
        best: Whether no other value of its column is better.
    """

    value: Value
    form: str = "text"
    ci: tuple[float, float] | None = None
    best: bool = False

    @property
    def text(self) -> str:
        """As a reader sees it; an en dash where there is no value."""
        if self.value is None:
            return "\N{EN DASH}"
        return _text(self.value, self.form)

    @property
    def interval(self) -> str:
        """As a reader sees it; empty where there is none."""
        return "" if self.ci is None else f"{self.ci[0]:.3f} to {self.ci[1]:.3f}"


@dataclasses.dataclass(frozen=True)
class Sheet:
    """One table.

    Args:
        name: Of its file and its label.
        title: Above it.
        head: One per column.
        rows: As long as `head`.
        note: Below it; may be empty.
    """

    name: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    @property
    def texts(self) -> list[bool]:
        """Whether a column holds text rather than numbers."""
        return [
            any(isinstance(row[index].value, str) for row in self.rows)
            for index in range(len(self.head))
        ]


def sheets(
    systems: Sequence[System],
    *,
    compared: Mapping[str, Any] | None = None,
    ablation: Mapping[str, Any] | None = None,
    study: Mapping[str, Any] | None = None,
) -> list[Sheet]:
    """Return every table that the files have something for.

    Args:
        systems: Of the page.
        compared: Content of comparison.json, of these systems only.
        ablation: Content of ablation.json.
        study: Content of study.json.
    """
    found = [_scores(systems)]
    if compared:
        found += [_tests(compared), *_strata(compared)]
    if ablation:
        found += [_quality(ablation), _contrasts(ablation), _ablation_cost(ablation)]
    found += [_cost(systems), *_clinical(systems), *_maps(systems)]
    if study:
        found.append(_claims(study))
    return [sheet for sheet in found if sheet.rows]


def metric_names(systems: Sequence[System]) -> list[str]:
    """Return the columns of the score table."""
    present = dict.fromkeys(name for system in systems for name in system.scores["metrics"])
    names = [name for name in COLUMNS if name in present]
    return names + [
        name
        for name in present
        if name not in (*COLUMNS, *_LEFT_OUT) and not name.startswith(_OTHER_TABLES)
    ]


def _scores(systems: Sequence[System]) -> Sheet:
    names = metric_names(systems)
    values = {
        name: {system.scores["metrics"].get(name, {}).get("value") for system in systems} - {None}
        for name in names
    }
    rows = []
    for system in systems:
        cells = [Cell(system.name)]
        for name in names:
            score = system.scores["metrics"].get(name)
            cells.append(
                Cell(None)
                if score is None
                else Cell(
                    score["value"],
                    ".3f",
                    tuple(score["ci"]),
                    len(values[name]) > 1 and score["value"] == max(values[name]),
                )
            )
        rows.append(tuple(cells))
    n = systems[0].scores["n"]
    split = systems[0].scores["split"]
    return Sheet(
        "scores", "Scores", ("system", *names), tuple(rows),
        f"95 % bootstrap intervals; {n} images of the {split} split.",
    )  # fmt: skip


def _tests(compared: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (
            Cell(row["system"]), Cell(row["metric"]), Cell(row["baseline_value"], ".3f"),
            Cell(row["value"], ".3f"), Cell(row["difference"], "+.3f", tuple(row["ci"])),
            Cell(row["p"], "p"), Cell(row["p_holm"], "p"),
        )
        for row in compared["rows"]
    )  # fmt: skip
    head = ("system", "metric", compared["baseline"], "value", "difference", "p", "p (Holm)")
    note = f"Against {compared['baseline']}: {compared['test']}; {compared['correction']}."
    return Sheet("tests", "Paired tests", head, rows, note)


def _strata(compared: Mapping[str, Any]) -> list[Sheet]:
    strata = tuple(
        (
            Cell(row["stratum"]), Cell(row["level"]), Cell(row["system"]), Cell(row["metric"]),
            Cell(row["n"], ","), Cell(row["value"], ".3f", tuple(row["ci"])),
        )
        for row in compared.get("strata", [])
    )  # fmt: skip
    weakest = tuple(
        (
            Cell(row["system"]), Cell(row["metric"]), Cell(f"{row['stratum']}: {row['level']}"),
            Cell(row["value"], ".3f", tuple(row["ci"])), Cell(row["overall"], ".3f"),
        )
        for row in compared.get("weakest", [])
    )  # fmt: skip
    outcomes = tuple(
        (
            Cell(row["system"]), Cell(row["metric"]), Cell(row["wins"], ","),
            Cell(row["ties"], ","), Cell(row["losses"], ","), Cell(row["n"], ","),
        )
        for row in compared.get("outcomes", [])
    )  # fmt: skip
    return [
        Sheet(
            "outcomes", "Image by image",
            ("system", "metric", "better", "equal", "worse", "images"), outcomes,
            f"Images on which a system scores better than {compared['baseline']}, equal, worse.",
        ),
        Sheet(
            "weakest", "Groups below the mean", ("system", "metric", "group", "value", "overall"),
            weakest, "Groups whose interval lies wholly below the system's value on all images. "
            "Exploratory: not corrected for how many groups were looked at.",
        ),
        Sheet(
            "strata", "By group", ("by", "group", "system", "metric", "images", "value"), strata,
            "Exploratory: not corrected for how many groups were looked at.",
        ),
    ]  # fmt: skip


def agreement_sheets(compared: Mapping[str, Any] | None) -> list[Sheet]:
    """Return, per system, how far metrics rank its images alike (Kendall's tau-b)."""
    found = (compared or {}).get("agreement", {})
    names = found.get("metrics", [])
    return [
        Sheet(
            f"agreement-{index}", f"Do metrics agree on which images are good? {system}",
            ("metric", *names),
            tuple(
                (Cell(name), *(Cell(value, ".2f") for value in row))
                for name, row in zip(names, matrix, strict=True)
            ),
            "Kendall's tau-b of values per image: 1 the same order, 0 none.",
        )
        for index, (system, matrix) in enumerate(found.get("kendall", {}).items())
    ]  # fmt: skip


def _quality(ablation: Mapping[str, Any]) -> Sheet:
    names = list(dict.fromkeys(m for one in ablation["variants"] for m in one["metrics"]))
    rows = []
    for one in ablation["variants"]:
        cells = [Cell(one["name"])]
        for name in names:
            score = one["metrics"].get(name)
            cells.append(
                Cell(None) if score is None else Cell(score["value"], ".3f", tuple(score["ci"]))
            )
        spread = one["metrics"].get(ablation["headline"], {}).get("sd_seeds")
        rows.append((*cells, Cell(spread, ".3f")))
    seeds = ", ".join(map(str, ablation["seeds"]))
    head = ("variant", *names, f"sd between seeds ({ablation['headline']})")
    note = f"Mean over seeds {seeds}; 95 % intervals over {ablation['n']} images and seeds."
    return Sheet("ablation", "Ablation: quality", head, tuple(rows), note)


def _contrasts(ablation: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (
            Cell(row["variant"]), Cell(row["baseline"]), Cell(row["metric"]),
            Cell(row["difference"], "+.3f", tuple(row["ci"])), Cell(row["p_holm"], "p"),
        )
        for row in ablation["tests"]
    )  # fmt: skip
    head = ("variant", "against", "metric", "difference", "p (Holm)")
    note = f"{ablation['test']}; {ablation['correction']}."
    return Sheet("ablation-tests", "Ablation: tests", head, rows, note)


def _ablation_cost(ablation: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (
            Cell(one["name"]), Cell(one["parameters_trainable"], ","), Cell(one["seconds"], ".1f"),
            Cell(one["seconds_per_step"], ".4f"), Cell(one["steps_to_best"], ".0f"),
            Cell(one["seconds_to_best"], ".1f"), Cell(one["peak_memory_mb"], ".0f"),
            Cell(one.get("gflop_per_step"), ",.1f"), Cell(one.get("energy_wh"), ".2f"),
        )
        for one in ablation["variants"]
        if one["seconds"] is not None
    )  # fmt: skip
    head = ("variant", "trained parameters", "training, s", "s per step", "steps to best",
            "s to best", "peak memory, MB", "GFLOP per step", "energy, Wh")  # fmt: skip
    return Sheet("ablation-cost", "Ablation: cost", head, rows, "Mean over seeds.")


def _cost(systems: Sequence[System]) -> Sheet:
    rows = tuple(
        (
            Cell(system.name), Cell(system.cost.get("parameters_trainable"), ","),
            Cell(system.cost.get("seconds"), ".1f"),
            Cell(system.cost.get("seconds_per_step"), ".4f"),
            Cell(system.cost.get("peak_memory_mb"), ".0f"),
            Cell(system.cost.get("images_per_second"), ".1f"),
        )
        for system in systems
    )  # fmt: skip
    head = ("system", "trained parameters", "training, s", "s per step", "peak memory, MB",
            "captions per s")  # fmt: skip
    return Sheet("cost", "Cost", head, rows, "Training time includes validation.")


def _clinical(systems: Sequence[System]) -> list[Sheet]:
    kinds = dict.fromkeys(
        k for s in systems for k in s.scores.get("clinical", {}).get("totals", {})
    )
    totals = []
    for system in systems:
        found = system.scores.get("clinical", {}).get("totals", {})
        if found:
            cells = [
                Cell(found[kind]["value"], ".3f", tuple(found[kind]["ci"]))
                if kind in found and found[kind]["stated"]
                else Cell(None)
                for kind in kinds
            ]
            totals.append((Cell(system.name), *cells))
    invented = tuple(
        (Cell(system.name), Cell(one["kind"]), Cell(one["what"]), Cell(one["count"], ","),
         Cell(", ".join(one["ids"][:3])))
        for system in systems
        for one in system.scores.get("clinical", {}).get("hallucinations", [])[:8]
    )  # fmt: skip
    missed = tuple(
        (Cell(system.name), Cell(one["what"]), Cell(one["count"], ","),
         Cell(", ".join(one["ids"][:3])))
        for system in systems
        for one in system.scores.get("clinical", {}).get("missed", [])[:8]
    )  # fmt: skip
    return [
        Sheet(
            "clinical", "Clinical table", ("system", *kinds), tuple(totals),
            "Share of images whose caption states it right, of those whose reference states it; "
            "read by rules, not by a radiologist.",
        ),
        Sheet(
            "hallucinations", "Commonest inventions",
            ("system", "kind", "what", "captions", "for example"), invented,
            "What captions state and no reference does.",
        ),
        Sheet(
            "missed", "Commonest omissions", ("system", "finding", "captions", "for example"),
            missed, "Findings of references that the caption does not mention.",
        ),
    ]  # fmt: skip


def _maps(systems: Sequence[System]) -> list[Sheet]:
    rows = tuple(
        (Cell(system.name), Cell(row["measure"]), Cell(row["map"]),
         Cell(row["value"], ".3f", tuple(row["ci"])), Cell(row["n"], ","))
        for system in systems
        for row in system.faithfulness.get("measures", [])
    )  # fmt: skip
    head = ("system", "measure", "map", "value", "n")
    return [Sheet("maps", "Are the maps true?", head, rows, "95 % intervals over images.")]


def _claims(study: Mapping[str, Any]) -> Sheet:
    rows = tuple(
        (Cell(one["claim"]), Cell(one["verdict"]), Cell(one["reason"])) for one in study["claims"]
    )
    return Sheet("claims", "The paper's claims", ("claim", "here", "figures"), rows)


def _text(value: str | float, form: str) -> str:
    """Return a value as text; the bootstrap's smallest p is 1 / (resamples + 1), never 0.

    >>> _text(0.03, "p"), _text(0.00001, "p"), _text(3200, ","), _text("a", "text")
    ('0.0300', '< 0.0001', '3,200', 'a')
    """
    if form == "text" or isinstance(value, str):
        return str(value)
    if form == "p":
        return f"{value:.4f}" if value >= 0.00005 else "< 0.0001"
    return f"{100 * value:.0f} %" if form == "percent" else format(value, form)
