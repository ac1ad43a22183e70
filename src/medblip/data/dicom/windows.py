"""CT windows by name, in Hounsfield units, and how a reader asks for one."""

from __future__ import annotations

from medblip.errors import DataError, explain, nearest

__all__ = ["AUTO", "WINDOWS", "check_window"]

#: What the file itself asks for.
AUTO = "auto"
#: Name -> centre and width in HU: the usual reading windows. They differ by some tens of HU from
#: department to department; these are round numbers within that range.
WINDOWS: dict[str, tuple[float, float]] = {
    "abdomen": (40, 400),
    "angio": (300, 600),
    "bone": (400, 1800),
    "brain": (40, 80),
    "liver": (60, 160),
    "lung": (-600, 1500),
    "mediastinum": (40, 350),
    "soft-tissue": (50, 400),
    "stroke": (35, 40),
    "subdural": (75, 215),
}


def check_window(name: str) -> str:
    """Return the name if it is known.

    Raises:
        DataError: It is not.
    """
    if name == AUTO or name in WINDOWS:
        return name
    raise DataError(
        explain(
            "unknown CT window",
            got=name,
            expected=f"{AUTO} (what the file says), {', '.join(WINDOWS)}",
            do=f"use {nearest(name, [AUTO, *WINDOWS])}",
        )
    )
