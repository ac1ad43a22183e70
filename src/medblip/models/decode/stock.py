"""transformers' own `generate` behind the same call, for decoders that have no stack here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from medblip.config import DecodeConfig
from medblip.models.decode.choice import Hypothesis, Special

__all__ = ["generate"]


def generate(
    network: Any, decode: DecodeConfig, special: Special, prompts: Sequence[Sequence[int]],
    keys: Sequence[str], ids_name: str, images: Callable[[list[int]], dict[str, Any]],
) -> list[list[Hypothesis]]:  # fmt: skip
    """Return the captions of images, best first.

    Args:
        network: Has `generate`.
        decode: How.
        special: End and padding.
        prompts: Ids that the captions begin with.
        keys: Ids of the images; with `decode.seed` they decide what is drawn.
        ids_name: What `network.generate` calls the ids.
        images: Rows -> what else it takes for these images.
    """
    how = _arguments(decode, special)
    many = decode.num_captions
    found: list[list[Hypothesis]] = [[] for _ in prompts]
    for rows in _groups(prompts, alone=decode.sample):
        start = torch.tensor([list(prompts[row]) for row in rows], device=network.device)
        with torch.random.fork_rng(enabled=decode.sample):
            if decode.sample:
                torch.manual_seed(_seed(decode.seed, keys[rows[0]]))
            made = network.generate(**{ids_name: start}, **images(rows), **how)
        logprobs = network.compute_transition_scores(
            made.sequences, made.logits, made.get("beam_indices"), normalize_logits=True
        )
        new = made.sequences[:, start.shape[1] :].tolist()
        for place, (ids, values) in enumerate(zip(new, logprobs.tolist(), strict=True)):
            length = ids.index(special.end) + 1 if special.end in ids else len(ids)
            found[rows[place // many]].append(Hypothesis(ids[:length], values[:length]))
    if decode.sample:
        for hypotheses in found:
            hypotheses.sort(key=lambda one: -sum(one.logprobs) / len(one.logprobs))
    return found


def _arguments(decode: DecodeConfig, special: Special) -> dict[str, Any]:
    how: dict[str, Any] = {
        "eos_token_id": special.end, "pad_token_id": special.pad,
        "do_sample": decode.sample, "num_beams": decode.num_beams,
        "num_return_sequences": decode.num_captions, "max_new_tokens": decode.max_new_tokens,
        "min_new_tokens": decode.min_new_tokens or None,
        "repetition_penalty": decode.repetition_penalty,
        "no_repeat_ngram_size": decode.no_repeat_ngram_size,
        "return_dict_in_generate": True, "output_logits": True,
    }  # fmt: skip
    if decode.num_beams > 1:
        how |= {"length_penalty": decode.length_penalty, "early_stopping": False}
    if decode.sample:
        how |= {"temperature": decode.temperature, "top_k": decode.top_k, "top_p": decode.top_p}
    return how


def _groups(prompts: Sequence[Sequence[int]], *, alone: bool) -> Iterator[list[int]]:
    """Yield rows with prompts of one length, so that none is padded; one by one for draws."""
    if alone:
        yield from ([row] for row in range(len(prompts)))
        return
    for length in sorted(set(map(len, prompts))):
        yield [row for row, prompt in enumerate(prompts) if len(prompt) == length]


def _seed(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:8], "little") >> 1
