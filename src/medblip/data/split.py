"""Which image belongs to which split: the source's word, or else a rule that never parts a group."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from medblip.schema import Split

__all__ = ["assign_split", "leaking_groups"]


def assign_split(group: str, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> Split:
    """Return the split of a patient, case or article: a hash of (seed, group), nothing else.

    Row order, other rows and the machine change nothing; shares are met on average.

    Args:
        group: All images of one group share it.
        seed: Another seed, another partition.
        shares: Of train and validation; the rest is test.
    """
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < shares[0]:
        return "train"
    return "validation" if place < sum(shares) else "test"


def leaking_groups(rows: Sequence[tuple[str | None, str]]) -> list[str]:
    """Return the groups of (group, split) rows that lie in more than one split, sorted."""
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in rows:
        if group is not None:
            splits[group].add(split)
    return sorted(group for group, found in splits.items() if len(found) > 1)
