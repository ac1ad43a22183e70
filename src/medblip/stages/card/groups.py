"""The groups of images that a run does worst on, in words, as `compare` found them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medblip.markdown import escape

__all__ = ["weak_groups"]

#: The metric that speaks for a group where it calls the group weak.
_HEADLINE = "CIDEr-D"
#: How many groups a card names; the comparison has them all.
_SHOWN = 5
#: What a group of images by its references is called.
_NAMES = {
    ("findings", "none"): "references without a finding",
    ("findings", "rare"): "references with a finding that is rare in training",
    ("findings", "common"): "references whose findings are all common in training",
    ("findings", "frequency unknown"): "references with a finding",
}


def weak_groups(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return lines that name the weakest groups, each once, those by the headline metric first.

    Args:
        rows: `weakest` of a comparison, of one system.
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=_order):
        groups.setdefault((row["stratum"], row["level"]), row)
    if not groups:
        return []
    shown = list(groups.values())[:_SHOWN]
    more = len(groups) - len(shown)
    all_of_them = f" The {len(shown)} weakest; the comparison has {more} more." if more else ""
    return [
        "- Groups of test images whose 95 % interval lies wholly below the value of all images. "
        "Exploratory: not corrected for how many groups and metrics were looked at, so some may be "
        f"chance.{all_of_them}",
        *(
            f"  - {_name(row['stratum'], row['level'])} ({row['n']} images): "
            f"{escape(row['metric'])} {row['value']:.4f} [{row['ci'][0]:.4f}, {row['ci'][1]:.4f}], "
            f"all images {row['overall']:.4f}"
            for row in shown
        ),
    ]


def _order(row: dict[str, Any]) -> tuple[bool, float]:
    """The headline metric first, then by the share of the whole's value that a group reaches."""
    return row["metric"] != _HEADLINE, row["value"] / row["overall"] if row["overall"] else 0.0


def _name(stratum: str, level: str) -> str:
    if (stratum, level) in _NAMES:
        return _NAMES[stratum, level]
    if stratum == "length":
        return f"length of the reference: {escape(level)}"
    return f"{escape(stratum)}: {escape(level)}"
