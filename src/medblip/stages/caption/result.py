"""All batches in their order become one file; or rows go to standard output as they come."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip import config as configuration
from medblip.errors import DataError, explain
from medblip.files import json_text, staged_file, staged_texts, write_json, write_text
from medblip.progress import Live, console
from medblip.rundir import environment
from medblip.schema import dump_jsonl
from medblip.stages.caption.formats import FORMATS, header
from medblip.stages.caption.job import Captioned, Job
from medblip.stages.caption.journal import Journal
from medblip.stages.caption.loop import captioned
from medblip.stages.caption.sources import Source

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["finish", "local_record", "require_some", "say", "streamed"]


def finish(
    job: Job, journal: Journal, own: Captioned, how: Callable[[], dict[str, Any]],
    seen: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Captioned:  # fmt: skip
    """Write the file, how it was made and what was left out; then the journal goes.

    Args:
        job: What was captioned.
        journal: All of its batches.
        own: Of this process.
        how: What the record says besides the counts; asked after the last batch.
        seen: Is shown each batch.

    Raises:
        DataError: No image could be read.
    """
    assert job.target is not None
    line, images, rejects = FORMATS[job.form], 0, []
    with staged_file(job.target) as partial:
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(header(job.form, job.cfg.decode.num_captions))
            for batch in journal.batches():
                file.writelines(map(line, batch["rows"]))
                images += len(batch["rows"])
                rejects += batch["rejects"]
                seen(batch)
        require_some(images, rejects)
        result = dataclasses.replace(own, images=images, rejected=len(rejects))
        with staged_texts({_beside(job): json_text(_record(job, result, how()))}):
            if job.run is not None and not job.trained:
                write_json(job.run.config, configuration.dump(job.cfg))
            rejected = job.target.with_name(job.target.name + ".rejects.jsonl")
            if rejects:
                write_text(rejected, dump_jsonl(rejects))
            else:
                rejected.unlink(missing_ok=True)
    journal.remove()
    if rejects:
        say(f"{len(rejects)} images cannot be read: {rejected}")
    if job.run is not None:
        maps = job.run.maps(job.split)
        tested = (maps.with_suffix(f".faithfulness.{kind}") for kind in ("json", "npz"))
        for of_old_captions in (job.run.scores(job.split), maps, *tested):
            of_old_captions.unlink(missing_ok=True)
    return result


def streamed(job: Job, captioner: Captioner, source: Source) -> Captioned:
    """Write rows to standard output as they come.

    Raises:
        DataError: No image could be read.
    """
    decode, line = job.cfg.decode, FORMATS[job.form]
    total = len(source.ids)
    images, rejects, begun = 0, [], time.perf_counter()
    sys.stdout.write(header(job.form, decode.num_captions))
    with Live("caption", total) as live:
        for _, rows, bad in captioned(
            captioner, source, decode, range(-(-total // decode.batch_size))
        ):
            sys.stdout.writelines(map(line, rows))
            sys.stdout.flush()
            images += len(rows)
            rejects += bad
            for one in bad:
                say(f"{one['id']}: {one['reason']}")
            rate = images / (time.perf_counter() - begun)
            live.update(images + len(rejects), f"{rate:.1f} images/s")
    require_some(images, rejects)
    seconds = time.perf_counter() - begun
    return Captioned(
        predictions="", images=images, rejected=len(rejects), seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 2),
    )  # fmt: skip


def _record(job: Job, result: Captioned, how: dict[str, Any]) -> dict[str, Any]:
    of_split = {} if job.images else {"split": job.split, "data": job.cfg.data.root}
    return {
        **of_split,
        "n": result.images,
        "rejected": result.rejected,
        "model": job.cfg.model.name if not job.images else job.model.name,
        "revision": job.model.revision,
        "trained": job.trained,
        **how,
        "seconds": result.seconds,
        "images_per_second": result.images_per_second,
        "resumed": result.resumed,
    }


def local_record(job: Job, device: str, world: int) -> dict[str, Any]:
    """Return how a captioner on this machine wrote."""
    import torch

    return {
        "prompt": job.model.prompt,
        "decode": json.loads(json.dumps(dataclasses.asdict(job.cfg.decode))),
        "processes": world,
        "environment": environment(device=device, threads=torch.get_num_threads()),
    }


def _beside(job: Job) -> Path:
    """Where it is written how captions were made."""
    assert job.target is not None
    if job.run is not None:
        return job.target.with_suffix(".json")
    return job.target.with_name(job.target.name + ".meta.json")


def require_some(images: int, rejects: list[dict[str, str]]) -> None:
    """Refuse a result without a caption.

    Raises:
        DataError: No image could be read.
    """
    if not images:
        raise DataError(
            explain(
                "no image can be read",
                got="; ".join(f"{one['id']}: {one['reason']}" for one in rejects[:3]),
                expected="images or DICOM files",
                do="check the files",
            )
        )


def say(line: str) -> None:
    """Print a line on standard error."""
    console().print(line, markup=False, highlight=False, soft_wrap=True)
