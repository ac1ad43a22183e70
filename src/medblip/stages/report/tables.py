"""The report's tables as plain records: one function per table, None when its file is absent."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from medblip.metrics.audit.silent import images_stating
from medblip.stages.report.cells import SYSTEM, Column, Table
from medblip.stages.report.clinicaltables import clinical, errors, hallucinations, missed, statuses
from medblip.stages.report.collect import HEADLINE, System
from medblip.stages.report.contents import Contents
from medblip.stages.report.maptables import faithfulness, faithfulness_tests

__all__ = ["all_tables", "every_score", "score_names"]

#: Columns of the score table, in this order; a metric that is not named here follows them.
_COLUMNS = ("CIDEr-D", "BLEU-1", "BLEU-4", "ROUGE-L",
            "fact-modality", "fact-region", "fact-finding", "fact-side")  # fmt: skip
#: In the files and the signatures, but too close to their neighbours for a column of their own.
_LEFT_OUT = ("BLEU-2", "BLEU-3", "CIDEr", "METEOR-segments", "BERTScore-P", "BERTScore-R")
#: The clinical audit is a table of its own.
_AUDIT = ("audit-", "error-")
_TEST = [
    Column(key="difference", title="difference", kind="signed"),
    Column(key="ci", title="95 % interval", kind="ci"),
    Column(key="p", title="p", kind="p"),
    Column(key="p_holm", title="p (Holm)", kind="p"),
]


def all_tables(contents: Contents) -> list[Table]:
    """Return every table that the files allow, in the order of a report."""
    makers = (
        scores, tests, outcomes, strata, weakest, weakest_by_any, agreement, clinical, statuses,
        errors, hallucinations, missed, ablation, ablation_tests, cost, faithfulness,
        faithfulness_tests,
        claims,
    )  # fmt: skip
    return [table for table in (maker(contents) for maker in makers) if table and table.rows]


def score_names(systems: Sequence[System]) -> list[str]:
    """Return the metrics that have a column."""
    present = dict.fromkeys(name for system in systems for name in system.scores["metrics"])
    names = [name for name in _COLUMNS if name in present]
    return names + [
        name
        for name in present
        if name not in (*_COLUMNS, *_LEFT_OUT) and not name.startswith(_AUDIT)
    ]


def scores(contents: Contents) -> Table:
    """Return the value and interval of every metric of every system."""
    names = score_names(contents.systems)
    columns = [SYSTEM, *(Column(key=name, title=name, kind="score") for name in names)]
    rows = [
        {"system": s.name} | {name: s.scores["metrics"].get(name) for name in names}
        for s in contents.systems
    ]
    intervals = any(system.intervals for system in contents.systems)
    note = (
        f"{contents.split} split, {contents.best.scores['n']} images; "
        f"{'95 % bootstrap intervals over images' if intervals else 'no intervals were computed'}."
    )
    return Table(name="scores", title="Scores", columns=columns, rows=rows, note=note)


def every_score(contents: Contents) -> Table:
    """Return every metric of every system, a row each: more than a page has room for."""
    columns = [
        SYSTEM,
        Column(key="metric", title="metric"),
        Column(key="value", title="value", kind="number"),
        Column(key="ci", title="95 % interval", kind="ci"),
        Column(key="n", title="images", kind="count"),
        Column(key="stating", title="images that state any", kind="count"),
        Column(key="signature", title="signature"),
    ]
    rows = [
        {"system": system.name, "metric": name, **score,
         "stating": images_stating(system.scores, name)}
        for system in contents.systems
        for name, score in system.scores["metrics"].items()
    ]  # fmt: skip
    return Table(name="scores-all", title="Every score", columns=columns, rows=rows)


def tests(contents: Contents) -> Table | None:
    """Return the paired tests against the baseline."""
    compared = contents.compared
    if compared is None:
        return None
    columns = [
        SYSTEM,
        Column(key="metric", title="metric"),
        Column(key="baseline_value", title=compared["baseline"], kind="number"),
        Column(key="value", title="value", kind="number"),
        *_TEST,
    ]
    note = f"{compared['n']} images; {compared['test']}; {compared['correction']}."
    if any(row["p"] is None for row in compared["rows"]):
        note += " A dash: a kind of statement that neither captions nor references make."
    return Table(name="tests", keys=2, title=f"Tests against {compared['baseline']}",
                 columns=columns, rows=compared["rows"], note=note)  # fmt: skip


def outcomes(contents: Contents) -> Table | None:
    """Return on how many images a system wins, ties or loses against the baseline."""
    rows = (contents.compared or {}).get("outcomes")
    if not rows:
        return None
    columns = [
        SYSTEM,
        Column(key="baseline", title="against"),
        Column(key="metric", title="metric"),
        *(Column(key=key, title=key, kind="count") for key in ("wins", "ties", "losses")),
        Column(key="n", title="images", kind="count"),
    ]
    return Table(name="outcomes", keys=3, title="Image by image", columns=columns, rows=rows,
                 note="A win is a higher value of this image.")  # fmt: skip


def strata(contents: Contents) -> Table | None:
    """Return the scores by group, one row per group, one column per system."""
    records = (contents.compared or {}).get("strata")
    if not records:
        return None
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for record in records:
        key = (record["stratum"], record["level"], record["metric"])
        row = rows.setdefault(
            key, {"stratum": key[0], "level": key[1], "n": record["n"], "metric": key[2]}
        )
        row[f"system {record['system']}"] = {"value": record["value"], "ci": record["ci"]}
    names = dict.fromkeys(record["system"] for record in records)
    columns = [
        Column(key="stratum", title="grouped by"),
        Column(key="level", title="group"),
        Column(key="n", title="images", kind="count"),
        Column(key="metric", title="metric"),
        *(Column(key=f"system {name}", title=name, kind="score") for name in names),
    ]
    return Table(name="strata", keys=4, title="By group", columns=columns, rows=list(rows.values()),
                 note="A mean can hide a group that fails: each group has its own interval. "
                 "Small groups have wide ones.")  # fmt: skip


def weakest(contents: Contents) -> Table | None:
    """Return the groups that do worse by the headline metric."""
    return _weakest(contents, "weakest", f"Groups that do worse, {HEADLINE}", {HEADLINE})


def weakest_by_any(contents: Contents) -> Table | None:
    """Return the groups that do worse by any metric."""
    return _weakest(contents, "weakest-all", "Groups that do worse, by any metric", None)


def _weakest(contents: Contents, name: str, title: str, metrics: set[str] | None) -> Table | None:
    """Return the groups whose interval lies wholly below the system's overall value."""
    if contents.compared is None or "weakest" not in contents.compared:
        return None
    columns = [
        SYSTEM,
        Column(key="metric", title="metric"),
        Column(key="stratum", title="grouped by"),
        Column(key="level", title="group"),
        Column(key="n", title="images", kind="count"),
        Column(key="value", title="value", kind="number"),
        Column(key="ci", title="95 % interval", kind="ci"),
        Column(key="overall", title="overall", kind="number"),
    ]
    rows = contents.compared["weakest"]
    if metrics is not None:
        rows = [row for row in rows if row["metric"] in metrics]
    return Table(name=name, keys=4, title=title, columns=columns, rows=rows,
                 note="Groups whose interval lies wholly below the overall value. Exploratory: "
                 "not corrected for how many groups were looked at.")  # fmt: skip


