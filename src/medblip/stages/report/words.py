"""Sentences that every format shows: what may be concluded, and what not."""

from __future__ import annotations

from medblip.stages.report.contents import Contents

__all__ = ["conclusions", "is_synthetic"]


def is_synthetic(contents: Contents) -> bool:
    """Whether the images are phantoms: only these have findings as exact facts."""
    return any("findings" in (case.example.facts or {}) for case in contents.cases)


def conclusions(contents: Contents) -> list[str]:
    """Return the sentences that limit what the numbers mean."""
    intervals = any(system.intervals for system in contents.systems)
    found = [
        "An interval says how far a score would move with other images of the same kind. It does "
        "not say how good a caption is for a patient: no metric here measures clinical safety."
        if intervals
        else "No intervals were computed: how far a score would move with other images of the same "
        "kind is not known. No metric here measures clinical safety.",
        "Attention is not an explanation. A map may lie on the right place under a wrong caption, "
        "and on a wrong place under a right one.",
    ]
    if is_synthetic(contents):
        found.append(
            "These images are drawn (phantoms) and their facts are exact. Results on them compare "
            "methods; they say nothing about a clinic."
        )
    if contents.ablation is None or len(contents.ablation.get("seeds", [])) < 2:
        found.append(
            "Each system was trained once, with one seed: differences include the luck of that run."
        )
    elif len(contents.ablation["seeds"]) > 1:
        found.append(
            f"The ablation has {len(contents.ablation['seeds'])} seeds per variant; the scores of "
            "the other tables are of one run each and include the luck of that run."
        )
    return found
