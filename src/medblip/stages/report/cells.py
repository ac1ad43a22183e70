"""Tables as plain records, and one cell as text; formats only set them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

__all__ = ["ABSENT", "SYSTEM", "Column", "Table", "cell", "p_value", "visible"]

_SMALLEST_P = 0.001
ABSENT = "\N{EN DASH}"
#: Control characters and lone surrogates: no format can hold them.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        key: Name of the value in a row; a header of the CSV file.
        title: Header for a reader.
        kind: text, long (text that wraps), number (three decimals), signed, score ({value, ci}),
            ci ([low, high]), p, count, seconds, percent.
    """

    key: str
    title: str
    kind: str = "text"

    @property
    def numeric(self) -> bool:
        """Whether cells are set flush right and sorted by value."""
        return self.kind not in ("text", "long")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """One table: name of its file, headline, columns, a dict per row, and a sentence below it.

    The first `keys` columns tell the rows apart: they are repeated where a table is cut.
    """

    name: str
    title: str
    columns: list[Column]
    rows: list[dict[str, Any]]
    note: str = ""
    keys: int = 1


#: First column of most tables.
SYSTEM = Column(key="system", title="system")


def cell(column: Column, row: dict[str, Any]) -> str:
    """Return one cell as text, the same in every format for readers.

    >>> cell(Column(key="x", title="x", kind="score"), {"x": {"value": 0.5, "ci": [0.4, 0.61]}})
    '0.500 (0.400 to 0.610)'
    >>> cell(Column(key="x", title="x", kind="count"), {"x": 12345})
    '12,345'
    """
    value = row.get(column.key)
    if value is None:
        return ABSENT
    return visible(_FORMS[column.kind](value))


def _score(value: dict[str, Any]) -> str:
    interval = value.get("ci")
    return f"{value['value']:.3f}" + (f" ({_interval(interval)})" if interval else "")


def _interval(value: list[float]) -> str:
    return f"{value[0]:.3f} to {value[1]:.3f}"


def p_value(p: float) -> str:
    """Return p with four decimals; below what resamples can tell apart, that bound.

    10,000 resamples cannot give less than 0.0001, and Holm multiplies it: digits below are noise.

    >>> p_value(0.03), p_value(0.0002)
    ('0.0300', '< 0.001')
    """
    return f"{p:.4f}" if p >= _SMALLEST_P else f"< {_SMALLEST_P}"


def visible(text: str) -> str:
    r"""Return text without characters that no file can hold.

    >>> visible("a" + chr(0) + chr(13) + chr(10) + "b").encode()
    b'a\xef\xbf\xbd\nb'
    """
    return _UNSHOWABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


_FORMS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "long": str,
    "number": "{:.3f}".format,
    "signed": "{:+.3f}".format,
    "score": _score,
    "ci": _interval,
    "p": p_value,
    "count": "{:,}".format,
    "seconds": "{:,.1f}".format,
    "percent": lambda value: f"{100 * value:.1f} %",
}
