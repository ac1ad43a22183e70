"""Stage `demo`: the paper's experiment in miniature, from nothing to a report.

Phantoms -> zero-shot captions of the bundled captioner -> four fine-tunings (encoder only, decoder
only, full, LoRA) with the same data, steps and seed -> captions -> scores with intervals -> paired
tests -> attention maps -> one table and one HTML page. A killed demo goes on where it stopped.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from medblip.config import BUNDLED, RunConfig, dump, parse
from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.files import read_json, write_json
from medblip.progress import console
from medblip.rundir import RunDir

__all__ = ["VARIANTS", "Demonstrated", "demo", "demo_config"]

#: Name of a variant -> what it sets on top of the defaults of `medblip.config`.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    # words train too: a decoder that never saw a radiological word says none (docs/experiments.md)
    "encoder": {
        "freeze": {"preset": "encoder", "rules": [[r"\.word_embeddings\.", 1e-2]]},
        "optim": {"vision_factor": 0.3},
    },
    "decoder": {"freeze": {"preset": "decoder"}},
    "full": {"freeze": {"preset": "full"}},
    # text tower only: the encoder stays frozen, so that it runs once per image
    "lora": {
        "freeze": {"preset": "lora"},
        "lora": {"towers": ["text"]},
        "optim": {"lr": 3e-3, "words_factor": 3.0},
    },
}
COLUMNS = (
    "CIDEr-D", "BLEU-4", "ROUGE-L", "fact-modality", "fact-finding", "fact-side",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstrated:
    """The study's result: per system its scores, p-value, cost; and where the report is."""

    report: str
    comparison: str
    n: int
    seconds: float
    columns: tuple[str, ...]
    systems: dict[str, dict[str, Any]]


def demo_config(variant: str, data: Path, *, epochs: int, seed: int) -> RunConfig:
    """Return the settings of one variant; the same but for what `VARIANTS` names."""
    settings = dump(RunConfig())
    settings["data"]["root"] = str(data)
    settings["train"] |= {"epochs": epochs, "seed": seed}
    for section, values in VARIANTS[variant].items():
        settings[section] |= values
    return parse(settings)


def demo(
    out: Path | str = "runs/demo",
    *,
    images: int = 4000,
    epochs: int = 3,
    seed: int = 0,
    force: bool = False,
) -> Demonstrated:
    """Run the study in miniature.

    Args:
        out: Folder for `data/`, one run per system, `comparison.json` and `report.html`.
        images: Phantoms to draw; a tenth each goes to validation and test.
        epochs: Of each fine-tuning.
        seed: Of phantoms, training and resampling.
        force: Start over although `out` holds a demo with other settings.

    Raises:
        RunError: `out` holds a demo that was made with other settings.
    """
    from medblip.data.phantoms.generate import generate
    from medblip.stages.caption import caption
    from medblip.stages.compare import compare
    from medblip.stages.evaluate import evaluate
    from medblip.stages.explain import explain
    from medblip.stages.report import report
    from medblip.stages.report.collect import gallery_ids
    from medblip.stages.train import train

    started = time.perf_counter()
    root = Path(out)
    force = _claim(root, {"images": images, "epochs": epochs, "seed": seed}, force=force)
    data = root / "data"
    if force or not (data / "manifest.jsonl").exists():
        generate(data, images=images, seed=seed, workers=os.cpu_count(), force=True)
    runs = [RunDir(root / name) for name in ("zero-shot", *VARIANTS)]
    redo: dict[str, bool] = {}
    for run in runs:
        name = run.path.name
        console().rule(name)
        redo[name] = force
        if name in VARIANTS and (force or not run.completion.exists()):
            train(demo_config(name, data, epochs=epochs, seed=seed), out=run.path, force=force)
            redo[name] = True
        if redo[name] or not run.predictions("test").exists():
            caption(run.path, data, model=None if name in VARIANTS else BUNDLED, force=True)
            redo[name] = True
        if redo[name] or not run.scores("test").exists():
            evaluate(run.path, data, meteor=False, force=True)  # its Java takes longer than all
    paths = [run.path for run in runs]
    shown = gallery_ids(data, "test", paths)
    for run in runs:
        if redo[run.path.name] or not run.maps("test").exists():
            explain(run.path, data, ids=shown, seed=seed)
    compared = compare(paths, out=root / "comparison.json", seed=seed)
    # the paper's second claim: training what speaks matters more than training what sees
    ablated = compare(
        [root / name for name in VARIANTS],
        baseline=root / "encoder",
        out=root / "comparison-encoder.json",
        seed=seed,
    )
    page = report(
        paths,
        data=data,
        out=root / "report.html",
        comparison=str(compared.comparison_file),
        title="The study in miniature",
    )
    systems = {run.path.name: _summary(run, compared.rows, ablated.rows) for run in runs}
    return Demonstrated(
        report=str(page),
        comparison=str(compared.comparison_file),
        n=read_json(runs[0].scores("test"))["n"],
        seconds=round(time.perf_counter() - started, 1),
        columns=COLUMNS,
        systems=systems,
    )


def _claim(root: Path, settings: dict[str, Any], *, force: bool) -> bool:
    """Note the settings in `demo.json`; refuse to mix two demos in one folder."""
    note = root / "demo.json"
    if note.exists():
        before = {k: v for k, v in read_json(note).items() if k in settings}
        if before != settings and not force:
            raise RunError(
                message(
                    f"{root} holds a demo with other settings",
                    got=", ".join(f"{k} {v}" for k, v in before.items()),
                    expected=", ".join(f"{k} {v}" for k, v in settings.items()),
                    do="choose another --out, or add --force to start over",
                )
            )
    elif root.exists() and any(root.iterdir()) and not force:
        raise RunError(
            message(
                f"{root} is taken",
                got="files that are not a demo's",
                expected="a new or empty folder, or an unfinished demo",
                do="choose another --out",
            )
        )
    write_json(note, settings)
    return force


def _summary(run: RunDir, *tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Collect one line of the demo's table from the files."""
    trained = read_json(run.completion) if run.completion.exists() else {}
    p: list[float | None] = []
    for rows in tests:
        own = (r for r in rows if r["system"] == run.path.name and r["metric"] == "CIDEr-D")
        p.append(next((r["p_holm"] for r in own), None))
    return {
        "scores": read_json(run.scores("test"))["metrics"],
        "p_vs_zero_shot": p[0],
        "p_vs_encoder": p[1],
        "seconds": trained.get("seconds"),
        "seconds_per_step": trained.get("seconds_per_step"),
        "trainable": trained.get("parameters_trainable"),
    }
