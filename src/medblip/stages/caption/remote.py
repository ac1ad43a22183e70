"""A remote captioner writes: one image is one batch, several are in flight."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from medblip.errors import ConfigError, ImageError, explain
from medblip.files import lock
from medblip.progress import Live
from medblip.remote.client import Client
from medblip.remote.names import Remote, is_loopback, url_of
from medblip.remote.picture import encoded
from medblip.rundir import environment
from medblip.stages.caption.budget import Budget
from medblip.stages.caption.formats import FORMATS, header
from medblip.stages.caption.job import Captioned, Job
from medblip.stages.caption.journal import Journal
from medblip.stages.caption.result import finish, require_some, say
from medblip.stages.caption.sources import OWN, FileSource, Source, SplitSource

__all__ = ["caption_remotely"]

#: As the journal keeps it: batch, rows, rejects, and `remote`: {tokens, refused}.
Record = dict[str, Any]


def caption_remotely(
    job: Job, remote: Remote, world: int, *, allow_upload: bool, force: bool
) -> Captioned:
    """Caption by a remote captioner; no image is read before all conditions are met.

    Raises:
        ConfigError: Images may not leave this machine, there is no key, or a setting has no
            meaning for a remote captioner.
        RunError: The server refuses, or a ceiling is reached; what is done is kept.
    """
    cfg, decode = job.cfg.remote, job.cfg.decode
    _require_sense(job, remote, world)
    _require_permission(url_of(remote, cfg), allow_upload=allow_upload)
    client = Client(remote, cfg, max_tokens=decode.max_new_tokens, seed=decode.seed)
    if job.target is None:
        return _streamed(job, client, _source(job))
    journal, budget = Journal(job.target, 0), Budget(cfg)
    with contextlib.ExitStack() as stack:
        stack.callback(journal.remove_empty)
        stack.enter_context(job.run.lock() if job.run else lock(journal.folder))
        source = _source(job)
        journal.begin(_settings(job, remote, source), force=force)
        journal.mend()
        there = journal.done()
        for batch in journal.batches():
            budget.add(batch["remote"]["tokens"])
        left = [number for number in range(len(source.ids)) if number not in there]
        done, begun = len(there), time.perf_counter()

        def keep(record: Record) -> None:
            nonlocal done
            journal.append(**record)
            done += 1
            live.update(done, budget.spent())

        _announce(job, client, len(left))
        try:
            with Live(_title(job), len(source.ids), done) as live:
                _ask_all(job, client, source, budget, left, keep)
        except BaseException:
            say(f"{done} of {len(source.ids)} images are kept; the same command goes on")
            raise
        journal.done()
        seconds = time.perf_counter() - begun
        own = Captioned(
            predictions=str(job.target), resumed=len(there), seconds=round(seconds, 3),
            images_per_second=round(len(left) / seconds, 2),
        )  # fmt: skip
        refused: list[dict[str, str]] = []
        result = finish(
            job, journal, own, lambda: _how(job, remote, client, budget, refused),
            lambda batch: refused.extend(_refused(batch)),
        )  # fmt: skip
    if refused:
        say(f"{len(refused)} images have no caption: `refused` in the record beside the captions")
    return result


def _ask_all(
    job: Job, client: Client, source: Source, budget: Budget, numbers: Sequence[int],
    keep: Callable[[Record], None],
) -> None:  # fmt: skip
    """Ask for every image; after a failure those in flight are awaited and kept."""
    waiting, left = set[Future[Record]](), iter(numbers)
    with ThreadPoolExecutor(job.cfg.remote.concurrency, thread_name_prefix="remote") as pool:
        try:
            due = next(left, None)
            while due is not None or waiting:
                while due is not None and budget.allows(len(waiting), job.cfg.remote.concurrency):
                    waiting.add(pool.submit(_ask, job, client, source, due))
                    due = next(left, None)
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                waiting |= done  # until it is kept
                for future in done:
                    record = future.result()
                    waiting.discard(future)
                    budget.add(record["remote"]["tokens"])
                    keep(record)
        except BaseException:
            client.pace.stop()  # whoever waits for a turn gives up
            for future in wait(waiting).done:
                with contextlib.suppress(Exception):
                    keep(future.result())
            raise


def _ask(job: Job, client: Client, source: Source, number: int) -> Record:
    """Read one image and ask; one that cannot be read is a reject, in a prepared split an error."""
    record: Record = {"batch": number, "rows": [], "rejects": []}
    name = source.ids[number]
    try:
        picture = encoded(source.picture(number), job.cfg.remote.image_side)
    except ImageError as error:
        if not job.images:
            raise
        reject = {"id": name, "reason": str(error)}
        return record | {"rejects": [reject], "remote": {"tokens": [0, 0], "refused": None}}
    prompt = source.prompts[number] if source.prompts is not None else OWN
    answer = client.ask(picture, number, None if prompt == OWN else prompt)
    told = {"tokens": answer.tokens and list(answer.tokens), "refused": answer.refused}
    return record | {"rows": [{"id": name, "caption": answer.text}], "remote": told}


def _streamed(job: Job, client: Client, source: Source) -> Captioned:
    """Write rows to standard output, in the order of the images."""
    line, budget, begun = FORMATS[job.form], Budget(job.cfg.remote), time.perf_counter()
    early: dict[int, Record] = {}
    due = images = 0
    rejects: list[dict[str, str]] = []
    _announce(job, client, len(source.ids))

    def keep(record: Record) -> None:
        nonlocal due, images
        early[record["batch"]] = record
        while (next_one := early.pop(due, None)) is not None:
            sys.stdout.writelines(map(line, next_one["rows"]))
            sys.stdout.flush()
            for one in [*next_one["rejects"], *_refused(next_one)]:
                say(f"{one['id']}: {one['reason']}")
            images += len(next_one["rows"])
            rejects.extend(next_one["rejects"])
            due += 1
            live.update(due, budget.spent())

    sys.stdout.write(header(job.form, 1))
    with Live(_title(job), len(source.ids)) as live:
        _ask_all(job, client, source, budget, range(len(source.ids)), keep)
    require_some(images, rejects)
    seconds = time.perf_counter() - begun
    return Captioned(
        predictions="", images=images, rejected=len(rejects), seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 2),
    )  # fmt: skip


def _source(job: Job) -> Source:
    """Return the images; more than the ceiling are refused."""
    source: Source = (
        FileSource(job.images, None, sys.stdin)
        if job.images
        else SplitSource(Path(job.cfg.data.root), job.split, None)
    )
    _require_count(job, len(source.ids))
    return source


def _settings(job: Job, remote: Remote, source: Source) -> dict[str, Any]:
    """Return what a call must have in common with the one that it goes on with."""
    cfg = job.cfg.remote
    return {
        "model": remote.name,
        "url": url_of(remote, cfg),
        "prompt": cfg.prompt,
        "temperature": cfg.temperature,
        "seed": job.cfg.decode.seed,
        "max_tokens": job.cfg.decode.max_new_tokens + cfg.thinking_tokens,
        "image_side": cfg.image_side,
        "images": hashlib.sha256(source.digest().encode()).hexdigest()[:32],
    }


def _how(
    job: Job, remote: Remote, client: Client, budget: Budget, refused: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what the record says of the model and of the cost."""
    cfg, decode = job.cfg.remote, job.cfg.decode
    return {
        "provider": remote.kind,
        "remote_model": remote.model,
        "host": client.host,
        "prompt": cfg.prompt,
        "temperature": cfg.temperature,
        "image_side": cfg.image_side,
        "decode": {"max_new_tokens": decode.max_new_tokens, "seed": decode.seed},
        "usage": budget.record(),
        "refused": refused,
        "processes": 1,
        "environment": environment(),
    }


