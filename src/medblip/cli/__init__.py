"""The command line: parse, call one function, print. No logic.

Results go to standard output (with `--json`: one JSON object, last); progress and tables go to
standard error. Exit codes: 0 done, 2 the user can mend it, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import typer

from medblip.cli import ablate, cards, data, models, reproduce, runs, scores
from medblip.cli.options import app
from medblip.errors import MedblipError

__all__ = ["ablate", "app", "cards", "data", "main", "models", "reproduce", "runs", "scores"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    sys.exit(_guard(lambda: app(args=arguments, standalone_mode=False)))


def _guard(call: Callable[[], Any]) -> int:
    """Turn errors that a user can mend into a message and exit code 2."""
    # ClickException of the click that typer carries: its own copy, or the package
    usage_error: Any = typer.BadParameter.__mro__[2]
    try:
        code = call()
    except MedblipError as error:
        print(f"medblip: {error}", file=sys.stderr)
        return 2
    except usage_error as error:
        error.show()
        return 2
    except _Stopped as stop:
        print("medblip: interrupted; earlier results are whole", file=sys.stderr)
        return 128 + stop.number  # as a shell does: 130 and 143
    return int(code or 0)


class _Stopped(BaseException):
    """Ctrl-C or SIGTERM; `with` blocks clean up. Typer swallows KeyboardInterrupt, but not this."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: Any) -> NoReturn:
    raise _Stopped(number)
