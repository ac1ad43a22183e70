"""So many attempts a minute, over all threads."""

from __future__ import annotations

import threading
import time

__all__ = ["Pace", "Stopped"]


class Stopped(Exception):
    """The whole call ends: what waits gives up."""


class Pace:
    """Evenly spaced turns; whoever is told to wait by the server lets all wait.

    Args:
        per_minute: Turns; None: no limit.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def turn(self) -> None:
        """Wait for a turn.

        Raises:
            Stopped: There will be none.
        """
        while True:
            with self._lock:
                left = self._next - time.monotonic()
                if left <= 0 and not self._stop.is_set():
                    self._next = time.monotonic() + self._gap
                    return
            self.sleep(left)

    def hold(self, seconds: float) -> None:
        """Let nobody have a turn for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait.

        Raises:
            Stopped: The whole call ends.
        """
        if self._stop.wait(max(0.0, seconds)):
            raise Stopped

    def stop(self) -> None:
        """Wake all that wait: they give up."""
        self._stop.set()
