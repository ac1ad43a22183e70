"""The replay of a caption sees what transformers' own attention says, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from published import published
from tiny_decoders import TEXTS, ved_captioner
from transformers import (
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    InstructBlipForConditionalGeneration,
    SwinConfig,
    SwinModel,
    VisionEncoderDecoderModel,
)

from medblip.config import DecodeConfig, ModelConfig
from medblip.errors import CheckpointError
from medblip.models.blip import BlipCaptioner
from medblip.models.captioner import load_captioner
from medblip.models.views import word_maps
from medblip.models.vision_encoder_decoder import VisionEncoderDecoderCaptioner

KINDS: dict[str, Any] = {
    "blip-base": BlipForConditionalGeneration, "vit-gpt2": VisionEncoderDecoderModel,
    "blip2-opt-2.7b": Blip2ForConditionalGeneration,
    "blip2-flan-t5-xl": Blip2ForConditionalGeneration,
    "instructblip-flan-t5-xl": InstructBlipForConditionalGeneration,
    "instructblip-vicuna-7b": InstructBlipForConditionalGeneration,
}  # fmt: skip


def both(name: str, tmp_path: Path) -> tuple[Any, Any, torch.Tensor]:
    """Return our captioner, transformers' own network of the same folder, and two images."""
    folder = published(name, tmp_path / name)
    ours: Any = load_captioner(ModelConfig(name=str(folder)))
    stock = KINDS[name].from_pretrained(folder, attn_implementation="eager").eval()
    pixels = torch.randn(2, 3, *ours.image_size, generator=torch.Generator().manual_seed(1))
    return ours, stock, pixels


def check(ours: torch.Tensor, stock: torch.Tensor) -> None:
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["blip-base", "vit-gpt2"])
def test_every_layer_and_head_equals_transformers(name: str, tmp_path: Path) -> None:
    ours, stock, pixels = both(name, tmp_path)
    text = {"blip-base": "input_ids", "vit-gpt2": "decoder_input_ids"}[name]
    first = len(ours._given())
    with torch.inference_mode():
        found = ours.replay(ours.encode(pixels), TEXTS[:2])
        vision = ours.vision_attention(pixels)
    for row, one in enumerate(found):
        (ids,) = ours.tokenize([TEXTS[row]], 99)
        with torch.inference_mode():
            inputs = {"pixel_values": pixels[row : row + 1], text: torch.tensor([ids])}
            if name == "blip-base":  # its own forward gives the vision tower's attention only
                seen = stock.vision_model(inputs["pixel_values"], output_attentions=True)
                out = stock.text_decoder(
                    input_ids=inputs[text], encoder_hidden_states=seen[0], output_attentions=True
                )
                of_encoder = seen.attentions
            else:
                out = stock(**inputs, output_attentions=True)
                of_encoder = out.encoder_attentions
        rows = slice(first - 1, len(ids) - 2)
        assert len(one.pieces) == len(ids) - first - 1 == one.cross.shape[2]
        check(one.cross, torch.stack(out.cross_attentions)[:, 0, :, rows])
        torch.testing.assert_close(one.cross.sum(-1), torch.ones(one.cross.shape[:3]))
        logp = out.logits[0, rows].log_softmax(-1)
        check(one.logprobs, logp.gather(1, torch.tensor(ids[first:-1])[:, None])[:, 0])
        check(vision[row], torch.stack(of_encoder)[:, 0])
        assert one.unplaced == 1
        assert one.cross.std() > 1e-4, "attention that is even everywhere would pass any test"


