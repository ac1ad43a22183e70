"""Markdown and YAML made of words from files: what a name or a licence says stays text.

A card is read by a browser and by the hub's YAML parser, and is made of names of runs, data sets
and sources that anybody may have chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["code", "escape", "front_matter", "table"]

_SPECIAL = re.compile(r"([\\`*_\[\]|~$#!])")
#: What needs no quotes in YAML 1.1 and 1.2: no number, date, mark or word of its own meaning.
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9/_.-]*[A-Za-z0-9]")
_MEANT = {"true", "false", "yes", "no", "on", "off", "null", "nan", "inf"}


def escape(value: object, limit: int = 200) -> str:
    r"""Return one line that Markdown shows as it is: no markup, HTML or link, no line of its own.

    >>> escape("a|b <script> [x](http://y)")
    'a\\|b &lt;script&gt; \\[x\\](http&#58;//y)'
    """
    text = _one_line(value, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _SPECIAL.sub(r"\\\1", text).replace("://", "&#58;//")
    return re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + "&#46;", text)


def code(value: object, limit: int = 300) -> str:
    """Return one line as a code span; backticks, which would end it, become apostrophes."""
    return f"`{_one_line(value, limit).replace('`', chr(39)) or ' '}`"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table, a blank one before; cells are escaped by the caller."""
    lines = ["", f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def front_matter(record: Mapping[str, Any]) -> str:
    """Return YAML between two lines of dashes, as the hub reads it at the top of a README.

    Args:
        record: Dicts, lists, texts, numbers and booleans; None, empty lists and empty dicts are
            left out.
    """
    return "\n".join(["---", *_lines(record, 0), "---"]) + "\n"


def _one_line(value: object, limit: int) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in str(value))
    text = " ".join(shown.split())
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def _lines(record: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    pad = "  " * depth
    for key, value in record.items():
        if value is None or value in ({}, [], ()):
            continue
        if isinstance(value, Mapping):
            lines += [f"{pad}{_scalar(key)}:", *_lines(value, depth + 1)]
        elif isinstance(value, list | tuple):
            lines.append(f"{pad}{_scalar(key)}:")
            for item in value:
                if isinstance(item, Mapping):
                    first, *rest = _lines(item, depth + 1)
                    lines += [f"{pad}- {first.lstrip()}", *rest]
                else:
                    lines.append(f"{pad}- {_scalar(item)}")
        else:
            lines.append(f"{pad}{_scalar(key)}: {_scalar(value)}")
    return lines


def _scalar(value: object) -> str:
    """Return a scalar that YAML reads back as the same text, number or truth value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return repr(value) if not e or "." in mantissa else f"{mantissa}.0e{exponent}"
    text = str(value)
    if _PLAIN.fullmatch(text) and text.casefold() not in _MEANT:
        return text
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    number = ord(letter)
    if 0xD800 <= number < 0xE000:  # half a letter: no file can hold it
        return "?"
    return f"\\x{number:02x}" if number < 256 else f"\\U{number:08x}"
