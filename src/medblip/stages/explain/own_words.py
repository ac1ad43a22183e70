"""Whether captions are what this captioner wrote: maps belong to no other words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from medblip.errors import RunError
from medblip.errors import explain as message
from medblip.schema import Prediction

if TYPE_CHECKING:
    from medblip.stages.explain.look import Seen

__all__ = ["is_cut", "require_own", "says"]

#: Mean log-probability per piece that other number types may move; other weights move whole nats.
_TOLERANCE = 0.25


def says(seen: Seen, caption: str) -> bool:
    """Whether the replayed words are the caption's letters."""
    return "".join("".join(seen.replay.words).split()) == "".join(caption.split())


def is_cut(seen: Seen, tokens: tuple[str, ...]) -> bool:
    """Whether the search ended at `decode.max_new_tokens`, not at the end token."""
    return len(tokens) == len(seen.replay.pieces) > 0


def require_own(seen: Seen, made: Prediction) -> None:
    """Refuse a caption whose recorded log-probabilities are not those of the replay.

    Raises:
        RunError: Other weights wrote it.
    """
    pieces = len(seen.replay.pieces)
    recorded = made.token_logprobs[:pieces]
    if not pieces or len(recorded) != pieces:
        return
    was, now = math.fsum(recorded) / pieces, float(seen.replay.logprobs.double().mean())
    if not abs(was - now) <= _TOLERANCE:
        raise RunError(
            message(
                f"the caption of {made.id} is not this captioner's",
                got=f"a mean log-probability of {now:.3f} per piece, recorded as {was:.3f}",
                expected="captions that these weights wrote for this image",
                do="run `medblip caption` again with --force, then explain",
            )
        )
