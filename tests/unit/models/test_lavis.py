"""The original BLIP's names, sizes and arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from original_blip import Tensors, image_tokens, logits, random_checkpoint
from transformers import BlipConfig

from medblip.errors import CheckpointError
from medblip.models.lavis import (
    EXTRAS,
    POSITION_IDS,
    config_of,
    empty_network,
    from_original,
    original_name,
    to_original,
    transformers_name,
)

LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
         "num_attention_heads": 16}  # fmt: skip


def converted(tensors: Tensors) -> Any:
    network = empty_network(config_of(tensors, "x"))
    found, _ = from_original(tensors, network, "x")
    network = type(network)(network.config)  # with its own buffers
    network.load_state_dict(found)
    return network.eval()


def test_image_tokens_are_those_of_the_original() -> None:
    tensors = random_checkpoint(vision=128, side=48, words=50)
    pixels = torch.randn(2, 3, 48, 48)
    network = converted(tensors)
    assert network.config.vision_config.image_size == 48
    with torch.no_grad():
        ours = network.vision_model(pixels).last_hidden_state
    torch.testing.assert_close(ours, image_tokens(tensors, pixels, heads=2), atol=1e-5, rtol=0)


def test_logits_are_those_of_the_original() -> None:
    tensors = random_checkpoint(words=90)
    ids, image = torch.randint(0, 90, (3, 7)), torch.randn(3, 5, 64)
    with torch.no_grad():
        ours = converted(tensors).text_decoder(
            ids, encoder_hidden_states=image, attention_mask=torch.ones_like(ids)
        )
    theirs = logits(tensors, ids, image)
    torch.testing.assert_close(ours.logits, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("vision", "side"), [({}, 384), (LARGE, 384), ({}, 224)])
def test_published_shapes_without_memory(vision: dict[str, int], side: int) -> None:
    with torch.device("meta"):
        network = empty_network(BlipConfig(vision_config={**vision, "image_size": side}))
        theirs = to_original(network)
    config = config_of(theirs, "x")
    one: Any = config.vision_config
    assert (one.image_size, one.patch_size, one.num_attention_heads) == (
        side, 16, vision.get("num_attention_heads", 12),
    )  # fmt: skip
    text: Any = config.text_config
    assert (text.vocab_size, text.hidden_size, text.encoder_hidden_size, text.num_attention_heads) \
        == (30524, 768, vision.get("hidden_size", 768), 12)  # fmt: skip
    again = empty_network(config).state_dict()
    assert {name: value.shape for name, value in again.items()} == {
        str(transformers_name(name)): value.shape
        for name, value in theirs.items()
        if name != POSITION_IDS
    }
    depth = vision.get("num_hidden_layers", 12)
    assert len(theirs) == 6 + 12 * depth + 5 + 26 * 12 + 7


def test_the_table_is_read_in_both_directions() -> None:
    network = empty_network(BlipConfig(vision_config=LARGE))
    names = list(network.state_dict())
    theirs = [original_name(name) for name in names]
    assert [transformers_name(str(name)) for name in theirs] == names
    assert len(set(theirs)) == len(names)
    assert {str(name).split(".")[0] for name in theirs} == {"visual_encoder", "text_decoder"}


def test_all_their_names_come_back_with_the_same_numbers() -> None:
    tensors = random_checkpoint(words=50)
    again = to_original(converted(tensors))
    assert set(again) == set(tensors)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_pretraining_checkpoint_leaves_its_other_heads() -> None:
    tensors = random_checkpoint(words=50)
    for name in EXTRAS:
        tensors[name + "x" if name.endswith(".") else name] = torch.zeros(1)
    _, left = from_original(tensors, empty_network(config_of(tensors, "x")), "x")
    assert len(left) == len(EXTRAS)


@pytest.mark.parametrize(
    ("drop", "add", "message"),
    [
        ("text_decoder.", {"text_encoder.x": 1, "itm_head.weight": 1}, "not a captioner"),
        ("", {"text_encoder.x": 1}, "a model that answers questions"),
        ("visual_encoder.", {"ln_vision.weight": 1}, "not a captioner"),
        (
            "visual_encoder.norm.bias", {"visual_encoder.head.bias": 1},
            "1 missing: visual_encoder.norm.bias; 1 unknown: visual_encoder.head.bias",
        ),
        ("", {"visual_encoder.blocks.999999999.norm1.bias": 1}, "1 unknown|not the tensors"),
        ("", {"visual_encoder.norm.bias": 7}, r"visual_encoder.norm.bias of shape \(7,\)"),
        ("", {"visual_encoder.pos_embed": 3}, "other ranks"),
        ("text_decoder.bert.embeddings.word", {}, "no tensor"),
        ("", {"text_decoder.cls.predictions.decoder.bias": 50}, "differ"),
        ("", {POSITION_IDS: 40}, "not counted up"),
    ],
)  # fmt: skip
def test_what_is_no_captioner_is_named(drop: str, add: dict[str, int], message: str) -> None:
    tensors = random_checkpoint(words=50)
    tensors = {n: t for n, t in tensors.items() if not (drop and n.startswith(drop))}
    tensors |= {name: torch.zeros(size) for name, size in add.items()}
    with pytest.raises(CheckpointError, match=message):
        from_original(tensors, empty_network(config_of(tensors, "x")), "x")


def test_tensors_of_two_types_are_refused() -> None:
    tensors = random_checkpoint(words=50)
    tensors["visual_encoder.norm.bias"] = tensors["visual_encoder.norm.bias"].half()
    with pytest.raises(CheckpointError, match="one float type"):
        from_original(tensors, empty_network(config_of(tensors, "x")), "x")
