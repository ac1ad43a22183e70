"""Shuffled weights: a copy that forgot, and an original that did not notice."""

from __future__ import annotations

import torch

from medblip.models.blip import BlipCaptioner
from medblip.models.freeze import tower_of
from medblip.models.randomised import randomised


def test_the_original_is_untouched_and_the_encoder_shared_in_value(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    before = {n: w.clone() for n, w in captioner.network.state_dict().items()}
    maps = captioner.word_attention(captioner.encode(pixels[:1]), ["left effusion"])[0][1]
    state = torch.get_rng_state()
    other = randomised(captioner, 0)
    assert torch.equal(torch.get_rng_state(), state), "a global seed was used"
    changed = other.word_attention(other.encode(pixels[:1]), ["left effusion"])[0][1]
    assert not torch.allclose(maps, changed, atol=1e-3)
    after = captioner.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = captioner.word_attention(captioner.encode(pixels[:1]), ["left effusion"])[0][1]
    assert torch.equal(maps, again)
    assert torch.equal(captioner.encode(pixels), other.encode(pixels))


def test_every_tensor_keeps_its_values_in_another_order(captioner: BlipCaptioner) -> None:
    other = randomised(captioner, 0)
    own = dict(captioner.network.named_parameters())
    moved = 0
    for name, weights in other.network.named_parameters():
        assert torch.equal(weights.flatten().sort()[0], own[name].flatten().sort()[0]), name
        if tower_of(name) == "vision":
            assert torch.equal(weights, own[name]), name
        elif own[name].ndim > 1:
            assert not torch.equal(weights, own[name]), name
            moved += 1
    assert moved > 20
    same, else_ = randomised(captioner, 0), randomised(captioner, 1)
    name = next(n for n in own if "crossattention" in n and own[n].ndim > 1)
    weights = [dict(one.network.named_parameters())[name] for one in (other, same, else_)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
