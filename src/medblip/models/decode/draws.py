"""The likeliest token, or one that is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from medblip.config import DecodeConfig
from medblip.models.decode.choice import Hypothesis, Special
from medblip.models.decode.rows import Rows
from medblip.models.decode.rules import rules, warpers

__all__ = ["Draws"]


class Draws:
    """The likeliest token, or one that is drawn; an image's captions know nothing of each other."""

    def __init__(self, rows: Rows, decode: DecodeConfig, special: Special) -> None:
        self._rows, self._decode, self._special = rows, decode, special
        self._rules, self._warpers = rules(decode, special.end), warpers(decode)
        room = len(rows.index)
        device = rows.ids.device
        self._open = torch.ones(room, rows.many, dtype=torch.bool, device=device)
        self._chances = torch.zeros(
            room, rows.many, decode.max_new_tokens if decode.sample else 0, device=device
        )
        rows.own(self._open, self._chances)

    def reset(self, keys: Sequence[str]) -> None:
        """Begin anew for as many images as there are keys."""
        self._open.fill_(True)
        if self._decode.sample:
            shape = self._chances.shape[1:]
            drawn = [_uniform(self._decode.seed, key, shape) for key in keys]
            self._chances[: len(keys)].copy_(torch.from_numpy(np.stack(drawn)))

    def take(self, logits: torch.Tensor, step: int) -> None:
        """Choose the next token of every caption from logits (n, k, V)."""
        rows = self._rows
        n, end = rows.n, rows.prompt + step
        logits = logits.expand(n, rows.many, -1)
        scores = logits
        for rule in self._rules:
            scores = rule(scores, rows.ids[:n, :, :end], rows.real[:n, :, :end], step)
        if self._decode.sample:
            word = self._draw(scores.flatten(0, 1), step).view(n, rows.many)
        else:
            word = scores.argmax(-1)
        logprob = logits.gather(2, word[..., None])[..., 0] - logits.logsumexp(-1)
        is_open = self._open[:n]
        word = torch.where(is_open, word, self._special.pad)
        same = torch.arange(rows.many, device=word.device).expand(n, -1)
        rows.go_on(step, same, word, logprob)
        self._open[:n].copy_(is_open & (word != self._special.end))

    def done(self) -> torch.Tensor:
        """Return which images (n,) have all their captions."""
        return ~self._open[: self._rows.n].any(1)

    def result(self, row: int) -> list[Hypothesis]:
        """Return the captions of the image in a row, the likeliest first."""
        rows = self._rows
        found = []
        for ids, logprobs in zip(
            rows.ids[row, :, rows.prompt :].tolist(), rows.logprobs[row].tolist(), strict=True
        ):
            end = self._special.end
            length = ids.index(end) + 1 if end in ids else len(ids)
            found.append(Hypothesis(ids[:length], logprobs[:length]))
        return sorted(found, key=lambda one: -sum(one.logprobs) / len(one.logprobs))

    def _draw(self, scores: torch.Tensor, step: int) -> torch.Tensor:
        """Return a token per row (R, V): where its chance falls in the cumulated probabilities."""
        for warp in self._warpers:
            scores = warp(scores)
        cumulated = scores.softmax(-1).cumsum(-1)
        chance = self._chances[: self._rows.n, :, step].reshape(-1, 1) * cumulated[:, -1:]
        return (cumulated <= chance).sum(-1).clamp(max=scores.shape[-1] - 1)


def _uniform(seed: int, key: str, shape: Sequence[int]) -> np.ndarray:
    """Return draws in [0, 1) that a seed and an image's id decide, and nothing else."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    # just below 1: a chance times the whole must stay below the whole in float32
    return generator.random(tuple(shape), dtype=np.float32).clip(max=1 - 1e-6)
