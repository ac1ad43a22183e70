"""Stage `compare`: is a difference between systems more than chance? Paired, on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medblip.errors import MedblipError, MetricError, RunError, explain, nearest
from medblip.files import read_json, short_names, write_json
from medblip.progress import track
from medblip.stages.compare.detail import details
from medblip.stages.compare.source import load

if TYPE_CHECKING:
    from medblip.metrics import StoredStatistics

__all__ = ["HEADLINES", "Compared", "compare"]

#: What is tested unless metrics are named: each further test makes all others harder to pass.
HEADLINES = (
    "BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D", "METEOR", "ROUGE-1", "BERTScore-F1",
    "sentence-cosine", "roco-concepts-F1", "fact-modality", "fact-region", "fact-finding",
    "fact-side",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """Paired tests of all systems against one.

    Args:
        comparison_file: Where they were written; None when no file was asked for.
        rows: `{system, baseline, metric, value, baseline_value, difference, ci, p, p_holm}`.
        split: Of runs and data sets.
        baseline: Short name of the baseline.
        test: Which test, how many resamples, which seed.
        correction: Over how many tests.
        n: Number of images.
        outcomes: {system, baseline, metric, wins, ties, losses, n}: images on which a system scores
            better than the baseline, equal, worse.
        weakest: Groups of images (modality, region, length, rare findings) whose interval lies
            wholly below the system's value on all; exploratory.
        notes: What could not be looked at, and why.
    """

    comparison_file: str | None
    rows: list[dict[str, Any]]
    split: str
    baseline: str
    test: str
    correction: str
    n: int
    outcomes: list[dict[str, Any]]
    weakest: list[dict[str, Any]]
    notes: list[str]


def compare(
    systems: Sequence[Path | str],
    baseline: Path | str | None = None,
    *,
    split: str = "test",
    references: Path | str | None = None,
    metrics: Sequence[str] | None = None,
    test: Literal["bootstrap", "randomisation"] = "bootstrap",
    out: Path | str | None = None,
    names: Sequence[str] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Compared:
    """Test every system against a baseline, Holm-corrected over all tests.

    Args:
        systems: Run directories with scores of that split, `scores.json` files of `evaluate`, or,
            with `references`, tables of captions; all of the same images. One named twice counts
            once.
        baseline: One of them; None: the first.
        split: Which split of a run or a data set.
        references: Data set or table against which tables of captions are scored.
        metrics: Names to test; `["all"]`: every one that all have; None: those of `HEADLINES`.
        test: `bootstrap` (paired; also gives the interval's p) or `randomisation` (systems swapped
            per image; the interval is still the bootstrap's).
        out: JSON file; None: `comparison.json` beside the baseline's run directory, no file
            otherwise.
        names: What the systems are called, in their order; None: as their files or folders.
        resamples: Bootstrap resamples, and trials of the randomisation.
        seed: Of the resampling; both systems get the same weights.

    Raises:
        RunError: A system has no scores, or there is nothing to compare.
        MetricError: The systems were not scored on the same images, or lack a metric.
    """
    from medblip.metrics.significance import holm

    if isinstance(systems, str | Path):
        systems = [systems]
    if isinstance(metrics, str):
        metrics = [metrics]
    _check(test, resamples, seed)
    if not systems or (names is not None and len(names) != len(systems)):
        raise RunError(
            explain(
                "nothing to compare" if not systems else "names that do not fit",
                got=f"{len(systems)} systems" + ("" if names is None else f", {len(names)} names"),
                expected="two systems or more, and a name for each or none",
                do="correct it",
            )
        )
    base = _base(baseline, systems)
    each = {Path(one).resolve(): Path(one) for one in reversed(systems)}  # twice is once
    others = [path for whole, path in reversed(each.items()) if whole != base.resolve()]
    if not others:
        raise RunError(
            explain(
                "nothing to compare",
                got=", ".join(map(str, systems)) or "no system",
                expected="a baseline and at least one other system",
                do="name two or more run directories, scores files or tables of captions",
            )
        )
    target = Path(out) if out is not None else base.parent / "comparison.json"
    written = out is not None or base.is_dir()
    if written:
        _refuse_foreign(target)
    loaded = {path: load(path, split, references) for path in [base, *others]}
    given = [Path(one).resolve() for one in systems]
    told = dict(zip(given, names or (), strict=bool(names)))
    called = {path: told[path.resolve()] for path in loaded if path.resolve() in told}
    shown = dict(zip([base, *others], short_names([base, *others]), strict=True)) | called
    if len(set(shown.values())) < len(shown):
        raise RunError(
            explain(
                "two systems have one name",
                got=", ".join(shown.values()),
                expected="a name of its own for each",
                do="correct the names",
            )
        )
    wanted = _wanted(metrics, loaded)
    rows: list[dict[str, Any]] = []
    for path in track(others, "paired tests", len(others), unit="system"):
        found = _tests(loaded[path], loaded[base], wanted, test, resamples, seed)
        rows += [{"system": shown[path], "baseline": shown[base]} | row for row in found]
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    kind = "paired bootstrap" if test == "bootstrap" else "approximate randomisation"
    record: dict[str, Any] = {
        "split": split,
        "baseline": shown[base],
        "test": f"{kind}, {resamples} resamples, seed {seed}",
        "correction": f"Holm over {len(rows)} tests",
        "n": len(loaded[base].ids),
    }
    order = [name for name in HEADLINES if name in wanted]
    more = details(
        {shown[path]: system for path, system in loaded.items()}, shown[base],
        order + sorted(wanted.difference(order)), paths=list(loaded), split=split,
        references=references, seed=seed,
    )  # fmt: skip
    if written:
        write_json(target, record | {"rows": rows} | more)
    return Compared(
        comparison_file=str(target) if written else None, rows=rows, outcomes=more["outcomes"],
        weakest=more["weakest"], notes=more["notes"], **record,
    )  # fmt: skip


def _base(baseline: Path | str | None, systems: Sequence[Path | str]) -> Path:
    """Return the baseline: the first, a path, or the system that tables call so."""
    if baseline is None:
        return Path(systems[0])
    paths = [Path(one) for one in systems]
    called = dict(zip(short_names(paths), paths, strict=True))
    return Path(baseline) if Path(baseline).exists() else called.get(str(baseline), Path(baseline))


def _tests(
    system: StoredStatistics,
    baseline: StoredStatistics,
    wanted: frozenset[str],
    test: str,
    resamples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row per metric: values, difference, interval and p."""
    from medblip.metrics.significance import approximate_randomisation, paired_bootstrap

    tests = paired_bootstrap(system, baseline, resamples=resamples, seed=seed, metrics=wanted)
    p_values = {name: found.p for name, found in tests.items()}
    if test == "randomisation":
        p_values = approximate_randomisation(
            system, baseline, trials=resamples, seed=seed, metrics=wanted
        )
    values, theirs = _values(system), _values(baseline)
    return [
        {
            "metric": name,
            "value": values[name],
            "baseline_value": theirs[name],
            "difference": found.difference,
            "ci": list(found.ci),
            "p": p_values[name],
        }
        for name, found in tests.items()
    ]


def _check(test: str, resamples: int, seed: int) -> None:
    known = ("bootstrap", "randomisation")
    if test not in known or resamples < 1 or seed < 0:
        raise MetricError(
            explain(
                "a test that cannot be made",
                got=f"{test}, {resamples} resamples, seed {seed}",
                expected=f"{' or '.join(known)}, at least 1 resample, a seed from 0",
                do="correct it",
            )
        )


def _refuse_foreign(target: Path) -> None:
    """Refuse to write over a file that is not an earlier comparison."""
    if not target.exists():
        return
    try:
        if target.is_file() and {"baseline", "correction", "rows"} <= read_json(target).keys():
            return
    except MedblipError:
        pass
    raise RunError(
        explain(
            f"{target} is there already",
            got="a folder" if target.is_dir() else "a file that is no comparison",
            expected="a new file, or an earlier comparison",
            do="choose another --out",
        )
    )


def _wanted(metrics: Sequence[str] | None, loaded: dict[Path, StoredStatistics]) -> frozenset[str]:
    """Return the names to test, all of which every system has."""
    common = frozenset.intersection(*(frozenset(_values(system)) for system in loaded.values()))
    if metrics is None and not (found := common.intersection(HEADLINES)):
        raise MetricError(
            explain(
                "no headline metric to compare by",
                got=", ".join(sorted(common)) or "no metric that every system has",
                expected=f"one of {', '.join(HEADLINES)}",
                do="name metrics with --metric, or `--metric all`",
            )
        )
    if metrics is None:
        return found
    if list(metrics) == ["all"]:
        return common
    absent = [name for name in metrics if name not in common]
    if absent:
        raise MetricError(
            explain(
                "a metric that not every system has",
                got=", ".join(absent),
                expected=", ".join(sorted(common)),
                do=f"did you mean {_nearest(absent[0], common)}? Or evaluate "
                "all systems with the same protocol",
            )
        )
    return frozenset(metrics)


def _nearest(name: str, known: Collection[str]) -> str:
    """Return the metric that is meant, whatever its case and hyphens: bleu4 -> BLEU-4."""
    plain = {one.lower().replace("-", ""): one for one in known}
    close = nearest(name.lower().replace("-", ""), plain)
    return plain.get(close, "one of them")


def _values(system: StoredStatistics) -> dict[str, float]:
    return {
        name: float(value)
        for family in system.families.values()
        for name, value in zip(family.metric.names, family.corpus(), strict=True)
    }
