"""Stage `ablate`: what does each choice bring, and what does it cost?

    cli.ablate -> ablate -> train, caption, evaluate per run -> ablation.json, .csv, .svg

Runs that are done stay, killed ones go on; a frozen encoder's features are shared by all runs that
have the same encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, MetricError, RunError, explain, nearest
from medblip.files import lock, read_json, write_json, write_text
from medblip.metrics.seeds import MODERATE_SEEDS
from medblip.metrics.stored import load_statistics
from medblip.progress import track
from medblip.rundir import RunDir
from medblip.schema import read_split
from medblip.stages.ablate.chart import quality_against_cost, table_csv
from medblip.stages.ablate.figures import HEADLINE, cost, quality, tests
from medblip.stages.ablate.grid import Grid, Variant, read_grid
from medblip.stages.ablate.trainings import Job, jobs_of, run_all

__all__ = ["COSTS", "Ablated", "ablate"]

#: Columns of cost.
COSTS = (
    "parameters_trainable", "parameters_total", "seconds", "seconds_per_step", "steps_to_best",
    "seconds_to_best", "peak_memory_mb", "gflop_per_step", "energy_wh",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ablated:
    """An ablation's result.

    Args:
        ablation_file: JSON of all of it; CSV and chart lie beside it. "" for a dry run.
        chart: SVG; "" for a dry run.
        baseline: What all others are tested against.
        headline: The metric by which the others are tested against each other, too.
        test: Which, over what, how many resamples.
        correction: Over how many tests.
        seeds: Of training.
        n: Images.
        variants: As in the file; of a dry run name, parameters, steps, GFLOP, seconds per step and
            hours of one run.
        tests: As in the file.
        runs: How many trainings.
    """

    ablation_file: str
    chart: str
    baseline: str
    headline: str
    test: str
    correction: str
    seeds: tuple[int, ...]
    n: int
    variants: tuple[dict[str, Any], ...]
    tests: tuple[dict[str, Any], ...]
    runs: int


def ablate(
    config: Path | str,
    data: Path | str,
    out: Path | str = "runs/ablation",
    *,
    seeds: Sequence[int] | None = None,
    split: str = "test",
    metrics: Sequence[str] | None = None,
    jobs: int | str = "auto",
    device: str | None = None,
    meteor: bool | None = None,
    resamples: int = 10_000,
    resampling_seed: int = 0,
    dry_run: bool = False,
    force: bool = False,
) -> Ablated:
    """Train every variant with every seed, score, test, and set quality against cost.

    Args:
        config: TOML with `[[variant]]` tables or a `[grid]`; see `medblip.stages.ablate.grid`.
        data: Prepared data set.
        out: Folder for one run directory per variant and seed, and the tables.
        seeds: Instead of the file's.
        split: Captioned and scored.
        metrics: Names; None: the headline metrics that all runs have. The headline of tables and
            chart is CIDEr-D, or the first name where it is not among them.
        jobs: Trainings at once: `auto` is one per GPU, one without.
        device: As `train.device`, with one training at a time.
        meteor: As `evaluate`.
        resamples: Of the bootstrap over images and seeds.
        resampling_seed: Of it.
        dry_run: Say what would be trained and how long it takes; write nothing.
        force: Run everything again.

    Raises:
        ConfigError: `config` is no ablation.
        DataError: The data set is not there, or lacks a split.
        RunError: `out` holds other recipes, or a run failed (the others are done all the same).
        MetricError: A metric is not among the scores.
    """
    if resamples < 1 or resampling_seed < 0:
        raise ConfigError(
            explain(
                "a bootstrap that cannot be made",
                got=f"{resamples} resamples, seed {resampling_seed}",
                expected="at least 1 resample, a seed from 0",
                do="correct it",
            )
        )
    root = Path(out)
    grid = read_grid(Path(config), None if seeds is None else tuple(seeds))
    for needed in ("train", "validation", split):  # before hours of training end without captions
        read_split(Path(data), needed)
    work = jobs_of(grid, Path(data), root, device)
    if dry_run:
        return _planned(grid, work)
    at_once, gpus = _at_once(jobs, device)
    _require_free(root)
    root.mkdir(parents=True, exist_ok=True)
    with lock(root):
        how: dict[str, Any] = {"split": split, "meteor": meteor, "force": force}
        failed = None
        if metrics is not None:  # a misspelt one is told after the first run, not after the last
            try:
                run_all(work[:1], at_once=1, gpus=gpus, **how)
                _metrics({work[0].variant.name: [work[0].run]}, split, metrics)
            except RunError as error:  # the others are done all the same
                failed = error
        run_all(work[metrics is not None :], at_once=at_once, gpus=gpus, **how)
        if failed is not None:
            raise failed
        runs = {
            variant.name: [job.run for job in work if job.variant is variant]
            for variant in grid.variants
        }
        wanted = _metrics(runs, split, metrics)
        values = quality(grid, runs, wanted, split=split, resamples=resamples, seed=resampling_seed)
        headline = HEADLINE if HEADLINE in wanted else wanted[0]
        rows = tests(grid, values, wanted, headline)
        first = grid.variants[0].name
        record: dict[str, Any] = {
            "split": split,
            "baseline": grid.baseline,
            "headline": headline,
            "n": read_json(runs[first][0].scores(split))["n"],
            "seeds": list(grid.seeds),
            "test": f"paired bootstrap over {_drawn(runs[first][0], split, len(grid.seeds))}, "
            f"{resamples} resamples, seed {resampling_seed}",
            "correction": f"Holm over {len(rows)} tests",
            "variants": [
                {
                    "name": variant.name,
                    "set": variant.set,
                    "zero_shot": variant.zero_shot,
                    "runs": [run.path.relative_to(root).as_posix() for run in runs[variant.name]],
                    "metrics": {
                        name: {
                            "value": one.value, "ci": list(one.ci), "sd_seeds": one.sd_seeds,
                            "per_seed": list(one.per_seed),
                        }
                        for name, one in values[variant.name].items()
                    },
                    **cost(variant, runs[variant.name]),
                    "gflop_per_step": _gflop(variant, work, runs[variant.name][0]),
                }
                for variant in track(grid.variants, "costs", len(grid.variants), unit="variant")
            ],
            "tests": rows,
        }  # fmt: skip
        target = root / "ablation.json"
        write_json(target, record)
        write_text(root / "ablation.csv", table_csv(record, COSTS))
        write_text(root / "ablation.svg", quality_against_cost(record))
    return Ablated(
        ablation_file=str(target), chart=str(root / "ablation.svg"), baseline=grid.baseline,
        headline=headline, test=record["test"], correction=record["correction"], seeds=grid.seeds,
        n=record["n"], variants=tuple(record["variants"]), tests=tuple(rows),
        runs=sum(not job.variant.zero_shot for job in work),
    )  # fmt: skip


def _require_free(root: Path) -> None:
    """Refuse a folder whose tables are not an ablation's: they would be written over."""
    record = root / "ablation.json"
    ours = record.is_file() and {"baseline", "headline", "variants"} <= read_json(record).keys()
    foreign = [root] if root.is_file() else [
        path for ending in ("json", "csv", "svg")
        if (path := root / f"ablation.{ending}").exists() and not ours
    ]  # fmt: skip
    if foreign:
        raise RunError(
            explain(
                f"{root} is taken",
                got=f"{foreign[0].name}, which is no ablation's",
                expected="a new or empty folder, or one of an ablation",
                do="choose another --out",
            )
        )


