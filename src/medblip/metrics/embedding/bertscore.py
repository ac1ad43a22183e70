"""BERTScore (Zhang et al., ICLR 2020): greedy cosine matching of the tokens of two captions.

Each token of the caption takes its most similar token of the reference (precision), each token of
the reference its most similar one of the caption (recall). Values are those of bert-score 0.3.13
without rescaling, in every batch: there, where a shorter text of a batch is padded, a token whose
best similarity is negative gets 0 instead. It rewards wording that fits the register; it does not
know whether a finding is there.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from medblip.metrics.base import Floats, Means, Statistics
from medblip.metrics.embedding.encoders import Encoder, Vectors, open_encoder
from medblip.metrics.ngrams import owners
from medblip.progress import track

__all__ = ["bertscore_statistics"]

_NAMES = ("BERTScore-P", "BERTScore-R", "BERTScore-F1")
#: Token vectors of one block of images, bytes: memory does not grow with the set.
_BLOCK_BYTES = 64_000_000


def bertscore_statistics(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    model: str,
    idf: bool = False,
    layer: int | None = None,
    device: str = "auto",
    batch_size: int = 64,
) -> Statistics:
    """Return BERTScore-P, -R and -F1: their means over images; statistics: P, R, F1, 1.

    [CLS] and [SEP] can be matched and weigh nothing. Of several references P, R and F1 each take
    the best, as in bert-score. A caption or reference without a token scores 0, and so does a text
    whose tokens all have weight 0.

    Args:
        hypotheses: One caption per image.
        references: At least one per image.
        model: Preset, `preset=FOLDER`, a folder, or `owner/name[@revision]`; see `open_encoder`.
        idf: Weigh tokens by log((N + 1) / (df + 1)), N and df counted over all references.
        layer: Whose vectors are matched; None: see `open_encoder`.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        batch_size: Most texts per forward pass; changes no value beyond rounding.

    Raises:
        MetricError: The lists do not belong together; no such layer or device.
        CheckpointError: The encoder is not here or is damaged.
    """
    owners(hypotheses, references)  # refuses lists that do not belong together
    encoder = open_encoder(model, layer=layer, device=device)
    flat = [caption for captions in references for caption in captions]
    encoder.keep(flat)
    ids = encoder.token_ids([*hypotheses, *flat])
    weights = _weights(encoder, ids, flat if idf else None)
    values = np.zeros((len(hypotheses), 4))
    values[:, 3] = 1
    scored = _scored(encoder, hypotheses, references, ids, weights, batch_size)
    for image, best in track(scored, "BERTScore", len(hypotheses)):
        values[image, :3] = best
    how = f"{encoder.signature}|idf:{'references' if idf else 'no'}|rescale:no"
    return Statistics(Means(_NAMES, how), values)


def _weights(
    encoder: Encoder, ids: Mapping[str, Sequence[int]], documents: Sequence[str] | None
) -> dict[str, Floats]:
    """Return the weight of each token of each text; without documents 1, and 0 for the specials."""
    if documents is None:
        unweighed = (encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id)
        return {
            text: np.array([float(token not in unweighed) for token in tokens])
            for text, tokens in ids.items()
        }
    counts = collections.Counter(token for text in documents for token in set(ids[text]))
    idf = {token: math.log((len(documents) + 1) / (n + 1)) for token, n in counts.items()}
    unseen = math.log(len(documents) + 1)
    return {
        text: np.array([idf.get(token, unseen) for token in tokens]) for text, tokens in ids.items()
    }


def _scored(
    encoder: Encoder,
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    ids: Mapping[str, Sequence[int]],
    weights: Mapping[str, Floats],
    batch_size: int,
) -> Iterator[tuple[int, Floats]]:
    """Yield (image, best P, R, F1), block by block.

    Images with the same caption are neighbours, so that each caption is encoded once although
    its vectors are kept for two blocks only.
    """
    order = sorted(range(len(hypotheses)), key=lambda i: (len(ids[hypotheses[i]]), hypotheses[i]))
    limit = _BLOCK_BYTES // (4 * encoder.width)
    vectors: dict[str, Vectors] = {}
    for images in _blocks(order, hypotheses, references, ids, limit):
        wanted = [text for i in images for text in (hypotheses[i], *references[i])]
        block = {text: ids[text] for text in wanted}
        vectors = encoder.encode(block, batch_size=batch_size, known=vectors)
        for i in images:
            texts = [hypotheses[i], *references[i]]
            empty = [len(ids[text]) <= encoder.specials for text in texts]
            rows = [
                np.zeros(3)
                if empty[0] or bare
                else _match(vectors[texts[0]], vectors[text], weights[texts[0]], weights[text])
                for text, bare in zip(texts[1:], empty[1:], strict=True)
            ]
            yield i, np.max(rows, axis=0)


def _blocks(
    order: Sequence[int],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    ids: Mapping[str, Sequence[int]],
    limit: int,
) -> Iterator[list[int]]:
    """Cut `order` into blocks whose distinct texts have about `limit` tokens."""
    block: list[int] = []
    texts: set[str] = set()
    tokens = 0
    for image in order:
        new = {hypotheses[image], *references[image]} - texts
        size = sum(len(ids[text]) for text in new)
        if block and tokens + size > limit:
            yield block
            block, texts, tokens = [], set(), 0
            new = {hypotheses[image], *references[image]}
            size = sum(len(ids[text]) for text in new)
        block.append(image)
        texts |= new
        tokens += size
    if block:
        yield block


def _match(said_TD: Vectors, true_SD: Vectors, said_T: Floats, true_S: Floats) -> Floats:
    """Return precision, recall, F1 of one caption and one reference, (3,); equations 1 and 2."""
    similarity_TS = said_TD @ true_SD.T
    said, true = said_T.sum(), true_S.sum()
    precision = similarity_TS.max(axis=1) @ said_T / said if said else 0.0
    recall = similarity_TS.max(axis=0) @ true_S / true if true else 0.0
    total = precision + recall
    return np.array([precision, recall, 2 * precision * recall / total if total else 0.0])
