"""Stage `compare`: is a difference between systems more than chance? Paired, on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from medblip.errors import MedblipError, MetricError, RunError, explain, nearest
from medblip.files import read_json, write_json
from medblip.progress import track
from medblip.rundir import RunDir

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
    """

    comparison_file: str | None
    rows: list[dict[str, Any]]
    split: str
    baseline: str
    test: str
    correction: str
    n: int


def compare(
    systems: Sequence[Path | str],
    baseline: Path | str | None = None,
    *,
    split: str = "test",
    references: Path | str | None = None,
    metrics: Sequence[str] | None = None,
    test: Literal["bootstrap", "randomisation"] = "bootstrap",
    out: Path | str | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Compared:
    """Test every system against a baseline, Holm-corrected over all tests.

    Args:
        systems: Run directories with scores of that split, `scores.json` files of `evaluate`, or,
            with `references`, tables of captions; all of the same images.
        baseline: One of them; None: the first.
        split: Which split of a run or a data set.
        references: Data set or table against which tables of captions are scored.
        metrics: Names to test; `["all"]`: every one that all have; None: those of `HEADLINES`.
        test: `bootstrap` (paired; also gives the interval's p) or `randomisation` (systems swapped
            per image; the interval is still the bootstrap's).
        out: JSON file; None: `comparison.json` beside the baseline's run directory, no file
            otherwise.
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
    base = Path(baseline if baseline is not None else systems[0])
    others = [Path(one) for one in systems if Path(one).resolve() != base.resolve()]
    if not others:
        raise RunError(
            explain(
                "nothing to compare",
                got=", ".join(map(str, systems)) or "no system",
                expected="a baseline and at least one other system",
                do="name two or more run directories, scores files or tables of captions",
            )
        )
    loaded = {path: _load(path, split, references) for path in [base, *others]}
    names = _names([base, *others])
    wanted = _wanted(metrics, loaded)
    rows: list[dict[str, Any]] = []
    for path in track(others, "paired tests", len(others), unit="system"):
        found = _tests(loaded[path], loaded[base], wanted, test, resamples, seed)
        rows += [{"system": names[path], "baseline": names[base]} | row for row in found]
    for row, corrected in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(corrected)
    kind = "paired bootstrap" if test == "bootstrap" else "approximate randomisation"
    record: dict[str, Any] = {
        "split": split,
        "baseline": names[base],
        "test": f"{kind}, {resamples} resamples, seed {seed}",
        "correction": f"Holm over {len(rows)} tests",
        "n": len(loaded[base].ids),
    }
    target = Path(out) if out is not None else base.parent / "comparison.json"
    written = out is not None or base.is_dir()
    if written:
        _refuse_foreign(target)
        write_json(target, record | {"rows": rows})
    return Compared(comparison_file=str(target) if written else None, rows=rows, **record)


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
        if {"baseline", "correction", "rows"} <= read_json(target).keys():
            return
    except MedblipError:
        pass
    raise RunError(
        explain(
            f"{target} is there already",
            got="a file that is no comparison",
            expected="a new file, or an earlier comparison",
            do="choose another --out",
        )
    )


def _load(path: Path, split: str, references: Path | str | None) -> StoredStatistics:
    """Return the statistics of one system, scored here when it is a table of captions."""
    from medblip.data.captions import align, read_captions, read_references
    from medblip.metrics import load_statistics
    from medblip.metrics.suite import Material, Suite, compute
    from medblip.metrics.table import score_families

    if path.is_dir():
        scores = RunDir(path).scores(split)
        if not scores.exists():
            raise RunError(
                explain(
                    f"{path}: no scores of the {split} split",
                    got=f"{scores} is not there",
                    expected="a run that was captioned and evaluated",
                    do=f"run `medblip evaluate {path} --split {split}` first",
                )
            )
        return load_statistics(scores.with_suffix(".npz"))
    if not path.exists():
        raise RunError(
            explain(
                "file not found",
                got=path,
                expected="a run, a scores file of `medblip evaluate --out`, or a table of captions",
                do="check the path",
            )
        )
    if path.with_suffix(".npz").exists():
        return load_statistics(path.with_suffix(".npz"))
    if references is None:
        raise RunError(
            explain(
                f"{path}: nothing to compare",
                got="no statistics beside it, and no references",
                expected="scores that `medblip evaluate --out` wrote, or captions and references",
                do="evaluate it with --out, or name the references with --references",
            )
        )
    known = read_references(Path(references), split)
    captions = align(read_captions(path), known.ids)
    material = Material(known.ids, captions, known.captions, known.facts)
    computed = compute(Suite(meteor=False), material)
    table = score_families(computed.families, resamples=0, groups=known.groups)
    return table.stored(known.ids, known.captions)


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a short name per system: its file or folder, with the parent where two are equal."""
    own = [path.resolve() for path in paths]
    last = [path.name if path.is_dir() else path.stem for path in own]
    return {
        path: name if last.count(name) == 1 else f"{whole.parent.name}/{name}"
        for path, whole, name in zip(paths, own, last, strict=True)
    }


def _wanted(metrics: Sequence[str] | None, loaded: dict[Path, StoredStatistics]) -> frozenset[str]:
    """Return the names to test, all of which every system has."""
    common = frozenset.intersection(*(frozenset(_values(system)) for system in loaded.values()))
    if metrics is None:
        return common.intersection(HEADLINES)
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
