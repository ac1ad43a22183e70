"""The tables that commands print: scores with intervals, paired differences, the demo's summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from medblip.progress import time_of
from medblip.schema import Score
from medblip.stages.report.cells import p_value

if TYPE_CHECKING:
    from medblip.stages.check import Checked
    from medblip.stages.compare import Compared
    from medblip.stages.demo import Demonstrated
    from medblip.stages.doctor import Diagnosed
    from medblip.stages.models import Entry
    from medblip.stages.prepare import Plan, Prepared
    from medblip.stages.push import Pushed
    from medblip.stages.systems import Studied
    from medblip.stages.train.plan import Planned

_AUDIT = ("audit-", "error-")
_SIGNS = {"mean_words": "words on average", "repeated_4grams": "repeated 4-grams"}
#: Fewer captions than this may all be the same for good reasons.
_FEW = 20

__all__ = [
    "audit_table",
    "check_table",
    "comparison_tables",
    "degeneration_line",
    "demo_table",
    "diagnosis_table",
    "error_table",
    "label_lines",
    "missing_lines",
    "plan_lines",
    "prepared_table",
    "pushed_table",
    "score_table",
    "signature_lines",
    "training_table",
]


def score_table(scores: Mapping[str, Score], title: str) -> Table:
    """Return metric, value, 95 % interval and n; the clinical audit has a table of its own."""
    table = Table(title=title)
    for column in ("metric", "value", "95 % interval", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, score in scores.items():
        if not name.startswith(_AUDIT):
            table.add_row(name, f"{score.value:.4f}", _interval(score), str(score.n))
    return table


def signature_lines(scores: Mapping[str, Score]) -> str:
    """Return the signature of every score, those that are equal together."""
    names: dict[str, list[str]] = {}
    for name, score in scores.items():
        those = names.setdefault(score.signature.removeprefix(f"{name}|"), [])
        shown = next((f"{prefix}*" for prefix in _AUDIT if name.startswith(prefix)), name)
        if shown not in those:
            those.append(shown)
    return "\n".join(f"{', '.join(those)}: {signature}" for signature, those in names.items())


def audit_table(scores: Mapping[str, Score], stating: Mapping[str, int]) -> Table | None:
    """Return precision, recall and F1 per kind of statement; None without an audit.

    Args:
        scores: By metric name.
        stating: Kind -> images that state any; where it is 0, the 1 of nothing against nothing is
            a dash.
    """
    kinds = [name.removesuffix("-F1") for name in scores if _is_kind(name)]
    if not kinds:
        return None
    table = Table(title="Clinical audit: what captions assert, against the references")
    for column in ("asserted", "images", "precision", "recall", "F1", "95 % interval"):
        table.add_column(column, justify="left" if column == "asserted" else "right")
    for kind in kinds:
        shown = kind.removeprefix("audit-")
        if stating.get(shown) == 0:
            table.add_row(shown, "0", *["-"] * 4)
            continue
        values = [scores[f"{kind}-{part}"] for part in ("P", "R", "F1")]
        table.add_row(
            shown, str(stating.get(shown, "")), *(f"{score.value:.3f}" for score in values),
            _interval(values[-1], digits=3),
        )  # fmt: skip
    return table


def error_table(scores: Mapping[str, Score]) -> Table | None:
    """Return the errors per 100 captions; None without an audit."""
    errors = [name for name in scores if name.startswith("error-")]
    if not errors:
        return None
    table = Table(title="Errors per 100 captions (audit)")
    for column in ("error", "per 100", "95 % interval"):
        table.add_column(column, justify="left" if column == "error" else "right")
    for name in errors:
        shown = name.removeprefix("error-").replace("-", " ")
        interval = _interval(scores[name], digits=1, factor=100)
        table.add_row(shown, f"{100 * scores[name].value:.1f}", interval)
    return table


def degeneration_line(values: Mapping[str, float], n: int) -> str:
    """Return the signs of collapse, and a warning where a captioner has hardly anything to say."""
    parts = (
        f"{_SIGNS.get(name, name.replace('_', ' '))} {value:g}" for name, value in values.items()
    )
    line = "Captions: " + "; ".join(parts)
    if n >= _FEW and (values["unique_captions"] < 0.1 or values["most_frequent_share"] > 0.2):
        line += (
            "\nWARNING: this looks like mode collapse: the captions hardly depend on the image. "
            "Overlap metrics do not see it."
        )
    return line


def missing_lines(unavailable: Mapping[str, str], notes: Sequence[str] = ()) -> str | None:
    """Return what was not computed and why, and what a reader must know; None when nothing is."""
    lines = [f"not computed: {part}: {why}" for part, why in unavailable.items()]
    return "\n".join([*lines, *(f"note: {note}" for note in notes)]) or None


def _interval(score: Score, digits: int = 4, factor: float = 1.0) -> str:
    """Return the interval; a dash where none was computed."""
    if "|ci:none" in f"|{score.signature}":
        return "-"
    low, high = (factor * end for end in score.ci)
    return f"[{low:.{digits}f}, {high:.{digits}f}]"


def _is_kind(name: str) -> bool:
    return name.startswith("audit-") and name.endswith("-F1")


def comparison_tables(result: Compared) -> list[Table | str]:
    """Return a table per system, narrow enough for 80 columns, and how they were tested."""
    tables: dict[str, Table] = {}
    for row in result.rows:
        system = str(row["system"])
        if system not in tables:
            title = f"{system} against {result.baseline}"
            tables[system] = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0))
            for column in ("metric", "value", "difference", "95 % interval", "p", "p (Holm)"):
                left = column == "metric"
                tables[system].add_column(column, justify="left" if left else "right", no_wrap=True)
        low, high = row["ci"]
        tables[system].add_row(
            str(row["metric"]),
            f"{row['value']:.4f}",
            f"{row['difference']:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            p_value(row["p"]),
            p_value(row["p_holm"]),
        )
    return [*tables.values(), f"n = {result.n}; {result.test}; {result.correction}"]


def demo_table(result: Demonstrated) -> Table:
    """Return the study in miniature: one line per system, quality beside cost."""
    shown = [
        name for name in result.columns if name in next(iter(result.systems.values()))["scores"]
    ]
    table = Table(
        title=f"{result.n} test phantoms; value [95 % interval]; p: paired, Holm, CIDEr-D"
    )
    table.add_column("system")
    for name in shown:
        table.add_column(name, justify="right")
    for name in ("p vs zero-shot", "p vs encoder", "seconds", "trainable"):
        table.add_column(name, justify="right")
    for system, record in result.systems.items():
        cells = []
        for name in shown:
            score = record["scores"][name]
            low, high = score["ci"]
            cells.append(f"{score['value']:.3f}\n[{low:.3f}, {high:.3f}]")
        tests = (record["p_vs_zero_shot"], record["p_vs_encoder"])
        table.add_row(
            system,
            *cells,
            *("-" if p is None else p_value(p) for p in tests),
            "-" if record["seconds"] is None else f"{record['seconds']:.0f}",
            "-" if record["trainable"] is None else f"{record['trainable']:,}",
        )
    return table


def plan_lines(plan: Plan) -> str:
    """Return what was recognised, and the first rows."""
    splits = ", ".join(f"{split} {count}" for split, count in plan.splits.items())
    lines = [
        f"{plan.source}: {plan.format}, {plan.rows} rows ({splits})",
        f"files with images: {plan.source_bytes / 1e6:,.0f} MB; pixels: "
        f"{plan.pixel_bytes / 1e6:,.0f} MB if grey, three times that in colour",
        *(f"  {name}: {value}" for row in plan.first for name, value in row.items()),
    ]
    return "\n".join(lines)


def prepared_table(result: Prepared) -> Table | str:
    """Return what was left out and why."""
    splits = ", ".join(f"{split} {count}" for split, count in result.splits.items())
    table = Table(title=f"{result.images} images from {result.format}: {splits}")
    table.add_column("left out")
    table.add_column("rows", justify="right")
    for reason, count in result.reasons.items():
        table.add_row(Text(reason), str(count))
    return table if result.reasons else f"{result.images} images: {splits}; nothing left out"


def check_table(result: Checked) -> Table:
    """Return the findings, errors first, each with what to do."""
    splits = ", ".join(f"{split} {count}" for split, count in result.splits.items())
    labels = result.labels
    table = Table(
        title=f"{result.images} images ({splits}); labels of {result.model}: median "
        f"{labels['median_tokens']:.0f} tokens, {labels['cut_share']:.1%} cut at {labels['cut_at']}"
    )
    for column in ("", "found", "how many", "for example", "what to do"):
        table.add_column(column, justify="right" if column == "how many" else "left")
    for finding in result.findings:
        table.add_row(
            finding.level, Text(finding.what), str(finding.count),
            Text(shorten(", ".join(finding.first[:3]), 70, placeholder=" ...")), Text(finding.do),
        )  # fmt: skip
    if not result.findings:
        table.add_row("", "nothing", "0", "", "")
    return table


def label_lines(result: Checked) -> str:
    """Return a few captions, each with the label that training would make of it."""
    lines = ["what is taught (more in check.json; the pixels in seen.png):"]
    for row in result.labels["examples"][:3]:
        lines += [
            f"  {row['id']}",
            f"    caption  {row['caption']}",
            f"    label    {row['label']}",
        ]
    return "\n".join(lines)


def training_table(planned: Planned) -> Table:
    """Return what `train --dry-run` found, with units."""
    cached = planned.feature_cache_mb > 0
    rows = {
        "trains": f"{planned.parameters_trainable:,} of {planned.parameters_total:,} parameters",
        "captions": f"{planned.captions:,}, {planned.padding_share:.1%} padding",
        "steps": f"{planned.steps:,}, {planned.micro_batch_size} captions per pass",
        "work per step": f"{planned.gflop_per_step:,.0f} GFLOP"
        + (" (features of the frozen encoder cached)" if cached else ""),
        "memory": f"{planned.weights_mb:,.0f} MB weights, gradients and optimizer; "
        f"{planned.activations_mb:,.0f} MB kept per pass",
        "feature cache": f"{planned.feature_cache_mb:,.0f} MB on the disk, "
        f"{planned.feature_seconds:,.0f} s once" if cached else "none",
        "time": f"{planned.seconds_per_step:.3g} s per step, {time_of(planned.hours)} without "
        f"validation ({planned.device}, {planned.precision})",
    }  # fmt: skip
    table = Table(title="What would be trained (nothing was written)", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def diagnosis_table(result: Diagnosed) -> Table:
    """Return what `doctor` found, errors first, and what is learned of a few captions."""
    table = Table(title=f"errors: {result.errors}, warnings: {result.warnings}")
    for column in ("", "looked at", "found", "what to do"):
        table.add_column(column)
    for finding in result.findings:
        table.add_row(finding.level, Text(finding.about), Text(finding.got), Text(finding.do))
    for row in result.labels:
        table.add_row(
            "learned", Text(row["id"]), Text(row["label"]), Text(f"masked: {row['masked']}")
        )
    return table


def models_table(found: Sequence[Entry]) -> Table:
    """Return the captioners that have a name."""
    table = Table(title="Captioners by name (any folder or hub id of these families works too)")
    for column in ("name", "hub id", "parameters", "GB, fp32 / bf16", "licence", "trained by",
                   "here"):  # fmt: skip
        table.add_column(column)
    for one in found:
        table.add_row(
            one.name, one.hub, f"{one.parameters / 1e6:,.1f} M" if one.parameters else "",
            f"{one.fp32_gb:g} / {one.bf16_gb:g}" if one.parameters else "", Text(one.licence),
            ", ".join(one.regimes) or "nothing: it can only caption",
            "yes" if one.here else "no",
        )  # fmt: skip
    return table


def pushed_table(result: Pushed, dry_run: bool) -> Table:
    """Return a line per file of a push, or of one that would be."""
    total = sum(result.files.values()) / 1e6
    would = "would be " if dry_run else ""
    table = Table(title=f"{result.repo_id} ({result.kind}): {total:,.1f} MB {would}pushed")
    for column in ("file", "bytes", ""):
        table.add_column(column, justify="right" if column == "bytes" else "left")
    for path, size in result.files.items():
        state = "" if dry_run else "sent" if path in result.sent else "there already"
        table.add_row(Text(path), f"{size:,}", state)
    for path in result.deleted:
        table.add_row(Text(path), "", "deleted")
    return table


def systems_table(study: Studied) -> Table:
    """Return a line per system of a list: scores and speed, or what a dry run knows."""
    if not study.report:
        table = Table(title="What would be captioned (nothing was)")
        for column in ("system", "kind", "captioner", "here", "GB, fp32 / bf16"):
            table.add_column(column)
        for row in study.rows:
            size = f"{row['fp32_gb']:g} / {row['bf16_gb']:g}" if "bf16_gb" in row else ""
            table.add_row(
                Text(row["system"]), row["kind"], Text(row["source"]),
                "yes" if row["here"] else "no", size,
            )  # fmt: skip
        return table
    shown = [name for name in ("BLEU-4", "ROUGE-L", "CIDEr-D", "fact-modality", "fact-finding")
             if all(name in row["scores"] for row in study.rows)]  # fmt: skip
    table = Table(
        title=f"{study.rows[0]['n']} images; p: against {study.baseline}, paired, Holm, CIDEr-D",
        box=None, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for column in ("system", *shown, "p", "images/s"):
        left = column == "system"
        table.add_column(
            column, justify="left" if left else "right", overflow="fold",
            min_width=12 if left else None,
        )  # fmt: skip
    p = {row["system"]: row["p_holm"] for row in study.tests if row["metric"] == "CIDEr-D"}
    for row in study.rows:
        values = [f"{row['scores'][name]['value']:.3f}" for name in shown]
        rate = row["images_per_second"]
        tested = p.get(row["folder"])
        table.add_row(
            Text(row["system"]), *values, "" if tested is None else p_value(tested),
            "" if rate is None else f"{rate:g}",
        )  # fmt: skip
    for one in study.failed:
        table.add_row(Text(one["system"]), Text(one["reason"].splitlines()[0]))
    return table
