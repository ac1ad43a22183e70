"""Maps of a tokenizer's pieces joined to maps of words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

__all__ = ["eager_attention", "merge_words"]


def merge_words(
    pieces: list[str], maps_TRC: torch.Tensor, begins: Callable[[str], bool],
    text: Callable[[list[str]], str],
) -> tuple[list[str], torch.Tensor]:  # fmt: skip
    """Join pieces (`effu`, `##sion`) into words, averaging their maps; each map sums to 1.

    Args:
        pieces: As the tokenizer writes them.
        maps_TRC: One per piece.
        begins: Whether a piece begins a word.
        text: The pieces of one word -> the word.
    """
    members: list[list[int]] = []
    for index, piece in enumerate(pieces):
        if members and not begins(piece):
            members[-1].append(index)
        else:
            members.append([index])
    if not members:
        return [], maps_TRC[:0]
    words = [text([pieces[index] for index in group]) for group in members]
    merged = torch.stack([maps_TRC[group].mean(dim=0) for group in members])
    return words, merged / merged.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)


@contextlib.contextmanager
def eager_attention(network: Any) -> Iterator[None]:
    """Run the attention that returns its probabilities inside the block."""
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)
