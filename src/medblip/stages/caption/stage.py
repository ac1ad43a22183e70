"""Which captioner, which images, where the captions go; one process or several."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip import config as configuration
from medblip.config import DecodeConfig, ModelConfig, RunConfig
from medblip.errors import ConfigError, RunError, explain, nearest
from medblip.files import lock
from medblip.remote.names import remote_of
from medblip.rundir import RunDir
from medblip.stages.caption.formats import FORMATS
from medblip.stages.caption.job import Captioned, Job
from medblip.stages.caption.journal import Journal
from medblip.stages.caption.remote import caption_remotely
from medblip.stages.caption.result import finish, local_record, streamed
from medblip.stages.caption.share import batches, do_share, joined, wait_for_others
from medblip.stages.caption.sources import FileSource, Source, SplitSource

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["caption"]


def caption(
    run: Path | str,
    data: Path | str | None = None,
    *,
    images: Sequence[str | Path] = (),
    split: str = "test",
    model: str | None = None,
    decode: DecodeConfig | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    out: Path | str | None = None,
    form: str | None = None,
    config: Path | str | None = None,
    device: str = "auto",
    force: bool = False,
    allow_upload: bool = False,
) -> Captioned:
    """Caption a split into `run/predictions/<split>.jsonl`, or images into a file.

    A call that was killed goes on when it is repeated: finished batches are kept in
    `<file>.unfinished`. Under torchrun every process takes a share of the batches.

    Args:
        run: Run directory of `train`; with `model`, a new directory for a captioner as it is. With
            `images` any captioner: `bundled`, a run, a folder, a hub id, or a remote one
            (`gemini`, `gemini:<model>`, `openai:<model>`).
        data: Prepared data set; None: the one that the run was trained on.
        images: Image or DICOM files, folders of them, or `-` for a list on standard input.
        split: `train`, `validation` or `test`, where no images are named.
        model: Caption with this captioner (`bundled`, a folder, a hub id, a remote one) instead of
            the run's.
        decode: Generation settings; None: the run's.
        overrides: `decode.key=value` strings.
        out: Where captions of images go; None: standard output, as they are written.
        form: `jsonl`, `csv` or `txt`; None: what the name of `out` ends in, else `jsonl`.
        config: TOML of settings, for a captioner as it is; also names it where `model` does not.
        device: As `train.device`.
        force: Replace captions that are there; their scores and maps go, they are of other words.
        allow_upload: Let images leave this machine, for a remote captioner.

    Raises:
        ConfigError: The format is unknown, or does not go with a run directory.
        RunError: `run` holds no finished training, or the captions are there already.
        DataError: The data set has no such split or lacks an image; no image can be read.
    """
    from medblip.models.captioner import settled

    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    job = _job(run, data, images, split, model, decode, overrides, out, form, config)
    if rank == 0 and job.target is not None and job.target.exists() and not force:
        raise RunError(
            explain(
                f"{job.target} is there already",
                got="captions of an earlier call",
                expected="a split that was not captioned yet" if job.run else "a new file",
                do="add --force to replace them",
            )
        )
    remote = None if job.trained else remote_of(job.model.name)
    if remote is not None:
        return caption_remotely(job, remote, world, allow_upload=allow_upload, force=force)
    job = dataclasses.replace(job, model=settled(job.model))
    if not job.trained:
        job = dataclasses.replace(job, cfg=dataclasses.replace(job.cfg, model=job.model))
    if world > 1 and "-" in job.images:
        raise ConfigError(
            explain(
                "several processes cannot share a list on standard input",
                got=f"{world} processes, -",
                expected="files or folders that all of them see",
                do="name them, or put the images into one folder",
            )
        )
    if job.target is None:
        if world > 1:
            raise ConfigError(
                explain(
                    "several processes cannot share standard output",
                    got=f"{world} processes, no --out",
                    expected="--out FILE",
                    do="name a file on a disk that all of them see",
                )
            )
        captioner, _ = _loaded(job, device, world)
        return streamed(job, captioner, _source(job, captioner))
    journal, begun = Journal(job.target, rank), time.time()
    with contextlib.ExitStack() as stack:
        if rank == 0:
            stack.callback(journal.remove_empty)
            stack.enter_context(job.run.lock() if job.run else lock(journal.folder))
        captioner, device = _loaded(job, device, world)
        source = _source(job, captioner)
        settings = _settings(job, source)
        if rank == 0:
            journal.begin(settings, force=force)
        elif not joined(journal, settings, job.target, begun):
            return Captioned(predictions="")
        journal.mend()
        own = do_share(job, captioner, source, journal, rank, world)
        if rank:  # the first process tells
            return dataclasses.replace(own, predictions="")
        wait_for_others(journal, batches(job, source), world)
        return finish(job, journal, own, lambda: local_record(job, device, world))


def _job(
    run: Path | str, data: Path | str | None, images: Sequence[str | Path], split: str,
    model: str | None, decode: DecodeConfig | None, overrides: list[str] | tuple[str, ...],
    out: Path | str | None, form: str | None, config: Path | str | None,
) -> Job:  # fmt: skip
    target = None if out is None else Path(out)
    if form is None:
        ending = target.suffix.lstrip(".") if target else ""
        form = ending if ending in FORMATS else "jsonl"
    if form not in FORMATS:
        raise ConfigError(
            explain(
                "unknown format",
                got=form,
                expected=", ".join(FORMATS),
                do=f"did you mean {nearest(form, FORMATS)}?",
            )
        )
    folder = RunDir(run)
    if config is not None and model is None and not images:
        model = configuration.load(config, overrides).model.name
    trained = model is None and folder.config.exists() and folder.checkpoint.is_dir()
    if images:
        chosen = model or str(run)
        cfg = configuration.load(folder.config if trained else config, overrides)
        source = dataclasses.replace(cfg.model, name=chosen)
        job = Job(cfg, source, None, split, tuple(map(str, images)), target, form, trained)
    else:
        cfg = _split_settings(folder, model, overrides, config, trained=trained)
        if data is not None:
            cfg = dataclasses.replace(cfg, data=dataclasses.replace(cfg.data, root=str(data)))
        if target is None and form != "jsonl":
            raise ConfigError(
                explain(
                    "captions in a run directory are JSON lines: the other commands read them",
                    got=f"--format {form}",
                    expected="--format with --out FILE",
                    do=f"add --out captions.{form}",
                )
            )
        source = dataclasses.replace(cfg.model, name=str(run)) if trained else cfg.model
        own = folder if target is None else None
        job = Job(cfg, source, own, split, (), target or folder.predictions(split), form, trained)
    if decode is not None:
        job = dataclasses.replace(job, cfg=dataclasses.replace(job.cfg, decode=decode))
    return job


def _split_settings(
    run: RunDir, model: str | None, overrides: list[str] | tuple[str, ...],
    config: Path | str | None, *, trained: bool,
) -> RunConfig:  # fmt: skip
    if model is None:
        if trained:
            return configuration.load(run.config, overrides)
        raise RunError(
            explain(
                f"{run.path} holds no trained captioner",
                got="no config.json with checkpoints/best",
                expected="a run directory that `medblip train` wrote",
                do="train first, or name a captioner with --model",
            )
        )
    if run.completion.exists():
        raise RunError(
            explain(
                f"{run.path} is a trained run",
                got=f"--model {model}",
                expected="a new folder for the captions of another captioner",
                do="leave --model out, or choose another folder",
            )
        )
    cfg = configuration.load(config, overrides)
    return dataclasses.replace(cfg, model=dataclasses.replace(cfg.model, name=model))


def _loaded(job: Job, device: str, world: int) -> tuple[Captioner, str]:

    from medblip.engine import pick_device, pick_precision
    from medblip.models.captioner import load_captioner

    device = pick_device(device)
    if device == "cuda" and world > 1:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    bf16 = pick_precision(job.cfg.decode.precision, device) == "bf16"
    captioner = load_captioner(
        job.model, device=device, numbers=("bf16",) if bf16 else ("fp32",), spills=True
    )
    return captioner, device


def _source(job: Job, captioner: Captioner) -> Source:
    from medblip.data.store import Resize

    resize = Resize(*captioner.image_size, captioner.image_resample)
    if job.images:
        return FileSource(job.images, resize, sys.stdin)
    return SplitSource(Path(job.cfg.data.root), job.split, resize)


def _settings(job: Job, source: Source) -> dict[str, Any]:
    """Return what a call must have in common with the one that it goes on with."""
    return {
        "model": job.model.name,
        "weights": _weights(job.model),
        "prompt": job.model.prompt,
        "decode": json.loads(json.dumps(dataclasses.asdict(job.cfg.decode))),
        "images": hashlib.sha256(source.digest().encode()).hexdigest()[:32],
    }


def _weights(model: ModelConfig) -> str:
    """Return a hash of the weights; of a hub id, its revision."""
    from medblip.models.captioner import resolve

    source = resolve(model.name)
    digest = hashlib.sha256(f"{source} {model.revision}".encode())
    if Path(source).is_dir():
        digest = hashlib.sha256()
        for file in sorted(Path(source).glob("*.safetensors")):
            with file.open("rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:32]
