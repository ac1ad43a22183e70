"""Finished batches on the disk, one line each: what a killed run keeps, and several runs share.

Every process appends to a file of its own, `rows-<rank>.jsonl`, in one write per batch. A batch is
always made of the same images, so that one that is done again comes out the same. In memory is
only where each line begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import explain_os_errors, read_json, write_json
from medblip.schema import json_line

__all__ = ["Journal"]

_LINE = re.compile(rb'\{"batch": (\d+), ')
_SYNC_S = 30.0  # a power cut costs at most so much work


class Journal:
    """The batches of one result that are done.

    Args:
        target: The file that they will become.
        rank: Of this process.
    """

    def __init__(self, target: Path, rank: int) -> None:
        self.folder = target.with_name(target.name + ".unfinished")
        self._own = self.folder / f"rows-{rank}.jsonl"
        self._settings = self.folder / "settings.json"
        #: Batch -> (file, offset) of its line.
        self._places: dict[int, tuple[Path, int]] = {}
        self._read: dict[Path, int] = {}
        self._synced = time.monotonic()

    def begin(self, settings: dict[str, Any], *, force: bool) -> None:
        """Go on with what is there if it was made with the same settings.

        Raises:
            RunError: It was made with others, and `force` is not given.
        """
        old = self._stored()
        if old is not None:
            if old == settings:
                return
            if not force:
                changed = sorted(k for k in {*old, *settings} if old.get(k) != settings.get(k))
                raise RunError(
                    explain(
                        f"{self.folder} is of an unfinished call with other settings",
                        got=", ".join(f"{key} = {settings.get(key)}" for key in changed),
                        expected=", ".join(f"{key} = {old.get(key)}" for key in changed),
                        do="repeat that call, or add --force to start anew",
                    )
                )
            for file in [self._settings, *self.folder.glob("rows-*.jsonl")]:
                file.unlink(missing_ok=True)
        write_json(self._settings, settings)

    def joined(self, settings: dict[str, Any]) -> bool:
        """Whether the first process has begun with these settings."""
        return self._stored() == settings

    def done(self) -> set[int]:
        """Look what has been added by any process; return the batches that are there."""
        for path in sorted(self.folder.glob("rows-*.jsonl")):
            offset = self._read.get(path, 0)
            try:
                opened = path.open("rb")
            except FileNotFoundError:  # all is done, and the first process removes it
                continue
            with opened as file:
                file.seek(offset)
                for line in file:
                    found = _LINE.match(line)
                    if not found or not line.endswith(b"}\n"):
                        break  # torn by a kill, or being written
                    self._places.setdefault(int(found[1]), (path, offset))
                    offset += len(line)
            self._read[path] = offset
        return set(self._places)

    def append(
        self, batch: int, rows: list[dict[str, Any]], rejects: list[dict[str, str]], **more: Any
    ) -> None:
        """Add a finished batch, and what else is to be kept of it."""
        record = {"batch": batch, "rows": rows, "rejects": rejects, **more}
        line = json_line(record).encode()
        with explain_os_errors(self._own), self._own.open("ab", buffering=0) as file:
            start = file.tell()
            try:
                if file.write(line) < len(line):
                    raise OSError(28, "No space left on device")
            except OSError:
                file.truncate(start)
                raise
            if time.monotonic() - self._synced > _SYNC_S:
                os.fsync(file.fileno())
                self._synced = time.monotonic()

    def mend(self) -> None:
        """Cut a line of this process's own file that a kill has torn."""
        self.done()
        if self._own in self._read:
            with explain_os_errors(self._own), contextlib.suppress(FileNotFoundError):
                os.truncate(self._own, self._read[self._own])

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yield every batch in its order."""
        files = {path: path.open("rb") for path in self._read}
        try:
            for batch in sorted(self._places):
                path, offset = self._places[batch]
                files[path].seek(offset)
                yield json.loads(files[path].readline())
        finally:
            for file in files.values():
                file.close()

    def _stored(self) -> dict[str, Any] | None:
        """Return the settings that are there."""
        if not self._settings.exists():
            return None
        try:
            stored = read_json(self._settings)
        except RunError:  # gone again
            return None
        return {key: value for key, value in stored.items() if key != "schema_version"}

    def remove_empty(self) -> None:
        """Delete it if it holds nothing: what failed before its first batch leaves nothing."""
        with contextlib.suppress(OSError):
            if not any(file.stat().st_size for file in self.folder.glob("rows-*.jsonl")):
                self.remove()

    def remove(self) -> None:
        """Delete it: its rows are in their place."""
        shutil.rmtree(self.folder, ignore_errors=True)
