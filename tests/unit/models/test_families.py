"""One contract for every family, on the published configurations made small (published.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import NAMES, published
from tiny_decoders import TEXTS
from torch.nn import functional
from transformers import AutoModelForImageTextToText, VisionEncoderDecoderModel

from medblip.config import DecodeConfig, FreezeConfig, ModelConfig, OptimConfig, RunConfig
from medblip.data.phantoms.generate import render
from medblip.models.adapters import adapt, merge_adapters
from medblip.models.captioner import load_captioner
from medblip.models.freeze import (
    apply_rules,
    eval_frozen,
    parameter_groups,
    rules_for,
    tower_of,
)
from medblip.settings import LoraConfig

PRESETS = ["full", "decoder", "encoder", "cross-attention", "connector", "lora", "connector-lora",
           "adapter"]  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(request.param, tmp_path_factory.mktemp(request.param) / request.param)


@pytest.fixture
def made(folder: Path) -> Any:
    return load_captioner(ModelConfig(name=str(folder)))


@pytest.fixture
def pixels(made: Any) -> torch.Tensor:
    raw = torch.randint(
        0, 256, (3, 3, *made.image_size), generator=torch.Generator().manual_seed(1)
    )
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (made.image_mean, made.image_std))
    return (raw / 255 - mean) / std


def plain_logits(network: Any, made: Any, embeds: Any, pixels: Any, batch: Any) -> torch.Tensor:
    """Return logits (B, T, V) of transformers' own forward for the batch's tokens."""
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    family = network.config.model_type
    if family == "blip":
        seen = network.vision_model(pixel_values=pixels)[0]
        return network.text_decoder(**given, encoder_hidden_states=seen).logits
    if family == "vision-encoder-decoder":
        return network(
            pixel_values=pixels, decoder_input_ids=batch.input_ids,
            decoder_attention_mask=batch.attention_mask,
        ).logits  # fmt: skip
    if family not in ("blip-2", "instructblip"):
        own = made._per_token(made.prompt, *batch.input_ids.shape)
        return network(**given, **own, **made._inputs(embeds, made.prompt)).logits
    count = len(pixels)
    place = torch.full((count, 32), network.config.image_token_index)
    how: dict[str, Any] = {"pixel_values": pixels}
    if family == "instructblip":
        read = made._qformer_tokenizer([made.prompt] * count, return_tensors="pt")
        how |= {"qformer_input_ids": read["input_ids"],
                "qformer_attention_mask": read["attention_mask"]}  # fmt: skip
    if made._alone:
        ids = torch.cat((place, batch.input_ids), 1)
        mask = torch.cat((torch.ones_like(place), batch.attention_mask), 1)
        return network(input_ids=ids, attention_mask=mask, **how).logits[:, 32:]
    asked = torch.tensor([made.tokenizer(made.prompt)["input_ids"]] * count)
    ids = torch.cat((place, asked), 1)
    return network(
        input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=batch.input_ids,
        decoder_attention_mask=batch.attention_mask, **how,
    ).logits  # fmt: skip


def plain(folder: Path) -> Any:
    """Load with transformers alone."""
    kind: Any = AutoModelForImageTextToText
    if "vit-gpt2" in folder.name:
        kind = VisionEncoderDecoderModel
    return kind.from_pretrained(folder).eval()


def test_loss_and_gradients_are_transformers_own(
    folder: Path, made: Any, pixels: torch.Tensor
) -> None:
    batch = made.collate(made.tokenize(TEXTS, 16))
    embeds = made.encode(pixels)
    loss = made.token_losses(embeds, batch, 0.0)
    loss.backward()
    got = {n: p.grad for n, p in made.network.named_parameters() if p.grad is not None}
    network = plain(folder)
    logits = plain_logits(network, made, embeds.detach(), pixels, batch)
    stock = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten(), reduction="sum"
    )
    stock.backward()
    torch.testing.assert_close(loss, stock, rtol=1e-6, atol=1e-6)
    parameters = dict(network.named_parameters())
    assert len(got) > 20
    scale = max(float(g.abs().max()) for g in got.values())
    for name, gradient in got.items():
        expected = parameters[name].grad
        assert expected is not None, name
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=3e-6 * scale)


def test_logprobs_of_given_captions_are_transformers_own(
    folder: Path, made: Any, pixels: torch.Tensor
) -> None:
    with torch.no_grad():
        embeds = made.encode(pixels)
        ours = made.caption_logprobs(embeds, TEXTS)
        ids = made.tokenize(TEXTS, 10_000)
        logits = plain_logits(plain(folder), made, embeds, pixels, made.collate(ids))
    first = len(made._given())
    for row, (one, got) in enumerate(zip(ids, ours, strict=True)):
        logp = logits[row].float().log_softmax(-1)
        expected = torch.stack([logp[at - 1, one[at]] for at in range(first, len(one))])
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    pieces = [made.tokenizer.convert_ids_to_tokens(one[first:]) for one in ids]
    for got, same in zip(ours, made.caption_logprobs(embeds, pieces), strict=True):
        assert torch.equal(got, same)
    alone = [made.caption_logprobs(embeds[i : i + 1], TEXTS[i : i + 1])[0] for i in range(3)]
    for got, one in zip(ours, alone, strict=True):
        torch.testing.assert_close(got, one, rtol=1e-5, atol=1e-5)
    total = -sum(float(one.sum()) for one in ours)
    assert total == pytest.approx(
        float(made.token_losses(embeds, made.collate(ids), 0.0).detach()), rel=1e-5
    )


@pytest.mark.parametrize("beams", [1, 3])
def test_zero_shot_captions_are_transformers_own(
    folder: Path, made: Any, pixels: torch.Tensor, beams: int
) -> None:
    with torch.inference_mode():
        embeds = made.encode(pixels)
        found = made.generate(embeds, DecodeConfig(max_new_tokens=8, num_beams=beams))
        network, count = plain(folder), len(pixels)
        given = torch.tensor([made._given()] * count)
        how: dict[str, Any] = {
            "max_new_tokens": 8, "num_beams": beams, "do_sample": False, "length_penalty": 1.0,
            "eos_token_id": made._special.end, "pad_token_id": made._special.pad,
        }  # fmt: skip
        family = network.config.model_type
        if family == "blip":
            seen = network.vision_model(pixel_values=pixels)[0]
            stock = network.text_decoder.generate(
                input_ids=given, attention_mask=torch.ones_like(given),
                encoder_hidden_states=seen, **how,
            )  # fmt: skip
        elif family == "vision-encoder-decoder":
            stock = network.generate(pixel_values=pixels, decoder_input_ids=given, **how)
        elif family in ("blip-2", "instructblip"):
            asked = torch.tensor([made.tokenizer(made.prompt)["input_ids"]] * count)
            place = torch.full((count, 32), network.config.image_token_index)
            ids = torch.cat((place, asked), 1)
            if family == "instructblip":
                read = made._qformer_tokenizer([made.prompt] * count, return_tensors="pt")
                how |= {"qformer_input_ids": read["input_ids"],
                        "qformer_attention_mask": read["attention_mask"]}  # fmt: skip
            stock = network.generate(
                pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids), **how
            )
            given = ids if made._alone else given
        else:
            own = made._per_token(made.prompt, *given.shape)
            stock = network.generate(
                input_ids=given, attention_mask=torch.ones_like(given), **own,
                **made._inputs(embeds, made.prompt), **how,
            )  # fmt: skip
    texts = made.tokenizer.batch_decode(stock[:, given.shape[1] :], skip_special_tokens=True)
    assert [best.text for best, *_ in found] == [text.strip() for text in texts]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_regime_trains_exactly_what_it_says(
    folder: Path, made: Any, pixels: torch.Tensor, idle: set[str], preset: Any
) -> None:
    cfg = RunConfig(
        freeze=FreezeConfig(preset=preset),
        optim=OptimConfig(lr=1e-3, vision_factor=1.0, words_factor=1.0),
        lora=LoraConfig(rank=2, train_embeddings=False),
    )
    names = {name for name, _ in made.network.named_parameters()}
    bridged = any(tower_of(name) == "connector" for name in names)
    crossed = any(".crossattention." in name for name in names)
    if (preset.startswith("connector") and not bridged) or (
        preset == "cross-attention" and not crossed
    ):
        pytest.skip(f"{folder.name} has nothing of the kind")
    network = made.network = adapt(made.network, cfg)
    if preset == "adapter":
        cfg = RunConfig(freeze=cfg.freeze, optim=cfg.optim)
    _, rates = apply_rules(network, rules_for(cfg))
    network.train()
    eval_frozen(network)
    everything = {name for name, _ in network.named_parameters()}
    small = {name for name in everything if ".lora_" in name or ".bottleneck_" in name}
    words = {name for name in everything if ".word_embeddings." in name}
    expected = {
        "full": everything,
        "decoder": {name for name in everything if not is_vision(name)},
        "encoder": {name for name in everything if is_vision(name)},
        "cross-attention": {name for name in everything if ".crossattention." in name},
        "connector": {name for name in everything if tower_of(name) == "connector"},
        "lora": small, "adapter": small | words,
        "connector-lora": small | {name for name in everything if tower_of(name) == "connector"},
    }[preset]  # fmt: skip
    assert set(rates) == expected
    assert expected
    if small:
        assert {tower_of(name) for name in small} >= {"vision", "text"}
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(network, rates, 0.0))
    batch = made.collate(made.tokenize(TEXTS, 16))
    felt: set[str] = set()
    for _ in range(3):
        made.token_losses(made.encode(pixels), batch, 0.1).backward()
        felt |= {
            name for name, p in network.named_parameters() if p.grad is not None and p.grad.any()
        }
        optimizer.step()
        optimizer.zero_grad()
    frozen = [m for m in network.modules() if list(m.parameters()) and not trains(m)]
    assert frozen or preset == "full"
    assert not any(module.training for module in frozen)  # no dropout in what is frozen
    moved = {n for n, p in network.named_parameters() if not torch.equal(p, before[n])}
    assert moved == expected & felt
    unfelt = {name for name in expected - felt if module_of(name) not in idle}
    assert not unfelt, sorted(unfelt)[:5]


def trains(module: torch.nn.Module) -> bool:
    """Whether any parameter of a module takes a gradient."""
    return any(p.requires_grad for p in module.parameters())


def is_vision(name: str) -> bool:
    """Whether a parameter belongs to the image encoder."""
    starts = ("vision_model.", "encoder.", "model.vision_tower.", "model.visual.")
    return name.startswith(starts)


@pytest.fixture(scope="module")
def idle(folder: Path) -> set[str]:
    """Modules with weights that transformers' own loss does not depend on: poolers and the like."""
    made: Any = load_captioner(ModelConfig(name=str(folder)))
    pixels = torch.randn(3, 3, *made.image_size, generator=torch.Generator().manual_seed(1))
    if made.image_std == (1.0, 1.0, 1.0):
        pixels = (pixels.clamp(-2, 2) + 2) / 4
    network = plain(folder)
    batch = made.collate(made.tokenize(TEXTS, 16))
    logits = plain_logits(network, made, made.encode(pixels).detach(), pixels, batch)
    functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), batch.labels[:, 1:].flatten()
    ).backward()
    return {
        name.rpartition(".")[0]
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.any()
    }


