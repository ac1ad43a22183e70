"""ViT-GPT2 behind the seam: loads, writes, learns and explains as transformers' own model does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_decoders import TEXTS, ved_captioner
from transformers import VisionEncoderDecoderModel

from medblip.config import DecodeConfig, ModelConfig
from medblip.errors import CheckpointError
from medblip.models.captioner import load_captioner
from medblip.models.vision_encoder_decoder import VisionEncoderDecoderCaptioner


@pytest.fixture(params=["gpt2", "bert"])
def decoder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_saved_folder_is_loaded_by_name(tmp_path: Path, pixels: torch.Tensor) -> None:
    first = ved_captioner()
    first.save(tmp_path)
    again = load_captioner(ModelConfig(name=str(tmp_path)))
    assert isinstance(again, VisionEncoderDecoderCaptioner)
    decode = DecodeConfig(max_new_tokens=12)
    with torch.inference_mode():
        assert again.generate(again.encode(pixels), decode) == first.generate(
            first.encode(pixels), decode
        )
    assert again.encoder_digest() == first.encoder_digest()
    assert again.feature_shape == tuple(first.encode(pixels).shape[1:])
    plain = VisionEncoderDecoderModel.from_pretrained(tmp_path)
    with torch.inference_mode():
        ids = torch.tensor([[1, 7, 9]])
        stock = plain(pixel_values=pixels[:1], decoder_input_ids=ids).logits
        mine = first.network(pixel_values=pixels[:1], decoder_input_ids=ids).logits
    torch.testing.assert_close(stock, mine)


def test_a_shape_without_weights(tmp_path: Path) -> None:
    ved_captioner().save(tmp_path)
    empty = load_captioner(ModelConfig(name=str(tmp_path)), weights=False)
    assert empty.device.type == "meta"
    assert empty.feature_shape == (17, 32)
    assert empty.tokenize(["chest"], 8)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    ved_captioner().save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_captioner(ModelConfig(name=str(tmp_path)))


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_equal_transformers(decoder: str, pixels: torch.Tensor, beams: int) -> None:
    captioner = ved_captioner(decoder=decoder)
    decode = DecodeConfig(num_beams=beams, num_captions=beams, max_new_tokens=16)
    with torch.inference_mode():
        found = captioner.generate(captioner.encode(pixels), decode)
        stock = captioner.network.generate(
            pixel_values=pixels, num_beams=beams, num_return_sequences=beams, max_new_tokens=16,
            do_sample=False,
        )  # fmt: skip
    texts = captioner.tokenizer.batch_decode(stock, skip_special_tokens=True)
    assert [one.text for row in found for one in row] == [text.strip() for text in texts]
    assert len(set(texts)) > 1
    for row in found:
        for one in row:
            assert one.logprob == pytest.approx(sum(one.token_logprobs) / len(one.tokens))


def test_draws_depend_on_the_image_alone(decoder: str, pixels: torch.Tensor) -> None:
    captioner = ved_captioner(decoder=decoder)
    decode = DecodeConfig(num_beams=1, sample=True, num_captions=2, max_new_tokens=8)
    names = list("abcde")
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        together = captioner.generate(embeds, decode, keys=names)
        alone = [
            captioner.generate(embeds[i : i + 1], decode, keys=names[i : i + 1])[0]
            for i in range(5)
        ]
    assert [[one.tokens for one in row] for row in together] == [
        [one.tokens for one in row] for row in alone
    ]


def test_prompts_of_unequal_length(decoder: str, pixels: torch.Tensor) -> None:
    captioner = ved_captioner(decoder=decoder)
    decode = DecodeConfig(max_new_tokens=8)
    prompts = ["", "normal chest", "right", "", "left pleural"]
    with torch.inference_mode():
        embeds = captioner.encode(pixels)
        together = captioner.generate(embeds, decode, prompts=prompts)
        for row, prompt in enumerate(prompts):
            (alone,) = captioner.generate(embeds[row : row + 1], decode, prompts=[prompt])
            assert alone[0].tokens == together[row][0].tokens


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_equal_transformers(
    decoder: str, pixels: torch.Tensor, smoothing: float
) -> None:
    captioner = ved_captioner(decoder=decoder)
    batch = captioner.collate(captioner.tokenize([*TEXTS, TEXTS[0], TEXTS[1]], 16))
    loss = captioner.token_losses(captioner.encode(pixels), batch, smoothing)
    loss.backward()
    parameters = dict(captioner.network.named_parameters())
    got = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    captioner.network.zero_grad()
    logits = captioner.network(
        pixel_values=pixels, decoder_input_ids=batch.input_ids,
        decoder_attention_mask=batch.attention_mask,
    ).logits  # fmt: skip
    stock = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum",
        label_smoothing=smoothing,
    )  # fmt: skip
    stock.backward()
    torch.testing.assert_close(loss, stock, rtol=1e-6, atol=1e-6)
    trained = [(n, p.grad) for n, p in parameters.items() if p.grad is not None]
    assert {name for name, _ in trained} == set(got)
    scale = max(float(grad.abs().max()) for _, grad in trained)
    for name, grad in trained:
        torch.testing.assert_close(got[name], grad, rtol=1e-4, atol=1e-6 * scale)


def test_maps_are_of_whole_words(pixels: torch.Tensor) -> None:
    captioner = ved_captioner()
    with torch.inference_mode():
        ((words, maps),) = captioner.word_attention(captioner.encode(pixels[:1]), [TEXTS[0]])
    assert words == TEXTS[0].split()
    assert maps.shape == (len(words), 4, 4)
    torch.testing.assert_close(maps.sum((1, 2)), torch.ones(len(words)))
    ids = captioner.tokenize([TEXTS[0]], 99)
    batch = captioner.collate(ids)
    captioner.network.decoder.set_attn_implementation("eager")
    with torch.inference_mode():
        stock = captioner.network(
            pixel_values=pixels[:1], decoder_input_ids=batch.input_ids, output_attentions=True
        ).cross_attentions[-1].mean(1)[0]  # fmt: skip
    last = stock[len(ids[0]) - 3, 1:]
    pieces = captioner.tokenizer.convert_ids_to_tokens(ids[0][1:-1])
    if pieces[-1].startswith("Ġ"):  # a word of one piece: its map is that row
        torch.testing.assert_close(maps[-1].flatten(), last / last.sum())
