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

__all__ = ["console", "track"]

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
