"""Stage `caption`: a run directory, a folder or a hub captioner writes captions for one split."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from medblip import config as configuration
from medblip.config import DecodeConfig, ModelConfig, RunConfig
from medblip.errors import RunError, explain
from medblip.files import json_text, staged_texts, write_json
from medblip.progress import track
from medblip.rundir import RunDir, environment
from medblip.schema import Prediction, dump_jsonl

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner
    from medblip.schema import Example

__all__ = ["Captioned", "caption"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Captioned:
    """What the stage wrote, and how fast."""

    predictions: str
    images: int
    seconds: float
    images_per_second: float


def caption(
    run: Path | str,
    data: Path | str | None = None,
    *,
    split: str = "test",
    model: str | None = None,
    decode: DecodeConfig | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    device: str = "auto",
    force: bool = False,
) -> Captioned:
    """Caption every image of a split into `run/predictions/<split>.jsonl`.

    Args:
        run: Run directory of `train`; with `model`, a new directory for a captioner as it is.
        data: Prepared data set; None: the one that the run was trained on.
        split: `train`, `validation` or `test`.
        model: Caption with this captioner (`bundled`, a folder, a hub id) instead of the run's.
        decode: Generation settings; None: the run's.
        overrides: `decode.key=value` strings.
        device: As `train.device`.
        force: Replace captions that are there; their scores and maps go, they are of other words.

    Raises:
        RunError: `run` holds no finished training, or the captions are there already.
        DataError: The data set has no such split, or lacks an image.
    """
    folder = RunDir(run)
    cfg = _settings(folder, data, model, decode, overrides)
    target = folder.predictions(split)
    if target.exists() and not force:
        raise RunError(
            explain(
                f"{target} is there already",
                got="captions of an earlier call",
                expected="a split that was not captioned yet",
                do="add --force to replace them",
            )
        )
    with folder.lock():
        return _caption(cfg, folder, split, device, trained=model is None)


def _settings(
    run: RunDir,
    data: Path | str | None,
    model: str | None,
    decode: DecodeConfig | None,
    overrides: list[str] | tuple[str, ...],
) -> RunConfig:
    if model is not None:
        if run.completion.exists():
            raise RunError(
                explain(
                    f"{run.path} is a trained run",
                    got=f"--model {model}",
                    expected="a new folder for the captions of another captioner",
                    do="leave --model out, or choose another folder",
                )
            )
        cfg = configuration.load(None, overrides)
        cfg = dataclasses.replace(cfg, model=ModelConfig(name=model, prompt=cfg.model.prompt))
    else:
        if not (run.config.exists() and run.checkpoint.is_dir()):
            raise RunError(
                explain(
                    f"{run.path} holds no trained captioner",
                    got="no config.json with checkpoints/best",
                    expected="a run directory that `medblip train` wrote",
                    do="train first, or name a captioner with --model",
                )
            )
        cfg = configuration.load(run.config, overrides)
    if data is not None:
        cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, root=str(data)))
    return cfg if decode is None else dataclasses.replace(cfg, decode=decode)


def _caption(cfg: RunConfig, run: RunDir, split: str, device: str, *, trained: bool) -> Captioned:
    import torch

    from medblip.data.loader import Pixels, load_split
    from medblip.data.store import Resize
    from medblip.engine import pick_device
    from medblip.models.captioner import load_captioner

    device = pick_device(device)
    root = Path(cfg.data.root)
    examples: list[Example] = load_split(root, split)
    source = dataclasses.replace(cfg.model, name=str(run.path)) if trained else cfg.model
    captioner: Captioner = load_captioner(source, device=device)
    pixels = Pixels(examples, root, Resize(*captioner.image_size, captioner.image_resample))
    size = cfg.decode.batch_size
    starts = range(0, len(examples), size)
    predictions: list[Prediction] = []
    begun = time.perf_counter()
    for start in track(starts, f"caption {split}", len(starts), unit="batch"):
        indices = list(range(start, min(start + size, len(examples))))
        batch = pixels.pixel_batch(indices, captioner.image_mean, captioner.image_std)
        with torch.inference_mode():
            written = captioner.generate(captioner.encode(batch), cfg.decode)
        for index, (best, *_) in zip(indices, written, strict=True):
            predictions.append(
                Prediction(id=examples[index].id, caption=best.text, logprob=round(best.logprob, 6))
            )
    seconds = time.perf_counter() - begun
    target = run.predictions(split)
    rate = len(examples) / seconds
    record = {
        "split": split,
        "n": len(examples),
        "data": cfg.data.root,
        "model": cfg.model.name,
        "trained": trained,
        "prompt": cfg.model.prompt,
        "decode": json.loads(json.dumps(dataclasses.asdict(cfg.decode))),
        "seconds": round(seconds, 3),
        "images_per_second": round(rate, 2),
        "environment": environment(device=device, threads=torch.get_num_threads()),
    }
    texts = {target: dump_jsonl(predictions), target.with_suffix(".json"): json_text(record)}
    with staged_texts(texts):
        if not trained:
            write_json(run.config, configuration.dump(cfg))
    for of_old_captions in (run.scores(split), run.maps(split)):
        of_old_captions.unlink(missing_ok=True)
    return Captioned(
        predictions=str(target), images=len(examples), seconds=round(seconds, 3),
        images_per_second=round(rate, 2),
    )  # fmt: skip