def module_of(name: str) -> str:
    """Return the module of the plain network that a parameter belongs to, adapters' included."""
    plain_name = name.removeprefix("base_model.model.").replace(".base_layer", "")
    for mark in (".lora_", ".bottleneck_"):
        if mark in plain_name:
            return plain_name.partition(mark)[0]
    return plain_name.rpartition(".")[0]


@pytest.mark.parametrize("preset", ["lora", "adapter", "full"])
def test_gradient_checkpointing_changes_no_gradient(
    made: Any, pixels: torch.Tensor, preset: Any
) -> None:
    cfg = RunConfig(
        freeze=FreezeConfig(preset=preset), lora=LoraConfig(rank=2, train_embeddings=False)
    )
    torch.manual_seed(0)
    network = made.network = adapt(made.network, cfg)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name or "bottleneck_up.weight" in name:
                parameter.normal_(std=0.1)
    apply_rules(network, rules_for(cfg))
    network.train()
    batch = made.collate(made.tokenize(TEXTS, 16))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            new = getattr(network, "activation_checkpointing_enable", None)
            (new or network.gradient_checkpointing_enable)()
        torch.manual_seed(0)  # of dropout
        made.token_losses(made.encode(pixels), batch, 0.0).backward()
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters()
                          if p.grad is not None})  # fmt: skip
        network.zero_grad()
    assert set(gradients[0]) == set(gradients[1])
    scale = max(float(g.abs().max()) for g in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize("dora", [False, True])
def test_merged_adapters_say_the_same(made: Any, pixels: torch.Tensor, dora: bool) -> None:
    cfg = RunConfig(
        freeze=FreezeConfig(preset="lora"),
        lora=LoraConfig(rank=2, train_embeddings=False, dora=dora),
    )
    torch.manual_seed(0)
    batch = made.collate(made.tokenize(TEXTS, 16))
    with torch.inference_mode():
        first = made.token_losses(made.encode(pixels), batch, 0.0)
    made.network = adapt(made.network, cfg).eval()
    with torch.no_grad():
        for name, parameter in made.network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    with torch.inference_mode():
        adapted = made.token_losses(made.encode(pixels), batch, 0.0)
        made.network = merge_adapters(made.network)
        merged = made.token_losses(made.encode(pixels), batch, 0.0)
    assert abs(float(adapted - first)) > 1e-3
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-4)


