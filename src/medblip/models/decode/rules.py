"""What may not be said, and what is made less or more likely: rules on scores (B, K, V).

The same numbers as transformers' `RepetitionPenaltyLogitsProcessor`, `NoRepeatNGramLogitsProcessor`
and `MinNewTokensLengthLogitsProcessor`, which do not know that prompts may differ in length, and
wait for the GPU at every token; the warpers of a draw are transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from medblip.config import DecodeConfig

__all__ = ["Rule", "rules", "warpers"]

#: (scores (B, K, V), ids so far (B, K, L), whether they are no padding (B, 1, L), new tokens so
#: far) -> scores
Rule = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], torch.Tensor]


def rules(decode: DecodeConfig, end: int) -> list[Rule]:
    """Return the rules that the settings ask for, in transformers' order."""
    found: list[Rule] = []
    if decode.repetition_penalty != 1:
        found.append(_repetition(decode.repetition_penalty))
    if decode.no_repeat_ngram_size:
        found.append(_ngrams(decode.no_repeat_ngram_size))
    if decode.min_new_tokens:
        found.append(_minimum(decode.min_new_tokens, end))
    return found


def warpers(decode: DecodeConfig) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """Return what shapes a distribution (R, V) before a draw, in transformers' order."""
    found: list[Any] = []
    if decode.temperature != 1:
        found.append(TemperatureLogitsWarper(float(decode.temperature)))
    if decode.top_k:
        found.append(TopKLogitsWarper(decode.top_k))
    if decode.top_p < 1:
        found.append(TopPLogitsWarper(decode.top_p))
    nothing = torch.empty(0, 0, dtype=torch.int64)  # they look at scores alone
    return [partial(warp, nothing) for warp in found]


def _repetition(penalty: float) -> Rule:
    def rule(scores: torch.Tensor, ids: torch.Tensor, real: torch.Tensor, _: int) -> torch.Tensor:
        # padding counts as the row's last token, which is there anyway
        said = torch.where(real, ids, ids[..., -1:])
        old = scores.gather(2, said)
        return scores.scatter(2, said, torch.where(old < 0, old * penalty, old / penalty))

    return rule


def _ngrams(size: int) -> Rule:
    def rule(scores: torch.Tensor, ids: torch.Tensor, real: torch.Tensor, _: int) -> torch.Tensor:
        if ids.shape[2] < size:
            return scores
        grams = ids.unfold(2, size, 1)  # (B, K, L - size + 1, size)
        recent = ids[:, :, None, ids.shape[2] - size + 1 :]
        again = (grams[..., :-1] == recent).all(-1) & real[..., : grams.shape[2]]
        words = scores.shape[2]
        banned = torch.zeros(*scores.shape[:2], words + 1, dtype=torch.bool, device=scores.device)
        banned.scatter_(2, torch.where(again, grams[..., -1], words), True)
        return scores.masked_fill(banned[..., :words], -torch.inf)

    return rule


def _minimum(least: int, end: int) -> Rule:
    def rule(scores: torch.Tensor, ids: torch.Tensor, real: torch.Tensor, new: int) -> torch.Tensor:
        if new >= least:
            return scores
        scores = scores.clone()
        scores[..., end] = -torch.inf
        return scores

    return rule
