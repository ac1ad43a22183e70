"""The tables that commands print: scores with intervals, paired differences, the demo's summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from medblip.schema import Score

if TYPE_CHECKING:
    from medblip.stages.demo import Demonstrated

_AUDIT = ("audit-", "error-")

__all__ = [
    "audit_table",
    "comparison_table",
    "degeneration_line",
    "demo_table",
    "missing_lines",
    "score_table",
    "signature_lines",
]


def score_table(scores: Mapping[str, Score], title: str) -> Table:
    """Return metric, value, 95 % interval and n; the clinical audit has a table of its own."""
    table = Table(title=title)
    for column in ("metric", "value", "95 % interval", "n"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, score in scores.items():
        if not name.startswith(_AUDIT):
            low, high = score.ci
            table.add_row(name, f"{score.value:.4f}", f"[{low:.4f}, {high:.4f}]", str(score.n))
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


def audit_table(scores: Mapping[str, Score]) -> Table | None:
    """Return precision, recall and F1 per kind, and errors per 100 captions; None without them."""
    kinds = [name.removesuffix("-F1") for name in scores if _is_kind(name)]
    errors = [name for name in scores if name.startswith("error-")]
    if not kinds and not errors:
        return None
    table = Table(title="Clinical audit: what captions assert, against the references")
    for column in ("asserted", "precision", "recall", "F1", "95 % interval"):
        table.add_column(column, justify="left" if column == "asserted" else "right")
    for kind in kinds:
        values = [scores[f"{kind}-{part}"] for part in ("P", "R", "F1")]
        low, high = values[-1].ci
        table.add_row(
            kind.removeprefix("audit-"), *(f"{score.value:.3f}" for score in values),
            f"[{low:.3f}, {high:.3f}]",
        )  # fmt: skip
    table.add_section()
    for name in errors:
        low, high = (100 * end for end in scores[name].ci)
        table.add_row(
            name.removeprefix("error-").replace("-", " "), "", "",
            f"{100 * scores[name].value:.1f} per 100", f"[{low:.1f}, {high:.1f}]",
        )  # fmt: skip
    return table


def degeneration_line(values: Mapping[str, float]) -> str:
    """Return the signs of collapse in one line."""
    parts = (f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())
    return "Captions: " + ", ".join(parts)


def missing_lines(unavailable: Mapping[str, str]) -> str | None:
    """Return what was not computed and why, a part per line; None when nothing is missing."""
    return "\n".join(f"not computed: {part}: {why}" for part, why in unavailable.items()) or None


def _is_kind(name: str) -> bool:
    return name.startswith("audit-") and name.endswith("-F1")


def comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return one line per system and metric: difference, interval, p and Holm-corrected p."""
    table = Table(title="Paired differences")
    for column in ("system", "baseline", "metric", "difference", "95 % interval", "p", "p (Holm)"):
        table.add_column(
            column, justify="left" if len(column) < 9 and column[0] != "p" else "right"
        )
    for row in rows:
        low, high = row["ci"]
        table.add_row(
            str(row["system"]),
            str(row["baseline"]),
            str(row["metric"]),
            f"{row['difference']:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            f"{row['p']:.4f}",
            f"{row['p_holm']:.4f}",
        )
    return table


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
            *("-" if p is None else f"{p:.4f}" for p in tests),
            "-" if record["seconds"] is None else f"{record['seconds']:.0f}",
            "-" if record["trainable"] is None else f"{record['trainable']:,}",
        )
    return table
