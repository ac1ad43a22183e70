"""A small study in files, with all that a report shows, and a reader of the page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medblip.data.phantoms import encode_mask
from medblip.files import read_json, write_json, write_text
from medblip.rundir import RunDir
from medblip.schema import Example, Prediction, dump_jsonl

__all__ = [
    "HOSTILE_TEXTS",
    "METRICS",
    "NAMES",
    "N",
    "Page",
    "example",
    "write_ablation",
    "write_all",
    "write_clinical",
    "write_faithfulness",
    "write_groups",
    "write_hostile",
    "write_run",
    "write_runs",
    "write_study",
]  # fmt: skip

NAMES = ("zero-shot", "encoder", "decoder", "full", "lora")
METRICS = ("BLEU-1", "BLEU-2", "BLEU-4", "ROUGE-L", "CIDEr-D",
           "fact-modality", "fact-region", "fact-finding", "fact-side")  # fmt: skip
N = 20
#: Texts that must stay text in every format.
HOSTILE_TEXTS = (
    "</script><script>document.documentElement.dataset.ran=1</script>",
    '"><img src=x onerror="document.documentElement.dataset.ran=2">',
    "javascript:document.documentElement.dataset.ran=3",
    "line\u2028separator\u2029 ]]> --> <!-- {{ 7*7 }} {% raw %}",
    "W" * 400,
    "\u202eright to left\u202c \u0627\u0644\u0635\u062f\u0631 \u05e8\u05d9\u05d0\u05d4",
    "emoji \U0001fac1 \u4e2d\u6587 \u03b1\u03b2 \u00e9\u0159\u00df",
    "nul \x00 bell \x07 cr \r lone \ud800 tab \t end",
    "=cmd|' /C calc'!A0",
    "\\input{/etc/passwd} $x$ #1 %c ~ ^ & _ { } ``''--",
    "| [a](javascript:x) ![i](http://x) `c` <b> # *x* __y__",
)
MAPS = ("attention", "random", "centre", "randomised-weights")


class Page(HTMLParser):
    """What a browser without scripts makes of the page: elements, and text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.hidden = 0
        self.parts: list[str] = []
        self.feed(text)
        self.text = " ".join("".join(self.parts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.hidden += tag in ("script", "style")
        self.parts.append(" " if tag in ("td", "th", "dd", "p") else "")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]


def example(index: int, split: str = "test") -> Example:
    mask = np.zeros((32, 32), dtype=bool)
    mask[8:16, 4:12] = True
    finding = {"name": "nodule", "side": "left", "mask": encode_mask(mask)}
    return Example(
        id=f"case-{index:02d}", image=f"images/{index}.png", split=split,  # type: ignore[arg-type]
        captions=(f"Chest X-ray with a nodule in zone {index}.",), licence="CC0-1.0",
        facts={"modality": ("X-ray", "CT")[index % 2], "findings": [finding]},
    )  # fmt: skip


def write_run(path: Path, data: Path, rank: int, split: str = "test", trained: bool = True) -> None:
    run = RunDir(path)
    value = 0.1234 + rank / 10
    metrics = {
        name: {
            "value": value,
            "ci": [value - 0.05, value + 0.05],
            "n": N,
            "signature": f"{name}|v1",
        }
        for name in METRICS
    }
    write_json(run.scores(split), {"split": split, "n": N, "metrics": metrics,
               "degeneration": {"unique_captions": 0.75}})  # fmt: skip
    ids = [f"case-{index:02d}" for index in range(N)]
    rows = [{"id": name, "CIDEr-D": (index * 7 % N) / N} for index, name in enumerate(ids)]
    write_text(path / "scores" / f"{split}.per_image.jsonl", dump_jsonl(rows))
    captions = [f"chest film {path.name} word{index}, nodule" for index in range(N)]
    predictions = [Prediction(id=i, caption=c) for i, c in zip(ids, captions, strict=True)]
    write_text(run.predictions(split), dump_jsonl(predictions))
    made = {"data": str(data), "images_per_second": 12.5, "environment": {"python": "3.x"}}
    write_json(run.predictions(split).with_suffix(".json"), made)
    images = [
        {"id": i, "caption": c, "words": c.replace(",", " ,").replace("-", " - ").split()}
        for i, c in zip(ids, captions, strict=True)
    ]
    for image in images:
        rng = np.random.default_rng(len(image["words"]))
        image["maps"] = rng.dirichlet(np.ones(6), len(image["words"])).tolist()  # type: ignore[assignment]
    view = {"view": f"view of {path.name}"}
    write_json(run.maps(split), {"grid": [2, 3], "images": images} | view)
    write_json(run.config, {"data": {"root": str(data)}, "freeze": {"preset": path.name},
                            "train": {"seed": 42, "epochs": 3}})  # fmt: skip
    if not trained:
        return
    write_json(run.environment, {"python": "3.x", "versions": {"torch": "9.9"}})
    write_json(run.trainable, {"rules": [{"pattern": r"vision\.", "rate": None, "tensors": 5,
               "parameters": 1000}], "trainable": 500, "total": 2000})  # fmt: skip
    write_json(run.completion, {
        "steps": 8, "seconds": 81.5, "seconds_per_step": 0.25 * (rank + 1), "peak_memory_mb": 640.4,
        "parameters_total": 2000, "parameters_trainable": 500, "device": "cpu", "threads": 1,
    })  # fmt: skip
    rows = [{"kind": "train", "step": s, "loss": 3.0 / s} for s in range(1, 9)]
    rows += [{"kind": "validation", "step": s, "loss": 4.0 / s, "CIDEr-D": s / 10} for s in (4, 8)]
    write_text(run.metrics, dump_jsonl(rows) + '{"kind": "train", "st')  # a torn tail


def write_runs(root: Path) -> None:
    """Write a data set, five runs and a comparison of them."""
    data = root / "data"
    (data / "images").mkdir(parents=True)
    for index in range(N):
        pixels = np.random.default_rng(index).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(data / "images" / f"{index}.png")
    write_text(data / "manifest.jsonl", dump_jsonl([example(index) for index in range(N)]))
    for rank, name in enumerate(NAMES):
        write_run(root / name, data, rank, trained=name != "zero-shot")
    rows = [
        {"system": name, "baseline": "zero-shot", "metric": metric, "value": 0.1234 + rank / 10,
         "baseline_value": 0.1234, "difference": rank / 10,
         "ci": [rank / 10 - 0.03, rank / 10 + 0.03], "p": 0.0001, "p_holm": 0.0321}
        for rank, name in enumerate(NAMES) if rank for metric in ("CIDEr-D", "BLEU-1")
    ]  # fmt: skip
    write_json(root / "comparison.json", {
        "split": "test", "baseline": "zero-shot", "test": "paired bootstrap, 99 resamples",
        "correction": "Holm over 8 tests", "n": N, "rows": rows,
    })  # fmt: skip


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


def write_faithfulness(run: Path, value: float = 0.6, split: str = "test", count: int = 33) -> Path:
    """Write how true the maps of one run are."""
    measures = [
        {"measure": measure, "map": name, "value": value - 0.1 * rank,
         "ci": [value - 0.1 * rank - 0.05, value - 0.1 * rank + 0.05], "n": count}
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


def write_clinical(run: Path, split: str = "test") -> None:
    """Add the clinical table's totals and the commonest errors to the scores that are there."""
    path = RunDir(run).scores(split)
    counts = {"right": 9, "partly": 2, "wrong": 3, "missing": 1, "extra": 0, "not stated": 5}
    record = read_json(path)
    record["clinical"] = {
        "totals": {
            row: counts | {"stated": 15, "value": 0.6, "ci": [0.35, 0.825]}
            for row in ("modality", "side", "anatomy", "diagnosis")
        },
        "hallucinations": [{"kind": "false-finding", "name": f"mass of {run.name}", "count": 7,
                            "ids": ["case-01", "case-02"]}],
        "missed": [{"kind": "missed-finding", "name": "pneumonia", "count": 4, "ids": ["case-03"]}],
    }  # fmt: skip
    record["metrics"]["error-false-finding"] = {
        "value": 0.4567, "ci": [0.2, 0.7], "n": N, "signature": "audit",
    }  # fmt: skip
    path.write_text(json.dumps(record))


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
    taus = {name: [[1.0, 0.625], [0.625, 1.0]] for name in systems}
    record["agreement"] = {"metrics": ["CIDEr-D", "BLEU-1"], "kendall": taus}
    record["strata"] = strata
    record["weakest"] = [
        {"system": others[-1], "metric": "CIDEr-D", "stratum": "modality", "level": "ct",
         "n": 12, "value": 0.211, "ci": [0.111, 0.299], "overall": 0.523}
    ]  # fmt: skip
    comparison.write_text(json.dumps(record))


def write_all(root: Path) -> dict[str, Path]:
    """Write runs and everything else that a report shows; return the options that name it."""
    write_runs(root)
    write_groups(root / "comparison.json", NAMES)
    for name in NAMES:
        write_clinical(root / name)
    for rank, name in enumerate(("zero-shot", "full")):
        write_faithfulness(root / name, 0.5 + 0.1 * rank, count=33 - rank)
    return {
        "comparison": root / "comparison.json",
        "ablation": write_ablation(root / "ablation.json", NAMES[1:]),
        "study": write_study(root / "study.json"),
    }


def write_hostile(root: Path, texts: Sequence[str] = HOSTILE_TEXTS) -> dict[str, Any]:
    """Write the study again with hostile ids, captions, references, names and claims."""
    files: dict[str, Any] = dict(write_all(root))
    names = [f"{texts[i % len(texts)]} {i}".replace("\ud800", "") for i in range(N)]
    examples = [
        dataclasses.replace(example(index), id=name, captions=(name,), licence=name)
        for index, name in enumerate(names)
    ]
    write_text(root / "data" / "manifest.jsonl", dump_jsonl(examples))
    for system in NAMES:
        run = RunDir(root / system)
        captions = [Prediction(id=name, caption=name) for name in names]
        write_text(run.predictions("test"), dump_jsonl(captions))
        images = [
            {
                "id": name,
                "caption": name,
                "words": name.split(),
                "maps": [[0.4, 0.6]] * len(name.split()),
            }
            for name in names
        ]
        write_json(run.maps("test"), {"grid": [1, 2], "images": images})
    claims = [{"claim": text, "verdict": text, "reason": text} for text in names]
    write_json(files["study"], {"claims": claims, "methods": " ".join(names)})
    ablation = read_json(files["ablation"])
    for variant, name in zip(ablation["variants"], names, strict=False):
        variant["name"] = name
    files["ablation"].write_text(json.dumps(ablation))
    return files
