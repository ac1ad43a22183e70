"""Numbers in sentences, each with the file and the key it was read from.

Nothing in a study's words is typed by hand: a sentence asks the ledger for a number, which reads
it from a file, writes it as text and remembers where it came from. A test reads all of them again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medblip.errors import RunError, explain
from medblip.files import read_json

__all__ = ["Ledger", "Number", "read_key", "shown"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Number:
    """A number of a sentence.

    Args:
        text: As it stands in the sentence.
        file: Relative to the study's folder.
        key: Names and positions that lead to it in the file.
        form: How it was made text; see `shown`.
    """

    text: str
    file: str
    key: tuple[str | int, ...]
    form: str


class Ledger:
    """Reads numbers below one folder and keeps account of them.

    Args:
        root: The study's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.numbers: list[Number] = []
        self._files: dict[str, Any] = {}

    def read(self, file: str) -> Any:
        """Return the content of a JSON file; empty where it is absent."""
        if file not in self._files:
            path = self.root / file
            self._files[file] = read_json(path) if path.exists() else {}
        return self._files[file]

    def tell(self, file: str, *key: str | int, form: str = ".3f") -> str:
        """Return a number as text.

        Raises:
            RunError: The file does not hold it.
        """
        text = shown(read_key(self.read(file), key, where=str(self.root / file)), form)
        self.numbers.append(Number(text=text, file=file, key=key, form=form))
        return text


def read_key(content: Any, key: Sequence[str | int], *, where: str = "") -> Any:
    """Return what lies at the end of `key`.

    Raises:
        RunError: A name or position is absent.
    """
    for part in key:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            raise RunError(
                explain(
                    f"{where}: a number of the study is missing",
                    got=f"no {part!r} on the way to {' > '.join(map(str, key))}",
                    expected="a file that this version of medblip wrote",
                    do="delete that file and repeat the command: it is made again",
                )
            ) from None
    return content


def shown(value: Any, form: str) -> str:
    """Write a value as text.

    Args:
        value: A number or a word.
        form: A format of Python (`.3f`, `,`, `+.3f`), or `percent`, `p` (a p-value; 10,000
            resamples cannot tell one below 0.0001 from 0, and Holm's correction multiplies it),
            `minutes` (of seconds), `word`.

    >>> shown(0.9312, "percent"), shown(0.00001, "p"), shown(90, "minutes"), shown(3200, ",")
    ('93.1 %', '< 0.001', '1.5', '3,200')
    """
    if form == "percent":
        return f"{100 * value:.1f} %"
    if form == "p":
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    if form == "minutes":
        return f"{value / 60:.1f}"
    return str(value) if form == "word" else format(value, form)
