"""The side that asks: starts children that decode, holds them to time and memory, replaces them.

One child serves one request at a time and lives for many; as many run as threads ask at once. CPU
time decides whether a file takes too long, so that a busy machine refuses no good file; the limit
by the clock only ends what waits for ever, such as a disk that does not answer.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import select
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from medblip.data.dicom.privacy import allowed
from medblip.data.dicom.reasons import Reason, message
from medblip.data.dicom.windows import AUTO
from medblip.data.images import MAX_BYTES, MAX_PIXELS
from medblip.errors import DataError, DicomError, explain

__all__ = ["Look", "close_children", "cpu_limit_s", "look", "render"]

#: CPU seconds for any file, and for every MB after the first. A small file takes a few ms; JPEG
#: 2000, the slowest, 0.14 s per MB (docs/dicom.md): seven times that leaves room for slow machines.
CPU_BASE_S, CPU_PER_MB_S = 1.5, 1.0
#: By the clock, for a process that does not even compute: this, and ten times its CPU time.
WALL_BASE_S = 60.0
#: A child that keeps more than this after a file is replaced: 0.2 s, once in thousands of files.
_MAX_GROWN = 256_000_000
_LONGEST_ANSWER = 16_384


@dataclasses.dataclass(frozen=True)
class Look:
    """What the reader learns of a file without decoding it.

    Args:
        facts: Of the allow-list.
        identifiers: PatientID and the like, for matching in memory; never to be written.
        betrays: Whether the path holds a header value, or may.
        readable: Whether there is a header.
    """

    facts: dict[str, str] = dataclasses.field(default_factory=dict)
    identifiers: dict[str, str] = dataclasses.field(default_factory=dict, repr=False)
    betrays: bool = True
    readable: bool = False


def look(path: Path, name: str) -> Look:
    """Read the header of a file; what cannot be read betrays its name, to be safe.

    Args:
        path: The file.
        name: Its path as it would be shown.

    Raises:
        DataError: pydicom is not installed.
    """
    try:
        answer, _ = _ask(path, {"do": "look", "name": name})
        return Look(
            facts=allowed(answer["facts"]),
            identifiers={str(key): str(value) for key, value in answer["identifiers"].items()},
            betrays=answer["betrays"] is not False,
            readable=True,
        )
    except (DicomError, KeyError, TypeError, AttributeError):  # refused, or no answer of ours
        return Look()


def render(path: Path, window: str = AUTO) -> Image.Image:
    """Return the picture of a DICOM file: its middle frame, mode L or RGB.

    Args:
        path: The file.
        window: `auto`, or a name of `medblip.data.dicom.windows.WINDOWS`.

    Raises:
        DicomError: It is refused, for a reason of the list.
        DataError: pydicom is not installed.
    """
    request = {"do": "render", "window": window, "max_pixels": MAX_PIXELS}
    answer, pixels = _ask(path, request)
    width, height, channels = (answer.get(key) for key in ("width", "height", "channels"))
    if not (isinstance(width, int) and isinstance(height, int) and channels in (1, 3)):
        raise DicomError(message(Reason.CRASH))
    if min(width, height) < 1 or width * height * channels != len(pixels):
        raise DicomError(message(Reason.CRASH))
    return Image.frombuffer("L" if channels == 1 else "RGB", (width, height), pixels)


def cpu_limit_s(n_bytes: int) -> float:
    """Return the CPU seconds that a file may take.

    >>> cpu_limit_s(500_000), cpu_limit_s(100_000_000)
    (1.5, 100.5)
    """
    return CPU_BASE_S + CPU_PER_MB_S * max(0.0, n_bytes / 1e6 - 1)


def close_children() -> None:
    """End the children that are idle; the next request starts a new one."""
    with _lock:
        children, _idle[:] = list(_idle), []
    for child in children:
        child.close()


def _ask(path: Path, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Have a child do something with a file.

    Raises:
        DicomError: It did not, or the child did not live through it.
    """
    cpu_s = cpu_limit_s(_size(path))
    line = json.dumps({**request, "path": str(path.absolute()), "cpu_s": cpu_s}).encode() + b"\n"
    child = _borrow()
    try:
        answer, pixels = child.ask(line, WALL_BASE_S + 10 * cpu_s)
    except _Died as died:
        child.close()
        raise DicomError(message(died.reason)) from None
    except BaseException:  # Ctrl-C: what the child answers now is nobody's
        child.close()
        raise
    if answer.get("grown", 0) > _MAX_GROWN or answer.get("reason") == Reason.MEMORY.name:
        child.close()
    else:
        _give_back(child)
    if "reason" in answer:
        name = str(answer["reason"])
        reason = Reason[name] if name in Reason.__members__ else Reason.CRASH
        raise DicomError(message(reason, str(answer.get("detail", ""))))
    return answer, pixels


