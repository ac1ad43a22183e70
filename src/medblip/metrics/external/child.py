"""A command as a child process that cannot hang its parent: time limit, own group, bounded memory.

Reads both outputs to the end, whatever their size, and keeps only their tails. Knows nothing of
scorers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

__all__ = ["TAIL_CHARACTERS", "Ended", "run_child"]

#: Of the child's last words, how many are kept.
TAIL_CHARACTERS = 2000

_KEPT_BYTES = (
    8 * TAIL_CHARACTERS
)  # UTF-8 needs up to 4 per character; progress bars are thinned out


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a child ended.

    Args:
        code: Exit status, negative for a signal; None when it was killed at its time limit.
        tail: Last characters of its standard error, or of its output where that is blank.
        seconds: Wall time.
    """

    code: int | None
    tail: str
    seconds: float


def run_child(
    command: Sequence[str], *, env: Mapping[str, str], stdin: Path, timeout_s: float
) -> Ended:
    """Run a command to its end or its time limit; its whole process group is gone afterwards.

    Also where this process is interrupted meanwhile. A grandchild that has left the group on
    purpose (setsid) is out of reach.

    Raises:
        OSError: The command cannot be started.
    """
    started = time.monotonic()
    with stdin.open("rb") as source:
        process = subprocess.Popen(
            command,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    code: int | None = None
    try:
        outputs = [_Tail(stream) for stream in (process.stderr, process.stdout) if stream]
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(timeout_s)
    finally:
        _kill_group(process)
        process.wait()
    tails = [output.text() for output in outputs]
    return Ended(code, next(filter(None, tails), ""), time.monotonic() - started)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group: a finished child may have left workers behind."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # a new session's group has its leader's number
    with contextlib.suppress(ProcessLookupError):
        process.kill()


class _Tail:
    """Reads a stream in a thread, so that a full pipe never stops the child."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while block := os.read(self._stream.fileno(), 1 << 16):
                self._kept = (self._kept + block)[-_KEPT_BYTES:]

    def text(self) -> str:
        """Return the last characters; waits for the end of the stream, though not for ever."""
        self._thread.join(2.0)
        if not self._thread.is_alive():
            self._stream.close()
        text = self._kept.decode("utf-8", errors="replace").replace("\r\n", "\n")
        return re.sub(r"[^\n]*\r", "", text).strip()[-TAIL_CHARACTERS:]  # \r: a progress bar
