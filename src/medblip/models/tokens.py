"""Captions as padded tensors, and generated tokens as captions: the same for every family."""

from __future__ import annotations

import re
from typing import Any

import torch

from medblip.models.captioner import Generated, TokenBatch

__all__ = ["closed_up", "collate", "generated"]

#: Blanks of BERT's tokenizer inside a word or a number.
_INSIDE = re.compile(r"(?<=\w) ([-/]) (?=\w)|(?<=\d) ?([.:]) (?=\d)|(?<=\w) (')\s(?=s\b)")


def collate(token_ids: list[list[int]], given: int, pad: int, device: torch.device) -> TokenBatch:
    """Pad token ids into one batch.

    Args:
        token_ids: Start token, prompt, words, end token.
        given: How many of them are start token and prompt: they are never trained on.
        pad: The padding's id.
        device: Where the tensors go.
    """
    longest = max(map(len, token_ids))
    ids_BT = torch.full((len(token_ids), longest), pad)
    mask_BT = torch.zeros_like(ids_BT)
    for row, ids in enumerate(token_ids):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        mask_BT[row, : len(ids)] = 1
    labels_BT = ids_BT.masked_fill(mask_BT == 0, -100)
    labels_BT[:, :given] = -100
    ahead_BT = labels_BT.roll(-1, dims=1)  # what each position has to say
    ahead_BT[:, -1] = -100
    positions_N = (ahead_BT.flatten() != -100).nonzero().squeeze(1)  # here: no wait on a GPU
    targets_N = ahead_BT.flatten()[positions_N]
    parts = (ids_BT, mask_BT, labels_BT, positions_N, targets_N)
    return TokenBatch(*(t.to(device, non_blocking=True) for t in parts))


def closed_up(text: str) -> str:
    """Return a caption without the blanks that a vocabulary puts inside words and numbers.

    >>> closed_up("ap x - ray : 2. 5 cm mass , t1 / t2 ; patient ' s left - sided 3 : 1")
    "ap x-ray : 2.5 cm mass , t1/t2 ; patient's left-sided 3:1"
    """
    return _INSIDE.sub(lambda found: found[1] or found[2] or found[3], text)


def generated(
    tokenizer: Any, ids: list[int], logprobs: list[float], *, close_up: bool = False
) -> Generated:
    """Return new token ids as a caption.

    Args:
        tokenizer: That wrote them.
        ids: Without prompt and end.
        logprobs: One for each.
        close_up: Whether blanks around hyphens, slashes and points are taken out.
    """
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    if close_up:
        text = closed_up(text)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    if None in pieces:  # rows that only fill a matrix up: an untrained network may choose one
        pieces = []
    return Generated(text, sum(logprobs) / max(1, len(logprobs)), tuple(pieces), tuple(logprobs))
