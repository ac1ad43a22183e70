"""Sentences that every format shows: what may be concluded, and what not."""

from __future__ import annotations

from medblip.stages.report.contents import Contents

__all__ = ["conclusions"]


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
    if contents.synthetic:
        found.append(
            "These images are drawn (phantoms) and their facts are exact. Results on them compare "
            "methods; they say nothing about a clinic."
        )
    return found + _of_seeds(contents)


def _of_seeds(contents: Contents) -> list[str]:
    """Return what luck has to do with it, where anything was trained."""
    seeds = len((contents.ablation or {}).get("seeds", []))
    if seeds > 1:
        return [
            f"The ablation has {seeds} seeds per variant; the scores of the other tables are of "
            "one run each and include the luck of that run."
        ]
    trained = [system.trained for system in contents.systems]
    if contents.ablation is None and not any(trained):
        return []
    which = "system" if all(trained) else "fine-tuned system"
    return [
        f"Each {which} was trained once, with one seed: differences include the luck of that run."
    ]
