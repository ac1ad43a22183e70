"""One contract for all families: a regime trains what it says, batches change nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_decoders import TEXTS, ved_captioner
from tiny_qformer import qformer_captioner

from medblip.config import DecodeConfig, RunConfig
from medblip.models.blip import BlipCaptioner
from medblip.models.freeze import apply_rules, eval_frozen, parameter_groups, rules_for
from medblip.settings import FreezeConfig, OptimConfig

FAMILIES = ["blip", "vit-gpt2", "blip2-opt", "blip2-t5", "instructblip-t5", "instructblip-llama"]
#: Where the image encoder is.
ENCODERS = {"vit-gpt2": "encoder."}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def made(family: str, captioner: BlipCaptioner) -> Any:
    if family == "blip":
        return captioner
    return ved_captioner() if family == "vit-gpt2" else qformer_captioner(family)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("preset", ["full", "decoder", "encoder", "cross-attention"])
def test_a_regime_trains_exactly_what_it_says(
    family: str, made: Any, pixels: torch.Tensor, preset: Any
) -> None:
    cfg = RunConfig(
        freeze=FreezeConfig(preset=preset),
        optim=OptimConfig(lr=1e-3, vision_factor=1.0, words_factor=1.0),
    )
    network = made.network
    _, rates = apply_rules(network, rules_for(cfg))
    network.train()
    eval_frozen(network)
    encoder = ENCODERS.get(family, "vision_model.")
    in_encoder = {name for name, _ in network.named_parameters() if name.startswith(encoder)}
    everything = {name for name, _ in network.named_parameters()}
    expected = {
        "full": everything, "decoder": everything - in_encoder, "encoder": in_encoder,
        "cross-attention": {name for name in everything if ".crossattention." in name},
    }[preset]  # fmt: skip
    assert set(rates) == expected
    assert expected
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(network, rates, 0.0))
    batch = made.collate(made.tokenize(TEXTS, 16))
    idle: set[str] = set()
    for _ in range(3):
        made.token_losses(made.encode(pixels), batch, 0.1).backward()
        idle = {
            name
            for name, p in network.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        }
        optimizer.step()
        optimizer.zero_grad()
    for name, parameter in network.named_parameters():
        same = torch.equal(parameter, before[name])
        assert same == (name not in expected or name in idle), name
    # what the loss does not depend on: a pooler, the words' side of the Q-Former's last layer
    assert all("pooler" in name or "qformer" in name for name in idle), idle


def test_a_batch_says_what_its_images_say_alone(made: Any, pixels: torch.Tensor) -> None:
    ids = made.tokenize(TEXTS, 16)
    with torch.inference_mode():
        embeds = made.encode(pixels)
        whole = made.token_losses(embeds, made.collate(ids), 0.0)
        parts = [
            made.token_losses(embeds[i : i + 1], made.collate(ids[i : i + 1]), 0.0)
            for i in range(3)
        ]
    torch.testing.assert_close(whole, torch.stack(parts).sum(), rtol=1e-5, atol=1e-5)


def test_four_images_are_learned_by_heart(made: Any) -> None:
    torch.manual_seed(0)
    pixels = torch.randn(4, 3, 32, 32)
    texts = [TEXTS[0], TEXTS[1], TEXTS[2], "normal chest x-ray with left"]
    batch = made.collate(made.tokenize(texts, 16))
    for parameter in made.network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(made.network.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(120):
        loss = made.token_losses(made.encode(pixels), batch, 0.0) / len(batch.targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    made.network.eval()
    with torch.inference_mode():
        found = made.generate(made.encode(pixels), DecodeConfig(max_new_tokens=24))
    said = [best.text for best, *_ in found]
    inner = [ids[len(made._given()) : -1] for ids in made.tokenize(texts, 16)]
    expected = [made.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in inner]
    assert said == expected
