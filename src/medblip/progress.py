"""Progress bars with an ETA on standard error, and the one line that a stage prints.

Standard output stays free for results (`--json` prints one object there, last).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Live", "console", "track"]

T = TypeVar("T")


def console() -> Console:
    """Return a Rich console on standard error; 130 columns where that is a file, not a terminal."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else 130)


def track(items: Iterable[T], description: str, total: int, *, unit: str = "img") -> Iterator[T]:
    """Yield `items` behind a bar: done/total, rate in `unit`/s, elapsed time and ETA.

    Nothing is drawn unless standard error is a terminal.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]}} {unit}/s"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    screen = console()
    if not screen.is_terminal:
        yield from items
        return
    with Progress(*columns, console=screen, transient=True) as progress:
        task = progress.add_task(description, total=total, rate="-")
        shown = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - shown > 0.1:  # the bar costs as much as reading a small image
                speed = progress.tasks[0].speed
                progress.update(task, completed=done, rate=f"{speed:.1f}" if speed else "-")
                shown = time.monotonic()


class Live:
    """A bar for long work that tells more than how much is done; a line a minute in a log file.

    Args:
        description: What is being done.
        total: Units of work.
        done: Of which done before.
        every_s: Seconds between two lines where standard error is no terminal.
    """

    def __init__(self, description: str, total: int, done: int = 0, every_s: float = 60) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._total, self._first, self._every_s = total, done, every_s
        self._begun = self._said = time.monotonic()
        self._description = description
        self._screen = console()
        self._bar = None
        if self._screen.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"), TimeElapsedColumn(), TextColumn("ETA"),
                TimeRemainingColumn(), console=self._screen, transient=True,
            )  # fmt: skip
            self._task = self._bar.add_task(description, total=total, completed=done, text="")

    def __enter__(self) -> Live:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, text: str) -> None:
        """Say how far the work is, and what it looks like."""
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif now - self._said > self._every_s:
            left = (now - self._begun) / max(1, done - self._first) * (self._total - done)
            line = f"{self._description}: {done}/{self._total}, {text}, ETA {left / 60:.0f} min"
            self._screen.print(line, markup=False, highlight=False, soft_wrap=True)
            self._said = now


def time_of(hours: float) -> str:
    """Write hours so that the digits say something.

    >>> time_of(0.2), time_of(0.001), time_of(30)
    ('12 min', '4 s', '30.0 h')
    """
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