@pytest.mark.parametrize("name", [one for one in KINDS if "blip2" in one or "instruct" in one])
def test_a_q_formers_two_attentions_equal_transformers(name: str, tmp_path: Path) -> None:
    ours, stock, pixels = both(name, tmp_path)
    prompt = ours._prompt_ids(ours.prompt)
    first = len(ours._given())
    with torch.inference_mode():
        found = ours.replay(ours.encode(pixels), TEXTS[:2])
        vision = ours.vision_attention(pixels)
    image = [stock.config.image_token_index] * 32
    for row, one in enumerate(found):
        (ids,) = ours.tokenize([TEXTS[row]], 99)
        own = ids if ours._alone else prompt
        how: dict[str, Any] = {"input_ids": torch.tensor([image + own])}
        if not ours._alone:
            how["decoder_input_ids"] = torch.tensor([ids])
        if ours._qformer_tokenizer is not None:
            read = ours._qformer_tokenizer([ours.prompt], return_tensors="pt")
            how["qformer_input_ids"] = read["input_ids"]
        with torch.inference_mode():
            out = stock(
                pixel_values=pixels[row : row + 1], output_attentions=True, return_dict=True, **how
            )
        text = out.language_model_outputs
        layers = torch.stack(text.attentions if ours._alone else text.cross_attentions)[:, 0]
        at = (32 if ours._alone else 0) + first - 1
        check(one.cross, layers[:, :, at : at + len(one.pieces), :32])
        reads = {"query_embeds": stock.query_tokens, "encoder_hidden_states": out.vision_outputs[0]}
        if ours._qformer_tokenizer is not None:
            ones = torch.ones(1, 32 + how["qformer_input_ids"].shape[1])
            reads |= {"input_ids": how["qformer_input_ids"], "attention_mask": ones}
        with torch.inference_mode():
            of_encoder = stock.vision_model(pixels[row : row + 1], output_attentions=True)
            looked = stock.qformer(**reads, output_attentions=True).cross_attentions
        crossed = [c[0] for c in looked if c is not None and len(c)]
        assert one.bridge is not None
        check(one.bridge, torch.stack(crossed)[:, :, :32])
        check(vision[row], torch.stack(of_encoder.attentions)[:, 0])
        torch.testing.assert_close(one.bridge.sum(-1), torch.ones(one.bridge.shape[:3]))
        assert (one.cross.sum(-1) <= 1 + 1e-5).all()
        product = one.cross @ one.bridge[-1].mean(0)
        assert torch.equal(one.on_image, product)
        assert one.unplaced == 1


