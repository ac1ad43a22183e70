"""Files of other stages that a report shows, as small as they can be, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.files import read_json, write_json
from medblip.rundir import RunDir

__all__ = ["write_ablation", "write_faithfulness", "write_groups", "write_study"]

MAPS = ("attention", "random", "centre", "randomised-weights")


def write_ablation(path: Path, names: Sequence[str], split: str = "test") -> Path:
    """Write an ablation of two seeds, the first name its baseline."""
    variants = []
    for rank, name in enumerate(names):
        value = 0.1 + 0.1 * rank
        score = {"value": value, "ci": [value - 0.04, value + 0.05], "sd_seeds": 0.01,
                 "per_seed": [value - 0.01, value + 0.01]}  # fmt: skip
        variants.append({
            "name": name, "set": {"freeze.preset": name}, "runs": [f"{name}/0", f"{name}/1"],
            "metrics": {"CIDEr-D": score, "BLEU-1": score}, "parameters_trainable": 1000 * rank,
            "parameters_total": 5000, "seconds": 12.5 + 20 * rank, "seconds_per_step": 0.05,
            "steps_to_best": 8, "seconds_to_best": 4.5, "peak_memory_mb": 512.25 if rank else None,
            "flops_per_step": None, "energy_wh": None,
        })  # fmt: skip
    tests = [
        {"variant": name, "baseline": names[0], "metric": "CIDEr-D", "difference": 0.1 * rank,
         "ci": [0.1 * rank - 0.05, 0.1 * rank + 0.05], "p": 0.0002, "p_holm": 0.0004}
        for rank, name in enumerate(names) if rank
    ]  # fmt: skip
    write_json(path, {
        "split": split, "baseline": names[0], "headline": "CIDEr-D", "n": 20, "seeds": [0, 1],
        "variants": variants, "tests": tests, "test": "paired bootstrap, 99 resamples",
        "correction": "Holm over 4 tests",
    })  # fmt: skip
    return path


def write_study(path: Path) -> Path:
    """Write one claim of each verdict, and a methods paragraph with a number in it."""
    claims = [
        {"claim": "Full fine-tuning is best.", "verdict": "reproduced",
         "reason": "CIDEr-D 0.523 (0.473 to 0.573) against 0.123 (0.073 to 0.173)."},
        {"claim": "The decoder matters more than the encoder.", "verdict": "not reproduced",
         "reason": "The intervals overlap: 0.223 and 0.323."},
        {"claim": "Radiologists prefer the captions.", "verdict": "not testable",
         "reason": "No reader took part."},
    ]  # fmt: skip
    methods = "We fine-tuned 4 systems on 100 images and tested them on 20 (α = 0.05, 5 % of all)."
    write_json(path, {"claims": claims, "methods": methods})
    return path


def write_faithfulness(run: Path, value: float = 0.6, split: str = "test") -> Path:
    """Write how true the maps of one run are."""
    measures = [
        {"measure": measure, "map": name, "value": value - 0.1 * rank,
         "ci": [value - 0.1 * rank - 0.05, value - 0.1 * rank + 0.05], "n": 33}
        for measure in ("pointing-game", "mass-in-mask", "deletion", "insertion")
        for rank, name in enumerate(MAPS)
    ]  # fmt: skip
    tests = [
        {"measure": "deletion", "map": "attention", "baseline": name, "difference": -0.1 * rank,
         "ci": [-0.1 * rank - 0.05, -0.1 * rank + 0.05], "p": 0.0125, "p_holm": 0.025}
        for rank, name in enumerate(MAPS) if rank
    ]  # fmt: skip
    fractions = [0.0, 0.25, 0.5, 0.75, 1.0]
    curves: dict[str, Any] = {"fractions": fractions}
    for kind, sign in (("deletion", -1), ("insertion", 1)):
        curves[kind] = {
            name: [value + sign * fraction / (2 + rank) for fraction in fractions]
            for rank, name in enumerate(MAPS)
        }
    path = RunDir(run).maps(split).with_name(f"{split}.faithfulness.json")
    write_json(path, {
        "split": split, "view": "paper", "n": 11, "words": 33, "seed": 0, "maps": list(MAPS),
        "measures": measures, "tests": tests, "curves": curves,
        "conclusions": [f"The maps of {run.name} point at findings more often than chance."],
    })  # fmt: skip
    return path


def write_groups(comparison: Path, systems: Sequence[str]) -> None:
    """Add outcomes, agreement and groups to a comparison that is there."""
    record = read_json(comparison)
    baseline, *others = systems
    strata = [
        {"stratum": stratum, "level": level, "n": 7, "system": system, "metric": "CIDEr-D",
         "value": 0.3 + 0.01 * rank, "ci": [0.2, 0.4]}
        for stratum, level in (("modality", "ct"), ("modality", "mri"), ("length", "short"))
        for rank, system in enumerate(systems)
    ]  # fmt: skip
    record["outcomes"] = [
        {"system": name, "baseline": baseline, "metric": "CIDEr-D", "wins": 11, "ties": 4,
         "losses": 5, "n": 20} for name in others
    ]  # fmt: skip
    record["agreement"] = {"metrics": ["CIDEr-D", "BLEU-1"],
                           "kendall": {name: [[1.0, 0.625], [0.625, 1.0]] for name in systems}}  # fmt: skip
    record["strata"] = strata
    record["weakest"] = [
        {"system": others[-1], "metric": "CIDEr-D", "stratum": "modality", "level": "ct",
         "value": 0.211, "ci": [0.111, 0.299], "overall": 0.523}
    ]  # fmt: skip
    comparison.write_text(json.dumps(record))
