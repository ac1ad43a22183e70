"""SIGINT and SIGTERM while a run trains: finish the step, save, then stop as was asked."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["Interrupted", "Interruption"]


class Interrupted(BaseException):
    """Raised where the work may stop, after a signal; what was done is saved."""

    resumable = True


class Interruption:
    """Takes note of signals while `deferring`; before, and at a second one, they act at once.

    Until the first step there is nothing to save, and features that are being computed are kept
    shard by shard anyway.

    Handlers can be set by the main thread alone; in another one, signals do what they always do.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.deferring = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise `Interrupted` after a signal."""
        if self.number is not None:
            raise Interrupted

    def obey(self) -> None:
        """Do what the signal would have done without this class; its handler is back already."""
        if self.number is not None:
            signal.raise_signal(self.number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None or not self.deferring:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)
        self.number = number
