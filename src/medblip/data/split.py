"""Which image belongs to which split: the source's word, or a rule that never parts a group."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from medblip.errors import DataError, explain
from medblip.schema import Split

__all__ = ["assign_split", "carve", "leaking_groups"]


def assign_split(group: str, seed: int, shares: tuple[float, float] = (0.8, 0.1)) -> Split:
    """Return the split of a patient, case or article: a hash of (seed, group), nothing else.

    Row order, other rows and the machine change nothing; shares are met on average.

    Args:
        group: All images of one group share it.
        seed: Another seed, another partition.
        shares: Of train and validation; the rest is test.
    """
    place = _place(f"{seed}:{group}")
    if place < shares[0]:
        return "train"
    return "validation" if place < sum(shares) else "test"


def carve(group: str, seed: int, share: float) -> bool:
    """Whether a training group goes to the validation split, for sources that have none.

    Drawn apart from `assign_split`: which groups are carved out does not depend on who was drawn
    for training. A larger share takes the groups of a smaller one and some more.

    Args:
        group: As there.
        seed: As there.
        share: Of the training groups, 0 to 1; met on average.

    Raises:
        DataError: It is no share.
    """
    if not 0 <= share <= 1:
        raise DataError(
            explain(
                "not a share of the training groups",
                got=share,
                expected="a number from 0 to 1, e.g. 0.1",
                do="correct --validation-share",
            )
        )
    return _place(f"validation:{seed}:{group}") < share


def leaking_groups(rows: Sequence[tuple[str | None, str]]) -> list[str]:
    """Return the groups of (group, split) rows that lie in more than one split, sorted."""
    splits: dict[str, set[str]] = defaultdict(set)
    for group, split in rows:
        if group is not None:
            splits[group].add(split)
    return sorted(group for group, found in splits.items() if len(found) > 1)


def _place(key: str) -> float:
    """Return a number in [0, 1) that depends on the key alone."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
