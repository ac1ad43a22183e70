"""Beam search, with the rules of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medblip.config import DecodeConfig
from medblip.models.decode.choice import Hypothesis, Special
from medblip.models.decode.rows import Rows
from medblip.models.decode.rules import rules

__all__ = ["Beams"]

_LOW = -1.0e9  # transformers' score of what must not win


class Beams:
    """Beam search as transformers does it (generation/utils.py, `_beam_search`).

    2K candidates are looked at, so that K go on even if K end; only an end among the best K counts;
    a finished caption's score is its sum / length ** penalty; an image is done when the best open
    beam, at its present length, is no better than the worst of K finished ones.
    """

    def __init__(self, rows: Rows, decode: DecodeConfig, special: Special) -> None:
        self._rows, self._decode, self._special = rows, decode, special
        self._rules = rules(decode, special.end)
        room, many, new = len(rows.index), rows.many, decode.max_new_tokens
        device = rows.ids.device
        self._running = torch.zeros(room, many, device=device)
        self._open = torch.ones(room, 1, dtype=torch.bool, device=device)
        self._scores = torch.zeros(room, many, device=device)
        self._ended = torch.zeros(room, many, dtype=torch.bool, device=device)
        self._lengths = torch.zeros(room, many, dtype=torch.int64, device=device)
        self._ids = torch.zeros(room, many, new, dtype=torch.int64, device=device)
        self._logprobs = torch.zeros(room, many, new, device=device)
        rows.own(
            self._running, self._open, self._scores, self._ended, self._lengths, self._ids,
            self._logprobs,
        )  # fmt: skip

    def reset(self, keys: Sequence[str]) -> None:
        """Begin anew."""
        del keys
        self._running.zero_()
        self._open.fill_(True)
        self._scores.fill_(_LOW)
        self._ended.zero_()

    def take(self, logits: torch.Tensor, step: int) -> None:
        """Choose what goes on and what has ended, from logits (n, k, V); k is 1 at first."""
        rows, keep = self._rows, self._rows.many
        n, k, end = rows.n, logits.shape[1], rows.prompt + step
        total = logits.logsumexp(-1, keepdim=True)
        if self._rules:
            scores = logits - total
            for rule in self._rules:
                scores = rule(scores, rows.ids[:n, :k, :end], rows.real[:n, :, :end], step)
            best, words = scores.topk(2 * keep)
        else:  # the same order, without making all the differences
            best, words = logits.topk(2 * keep)
            best = best - total
        best, at = (best + self._running[:n, :k, None]).flatten(1).topk(2 * keep)
        parent, word = at // (2 * keep), words.flatten(1).gather(1, at)
        logprob = logits.flatten(1).gather(1, parent * logits.shape[2] + word)
        logprob = logprob - total[..., 0].gather(1, parent)
        hits = word == self._special.end
        if step + 1 == self._decode.max_new_tokens:
            hits = torch.ones_like(hits)

        if word.is_cuda or bool(hits[:, :keep].any()):
            self._finish(step, best, parent, word, logprob, hits)

        running = best + hits.float() * _LOW
        order = running.topk(keep)[1]
        self._running[:n].copy_(running.gather(1, order))
        rows.go_on(step, parent.gather(1, order), word.gather(1, order), logprob.gather(1, order))
        length = (step + 1) ** self._decode.length_penalty
        worst = torch.where(self._ended[:n], self._scores[:n].min(1, keepdim=True)[0], _LOW)
        hope = (self._running[:n, :1] / length > worst).any(1, keepdim=True)
        self._open[:n].copy_(self._open[:n] & hope)

    def done(self) -> torch.Tensor:
        """Return which images (n,) cannot get a better caption."""
        return ~self._open[: self._rows.n, 0]

    def result(self, row: int) -> list[Hypothesis]:
        """Return the captions of the image in a row, best first."""
        many = self._decode.num_captions
        ids, logprobs = self._ids[row, :many].tolist(), self._logprobs[row, :many].tolist()
        lengths = self._lengths[row, :many].tolist()
        return [
            Hypothesis(i[:length], p[:length])
            for i, p, length in zip(ids, logprobs, lengths, strict=True)
        ]

    def _finish(
        self, step: int, best: torch.Tensor, parent: torch.Tensor, word: torch.Tensor,
        logprob: torch.Tensor, hits: torch.Tensor,
    ) -> None:  # fmt: skip
        """Keep the best K of what had ended and what ends now; all (n, 2K)."""
        rows, keep = self._rows, self._rows.many
        n, prompt = rows.n, rows.prompt
        ends = hits.clone()
        ends[:, keep:] = False
        scores = best / ((step + 1) ** self._decode.length_penalty)
        scores = scores + (~self._open[:n]).float() * _LOW + (~ends).float() * _LOW
        scores, order = torch.cat((self._scores[:n], scores), 1).topk(keep)

        def merged(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            both = torch.cat((old[:n], new), 1)
            at = order if both.dim() == 2 else order[..., None].expand(-1, -1, both.shape[2])
            return both.gather(1, at)

        def with_last(buffer: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
            past = buffer.gather(1, parent[..., None].expand(-1, -1, buffer.shape[2]))
            past[..., step] = last
            return past

        ids = with_last(rows.ids[:n, :, prompt:], word)
        logprobs = with_last(rows.logprobs[:n], logprob)
        self._ids[:n].copy_(merged(self._ids, ids))
        self._logprobs[:n].copy_(merged(self._logprobs, logprobs))
        self._lengths[:n].copy_(merged(self._lengths, torch.full_like(word, step + 1)))
        self._ended[:n].copy_(merged(self._ended, ends))
        self._scores[:n].copy_(scores)
