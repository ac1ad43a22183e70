"""Our decoding says what transformers' `generate` says, token for token."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_decoders import BLIP, blip_network, check_same, images, ours, stock, ved_network
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from medblip.config import DecodeConfig
from medblip.errors import ConfigError
from medblip.models.blip_patches import patch
from medblip.models.decode import Hypothesis, Search
from medblip.models.decode.blip import BlipStack
from medblip.models.decode.rules import rules


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_tokens_and_probabilities_equal_transformers(data: st.DataObject) -> None:
    draw = data.draw
    seed = draw(st.integers(0, 10_000), "seed")
    network: Any
    if draw(st.booleans(), "blip"):
        network = blip_network(
            seed, layers=draw(st.integers(1, 3)), heads=draw(st.sampled_from([1, 2, 4])),
            end_bias=draw(st.sampled_from([-20.0, 0.0, 4.0, 8.0]), "end"),
        )  # fmt: skip
    else:
        network = ved_network(seed, layers=draw(st.integers(1, 3)))
    beams = draw(st.sampled_from([1, 2, 3, 5]), "beams")
    longest = draw(st.integers(1, 20), "max")
    decode = DecodeConfig(
        num_beams=beams, max_new_tokens=longest,
        min_new_tokens=draw(st.integers(0, longest), "min"),
        length_penalty=draw(st.sampled_from([-1.0, 0.0, 0.6, 1.0, 2.0]), "length"),
        repetition_penalty=draw(st.sampled_from([1.0, 1.15, 2.0, 0.8]), "repetition"),
        no_repeat_ngram_size=draw(st.integers(0, 3), "ngram"),
        num_captions=draw(st.integers(1, beams), "captions"),
    )  # fmt: skip
    pixels = images(draw(st.sampled_from([1, 2, 5]), "batch"), seed)
    check_same(ours(network, pixels, decode), stock(network, pixels, decode))


@pytest.mark.parametrize("batch", [1, 5, 16])
@pytest.mark.parametrize("beams", [1, 3, 5])
@pytest.mark.parametrize("family", ["blip", "vit-gpt2"])
def test_batches_of_any_size(family: str, beams: int, batch: int) -> None:
    network = blip_network(4, end_bias=2) if family == "blip" else ved_network(0)
    pixels = images(batch, batch)
    decode = DecodeConfig(num_beams=beams, max_new_tokens=24)
    got = ours(network, pixels, decode)
    check_same(got, stock(network, pixels, decode))
    if batch == 16:
        lengths = {len(best.ids) for best, *_ in got}
        assert len(lengths) > 3, "images that all end together prove nothing about leaving early"


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("repetition", [1.0, 1.4])
def test_prompts_of_unequal_length(beams: int, repetition: float) -> None:
    """transformers pads them with positions that shift; one image at a time it does not."""
    network, pixels = blip_network(3), images(6)
    prompts = [[5], [5, 9, 9, 12], [5, 8], [5, 9, 9], [5, 20, 21, 22, 23, 24, 25], [5]]
    decode = DecodeConfig(
        num_beams=beams, max_new_tokens=16, repetition_penalty=repetition, no_repeat_ngram_size=2
    )
    got = ours(network, pixels, decode, prompts)
    for row, prompt in enumerate(prompts):
        check_same(got[row : row + 1], stock(network, pixels[row : row + 1], decode, prompt))


def test_patched_attention_changes_nothing() -> None:
    network, pixels, decode = blip_network(5), images(5), DecodeConfig(max_new_tokens=12)
    expected = stock(network, pixels, decode)
    assert patch(network)
    check_same(ours(network, pixels, decode), expected)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    network, pixels = blip_network(4, end_bias=2), images(16)
    for decode in (
        DecodeConfig(max_new_tokens=24),
        DecodeConfig(num_beams=1, sample=True, num_captions=2, max_new_tokens=24),
    ):
        names = [f"image {index}" for index in range(16)]
        together = ours(network, pixels, decode, keys=names)
        for size in (1, 5):
            parts: list[list[Hypothesis]] = []
            for at in range(0, 16, size):
                parts += ours(network, pixels[at : at + size], decode, keys=names[at : at + size])
            check_same(parts, together)
        back = ours(network, pixels.flip(0), decode, keys=names[::-1])
        check_same(back[::-1], together)


def test_draws_follow_the_distribution() -> None:
    """First tokens of 4,000 draws against the network's own probabilities, by chi-square."""
    network, pixels = blip_network(2), images(1)
    decode = DecodeConfig(num_beams=1, sample=True, num_captions=50, max_new_tokens=1)
    with torch.inference_mode():
        logits = network.text_decoder(
            input_ids=torch.tensor([[5]]),
            encoder_hidden_states=network.vision_model(pixel_values=pixels).last_hidden_state,
        ).logits[0, -1]
    counts: Counter[int] = Counter()
    for call in range(80):
        (row,) = ours(network, pixels, decode, keys=[str(call)])
        counts.update(one.ids[0] for one in row)
    chances = logits.softmax(-1).numpy()
    common = [word for word in range(len(chances)) if chances[word] * 4000 >= 5]
    observed = np.array([counts[word] for word in common] + [4000 - sum(counts[w] for w in common)])
    expected = np.array([*chances[common], 1 - chances[common].sum()]) * 4000
    kept = expected > 0
    chi = float(((observed - expected)[kept] ** 2 / expected[kept]).sum())
    assert chi < len(common) + 5 * (2 * len(common)) ** 0.5
    assert len(common) > 3


