"""A small run that is ready to publish: trained, captioned, scored; made once."""

from __future__ import annotations

import json
from pathlib import Path

from training_runs import make_data, settings

from medblip import caption, evaluate, train

#: Split -> licence of its images, one after another.
LICENCES = ("CC BY 4.0", "CC BY 4.0", "CC BY-NC 4.0", None)


def make(root: Path, model: Path) -> Path:
    """Return the folder of `run` and `data`, beside each other."""
    data = make_data(root / "data")
    manifest = data / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for index, row in enumerate(rows):
        if (licence := LICENCES[index % len(LICENCES)]) is not None:
            row["licence"] = licence
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = root / "run"
    train(settings(model, data, "train.epochs=2"), out=run)
    caption(run, data, device="cpu")
    evaluate(run, data, meteor=False, resamples=50)
    return root