def test_the_generated_pieces_are_replayed_as_they_are(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    embeds = captioner.encode(pixels)
    for best in captioner.generate(embeds, DecodeConfig(max_new_tokens=12)):
        row = embeds[:1]
        embeds = embeds[1:]
        (one,) = captioner.replay(row, [best[0].tokens])
        said = best[0].tokens[: len(one.pieces)]
        assert one.pieces == said
        assert set(best[0].tokens[len(one.pieces) :]) <= {"[SEP]"}
        torch.testing.assert_close(
            one.logprobs, torch.tensor(best[0].token_logprobs[: len(said)]), rtol=1e-4, atol=1e-5
        )


def test_a_caption_alone_equals_the_same_among_others(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    texts = ["left pleural effusion with nodule", "normal", ""]
    embeds = captioner.encode(pixels[:3])
    together = captioner.replay(embeds, texts, gradients="all")
    for row, text in enumerate(texts):
        (alone,) = captioner.replay(embeds[row : row + 1], [text], gradients="all")
        assert alone.words == together[row].words
        check(together[row].cross, alone.cross)
        assert alone.gradient is not None
        check(together[row].gradient, alone.gradient)
    assert together[2].words == ()
    assert word_maps(together[2]).shape == (0, 4, 4)


def _own(name: str, tmp_path: Path) -> Any:
    if name == "ved":
        return ved_captioner()
    return load_captioner(ModelConfig(name=str(published(name, tmp_path / name))))


@pytest.mark.parametrize("name", ["blip-base", "ved", "blip2-opt-2.7b", "blip2-flan-t5-xl"])
def test_gradients_equal_an_independent_autograd(name: str, tmp_path: Path) -> None:
    """Each piece in a forward pass of its own, cut behind it: no later word is there to mix in."""
    ours = _own(name, tmp_path)
    pixels = torch.randn(1, 3, *ours.image_size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        embeds = ours.encode(pixels)
        (one,) = ours.replay(embeds, TEXTS[:1], gradients="all")
        (quick,) = ours.replay(embeds, TEXTS[:1], gradients="last")
    scale = float(one.gradient[-1].abs().max())
    torch.testing.assert_close(quick.gradient[0], one.gradient[-1], rtol=1e-3, atol=1e-5 * scale)
    (ids,) = ours.tokenize(TEXTS[:1], 99)
    first = len(ours._given())
    mixed = []
    for step in range(len(one.pieces)):
        batch = ours.collate([ids[: first + step + 1]])
        fed = embeds.clone().requires_grad_(True)
        looks = ours._looks(fed, batch)
        logp = looks.logits[0, first + step - 1].float().log_softmax(-1)[ids[first + step]]
        slopes = torch.autograd.grad(logp, looks.layers)
        parts = [looks.of_image(slope)[0] for slope in slopes]
        own = torch.stack([part[:, first + step - 1] for part in parts])
        scale = float(own.abs().max())
        assert scale > 0
        torch.testing.assert_close(one.gradient[:, :, step], own, rtol=1e-3, atol=1e-4 * scale)
        if step:
            before = torch.stack([part[:, first + step - 2] for part in parts])
            mixed.append(float(before[0].abs().max()) / scale)
    assert max(mixed) > 1e-3, "no piece depends on an earlier row: one pass would do"


def test_a_gradient_says_what_a_little_more_attention_does(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    text = "left pleural effusion"
    captioner.network.double()
    embeds = captioner.encode(pixels[:1])
    (one,) = captioner.replay(embeds, [text], gradients="all")
    assert one.gradient is not None
    for layer, head, piece, token in [(0, 1, 2, 5), (1, 3, 1, 0), (0, 0, 0, 16)]:
        block = captioner.network.text_decoder.bert.encoder.layer[layer].crossattention.self

        values = []
        for by in (1e-4, -1e-4):

            def added(_: Any, args: Any, by: float = by, at: Any = (head, piece, token)) -> Any:
                probabilities = args[0].clone()
                probabilities[0, *at] += by
                return (probabilities,)

            handle = block.dropout.register_forward_pre_hook(added)
            (moved,) = captioner.replay(embeds, [text])
            handle.remove()
            values.append(float(moved.logprobs[piece]))
        slope = (values[0] - values[1]) / 2e-4
        assert float(one.gradient[layer, head, piece, token]) == pytest.approx(slope, rel=0.02)


def test_what_a_family_cannot_give_is_said(tmp_path: Path) -> None:
    ours: Any = load_captioner(ModelConfig(name=str(published("llava", tmp_path / "llava"))))
    pixels = torch.rand(1, 3, *ours.image_size)
    with pytest.raises(CheckpointError, match="no map per word"):
        ours.replay(ours.encode(pixels), ["normal"], gradients="all")
    with pytest.raises(CheckpointError, match="no map per word"):
        ours.vision_attention(pixels)
    (one,) = ours.replay(ours.encode(pixels), ["normal chest"])
    assert one.cross.shape[0] == 2
    with pytest.raises(CheckpointError, match="image encoder"):
        word_maps(one, "rollout")


def test_an_encoder_of_windows_is_refused() -> None:
    """Swin merges patches on the way, and looks at windows."""
    plain = ved_captioner()
    windows = SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[1, 1],
                         window_size=4)  # fmt: skip
    network: Any = VisionEncoderDecoderModel(
        encoder=SwinModel(windows).eval(), decoder=plain.network.decoder
    ).eval()
    for name in ("decoder_start_token_id", "pad_token_id", "eos_token_id"):
        setattr(network.config, name, 1)
    ours = VisionEncoderDecoderCaptioner(network, plain._image_processor, plain.tokenizer)
    pixels = torch.randn(1, 3, 32, 32)
    with pytest.raises(CheckpointError, match="image tokens"):
        ours.replay(ours.encode(pixels), ["normal"])
    with pytest.raises(CheckpointError, match="windows"):
        ours.vision_attention(pixels)


def test_patches_must_cover_the_image(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    captioner.image_size = (36, 32)
    with pytest.raises(CheckpointError, match="patches that cover the image"):
        captioner.replay(captioner.encode(pixels[:1]), ["normal"])
