"""The wrapper says what plain transformers says: loss, tokens, attention, round trip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional
from transformers import AutoProcessor, BlipForConditionalGeneration

from medblip.config import DecodeConfig, ModelConfig
from medblip.errors import CheckpointError
from medblip.models.blip import BlipCaptioner
from medblip.models.blip_patches import stock_attention
from medblip.models.captioner import load_captioner
from medblip.models.loading import Loading

CAPTIONS = ["chest x - ray", "normal chest x - ray with no left pleural effusion", "a nodule"]


def test_loss_equals_transformers_when_pads_are_masked(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    batch = captioner.collate(captioner.tokenize(CAPTIONS, 64))
    tokens = (batch.labels != -100).sum()
    ours = captioner.token_losses(captioner.encode(pixels[:3]), batch, 0.0) / tokens
    stock = captioner.network(
        pixel_values=pixels[:3],
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=batch.labels,
    ).loss
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-6)


def test_loss_by_hand_with_label_smoothing(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    ids = captioner.tokenize(["a nodule"], 64)
    batch = captioner.collate(ids)
    logits = captioner.network(pixel_values=pixels[:1], input_ids=batch.input_ids).logits[0]
    logp = functional.log_softmax(logits, dim=-1)
    by_hand = sum(
        -(0.9 * logp[t, token] + 0.1 * logp[t].mean()) for t, token in enumerate(ids[0][1:])
    )
    ours = captioner.token_losses(captioner.encode(pixels[:1]), batch, 0.1)
    torch.testing.assert_close(ours, torch.as_tensor(by_hand), rtol=1e-6, atol=1e-5)


def test_padding_changes_no_loss(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    together = captioner.token_losses(
        captioner.encode(pixels[:3]), captioner.collate(captioner.tokenize(CAPTIONS, 64)), 0.1
    )
    alone = sum(
        captioner.token_losses(
            captioner.encode(pixels[i : i + 1]),
            captioner.collate(captioner.tokenize([text], 64)),
            0.1,
        )
        for i, text in enumerate(CAPTIONS)
    )
    torch.testing.assert_close(together, torch.as_tensor(alone), rtol=1e-6, atol=1e-4)


def test_start_token_prompt_and_pads_are_never_trained_on(tiny_folder: Path) -> None:
    captioner = BlipCaptioner.load(Loading(source=str(tiny_folder)), "a picture of")
    batch = captioner.collate(captioner.tokenize(["nodule", "normal chest x - ray"], 64))
    assert batch.input_ids[:, 0].tolist() == [5, 5]
    assert (batch.labels[:, :4] == -100).all()
    assert batch.labels[0, 4:6].tolist() == batch.input_ids[0, 4:6].tolist()
    assert (batch.labels[0, 6:] == -100).all()


def test_long_captions_are_cut_and_still_end(captioner: BlipCaptioner) -> None:
    (ids,) = captioner.tokenize(["chest " * 50], 8)
    assert len(ids) == 1 + 8
    assert ids[-1] == 3


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generate_equals_transformers(
    captioner: BlipCaptioner, pixels: torch.Tensor, num_beams: int
) -> None:
    ours = captioner.generate(
        captioner.encode(pixels), DecodeConfig(num_beams=num_beams, max_new_tokens=12)
    )
    stock = captioner.network.generate(
        pixel_values=pixels, num_beams=num_beams, max_new_tokens=12, do_sample=False
    )
    texts = captioner.processor.batch_decode(stock, skip_special_tokens=True)
    assert [best.text for best, *_ in ours] == [text.strip() for text in texts]
    assert len(set(texts)) > 1, "a captioner that says one thing would pass any comparison"


def test_caption_depends_on_its_image_alone(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    decode = DecodeConfig(max_new_tokens=12)
    together = captioner.generate(captioner.encode(pixels), decode)
    alone = [
        captioner.generate(captioner.encode(pixels[i : i + 1]), decode)[0]
        for i in range(len(pixels))
    ]
    assert [one.text for one, *_ in together] == [one.text for one, *_ in alone]
    for (a, *_), (b, *_) in zip(together, alone, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-5)


def test_logprob_is_the_mean_over_generated_tokens(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    result = captioner.network.text_decoder.generate(
        input_ids=torch.tensor([[5]]),
        encoder_hidden_states=captioner.network.vision_model(pixel_values=pixels[:1])[0],
        eos_token_id=3,
        pad_token_id=0,
        max_new_tokens=12,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    chosen = result.sequences[0, 1:]
    stepwise = [
        functional.log_softmax(logits[0], dim=-1)[token].item()
        for logits, token in zip(result.logits, chosen, strict=True)
    ]
    ((best,),) = captioner.generate(
        captioner.encode(pixels[:1]), DecodeConfig(num_beams=1, max_new_tokens=12)
    )
    assert best.token_logprobs == pytest.approx(stepwise, abs=1e-5)
    assert best.logprob == pytest.approx(sum(stepwise) / len(stepwise), abs=1e-5)


def test_word_maps_equal_the_decoders_cross_attention(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    ((words, maps), (short, _)) = captioner.word_attention(
        captioner.encode(pixels[:2]), ["left pleural effusion", "normal"]
    )
    assert words == ["left", "pleural", "effusion"]
    assert short == ["normal"]
    assert maps.shape == (3, 4, 4)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(3))
    ids = torch.tensor(captioner.tokenize(["left pleural effusion"], 64))
    output = captioner.network.text_decoder(
        input_ids=ids,
        encoder_hidden_states=captioner.network.vision_model(pixel_values=pixels[:1])[0],
        output_attentions=True,
    )
    rows = output.cross_attentions[-1][0].mean(dim=0)[:, 1:]  # (tokens, patches)
    assert captioner.processor.tokenizer.convert_ids_to_tokens(ids[0, 1:].tolist()) == [
        "left", "pleural", "effu", "##sion", "[SEP]",
    ]  # fmt: skip
    effusion = rows[2:4].mean(dim=0)  # the queries that predict the pieces `effu` and `##sion`
    torch.testing.assert_close(maps[2].flatten(), effusion / effusion.sum(), rtol=0, atol=1e-6)


def test_saved_folder_loads_with_plain_transformers(
    captioner: BlipCaptioner, pixels: torch.Tensor, tmp_path: Path
) -> None:
    captioner.save(tmp_path)
    network = BlipForConditionalGeneration.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with stock_attention(captioner.network):
        ours = captioner.network(pixel_values=pixels[:1], input_ids=ids).logits
    stock = network(pixel_values=pixels[:1], input_ids=ids).logits
    torch.testing.assert_close(stock, ours, rtol=0, atol=0)
    assert processor.tokenizer.decode([6, 7], skip_special_tokens=True) == "a chest"
    assert not list(tmp_path.glob("*.bin"))


def test_missing_weights_and_folders_are_errors(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="captioner not found"):
        load_captioner(ModelConfig(name=str(tmp_path / "absent")))
    with pytest.raises(CheckpointError, match="no trained captioner"):
        load_captioner(ModelConfig(name=str(tmp_path)))
    for file in tiny_folder.iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[:2000] if file.suffix == ".safetensors" else data)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_captioner(ModelConfig(name=str(tmp_path)))