def _refused(batch: Record) -> list[dict[str, str]]:
    reason = batch["remote"]["refused"]
    return [{"id": row["id"], "reason": reason} for row in batch["rows"] if reason]


def _title(job: Job) -> str:
    return "caption" if job.images else f"caption {job.split}"


def _announce(job: Job, client: Client, images: int) -> None:
    """Say what goes where, before it goes."""
    cfg = job.cfg.remote
    if not images:
        return
    where = f"go to {client.host}"
    if client.local:
        where = f"are shown to {client.host}, on this machine"
    elif not client.encrypted:
        where += " (not encrypted: http)"
    cost = "no cost ceiling" if cfg.max_cost is None else f"at most {cfg.max_cost:g} in cost"
    pace = f"at most {cfg.per_minute} a minute" if cfg.per_minute else "as fast as answers come"
    say(
        f"{images} images {where} as PNG or JPEG, longer side at most {cfg.image_side}, without "
        f"names or metadata; at most {cfg.max_images} images, {cost}; {pace}, "
        f"{cfg.concurrency} at once"
    )


def _require_permission(url: str, *, allow_upload: bool) -> None:
    if allow_upload or is_loopback(url):
        return
    raise ConfigError(
        explain(
            "images would leave this machine",
            got=f"{url}, without --allow-upload",
            expected="consent that these images may go there",
            do="add --allow-upload if they may, or name a server on this machine in remote.url",
        )
    )


def _require_sense(job: Job, remote: Remote, world: int) -> None:
    if world > 1:
        raise ConfigError(
            explain(
                "a remote captioner is asked by one process",
                got=f"{world} processes, {remote.name}",
                expected="one, with several images in flight",
                do="start it without torchrun; raise remote.concurrency and remote.per_minute",
            )
        )
    if job.cfg.decode.num_captions > 1:
        raise ConfigError(
            explain(
                "a remote captioner writes one caption per image",
                got=f"decode.num_captions = {job.cfg.decode.num_captions}, {remote.name}",
                expected="1",
                do="leave --num-captions out",
            )
        )


def _require_count(job: Job, images: int) -> None:
    if images <= job.cfg.remote.max_images:
        return
    raise ConfigError(
        explain(
            "more images than a remote captioner may be asked for",
            got=f"{images} images",
            expected=f"at most {job.cfg.remote.max_images} (remote.max_images)",
            do=f"choose fewer, or add --set remote.max_images={images}",
        )
    )