def _at_once(jobs: int | str, device: str | None) -> tuple[int, int]:
    """Return how many trainings run at once (one on a device that is named), and how many GPUs."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = device not in (None, "auto", "cuda")
    if jobs == "auto":
        return (1 if named else max(1, gpus)), gpus
    if (
        not str(jobs).isdecimal()
        or not int(jobs) >= 1
        or (gpus and int(jobs) > (1 if named else gpus))
    ):
        raise ConfigError(
            explain(
                "so many trainings cannot run at once",
                got=jobs,
                expected="1 on a device that is named"
                if gpus and named
                else f"auto, or 1 to {gpus}"
                if gpus
                else "auto, or a number from 1",
                do="one per GPU is the most that pays",
            )
        )
    return int(jobs), gpus


def _metrics(runs: dict[str, list[RunDir]], split: str, wanted: Sequence[str] | None) -> list[str]:
    """Return the metrics to compare, all of which every run has."""
    from medblip.stages.compare import HEADLINES

    stored = [
        load_statistics(run.scores(split).with_suffix(".npz"))
        for several in runs.values()
        for run in several
    ]
    each = [
        {name for family in one.families.values() for name in family.metric.names} for one in stored
    ]
    common = set.intersection(*each)
    if wanted is None:
        return [name for name in HEADLINES if name in common]
    if absent := [name for name in wanted if name not in common]:
        raise MetricError(
            explain(
                "a metric that not every run has",
                got=", ".join(absent),
                expected=", ".join(sorted(common)),
                do=f"did you mean {nearest(absent[0], common)}?",
            )
        )
    return list(dict.fromkeys(wanted))


def _drawn(run: RunDir, split: str, seeds: int) -> str:
    """Say what the bootstrap draws: images or their groups (patients), and seeds."""
    grouped = load_statistics(run.scores(split).with_suffix(".npz")).groups is not None
    what = "groups of images" if grouped else "images"
    if seeds == 1:
        return f"{what} (one seed: luck of training is in no interval)"
    few = f" ({seeds}: few, so that p is too small)" if seeds < MODERATE_SEEDS else ""
    return f"{what} and seeds{few}"


def _gflop(variant: Variant, work: Sequence[Job], run: RunDir) -> float | None:
    """Return operations of one training step, counted once and kept beside the run."""
    from medblip.stages.train.plan import gflop_per_step

    if variant.zero_shot:
        return None
    note = run.path / "flops.json"
    if not note.exists() or note.stat().st_mtime_ns < run.completion.stat().st_mtime_ns:
        cfg = next(job.cfg for job in work if job.variant is variant)
        write_json(note, {"gflop_per_step": gflop_per_step(cfg)})
    return float(read_json(note)["gflop_per_step"])


def _planned(grid: Grid, work: Sequence[Job]) -> Ablated:
    """Say what would be trained: one plan per variant, by real steps."""
    from medblip.stages.train.plan import plan

    rows = []
    for variant in track(grid.variants, "plans", len(grid.variants), unit="variant"):
        row: dict[str, Any] = {"name": variant.name, "set": variant.set}
        if not variant.zero_shot:
            found = plan(next(job.cfg for job in work if job.variant is variant))
            row |= {
                "parameters_trainable": found.parameters_trainable, "steps": found.steps,
                "gflop_per_step": found.gflop_per_step, "hours": found.hours,
                "seconds_per_step": found.seconds_per_step,
            }  # fmt: skip
        rows.append(row)
    return Ablated(
        ablation_file="", chart="", baseline=grid.baseline, headline="", test="", correction="",
        seeds=grid.seeds, n=0,
        variants=tuple(rows), tests=(), runs=sum(not job.variant.zero_shot for job in work),
    )  # fmt: skip