@pytest.mark.parametrize(
    ("how", "allowed"),
    [({"top_k": 1}, 1), ({"top_k": 3}, 3), ({"top_p": 0.3}, None), ({"temperature": 1e-4}, 1)],
)
def test_draws_stay_among_the_likeliest(how: dict[str, Any], allowed: int | None) -> None:
    network, pixels = blip_network(2), images(1)
    decode = DecodeConfig(num_beams=1, sample=True, num_captions=40, max_new_tokens=1, **how)
    (row,) = ours(network, pixels, decode)
    drawn = {one.ids[0] for one in row}
    with torch.inference_mode():
        logits = network.text_decoder(
            input_ids=torch.tensor([[5]]),
            encoder_hidden_states=network.vision_model(pixel_values=pixels).last_hidden_state,
        ).logits[0, -1]
    order = logits.argsort(descending=True).tolist()
    if allowed is None:
        cumulated = logits.softmax(-1)[order].cumsum(0)
        allowed = int((cumulated < how["top_p"]).sum()) + 1
    assert drawn <= set(order[:allowed])


def test_draws_repeat_with_their_seed_and_differ_without() -> None:
    network, pixels = blip_network(2), images(3)
    first, again, other = (
        ours(
            network, pixels,
            DecodeConfig(num_beams=1, sample=True, max_new_tokens=12, seed=seed), keys=["a"] * 3,
        )
        for seed in (0, 0, 1)
    )  # fmt: skip
    assert first == again
    assert [r[0].ids for r in first] != [r[0].ids for r in other]


@pytest.mark.parametrize("seed", range(5))
def test_rules_equal_transformers(seed: int) -> None:
    """On rows without padding; with it, the row alone is the reference."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 9, (2, 3, 10), generator=generator)
    scores = torch.randn(2, 3, 9, generator=generator)
    decode = DecodeConfig(
        repetition_penalty=1.3, no_repeat_ngram_size=1 + seed % 3, min_new_tokens=4
    )
    stock_rules = LogitsProcessorList([
        RepetitionPenaltyLogitsProcessor(1.3), NoRepeatNGramLogitsProcessor(1 + seed % 3),
        MinNewTokensLengthLogitsProcessor(7, 4, 3, device="cpu"),
    ])  # fmt: skip
    expected = stock_rules(ids.flatten(0, 1), scores.flatten(0, 1).clone()).view(2, 3, 9)
    got = scores
    for rule in rules(decode, end=3):
        got = rule(got, ids, torch.ones(2, 1, 10, dtype=torch.bool), 3)
    torch.testing.assert_close(got, expected)
    padded = torch.cat((torch.full((2, 3, 4), 8), ids), 2)
    real = torch.arange(14)[None, None].expand(2, 1, -1) >= 4
    with_pads = scores
    for rule in rules(decode, end=3):
        with_pads = rule(with_pads, padded, real, 3)
    torch.testing.assert_close(with_pads, expected)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 64 together"):
        ours(blip_network(), images(1), DecodeConfig(max_new_tokens=64))


@pytest.mark.parametrize("beams", [1, 3])
def test_images_that_wait_for_others_keep_their_captions(
    monkeypatch: pytest.MonkeyPatch, beams: int
) -> None:
    """As on a GPU: looked at every eight tokens, and a round number of images goes on."""
    network, pixels = blip_network(4, end_bias=2), images(16)
    decode = DecodeConfig(num_beams=beams, num_captions=beams, max_new_tokens=30)
    expected = ours(network, pixels, decode)
    begin = Search.__init__

    def on_gpu(self: Search, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        self._rhythm, self._grain = 8, 4

    monkeypatch.setattr(Search, "__init__", on_gpu)
    check_same(ours(network, pixels, decode), expected)


def test_a_search_is_used_again() -> None:
    """Nothing of one batch is left for the next, which may be smaller."""
    network = blip_network(4, end_bias=2)
    decode = DecodeConfig(max_new_tokens=24, repetition_penalty=1.2)
    stack = BlipStack(network.text_decoder)
    with torch.inference_mode():
        embeds = [
            network.vision_model(pixel_values=images(n, n)).last_hidden_state for n in (7, 7, 3)
        ]
        search = Search(stack, decode, BLIP, room=7, image_tokens=17, prompt=2, like=embeds[0])
        for one in (embeds[0], embeds[2], embeds[1]):
            heads = [[5], [5, 9]] * 4
            fresh = Search(
                stack, decode, BLIP, room=len(one), image_tokens=17, prompt=2, like=one
            ).run(one, heads[: len(one)], [""] * len(one))
            check_same(search.run(one, heads[: len(one)], [""] * len(one)), fresh)
