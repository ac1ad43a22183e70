"""Every parameter is named by one rule; what is frozen stays bitwise as it was."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch

from medblip.config import FreezeConfig, LoraConfig, OptimConfig, RunConfig
from medblip.errors import ConfigError
from medblip.models.adapters import add_adapters, merge_adapters
from medblip.models.blip import BlipCaptioner
from medblip.models.freeze import apply_rules, eval_frozen, match_table, parameter_groups, rules_for


def settings(**freeze: object) -> RunConfig:
    return RunConfig(
        freeze=FreezeConfig(**freeze), optim=OptimConfig(lr=1e-2), lora=LoraConfig(rank=2)
    )


def three_steps(captioner: BlipCaptioner, pixels: torch.Tensor, cfg: RunConfig) -> set[str]:
    """Train three steps and return the names of the parameters that moved."""
    before = {n: p.detach().clone() for n, p in captioner.network.named_parameters()}
    _, rates = apply_rules(captioner.network, rules_for(cfg))
    groups = parameter_groups(captioner.network, rates, cfg.optim.weight_decay)
    optimizer = torch.optim.AdamW(groups)
    batch = captioner.collate(captioner.tokenize(["normal chest", "left nodule"], 64))
    for _ in range(3):
        captioner.token_losses(captioner.encode(pixels[:2]), batch, 0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert len(optimizer.state) == len(rates), "optimizer state only for what trains"
    after = dict(captioner.network.named_parameters())
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("preset", ["full", "decoder", "encoder", "cross-attention"])
def test_presets_move_exactly_what_they_name(
    captioner: BlipCaptioner, pixels: torch.Tensor, preset: str
) -> None:
    names = {name for name, _ in captioner.network.named_parameters()}
    vision = {name for name in names if name.startswith("vision_model.")}
    between = {name for name in names if ".crossattention." in name}
    expected = {
        "full": names, "decoder": names - vision, "encoder": vision, "cross-attention": between,
    }[preset]  # fmt: skip
    moved = three_steps(captioner, pixels, settings(preset=preset))
    # token types are fed nowhere and keys' biases cancel in the softmax: they have no gradient
    still = {n for n in expected - moved if not n.endswith(("key.bias", "pooler.dense.bias"))}
    assert moved <= expected
    assert not still


def test_lora_moves_adapters_only_and_merges_back(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    cfg = settings(preset="lora")
    captioner.network = add_adapters(captioner.network, cfg.lora)
    moved = three_steps(captioner, pixels, cfg)
    assert moved
    assert all("lora_" in name or "word_embeddings" in name for name in moved)
    assert any("vision_model" in name for name in moved), "the fused qkv of the ViT is adapted too"
    batch = captioner.collate(captioner.tokenize(["normal chest"], 64))
    captioner.network.eval()
    adapted = captioner.token_losses(captioner.encode(pixels[:1]), batch, 0.0)
    captioner.network = merge_adapters(captioner.network)
    merged = captioner.token_losses(captioner.encode(pixels[:1]), batch, 0.0)
    torch.testing.assert_close(adapted, merged, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("towers", [("vision",), ("text",), ("vision", "text")])
def test_merged_adapters_give_the_logits_of_unmerged_ones(
    captioner: BlipCaptioner, pixels: torch.Tensor, towers: tuple[Literal["vision", "text"], ...]
) -> None:
    cfg = dataclasses.replace(settings(preset="lora"), lora=LoraConfig(rank=4, towers=towers))
    captioner.network = add_adapters(captioner.network, cfg.lora)
    moved = three_steps(captioner, pixels, cfg)
    assert {("vision_model" in name) for name in moved if "lora_" in name} == {
        tower == "vision" for tower in towers
    }
    captioner.network.eval()
    ids = torch.tensor(captioner.tokenize(["normal chest x - ray"], 64))
    adapted = captioner.network(pixel_values=pixels[:1], input_ids=ids).logits
    merged = merge_adapters(captioner.network)(pixel_values=pixels[:1], input_ids=ids).logits
    torch.testing.assert_close(merged, adapted, rtol=1e-5, atol=1e-5)


def test_first_match_wins_and_the_table_adds_up(captioner: BlipCaptioner) -> None:
    cfg = settings(
        preset="custom", rules=((r"crossattention", 5e-5), (r"text_decoder", 2e-5), (".", "frozen"))
    )
    matches, rates = apply_rules(captioner.network, rules_for(cfg))
    assert sum(match.parameters for match in matches) == sum(
        p.numel() for p in captioner.network.parameters()
    )
    assert {rate for name, rate in rates.items() if "crossattention" in name} == {5e-5}
    assert {rate for name, rate in rates.items() if "crossattention" not in name} == {2e-5}
    assert match_table(matches).row_count == 3


def test_the_tower_that_sees_learns_slower_and_new_words_faster(captioner: BlipCaptioner) -> None:
    cfg = dataclasses.replace(
        settings(preset="full"), optim=OptimConfig(lr=1e-3, vision_factor=0.5, words_factor=4)
    )
    _, rates = apply_rules(captioner.network, rules_for(cfg))
    for name, rate in rates.items():
        words = "word_embeddings" in name or "cls.predictions" in name
        factor = 0.5 if name.startswith("vision_model") else 4 if words else 1
        assert rate == pytest.approx(factor * 1e-3), name


def test_own_rules_come_before_the_presets(captioner: BlipCaptioner) -> None:
    cfg = settings(preset="full", rules=(("vision_model", "frozen"), ("text_decoder", 1e-4)))
    _, rates = apply_rules(captioner.network, rules_for(cfg))
    assert set(rates.values()) == {1e-4}
    assert not any(name.startswith("vision_model") for name in rates)


def test_decay_spares_vectors(captioner: BlipCaptioner) -> None:
    _, rates = apply_rules(captioner.network, [(".", 1e-3)])
    for group in parameter_groups(captioner.network, rates, 0.05):
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("text_decoder", 1e-3)], "matches no freeze rule"),
        ([("txt_decoder", 1e-3), (".", "frozen")], "no parameter matches 'txt_decoder'"),
        ([(".", "frozen")], "every parameter is frozen"),
    ],
)
def test_rules_that_do_not_fit_are_errors(
    captioner: BlipCaptioner, rules: list[tuple[str, float | str]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        apply_rules(captioner.network, rules)


def test_frozen_modules_are_in_eval_mode(captioner: BlipCaptioner) -> None:
    apply_rules(captioner.network, rules_for(settings(preset="decoder")))
    captioner.network.train()
    eval_frozen(captioner.network)
    assert not captioner.network.vision_model.training
    assert captioner.network.text_decoder.training


def test_rates_decay_from_layer_to_layer(captioner: BlipCaptioner) -> None:
    """Two layers: embeddings 1/8, first layer 1/4, second 1/2, head and words 1."""
    matches, rates = apply_rules(captioner.network, [(".", 8.0)], layer_decay=0.5)
    assert rates["vision_model.embeddings.class_embedding"] == 1.0
    assert rates["vision_model.encoder.layers.0.mlp.fc1.weight"] == 2.0
    assert rates["vision_model.encoder.layers.1.mlp.fc1.weight"] == 4.0
    assert rates["vision_model.post_layernorm.weight"] == 8.0
    assert rates["text_decoder.bert.embeddings.position_embeddings.weight"] == 1.0
    assert rates["text_decoder.bert.embeddings.word_embeddings.weight"] == 8.0
    assert rates["text_decoder.bert.encoder.layer.0.crossattention.self.query.weight"] == 2.0
    assert (matches[0].rate, matches[0].lowest) == (8.0, 1.0)
