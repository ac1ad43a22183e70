"""BLIP-2 and InstructBLIP behind the seam: what transformers' own models say, learn and store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import published
from tiny_decoders import TEXTS
from tiny_qformer import INSTRUCTION, QUERIES, qformer_captioner
from torch.nn import functional

from medblip.config import DecodeConfig, ModelConfig
from medblip.errors import CheckpointError
from medblip.models.captioner import load_captioner
from medblip.models.qformer import QFormerCaptioner

FAMILIES = ["blip2-opt", "blip2-t5", "instructblip-t5", "instructblip-llama"]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def stock_inputs(captioner: QFormerCaptioner, prompt: str, count: int) -> dict[str, Any]:
    """Return what transformers' processors would make of a prompt."""
    ids = captioner.tokenizer(prompt)["input_ids"]
    place = [captioner.network.config.image_token_index] * QUERIES
    row = torch.tensor([[*place, *ids]]).repeat(count, 1)
    found: dict[str, Any] = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    if captioner._qformer_tokenizer is not None:
        read = captioner._qformer_tokenizer([prompt] * count, return_tensors="pt")
        found |= {
            "qformer_input_ids": read["input_ids"],
            "qformer_attention_mask": read["attention_mask"],
        }
    return found


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["", INSTRUCTION])
def test_captions_equal_transformers(
    family: str, pixels: torch.Tensor, beams: int, prompt: str
) -> None:
    captioner = qformer_captioner(family, prompt=prompt)
    decode = DecodeConfig(num_beams=beams, max_new_tokens=10)
    with torch.inference_mode():
        found = captioner.generate(captioner.encode(pixels), decode)
        inputs = stock_inputs(captioner, prompt, len(pixels))
        stock = captioner.network.generate(
            pixel_values=pixels, num_beams=beams, max_new_tokens=10, do_sample=False, **inputs
        )
    if captioner._alone:
        stock = stock[:, inputs["input_ids"].shape[1] :]
    texts = captioner.tokenizer.batch_decode(stock, skip_special_tokens=True)
    assert [best.text for best, *_ in found] == [text.strip() for text in texts]
    assert len(set(texts)) > 1


def test_prompts_of_unequal_length(family: str, pixels: torch.Tensor) -> None:
    captioner = qformer_captioner(family)
    decode = DecodeConfig(max_new_tokens=6)
    prompts = [INSTRUCTION, "a chest", INSTRUCTION]
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        together = captioner.generate(embeds, decode, prompts=prompts)
        for row, prompt in enumerate(prompts):
            (alone,) = captioner.generate(embeds[row : row + 1], decode, prompts=[prompt])
            assert alone[0].tokens == together[row][0].tokens
            assert alone[0].token_logprobs == pytest.approx(
                together[row][0].token_logprobs, abs=1e-5
            )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("prompt", ["", INSTRUCTION])
def test_loss_and_gradients_equal_transformers(
    family: str, pixels: torch.Tensor, prompt: str, smoothing: float
) -> None:
    captioner = qformer_captioner(family, prompt=prompt)
    batch = captioner.collate(captioner.tokenize(TEXTS, 16))
    loss = captioner.token_losses(captioner.encode(pixels), batch, smoothing)
    loss.backward()
    parameters = dict(captioner.network.named_parameters())
    got = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    captioner.network.zero_grad()
    inputs = stock_inputs(captioner, prompt, len(pixels))
    if captioner._alone:
        place = inputs["input_ids"][:, :QUERIES]
        inputs["input_ids"] = torch.cat((place, batch.input_ids), 1)
        inputs["attention_mask"] = torch.cat((torch.ones_like(place), batch.attention_mask), 1)
        logits = captioner.network(pixel_values=pixels, **inputs).logits[:, QUERIES:]
    else:
        logits = captioner.network(
            pixel_values=pixels, decoder_input_ids=batch.input_ids,
            decoder_attention_mask=batch.attention_mask, **inputs,
        ).logits  # fmt: skip
    stock = functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum",
        label_smoothing=smoothing,
    )  # fmt: skip
    stock.backward()
    torch.testing.assert_close(loss, stock, rtol=1e-6, atol=1e-6)
    trained = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    assert set(trained) == set(got)
    scale = max(float(grad.abs().max()) for grad in trained.values())
    for name, grad in trained.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6 * scale)


