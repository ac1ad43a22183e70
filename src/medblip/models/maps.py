"""A caption replayed once: what the network attended to while it predicted each piece.

Legend: `B` captions, `L` layers, `H` heads, `T` pieces, `K` what a piece may look at, `Q` a
Q-Former's answers, `P` image tokens, `W` words.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch

from medblip.errors import CheckpointError, explain

__all__ = [
    "Gradients",
    "Looks",
    "Replay",
    "eager_attention",
    "gradients_of",
    "group_words",
    "no_view",
]


#: Of no layer, of the last one (one backward pass), or of all (one per piece).
Gradients = Literal["none", "last", "all"]


@dataclasses.dataclass(frozen=True)
class Looks:
    """What a family hands over of one batch, still on the device and with its graph.

    Args:
        layers: Attention of each layer of the decoder as the network made it, first layer first.
        logits: (B, T, V), at the positions of the captions' ids.
        rows: Where these positions begin in `layers`.
        keys: What of `layers` falls on the image (K); None: all.
        bridge: A Q-Former's cross-attentions (B, H, Q, P), first layer first; K is then Q.
    """

    layers: tuple[torch.Tensor, ...]
    logits: torch.Tensor
    rows: int = 0
    keys: Sequence[int] | None = None
    bridge: tuple[torch.Tensor, ...] = ()

    def of_image(self, layer: torch.Tensor) -> torch.Tensor:
        """Return the part of a layer's attention, or of its gradient, on the image (B, H, T, K)."""
        mine = layer[:, :, self.rows :]
        return mine if self.keys is None else mine[..., list(self.keys)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """One caption, word for word, and all attention that its prediction used; float32 on the CPU.

    Row t is that of the query that *predicts* piece t, so it lies one position before it.

    Args:
        pieces: The tokenizer's pieces of the caption (T), without prompt and end.
        words: The pieces joined (W).
        spans: First piece and the one behind the last, of each word.
        grid: Rows and columns of patches; they are the last image tokens.
        logprobs: (T,), natural logarithm.
        cross: (L, H, T, K). Where the decoder has a cross-attention to the image alone, a row sums
            to 1. Where a language model sees image and text as one sequence, or a Q-Former's
            answers beside a prompt, a row is the part that falls on the image: at most 1.
        gradient: Of each piece's own log-probability: (L, H, T, K) of all layers, (1, H, T, K) of
            the last one, or None, as was asked for.
        bridge: (L, H, Q, P) of a Q-Former; None elsewhere, where K is P.
    """

    pieces: tuple[str, ...]
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    grid: tuple[int, int]
    logprobs: torch.Tensor
    cross: torch.Tensor
    gradient: torch.Tensor | None = None
    bridge: torch.Tensor | None = None

    @property
    def on_image(self) -> torch.Tensor:
        """Every layer's and head's rows over image tokens (L, H, T, P).

        Through a Q-Former: times where each answer looked, in its last layer, mean over heads.
        """
        return self.cross if self.bridge is None else self.cross @ self.bridge[-1].mean(0)

    @property
    def unplaced(self) -> int:
        """How many image tokens stand before the patches and have no place: 1 for [CLS]."""
        tokens = (self.cross if self.bridge is None else self.bridge).shape[-1]
        return tokens - self.grid[0] * self.grid[1]


def group_words(
    pieces: Sequence[str], begins: Callable[[str], bool], text: Callable[[list[str]], str]
) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Join pieces (`effu`, `##sion`) into words; return the words and the span of each.

    Args:
        pieces: As the tokenizer writes them.
        begins: Whether a piece begins a word.
        text: The pieces of one word -> the word.
    """
    starts = [at for at, piece in enumerate(pieces) if not at or begins(piece)]
    spans = tuple(zip(starts, [*starts[1:], len(pieces)], strict=True)) if starts else ()
    return tuple(text(list(pieces[first:last])) for first, last in spans), spans


def gradients_of(
    looks: Looks, rows: Sequence[torch.Tensor], asked: Gradients
) -> list[torch.Tensor | None]:
    """Return d log p(piece) / d attention of that piece's own row, per caption (L or 1, H, T, K).

    A row of the last layer reaches its own piece alone, so that one backward pass over the sum of
    all pieces gives it. Earlier layers' rows reach later pieces through self-attention, too: there
    each piece has a pass of its own.

    Args:
        looks: With its graph.
        rows: Per caption, positions that predict (T,) and what each predicts (T,), as (2, T).
        asked: Of which layers.
    """
    if asked == "none":
        return [None] * len(rows)
    layers = looks.layers if asked == "all" else looks.layers[-1:]
    logp = looks.logits.float().log_softmax(-1)
    longest = max(one.shape[1] for one in rows)
    # rows of pieces whose gradient comes of one pass
    each = [slice(t, t + 1) for t in range(max(1, longest))]
    passes = each if asked == "all" else [slice(0, longest)]
    kept: list[list[torch.Tensor]] = [[] for _ in rows]
    for pieces in passes:
        terms = [logp[b, one[0, pieces], one[1, pieces]] for b, one in enumerate(rows)]
        found = torch.autograd.grad(torch.cat(terms).sum(), layers, retain_graph=True)
        slopes = torch.stack([looks.of_image(layer) for layer in found], 1).float().cpu()
        for b, one in enumerate(rows):
            kept[b].append(slopes[b][:, :, one[0, pieces]])
    return [torch.cat(steps, 2) for steps in kept]


@contextlib.contextmanager
def eager_attention(network: Any) -> Iterator[None]:
    """Run the attention that returns its probabilities inside the block."""
    before = network.config._attn_implementation
    network.set_attn_implementation("eager")
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def no_view(got: str, expected: str, do: str = "choose another --view") -> CheckpointError:
    """Return the error of a map that a captioner cannot give."""
    return CheckpointError(explain("no map per word", got=got, expected=expected, do=do))
