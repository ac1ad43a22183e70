"""Which tokens: greedy, drawn, or by beams, with the rules of transformers' `generate`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from medblip.config import DecodeConfig
from medblip.errors import ConfigError, explain
from medblip.models.decode.rows import Rows
from medblip.models.decode.rules import rules, warpers
from medblip.models.decode.stack import Stack

__all__ = ["Beams", "Draws", "Hypothesis", "Search", "Special"]

_LOW = -1.0e9  # transformers' score of what must not win


@dataclasses.dataclass(frozen=True)
class Special:
    """Tokens with a meaning of their own: the end of a caption, and padding."""

    end: int
    pad: int


@dataclasses.dataclass(frozen=True)
class Hypothesis:
    """New tokens of one caption, the end token included, and their log-probabilities."""

    ids: list[int]
    logprobs: list[float]


class _Choice(Protocol):
    """How the next token is chosen; keeps what belongs to its way."""

    def reset(self, keys: Sequence[str]) -> None: ...

    def take(self, logits: torch.Tensor, step: int) -> None: ...

    def done(self) -> torch.Tensor: ...

    def result(self, row: int) -> list[Hypothesis]: ...


class Search:
    """Buffers for a batch of some size, and the search in them.

    Args:
        stack: The decoder.
        decode: How.
        special: End and padding.
        room: Images at most.
        image_tokens: Per image.
        prompt: Tokens of the longest prompt, start token included.
        like: A tensor with the device and type of keys and values.

    Raises:
        ConfigError: More tokens are asked for than the decoder has positions.
    """

    def __init__(
        self, stack: Stack, decode: DecodeConfig, special: Special, *, room: int,
        image_tokens: int, prompt: int, like: torch.Tensor,
    ) -> None:  # fmt: skip
        if prompt + decode.max_new_tokens > stack.longest:
            raise ConfigError(
                explain(
                    "captions longer than the decoder can write",
                    got=f"decode.max_new_tokens = {decode.max_new_tokens} after {prompt} of start "
                    "token and prompt",
                    expected=f"at most {stack.longest} together",
                    do=f"--set decode.max_new_tokens={stack.longest - prompt}",
                )
            )
        many = decode.num_captions if decode.sample else decode.num_beams
        self._decode, self._special = decode, special
        self._rows = Rows(stack, room, many, image_tokens, prompt, decode.max_new_tokens, like)
        way = Beams if decode.num_beams > 1 else Draws
        self._choice: _Choice = way(self._rows, decode, special)

    def run(
        self, embeds: torch.Tensor, prompts: Sequence[Sequence[int]], keys: Sequence[str]
    ) -> list[list[Hypothesis]]:
        """Return the captions of images (B, P, D), best first."""
        rows, choice = self._rows, self._choice
        head = rows.stack.head()
        rows.fill(embeds, prompts, self._special.pad)
        choice.reset(keys)
        found: list[list[Hypothesis]] = [[] for _ in prompts]
        # without a GPU it costs nothing to look; with one, to look is to wait
        rhythm = 1 if embeds.device.type == "cpu" else 8
        logits = _logits(head, rows.begin())
        for step in range(self._decode.max_new_tokens):
            choice.take(logits, step)
            last = step + 1 == self._decode.max_new_tokens
            if last or (step + 1) % rhythm == 0:
                done = choice.done()
                done |= last
                for row in done.nonzero()[:, 0].tolist():
                    found[int(rows.index[row])] = choice.result(row)
                if bool(done.any()):
                    rows.remove(done)
                if not rows.n:
                    break
            logits = _logits(head, rows.states(step))
        return found


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
        worst = torch.where(
            self._ended[:n], self._scores[:n].min(1, keepdim=True)[0], torch.tensor(_LOW)
        )
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


def _logits(head: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """Return float32 logits (n, K, V) of states (n, K, D)."""
    return head(states.flatten(0, 1)).float().view(*states.shape[:2], -1)


def _uniform(seed: int, key: str, shape: Sequence[int]) -> np.ndarray:
    """Return draws in [0, 1) that a seed and an image's id decide, and nothing else."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(int.from_bytes(digest[:16], "little")))
    # just below 1: a chance times the whole must stay below the whole in float32
    return generator.random(tuple(shape), dtype=np.float32).clip(max=1 - 1e-6)