def test_pads_and_prompt_are_without_influence(family: str, pixels: torch.Tensor) -> None:
    captioner = qformer_captioner(family, prompt=INSTRUCTION)
    ids = captioner.tokenize(TEXTS, 16)
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        whole = captioner.token_losses(embeds, captioner.collate(ids), 0.0)
        parts = [
            captioner.token_losses(embeds[i : i + 1], captioner.collate(ids[i : i + 1]), 0.0)
            for i in range(3)
        ]
    torch.testing.assert_close(whole, torch.stack(parts).sum(), rtol=1e-6, atol=1e-5)
    given = len(captioner._given())
    assert (captioner.collate(ids).labels[:, :given] == -100).all()
    assert captioner.label_text(ids[1]).strip() == TEXTS[1]


def test_a_saved_folder_is_loaded_by_name(
    family: str, pixels: torch.Tensor, tmp_path: Path
) -> None:
    first = qformer_captioner(family, prompt=INSTRUCTION)
    first.save(tmp_path)
    again = load_captioner(ModelConfig(name=str(tmp_path), prompt=INSTRUCTION))
    assert isinstance(again, QFormerCaptioner)
    decode = DecodeConfig(max_new_tokens=6)
    with torch.inference_mode():
        assert again.generate(again.encode(pixels), decode) == first.generate(
            first.encode(pixels), decode
        )
    assert again.encoder_digest() == first.encoder_digest()
    empty = load_captioner(ModelConfig(name=str(tmp_path)), weights=False)
    assert empty.feature_shape == tuple(first.encode(pixels).shape[1:])


@pytest.mark.parametrize("name", ["blip2-opt-2.7b", "blip2-flan-t5-xl", "instructblip-vicuna-7b"])
def test_a_map_is_the_product_of_two_attentions(name: str, tmp_path: Path) -> None:
    captioner: Any = load_captioner(ModelConfig(name=str(published(name, tmp_path / name))))
    pixels = torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    ids = captioner.tokenize(TEXTS, 16)
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        found = captioner.word_attention(embeds, TEXTS)
        looks = captioner._looks(embeds, captioner.collate(ids))
    asked, looked = looks.of_image(looks.layers[-1]).mean(1), looks.bridge[-1].mean(1)
    torch.testing.assert_close(looked.sum(-1), torch.ones(3, 32))
    assert (asked.sum(-1) <= 1 + 1e-5).all()
    first = len(captioner._given()) - 1  # what predicts the first word
    for row, (words, maps) in enumerate(found):  # here each word is one token
        assert len(words) == len(ids[row]) - first - 2
        for place in range(len(words)):
            product = (asked[row, first + place] @ looked[row])[1:].view(16, 16)
            torch.testing.assert_close(maps[place], product / product.sum(), rtol=1e-4, atol=1e-6)


def test_a_caption_behind_a_prompt_begins_with_a_blank() -> None:
    captioner = qformer_captioner("blip2-opt", prompt="a")
    (ids,) = captioner.tokenize(["chest"], 16)
    assert captioner.tokenizer.decode(ids, skip_special_tokens=True) == "a chest"
    assert captioner.label_text(ids) == "chest"
    (bare,) = qformer_captioner("blip2-opt").tokenize(["chest"], 16)
    assert captioner.tokenizer.decode(bare, skip_special_tokens=True) == "chest"


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    qformer_captioner("instructblip-t5").save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_captioner(ModelConfig(name=str(tmp_path)))
