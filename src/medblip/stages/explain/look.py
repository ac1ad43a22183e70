"""Captions replayed over their images, seen in one view."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from medblip.models.captioner import Captioner
    from medblip.models.maps import Gradients, Replay

__all__ = ["Seen", "View", "look", "settled_view"]


@dataclasses.dataclass(frozen=True)
class View:
    """What is made of all layers and heads: a name of `medblip.models.views.VIEWS`, and which."""

    name: str = "last-mean"
    layer: int | None = None
    head: int | None = None

    @property
    def words(self) -> str:
        """Return it as a page says it."""
        from medblip.models.views import described

        return described(self.name, self.layer, self.head)

    @property
    def gradients(self) -> Gradients:
        """Which gradients it needs: those of the last layer cost one pass, others one per piece."""
        if self.name != "gradient":
            return "none"
        return "last" if self.layer in (None, -1) else "all"

    def record(self) -> dict[str, Any]:
        """Return it for a file."""
        return {"view": self.words, "settings": dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Seen:
    """One caption over its image.

    Args:
        replay: All layers and heads.
        maps: In the view, float32 (words, rows, columns); each word's of sum 1.
    """

    replay: Replay
    maps: NDArray[np.float32]

    def record(self, name: str, caption: str, size: tuple[int, int]) -> dict[str, Any]:
        """Return it for `maps/<split>.json`; `size` is the original's width and height."""
        return {
            "id": name,
            "caption": caption,
            "size": list(size),
            "words": list(self.replay.words),
            "maps": [np.round(one.astype(float).flatten(), 5).tolist() for one in self.maps],
        }


def settled_view(name: str | None, layer: int | None, head: int | None) -> View:
    """Return a view; a layer or head without a name means the view `layer`.

    Raises:
        ConfigError: There is no such view, or it takes neither layer nor head.
    """
    from medblip.models.views import require_view

    if name is None:
        name = "last-mean" if layer is None and head is None else "layer"
    require_view(name, layer, head)
    return View(name, layer, head)


def look(
    captioner: Captioner, pixels: torch.Tensor, captions: Sequence[str | Sequence[str]], view: View,
    embeds: torch.Tensor | None = None,
) -> list[Seen]:  # fmt: skip
    """Replay captions over their images.

    Args:
        captioner: Whose.
        pixels: Normalised, float32 (B, 3, H, W).
        captions: Texts, or the pieces that were generated.
        view: Which.
        embeds: What `encode` gave of the pixels, where it is at hand.

    Raises:
        CheckpointError: The captioner cannot give this view.
        ConfigError: It has no such layer or head.
    """
    import torch

    from medblip.models.views import word_maps

    with torch.inference_mode():
        if embeds is None:
            embeds = captioner.encode(pixels)
        replays = captioner.replay(embeds, captions, gradients=view.gradients)
        found = []
        for row, one in enumerate(replays):
            vision = None
            if view.name == "rollout":  # one image at a time: 200 MB of BLIP-base at 384 px
                vision = captioner.vision_attention(pixels[row : row + 1])[0]
            maps = word_maps(one, view.name, layer=view.layer, head=view.head, vision=vision)
            found.append(Seen(one, maps.numpy()))
    return found
