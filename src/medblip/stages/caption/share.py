"""One process's share of the batches, and waiting for the others'; they meet on the disk alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medblip.errors import RunError, explain
from medblip.progress import Live, console
from medblip.stages.caption.job import Captioned, Job
from medblip.stages.caption.journal import Journal
from medblip.stages.caption.loop import captioned
from medblip.stages.caption.sources import Source

if TYPE_CHECKING:
    from medblip.models.captioner import Captioner

__all__ = ["batches", "do_share", "joined", "wait_for_others"]

PATIENCE_S = 1800.0  # without a sign of life


def batches(job: Job, source: Source) -> int:
    """Return the number of batches."""
    return -(-len(source.ids) // job.cfg.decode.batch_size)


def joined(journal: Journal, settings: dict[str, Any], target: Path, begun: float) -> bool:
    """Wait until the first process has begun; False when all is done without this one."""
    limit = time.monotonic() + PATIENCE_S
    while not journal.joined(settings):
        if target.exists() and target.stat().st_mtime >= begun:
            return False
        if time.monotonic() > limit:
            raise RunError(
                explain(
                    "the first process does not begin",
                    got=f"no {journal.folder}/settings.json of this call",
                    expected="one disk for all processes",
                    do="give an --out (or a run directory) that every node sees",
                )
            )
        time.sleep(0.2)
    return True


def do_share(
    job: Job, captioner: Captioner, source: Source, journal: Journal, rank: int, world: int
) -> Captioned:
    """Do every `world`-th batch that is not there yet."""
    size, total = job.cfg.decode.batch_size, len(source.ids)
    there = journal.done()
    if not journal.folder.is_dir():  # all was done before: the first process has ended it
        return Captioned(predictions="")

    def count(numbers: list[int] | range) -> int:
        return sum(min(size, total - number * size) for number in numbers)

    mine = range(rank, batches(job, source), world)
    left = [number for number in mine if number not in there]
    share = count(mine)
    resumed = done = share - count(left)
    begun = time.perf_counter()
    try:
        with Live("caption" if job.images else f"caption {job.split}", share, done) as live:
            for batch, rows, rejects in captioned(captioner, source, job.cfg.decode, left):
                journal.append(batch, rows, rejects)
                done += len(rows) + len(rejects)
                rate = (done - resumed) / (time.perf_counter() - begun)
                live.update(done, f"{rate:.1f} images/s")
    except BaseException as error:
        if not isinstance(error, Exception):
            what = "captions" if job.images else f"captions of the {job.split} split"
            line = (
                f"interrupted at the {what}: {done} of {share} images are kept; "
                "the same command goes on from there"
            )
            console().print(line, markup=False, highlight=False, soft_wrap=True)
        raise
    seconds = time.perf_counter() - begun
    return Captioned(
        predictions=str(job.target), images=done, resumed=resumed, seconds=round(seconds, 3),
        images_per_second=round((done - resumed) / seconds, 2),
    )  # fmt: skip


def wait_for_others(journal: Journal, total: int, world: int) -> None:
    """Wait until every batch is there.

    Raises:
        RunError: For half an hour none has been added.
    """
    seen, since = len(journal.done()), time.monotonic()
    while len(there := journal.done()) < total:
        if len(there) > seen:
            seen, since = len(there), time.monotonic()
        if time.monotonic() - since > PATIENCE_S:
            late = sorted({number % world for number in range(total) if number not in there})
            raise RunError(
                explain(
                    "another process of this call is gone",
                    got=f"no batch of process {', '.join(map(str, late))} for half an hour",
                    expected=f"{total} batches, {len(there)} are there",
                    do="see that process's own message, then repeat the command: it goes on",
                )
            )
        time.sleep(0.2)
