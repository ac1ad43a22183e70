"""What the two ways to choose tokens have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import torch

__all__ = ["Choice", "Hypothesis", "Special"]


@dataclasses.dataclass(frozen=True)
class Special:
    """Tokens with a meaning of their own: the end of a caption, and padding."""

    end: int
    pad: int


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """New tokens of one caption, the end token included, and their log-probabilities."""

    ids: list[int]
    logprobs: list[float]


class Choice(Protocol):
    """How the next token is chosen; keeps what belongs to its way."""

    def reset(self, keys: Sequence[str]) -> None:
        """Begin anew for as many images as there are keys."""

    def take(self, logits: torch.Tensor, step: int) -> None:
        """Choose the next token of every caption from float32 logits (n, k, V); k is 1 at first."""

    def done(self) -> torch.Tensor:
        """Return which images (n,) have all their captions."""

    def result(self, row: int) -> list[Hypothesis]:
        """Return the captions of the image in a row, best first."""