def _size(path: Path) -> int:
    """Return the bytes of a file that may be opened: a pipe would block, a device never end."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DicomError(message(Reason.ABSENT)) from None
    except (OSError, ValueError):
        raise DicomError(message(Reason.UNREADABLE)) from None
    if not stat.S_ISREG(status.st_mode):
        raise DicomError(message(Reason.NOT_A_FILE))
    if status.st_size > MAX_BYTES:
        raise DicomError(message(Reason.TOO_LARGE))
    return status.st_size


class _Died(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class _Child:
    """A running child; not for two threads at once."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P: a pydicom.py in the current folder is not imported
            [sys.executable, "-P", "-m", "medblip.data.dicom.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            bufsize=0,
            start_new_session=True,  # Ctrl-C is for the parent, which closes it
        )
        try:
            hello, _ = self._receive(time.monotonic() + WALL_BASE_S)
        except _Died:
            self.close()
            raise DataError(_cannot_start("it ended at once")) from None
        if "missing" in hello:
            self.close()
            raise DataError(_cannot_start(f"{hello['missing']} is not installed"))

    def ask(self, line: bytes, wall_s: float) -> tuple[dict[str, Any], bytes]:
        """Send one request, return its answer.

        Raises:
            _Died: The child ended or was ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
        except BrokenPipeError:
            raise _Died(Reason.CRASH) from None
        return self._receive(time.monotonic() + wall_s)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it; what it does now is worth nothing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _receive(self, deadline: float) -> tuple[dict[str, Any], bytes]:
        n_text, n_pixels = struct.unpack(">II", self._read(8, deadline))
        if n_text > _LONGEST_ANSWER or n_pixels > 3 * MAX_PIXELS:
            raise _Died(Reason.CRASH)
        text, pixels = self._read(n_text, deadline), self._read(n_pixels, deadline)
        try:
            answer = json.loads(bytes(text))
        except ValueError:
            raise _Died(Reason.CRASH) from None
        if not isinstance(answer, dict):
            raise _Died(Reason.CRASH)
        return answer, bytes(pixels)

    def _read(self, count: int, deadline: float) -> bytearray:
        """Return exactly so many bytes of its answer."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        data, got = bytearray(count), 0
        while got < count:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(1000 * left):
                raise _Died(Reason.TIME)
            n = os.readv(pipe, [memoryview(data)[got:]])
            if not n:
                raise _Died(self._cause())
            got += n
        return data

    def _cause(self) -> Reason:
        """Return why it ended, having closed its pipe."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return Reason.CRASH
        if code == -signal.SIGPROF:
            return Reason.TIME
        # the kernel's last resort; the limit itself shows as a MemoryError or an abort
        return Reason.MEMORY if code == -signal.SIGKILL else Reason.CRASH


def _environment() -> dict[str, str]:
    """Return ours, with one thread per library and this very medblip."""
    home = str(Path(__file__).resolve().parents[3])
    before = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": f"{home}{os.pathsep}{before}" if before else home,
    }


def _cannot_start(why: str) -> str:
    return explain(
        "DICOM files cannot be read",
        got=f"the process that decodes did not start: {why}",
        expected="pydicom and its decoders",
        do="pip install 'medblip[dicom]'",
    )


_lock = threading.Lock()
_idle: list[_Child] = []
_owner = os.getpid()


def _borrow() -> _Child:
    """Return an idle child, or a new one."""
    global _owner
    with _lock:
        if _owner != os.getpid():  # forked: those children are the other process's
            _idle.clear()
            _owner = os.getpid()
        while _idle:
            child = _idle.pop()
            if child.is_alive():
                return child
            child.close()
    return _Child()


def _give_back(child: _Child) -> None:
    with _lock:
        _idle.append(child)


atexit.register(close_children)