def agreement(contents: Contents) -> Table | None:
    """Return how far the metrics rank images alike: Kendall's tau, a row per pair of metrics."""
    found = (contents.compared or {}).get("agreement")
    if not found:
        return None
    names = found["metrics"]
    rows: list[dict[str, Any]] = []
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            taus = {f"system {s}": matrix[i][j] for s, matrix in found["kendall"].items()}
            rows.append({"metric": one, "other": other, **taus})
    columns = [
        Column(key="metric", title="metric"),
        Column(key="other", title="and"),
        *(Column(key=f"system {s}", title=s, kind="number") for s in found["kendall"]),
    ]
    return Table(name="agreement", keys=2, title="Agreement between metrics", columns=columns,
                 rows=rows, note="Kendall's tau between the values per image: 1 is the same order "
                 "of images, 0 no relation.")  # fmt: skip


def ablation(contents: Contents) -> Table | None:
    """Return quality and cost of every variant."""
    found = contents.ablation
    if found is None:
        return None
    metrics = dict.fromkeys(name for v in found["variants"] for name in v["metrics"])
    shown = [found["headline"], *(m for m in _COLUMNS if m in metrics and m != found["headline"])]
    rows = []
    for variant in found["variants"]:
        headline = variant["metrics"].get(found["headline"], {})
        rows.append({
            **variant, "variant": variant["name"],
            "changes": json.dumps(variant["set"], ensure_ascii=False) if variant["set"] else None,
            "sd_seeds": headline.get("sd_seeds"),
            **{name: variant["metrics"].get(name) for name in shown},
        })  # fmt: skip
    columns = [
        Column(key="variant", title="variant"),
        *(Column(key=name, title=name, kind="score") for name in shown),
        Column(key="sd_seeds", title="sd over seeds", kind="number"),
        Column(key="parameters_trainable", title="trained parameters", kind="count"),
        Column(key="seconds", title="training, s", kind="seconds"),
        Column(key="seconds_per_step", title="s per step", kind="number"),
        Column(key="steps_to_best", title="steps to best", kind="count"),
        Column(key="seconds_to_best", title="s to best", kind="seconds"),
        Column(key="peak_memory_mb", title="peak memory, MB", kind="seconds"),
        Column(key="gflop_per_step", title="GFLOP per step", kind="seconds"),
        Column(key="flops_per_step", title="FLOPs per step", kind="count"),
        Column(key="energy_wh", title="energy, Wh", kind="number"),
        Column(key="changes", title="settings"),
    ]
    kept = [c for c in columns if any(row.get(c.key) is not None for row in rows)]
    seeds = [str(seed) for seed in found.get("seeds", [])]
    over = "images and seeds" if len(seeds) > 1 else "images"
    note = (
        f"{found['split']} split, {found['n']} images, {'seeds' if len(seeds) > 1 else 'seed'} "
        f"{', '.join(seeds)}; 95 % intervals over {over}."
    )
    return Table(name="ablation", title="Ablation", columns=kept, rows=rows, note=note)


