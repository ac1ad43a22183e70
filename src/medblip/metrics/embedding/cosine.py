"""Cosine of two sentence vectors: how alike two captions are to a text encoder.

The vector is the mean of the last layer over all tokens, or its first one, as the encoder was
trained. Alike is not right: "no effusion" and "effusion" are close neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from medblip.metrics.base import Means, Statistics
from medblip.metrics.embedding.encoders import open_encoder
from medblip.metrics.ngrams import owners

__all__ = ["cosine_statistics"]


def cosine_statistics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    model: str,
    device: str = "auto",
    batch_size: int = 64,
) -> Statistics:
    """Return the mean over images of the cosine with the best reference; statistics: cosine, 1.

    Args:
        hypotheses: One caption per image; an empty one scores 0.
        references: At least one per image.
        model: Preset, `preset=FOLDER`, a folder, or `owner/name[@revision]`; see `open_encoder`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        batch_size: Most texts per forward pass; changes no value beyond rounding.

    Raises:
        MetricError: The lists do not belong together; no such device.
        CheckpointError: The encoder is not here, is damaged, or has another kind of pooling.
    """
    owners(hypotheses, references)  # refuses lists that do not belong together
    encoder = open_encoder(model, pooled=True, device=device)
    flat = [caption for captions in references for caption in captions]
    encoder.keep(flat)
    ids = encoder.token_ids([*hypotheses, *flat])
    vectors = encoder.encode(ids, batch_size=batch_size, label="sentence vectors")
    for text, tokens in ids.items():
        if len(tokens) <= encoder.specials:
            vectors[text] = np.zeros(encoder.width, np.float32)
    best = [
        max(float(vectors[said] @ vectors[caption]) for caption in captions)
        for said, captions in zip(hypotheses, references, strict=True)
    ]
    how = f"{encoder.signature}|refs:best"
    return Statistics(Means(("sentence-cosine",), how), np.column_stack([best, np.ones(len(best))]))
