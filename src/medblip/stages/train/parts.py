"""What the loop learns from: a split's images, captions and, with a frozen encoder, features."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medblip.config import RunConfig
from medblip.progress import track

if TYPE_CHECKING:
    import torch

    from medblip.data.loader import Pixels
    from medblip.engine import Engine
    from medblip.models.captioner import Captioner
    from medblip.schema import Example

__all__ = ["Part", "cache_features", "load_part"]


@dataclasses.dataclass
class Part:
    """One split, ready to be batched; all lists have the same order.

    Args:
        pixels: Decoded images.
        token_ids: Of the caption to learn.
        references: Raw captions, for scores.
        features: float32 (N, P, D) when a frozen encoder has seen every image already.
    """

    pixels: Pixels
    token_ids: list[list[int]]
    references: list[list[str]]
    features: torch.Tensor | None = None

    def embeds(self, captioner: Captioner, indices: Sequence[int]) -> torch.Tensor:
        """Return the image tokens (B, P, D) of some images, from the cache or from the encoder."""
        if self.features is not None:
            return self.features[list(indices)].to(captioner.device)
        mean, std = captioner.image_mean, captioner.image_std
        return captioner.encode(self.pixels.pixel_batch(indices, mean, std))


def load_part(cfg: RunConfig, captioner: Captioner, split: str) -> Part:
    """Load one split; an image with several captions is one sample per caption when it trains."""
    from medblip.data.loader import Pixels, load_split
    from medblip.data.store import Resize

    root = Path(cfg.data.root)
    examples: list[Example] = load_split(root, split)
    if split == "validation":
        examples = examples[: cfg.train.validation_images]
    else:
        raw = cfg.data.captions == "raw"
        examples = [
            dataclasses.replace(example, captions=(caption,))
            for example in examples
            for caption in (raw and example.captions) or example.targets or example.captions
        ]
    return Part(
        Pixels(examples, root, Resize(*captioner.image_size, captioner.image_resample)),
        captioner.tokenize([example.captions[0] for example in examples], cfg.data.max_tokens),
        [list(example.captions) for example in examples],
    )


def cache_features(
    cfg: RunConfig, captioner: Captioner, engine: Engine, parts: Sequence[Part]
) -> float:
    """Run a frozen encoder once over every image, if its output fits in memory; return seconds.

    Full fine-tuning must run the encoder at every step; with a frozen one its output is a constant.
    """
    import torch

    begun = time.perf_counter()
    captioner.network.eval()
    with torch.inference_mode(), engine.autocast():
        one = parts[0].embeds(captioner, [0]).float()
    images = sum(len(part.token_ids) for part in parts)
    if captioner.encoder_trains or images * one.nbytes > cfg.train.feature_cache_mb * 10**6:
        return 0.0
    size = cfg.decode.batch_size
    for part in parts:
        count = len(part.token_ids)
        features = torch.empty(count, *one.shape[1:])
        starts = range(0, count, size)
        for start in track(starts, "features of the frozen encoder", len(starts), unit="batch"):
            indices = range(start, min(start + size, count))
            with torch.no_grad(), engine.autocast():
                features[start : indices.stop] = part.embeds(captioner, indices)
        part.features = features
    return time.perf_counter() - begun
