"""The runs of an ablation: each variant with each seed is trained, captioned and scored."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medblip import config as configuration
from medblip.config import RunConfig
from medblip.errors import MedblipError, RunError, explain
from medblip.files import is_younger, read_json, write_json
from medblip.progress import console
from medblip.rundir import RunDir
from medblip.stages.ablate.grid import Grid, Variant
from medblip.stamps import digest, folder_stamp

__all__ = ["Job", "jobs_of", "run_all", "run_one"]

#: Lines of a failed child that are shown.
_LAST = 15
#: Children at work.
_RUNNING: set[subprocess.Popen[str]] = set()


@dataclasses.dataclass(frozen=True)
class Job:
    """One training and what follows from it.

    Args:
        variant: Its recipe.
        seed: Of training.
        cfg: Settings with data set and seed.
        run: Where it is written.
        data: SHA-256 of the data set's manifest.
    """

    variant: Variant
    seed: int
    cfg: RunConfig
    run: RunDir
    data: str


def jobs_of(grid: Grid, data: Path, out: Path, device: str | None) -> list[Job]:
    """Return a job per run, seed by seed, so that an early look sees every variant."""
    jobs = []
    data, manifest = data.resolve(), digest(data / "manifest.jsonl")
    for seed in grid.seeds:
        for variant in grid.variants:
            if variant.zero_shot and seed != grid.seeds[0]:
                continue
            cfg = configuration.resolve(variant.cfg, data, (), seed, device)
            jobs.append(Job(variant, seed, cfg, RunDir(out / variant.folder(seed)), manifest))
    return jobs


def run_one(job: Job, *, split: str, meteor: bool | None, force: bool) -> None:
    """Train, caption and score, as far as that is not done.

    Raises:
        MedblipError: As the stages; the run holds another recipe.
    """
    from medblip.stages.caption import caption
    from medblip.stages.evaluate import evaluate
    from medblip.stages.train import train

    run, variant = job.run, job.variant
    if not run.config.exists():  # a forced call was killed before its run could go on
        run.bring_back()
    _claim(job, force=force)
    finished = run.completion.exists()
    if not variant.zero_shot and (force or not finished or not _is_of(job)):
        # finished, and of another recipe: a forced call was killed before this training began
        train(job.cfg, out=run.path, force=force or finished)
    captions, scores = run.predictions(split), run.scores(split)
    settings = run.path / "variant-settings.json"
    source = settings if variant.zero_shot else run.completion
    again = force or not source.exists() or not is_younger(captions, source)
    if again:
        if variant.zero_shot:
            write_json(settings, configuration.dump(job.cfg))
        caption(
            run.path, job.cfg.data.root, split=split, device=job.cfg.train.device, force=again,
            model=job.cfg.model.name if variant.zero_shot else None,
            config=settings if variant.zero_shot else None,
        )  # fmt: skip
    if again or not is_younger(scores, captions) or (meteor and not _has_meteor(scores)):
        evaluate(run.path, job.cfg.data.root, split=split, meteor=meteor, force=True)


def run_all(
    jobs: Sequence[Job], *, split: str, meteor: bool | None, at_once: int, gpus: int, force: bool
) -> None:
    """Do every job; several at once as processes, each on a GPU of its own.

    Raises:
        RunError: A run failed; the others are done all the same.
    """
    failed: list[tuple[Job, str]] = []

    def here(job: Job) -> None:
        console().rule(f"{job.variant.name}, seed {job.seed}")
        try:
            run_one(job, split=split, meteor=meteor, force=force)
        except MedblipError as error:
            console().print(str(error), style="red", markup=False, soft_wrap=True)
            failed.append((job, str(error)))
        except Exception as error:  # no memory, a driver: the other runs may go well
            console().print(traceback.format_exc(), style="red", markup=False, soft_wrap=True)
            failed.append((job, f"{type(error).__name__}: {error}"))

    if at_once <= 1:
        for job in jobs:
            here(job)
    else:
        places: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(at_once):
            places.put(place)

        def elsewhere(job: Job) -> None:
            place = places.get()
            try:
                error = _child(job, split, meteor, force, place if gpus else None)
            finally:
                places.put(place)
            told = f"{job.variant.name}, seed {job.seed}: {'failed' if error else 'done'}"
            console().print(told, markup=False, soft_wrap=True)
            if error:
                failed.append((job, error))

        _in_threads(elsewhere, jobs, at_once)
    if failed:
        job, reason = failed[0]
        names = ", ".join(f"{one.variant.name} (seed {one.seed})" for one, _ in failed)
        raise RunError(
            explain(
                f"{len(failed)} of {len(jobs)} runs failed: {names}",
                got=f"{job.variant.name}, seed {job.seed}: {reason}",
                expected="runs that finish",
                do="mend it, then repeat the command: what is done stays",
            )
        )


def _in_threads(work: Callable[[Job], None], jobs: Sequence[Job], at_once: int) -> None:
    """Interrupted, what runs is interrupted too (it saves and ends), and nothing more begins."""
    with ThreadPoolExecutor(at_once) as pool:
        try:
            for done in [pool.submit(work, job) for job in jobs]:
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_RUNNING):
                process.send_signal(signal.SIGINT)
            raise


def _child(job: Job, split: str, meteor: bool | None, force: bool, gpu: int | None) -> str | None:
    """Do a job in a process of its own; return what went wrong."""
    from medblip.stages.ablate import child

    order = {
        "config": configuration.dump(job.cfg), "name": job.variant.name,
        "set": job.variant.set, "zero_shot": job.variant.zero_shot, "seed": job.seed,
        "run": str(job.run.path), "data": job.data, "split": split, "meteor": meteor,
        "force": force,
    }  # fmt: skip
    environment = dict(os.environ)
    if gpu is not None:  # of those that this process may use
        mine = environment.get("CUDA_VISIBLE_DEVICES")
        environment["CUDA_VISIBLE_DEVICES"] = mine.split(",")[gpu] if mine else str(gpu)
    with subprocess.Popen(
        [sys.executable, "-m", child.__name__, json.dumps(order)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        _RUNNING.add(process)
        try:
            said, _ = process.communicate()
        finally:
            _RUNNING.discard(process)
    if process.returncode == 0:
        return None
    return "\n".join(said.splitlines()[-_LAST:]) or f"exit code {process.returncode}"


def _recipe(job: Job) -> dict[str, object]:
    """Return what makes a run this one: the data by content, not by where it lies."""
    settings = configuration.dump(job.cfg)
    settings["train"].pop("device")
    settings["data"].pop("root")
    return {"zero_shot": job.variant.zero_shot, "data": job.data, "settings": settings,
            "weights": folder_stamp(Path(job.cfg.model.name))}  # fmt: skip


def _is_of(job: Job) -> bool:
    """Whether a finished training is of this recipe; what the captioner itself settled may be."""
    from medblip.models.captioner import settled

    made, cfg = read_json(job.run.config), job.cfg
    asked = cfg.model.revision
    if asked is not None and made.get("model", {}).get("revision") != asked:  # a branch or a tag
        cfg = dataclasses.replace(cfg, model=settled(cfg.model))
    wanted = configuration.dump(cfg)
    for settings in (made, wanted):
        settings["train"].pop("device")
        settings["data"].pop("root")
    same = all(
        made.get(section, {}).get(key) == value
        for section, values in wanted.items()
        for key, value in values.items()
        if section != "model" or value is not None
    )
    return same and read_json(job.run.path / "data.json")["manifest"] == job.data


def _has_meteor(scores: Path) -> bool:
    return "METEOR" in read_json(scores)["metrics"]


def _claim(job: Job, *, force: bool) -> None:
    """Note the recipe beside the run before anything is done; refuse to take a run for another's.

    Raises:
        RunError: The folder holds a run of another recipe, or nobody knows of which.
    """
    folder = job.run.path
    note = folder.parent / "recipes" / f"{folder.name}.json"
    recipe = json.loads(json.dumps(_recipe(job)))
    before = {}
    if note.exists():
        before = _filled(read_json(note), recipe)
        if all(before.get(key) == value for key, value in recipe.items()):
            return
    occupied = folder.exists() and any(folder.iterdir())
    if occupied and not before:  # never replaced, force or not
        raise RunError(
            explain(
                f"{folder} is taken",
                got="a run, or files, that this ablation did not make",
                expected="a new or empty folder",
                do="choose another --out",
            )
        )
    if occupied and not force:
        raise RunError(
            explain(
                f"{folder} holds another recipe",
                got=f"a run of {before.get('name')} with {_differing(before, recipe)}",
                expected=f"{job.variant.name} as the ablation has it now, or a new folder",
                do="choose another --out, or add --force to run everything again",
            )
        )
    write_json(note, {"name": job.variant.name, "seed": job.seed, **recipe})


def _filled(before: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """Return an older note as this version writes it: a setting that it lacks had its default."""
    usual = configuration.dump(RunConfig())
    settings = {
        section: {**usual.get(section, {}), **values}
        for section, values in before.get("settings", {}).items()
    }
    for section, values in settings.items():
        for key in [key for key in values if key not in recipe["settings"].get(section, {})]:
            del values[key]
    return {"weights": recipe["weights"], **before, "settings": settings}


def _differing(before: dict[str, Any], recipe: dict[str, Any]) -> str:
    if before.get("data") != recipe["data"]:
        return "other images or captions"
    return "other settings" if before.get("settings") != recipe["settings"] else "other weights"
