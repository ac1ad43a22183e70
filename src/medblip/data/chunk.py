"""One chunk of a source, from files to a shard of pixels: what a worker does.

A chunk is up to 256 consecutive rows. What comes out depends on these rows alone, so a data set is
the same for any number of workers; a journal of finished chunks lets a killed run go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import threading
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medblip.data.raw import FileRef, ImageRef
from medblip.data.store import Resize, Shard, file_crc32
from medblip.errors import ImageError

__all__ = ["Chunk", "Done", "Outcome", "run_chunks"]


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Rows to decode.

    Args:
        number: Place in the source; names the shard.
        images: Where each image is.
        copies: Name of the copy of each image; None keeps no copies.
    """

    number: int
    images: Sequence[ImageRef]
    copies: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one row: either the reason why it was left out, or what the image is.

    Args:
        reason: None when the image is in the store.
        channels: 1 or 3; 0 when left out.
        width: Of the image as decoded.
        height: Of the image as decoded.
        crc32: Of the copy.
    """

    reason: str | None = None
    channels: int = 0
    width: int = 0
    height: int = 0
    crc32: int = 0


@dataclasses.dataclass(frozen=True)
class Done:
    """A finished chunk: an outcome per row; name of a size -> its shard, if a row was usable."""

    number: int
    outcomes: list[Outcome]
    shards: dict[str, list[Shard]]


def run_chunks(
    chunks: Iterable[Chunk],
    places: Mapping[Resize, Path],
    *,
    copies: Path | None = None,
    link: bool = False,
    journal: Path | None = None,
    workers: int | None = None,
) -> Iterator[Done]:
    """Decode chunks on all cores and yield them in order.

    Threads are enough: Pillow decodes and resizes without holding the interpreter. At most three
    chunks per worker are in flight, so memory does not grow with the source.

    Args:
        chunks: Of the source, in order.
        places: Size to keep -> folder for its shards.
        copies: Folder that the names of the copies start from.
        link: Make hard links instead of copies, where the file system can.
        journal: Folder of the finished chunks; what it holds of the same rows is not done again.
        workers: Threads; None: one per core.
    """
    workers = workers or os.cpu_count() or 1
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    stopped = threading.Event()
    task = _Task(places, copies or Path(), link, journal, stopped)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[Future[Done]] = deque()
    try:
        for chunk in chunks:
            waiting.append(pool.submit(task.run, chunk))
            if len(waiting) >= 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()  # after an error or Ctrl-C, a chunk in work ends after its next image
        pool.shutdown(wait=True, cancel_futures=True)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What is the same for all chunks of a run."""

    places: Mapping[Resize, Path]
    copies: Path
    link: bool
    journal: Path | None
    stopped: threading.Event

    def run(self, chunk: Chunk) -> Done:
        """Decode one chunk, or find that it was done before."""
        record = self.journal / f"{chunk.number:05d}.json" if self.journal else None
        key = self._key(chunk)
        if record is not None and (done := self._finished(record, key, chunk)):
            return done
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(_ShardWriter(place / f"{chunk.number:05d}.u8", resize))
                for resize, place in self.places.items()
            ]
            copies = [self.copies / name for name in chunk.copies or ()]
            outcomes = []
            for index, image in enumerate(chunk.images):
                if self.stopped.is_set():
                    raise CancelledError
                copy = copies[index] if copies else None
                outcomes.append(_one(image, copy, writers, link=self.link))
            shards = {writer.resize.name: writer.finish() for writer in writers}
        done = Done(chunk.number, outcomes, shards)
        if record is not None:
            _write_record(record, key, done)
        return done

    def _key(self, chunk: Chunk) -> str:
        """Return a hash of all that the outcome depends on: which bytes, sizes and names."""
        digest = hashlib.blake2b(digest_size=16)
        for text in (
            *(resize.name for resize in self.places),
            *(f"{image.label}\0{image.stamp()}" for image in chunk.images),
            *(chunk.copies or ()),
        ):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def _finished(self, record: Path, key: str, chunk: Chunk) -> Done | None:
        """Return what an earlier, killed run did of these same rows, if it is all there."""
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if found["key"] != key:
            return None
        outcomes = [Outcome(*row) for row in found["outcomes"]]
        shards = {name: [Shard(*row) for row in rows] for name, rows in found["shards"].items()}
        written = {
            self.copies / name: outcome.crc32
            for name, outcome in zip(chunk.copies or (), outcomes, strict=False)
            if outcome.reason is None
        } | {
            place / shard.file: shard.crc32
            for resize, place in self.places.items()
            for shard in shards[resize.name]
        }
        # nothing was flushed yet: after a power cut, only checksums tell what reached the disk
        if any(not path.is_file() or file_crc32(path) != crc for path, crc in written.items()):
            return None
        return Done(chunk.number, outcomes, shards)


def _one(
    image: ImageRef, copy: Path | None, writers: Sequence[_ShardWriter], *, link: bool
) -> Outcome:
    try:
        picture, data = image.open()
    except ImageError as error:
        return Outcome(reason=str(error))
    if copy is not None and not (link and _linked(image, copy)):
        copy.write_bytes(data)
    channels = 1 if picture.mode == "L" else 3
    for writer in writers:
        channels = writer.add(picture)
    return Outcome(None, channels, picture.width, picture.height, zlib.crc32(data))


def _linked(image: ImageRef, copy: Path) -> bool:
    """Make a hard link to an image that is a file of its own; False where that cannot be."""
    if not isinstance(image, FileRef):
        return False
    try:
        copy.unlink(missing_ok=True)  # of a run that was killed
        os.link(image.path, copy)
    except OSError:
        return False
    return True


class _ShardWriter:
    """Appends resized images to one `.partial` file, which `finish` puts in its place."""

    def __init__(self, path: Path, resize: Resize) -> None:
        self.resize = resize
        self._path = path
        self._partial = path.with_suffix(".partial")
        self._channels: list[str] = []
        self._crc32 = 0

    def __enter__(self) -> _ShardWriter:
        self._file = self._partial.open("wb", buffering=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, image: Any) -> int:
        """Append one image; return its channels."""
        pixels = self.resize.apply(image)
        data = memoryview(pixels.data).cast("B")
        if self._file.write(data) != len(
            data
        ):  # an unbuffered write may be short: the disk is full
            raise OSError(28, os.strerror(28))
        self._crc32 = zlib.crc32(data, self._crc32)
        self._channels.append(str(len(pixels)))
        return len(pixels)

    def finish(self) -> list[Shard]:
        """Put the file in its place; nothing when it holds no image."""
        if not self._channels:
            return []
        if hasattr(os, "posix_fadvise"):  # begin to write back now, or the end waits for gigabytes
            os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.replace(self._partial, self._path)
        return [Shard(self._path.name, "".join(self._channels), self._crc32)]


def _write_record(record: Path, key: str, done: Done) -> None:
    shards = {name: [dataclasses.astuple(s) for s in rows] for name, rows in done.shards.items()}
    outcomes = [dataclasses.astuple(outcome) for outcome in done.outcomes]
    partial = record.with_suffix(".partial")
    partial.write_text(json.dumps({"key": key, "outcomes": outcomes, "shards": shards}))
    os.replace(partial, record)
