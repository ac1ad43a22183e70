"""Licences by the hub's names: what a card's front matter may say. No judgement of terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["as_metadata", "hub_licence"]

#: Names that the hub knows, of those that radiology data and captioners come under.
_KNOWN = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "openrail", "pddl", "odc-by",
    *(f"cc-by-{v}" for v in ("2.0", "2.5", "3.0", "4.0")),
    *(f"cc-by-sa-{v}" for v in ("3.0", "4.0")),
    *(f"cc-by-nc-{v}" for v in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-sa-{v}" for v in ("2.0", "3.0", "4.0")),
    *(f"cc-by-nc-nd-{v}" for v in ("3.0", "4.0")),
    "cc-by-nd-4.0",
}  # fmt: skip
_PAGE = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/([0-9.]+)")


def hub_licence(text: str | None) -> str:
    """Return the hub's name of a licence, `other` for one it does not know, `unknown` for none.

    >>> hub_licence("CC BY-NC 4.0"), hub_licence("https://creativecommons.org/licenses/by/4.0/")
    ('cc-by-nc-4.0', 'cc-by-4.0')
    """
    said = (text or "unknown").casefold().strip()
    if found := _PAGE.search(said):
        kind, version = found[1], found[2].strip(".")
        said = f"cc0-{version}" if kind == "zero" else f"cc-{kind}-{version}"
    name = re.sub(r"[\s_]+", "-", said)
    if name in ("unknown", "none", "n/a"):
        return "unknown"
    return name if name in _KNOWN else "other"


def as_metadata(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return `license` (one name, or a list) of what lies in a data set, the commonest first."""
    names = list(dict.fromkeys(hub_licence(text) for text in counts)) or ["unknown"]
    said: dict[str, Any] = {"license": names[0] if len(names) == 1 else names}
    return said | ({"license_name": "stated-per-image"} if names == ["other"] else {})
