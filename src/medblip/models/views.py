"""From all layers and heads to one map per word. Tensors in, tensors out; no network.

| view | what it shows |
| --- | --- |
| `last-mean` | the paper's: cross-attention of the last layer, mean over heads |
| `layer` | one layer, mean over heads, or one head of it |
| `mean` | mean over all layers and heads |
| `rollout` | one layer, carried through the image encoder's own attention to the patches |
| `gradient` | one layer, each head weighted by the gradient of the word's log-probability |

Each map is the mean over its word's pieces, without image tokens that have no place ([CLS]), scaled
to sum 1. What [CLS] got is lost, but for `rollout`, which asks where [CLS] itself had looked.
"""

from __future__ import annotations

import torch

from medblip.errors import ConfigError, explain, nearest
from medblip.models.maps import Replay, no_view

__all__ = ["VIEWS", "described", "require_view", "rollout", "word_maps"]

#: View -> in words.
VIEWS = {
    "last-mean": "cross-attention of the last decoder layer, mean over heads",
    "layer": "cross-attention of one decoder layer",
    "mean": "cross-attention, mean over all decoder layers and heads",
    "rollout": "cross-attention carried through the image encoder's attention (rollout)",
    "gradient": "cross-attention times the gradient of the word's log-probability, where positive",
}


def require_view(name: str, layer: int | None, head: int | None) -> None:
    """Refuse a view that does not exist, or a layer or head that it does not ask for.

    Raises:
        ConfigError: It is one.
    """
    if name not in VIEWS:
        raise ConfigError(
            explain(
                "unknown view of the attention",
                got=name,
                expected=", ".join(VIEWS),
                do=f"did you mean {nearest(name, VIEWS)}?",
            )
        )
    asked = [f"--layer {layer}"] * (layer is not None) + [f"--head {head}"] * (head is not None)
    if asked and name in ("last-mean", "mean"):
        raise ConfigError(
            explain(
                f"the view {name} has its layers and heads fixed",
                got=" ".join(asked),
                expected="--view layer, rollout or gradient",
                do="choose one of these, or leave the numbers out",
            )
        )


def described(name: str, layer: int | None = None, head: int | None = None) -> str:
    """Return a view in words, as files and pages say it.

    >>> described("layer", 3, 0)
    'cross-attention of one decoder layer; layer 3, head 0'
    """
    if name in ("last-mean", "mean"):
        return VIEWS[name]
    where = "last layer" if layer is None else f"layer {layer}"
    return f"{VIEWS[name]}; {where}, {'mean over heads' if head is None else f'head {head}'}"


def word_maps(
    replay: Replay, name: str = "last-mean", *, layer: int | None = None, head: int | None = None,
    vision: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Return a map per word, float32 (W, rows, columns), each of sum 1.

    A map of `gradient` is all zero where no head of that layer raises the word's probability.

    Args:
        replay: Of the caption.
        name: One of `VIEWS`.
        layer: Of the decoder, from 0, or from the end as -1; None: the last.
        head: From 0; None: the mean over heads.
        vision: Of the same image, for `rollout`: the encoder's attention (L, H, P, P).

    Raises:
        ConfigError: There is no such view, layer or head.
        CheckpointError: The captioner does not give what the view needs.
    """
    require_view(name, layer, head)
    layers = len(replay.cross)
    if name == "mean":
        rows_TK = replay.cross.mean((0, 1))
    else:
        at = _place(layer, layers, "layer", -1)
        rows_HTK = replay.cross[at]
        if name == "gradient":
            rows_HTK = (rows_HTK * _slope(replay, at)).clamp(min=0)
        own = None if head is None else _place(head, len(rows_HTK), "head", 0)
        rows_TK = rows_HTK.mean(0) if own is None else rows_HTK[own]
    if replay.bridge is not None:
        bridge = replay.bridge if name == "mean" else replay.bridge[-1:]
        rows_TK = rows_TK @ bridge.mean((0, 1))
    if name == "rollout":
        if vision is None or vision.shape[-1] != rows_TK.shape[-1]:
            raise no_view("no attention of an image encoder", "an encoder of the same image tokens")
        rows_TK = rows_TK @ rollout(vision)
    patches_TRC = rows_TK[:, replay.unplaced :].reshape(-1, *replay.grid)
    if not replay.spans:
        return patches_TRC[:0]
    maps_WRC = torch.stack([patches_TRC[first:last].mean(0) for first, last in replay.spans])
    return maps_WRC / maps_WRC.sum((1, 2), keepdim=True).clamp(min=1e-30)


def rollout(vision: torch.Tensor) -> torch.Tensor:
    """Return how much of each input token is in each output token, (P, P); rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, section 3): per layer the mean over
    heads, averaged with the identity for the skip connection, all layers multiplied. Chefer et al.
    2021 (arXiv 2103.15679, section 3) carry an encoder's relevance through the cross-attention in
    the same way, with gradients.

    Args:
        vision: (L, H, P, P), first layer first.
    """
    mixed = torch.eye(vision.shape[-1], dtype=vision.dtype)
    for layer in vision:
        step = layer.mean(0) + torch.eye(len(mixed), dtype=vision.dtype)
        mixed = (step / step.sum(-1, keepdim=True)) @ mixed
    return mixed


def _place(number: int | None, count: int, what: str, default: int) -> int:
    place = default if number is None else number
    if not -count <= place < count:
        raise ConfigError(
            explain(
                f"this captioner has no {what} {number}",
                got=f"--{what} {number}",
                expected=f"0 to {count - 1}",
                do="count from 0, or from the end with -1",
            )
        )
    return place % count


def _slope(replay: Replay, layer: int) -> torch.Tensor:
    """Return the gradient of a layer (H, T, K): Grad-CAM on attention.

    So ALBEF (arXiv 2107.07651) and BLIP's authors ground words in images.
    """
    held = 0 if replay.gradient is None else len(replay.gradient)  # all layers, or the last
    behind = len(replay.cross) - layer
    if replay.gradient is None or behind > held:
        raise no_view("no gradient of that layer", "a replay with gradients")
    return replay.gradient[-behind]