def ablation_tests(contents: Contents) -> Table | None:
    """Return the paired tests of the variants against the ablation's baseline."""
    found = contents.ablation
    if found is None or not found.get("tests"):
        return None
    columns = [
        Column(key="variant", title="variant"),
        Column(key="baseline", title="against"),
        Column(key="metric", title="metric"),
        *_TEST,
    ]
    title = f"Variants against {found['baseline']}, and each other by {found['headline']}"
    return Table(name="ablation-tests", keys=3, title=title,
                 columns=columns, rows=found["tests"],
                 note=f"{found['test']}; {found['correction']}.")  # fmt: skip


def cost(contents: Contents) -> Table:
    """Return what each system cost."""
    columns = [
        SYSTEM,
        Column(key="seconds", title="training, s", kind="seconds"),
        Column(key="seconds_per_step", title="s per step", kind="number"),
        Column(key="peak_memory_mb", title="peak memory, MB", kind="seconds"),
        Column(key="parameters_trainable", title="trained parameters", kind="count"),
        Column(key="parameters_total", title="all parameters", kind="count"),
        Column(key="images_per_second", title="captions per s", kind="seconds"),
    ]
    keys = [column.key for column in columns[1:]]
    rows = [{"system": s.name} | {key: s.cost.get(key) for key in keys} for s in contents.systems]
    return Table(name="cost", title="Cost", columns=columns, rows=rows,
                 note="Training time includes validation and a frozen encoder's one pass over the "
                 "images; seconds per step do not.")  # fmt: skip


def claims(contents: Contents) -> Table | None:
    """Return the paper's claims and what this study says of each."""
    if contents.study is None:
        return None
    columns = [
        Column(key="claim", title="claim", kind="long"),
        Column(key="verdict", title="verdict"),
        Column(key="reason", title="because", kind="long"),
    ]
    return Table(name="claims", title="The paper's claims", columns=columns,
                 rows=contents.study["claims"])  # fmt: skip