def test_what_is_saved_is_what_transformers_loads(
    folder: Path, made: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    batch = made.collate(made.tokenize(TEXTS, 16))
    with torch.no_grad():
        for parameter in made.network.parameters():
            parameter.mul_(1.01)
    target = tmp_path / folder.name
    made.save(target)
    with torch.inference_mode():
        embeds = made.encode(pixels)
        there, back = (
            plain_logits(network, made, embeds, pixels, batch)
            for network in (made.network, plain(target))
        )
    torch.testing.assert_close(there, back, rtol=1e-5, atol=1e-5)  # BLIP's attention is fused here
    again = load_captioner(ModelConfig(name=str(target)))
    assert again.prompt == made.prompt
    assert again.tokenize(TEXTS, 16) == made.tokenize(TEXTS, 16)


def test_bottlenecks_are_saved_beside_the_network(
    folder: Path, made: Any, pixels: torch.Tensor, tmp_path: Path
) -> None:
    batch = made.collate(made.tokenize(TEXTS, 16))
    made.network = adapt(made.network, RunConfig(freeze=FreezeConfig(preset="adapter")))
    with torch.inference_mode():
        at_first = made.token_losses(made.encode(pixels), batch, 0.0)
    with torch.no_grad():
        for name, parameter in made.network.named_parameters():
            if "bottleneck_up" in name:
                parameter.normal_(std=0.05)
    target = tmp_path / folder.name
    made.save(target)
    again = load_captioner(ModelConfig(name=str(target)))
    with torch.inference_mode():
        expected = made.token_losses(made.encode(pixels), batch, 0.0)
        got = again.token_losses(again.encode(pixels), batch, 0.0)
        embeds = made.encode(pixels)
        before, after = (
            plain_logits(plain(place), made, embeds, pixels, batch) for place in (folder, target)
        )
    assert float(expected) != pytest.approx(float(at_first), rel=1e-4)
    assert torch.equal(got, expected)
    assert torch.equal(before, after)  # plain transformers leaves the adapters out


def test_a_batch_says_what_its_images_say_alone(made: Any, pixels: torch.Tensor) -> None:
    ids = made.tokenize(TEXTS, 16)  # of unequal length: pads have no influence
    decode = DecodeConfig(max_new_tokens=6)
    with torch.inference_mode():
        embeds = made.encode(pixels)
        whole = made.token_losses(embeds, made.collate(ids), 0.0)
        parts = [
            made.token_losses(embeds[i : i + 1], made.collate(ids[i : i + 1]), 0.0)
            for i in range(3)
        ]
        together = made.generate(embeds, decode)
        alone = [made.generate(embeds[i : i + 1], decode)[0] for i in range(3)]
    torch.testing.assert_close(whole, torch.stack(parts).sum(), rtol=1e-5, atol=1e-5)
    assert [best.tokens for best, *_ in together] == [best.tokens for best, *_ in alone]


def test_no_token_sees_those_after_it(made: Any, pixels: torch.Tensor) -> None:
    (ids,) = made.tokenize(["right nodule , no edema"], 16)
    other = [*ids[:-2], ids[-3], ids[-1]]
    given = len(made._given())
    weights = torch.tensor([1.0] * 3 + [0.0] * (len(ids) - given - 3)).repeat(3)
    with torch.inference_mode():
        embeds = made.encode(pixels)
        one, two = (
            made.token_losses(embeds, made.collate([row] * 3), 0.0, weights) for row in (ids, other)
        )
    assert ids != other
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_the_prompt_is_never_trained_on(made: Any) -> None:
    batch = made.collate(made.tokenize(TEXTS, 16))
    given = len(made._given())
    assert (batch.labels[:, :given] == -100).all()
    assert (batch.labels[batch.attention_mask == 0] == -100).all()
    inner = [ids[given:-1] for ids in made.tokenize(TEXTS, 16)]
    assert sorted(batch.targets.tolist()) == sorted(
        token for ids in inner for token in [*ids, made._special.end]
    )


def test_four_phantoms_are_learned_by_heart(made: Any) -> None:
    torch.manual_seed(0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (made.image_mean, made.image_std))
    drawn = [render(seed=0, index=index, size=64)[0] for index in range(4)]
    texts = [*TEXTS, "normal chest x-ray with left"]
    raw = torch.stack([torch.from_numpy(one).float() for one in drawn])[:, None]
    raw = functional.interpolate(raw, made.image_size, mode="bilinear").repeat(1, 3, 1, 1)
    pixels = (raw.round() / 255 - mean) / std
    batch = made.collate(made.tokenize(texts, 16))
    for parameter in made.network.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(made.network.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(600):
        loss = made.token_losses(made.encode(pixels), batch, 0.0) / len(batch.targets)
        if float(loss.detach()) < 0.01:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(made.network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    made.network.eval()
    with torch.inference_mode():
        found = made.generate(made.encode(pixels), DecodeConfig(max_new_tokens=40))
    inner = [ids[len(made._given()) : -1] for ids in made.tokenize(texts, 16)]
    expected = [made.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in inner]
    assert [best.text for best, *_ in found] == expected


def test_a_map_for_every_word(made: Any, pixels: torch.Tensor) -> None:
    with torch.inference_mode():
        found = made.word_attention(made.encode(pixels), TEXTS)
    for (words, maps), text in zip(found, TEXTS, strict=True):
        assert "".join(words) == text.replace(" ", "")
        assert maps.shape[0] == len(words)
        assert maps.min() >= 0
        torch.testing.assert_close(maps.sum((1, 2)), torch.ones(len(words)))
        assert not torch.equal(maps[0], maps[1])
