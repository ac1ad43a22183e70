"""The fast attention says what transformers' own says, and is used only where that was tested."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import pytest
import torch

from medblip.models import blip_patches
from medblip.models.blip import BlipCaptioner
from medblip.models.blip_patches import KNOWN, fingerprint, patch, stock_attention
from medblip.models.loading import Loading

TEXTS = ["chest x - ray", "normal chest x - ray with no left pleural effusion", "a nodule"]


def loss_and_gradients(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = captioner.collate(captioner.tokenize(TEXTS, 64))
    network = captioner.network
    network.zero_grad()
    loss = network(
        pixel_values=pixels, input_ids=batch.input_ids,
        attention_mask=batch.attention_mask, labels=batch.labels,
    ).loss  # fmt: skip
    loss.backward()
    return loss.detach(), {
        n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None
    }


def test_this_transformers_is_one_that_was_tested() -> None:
    for kind, versions in KNOWN.items():
        assert fingerprint(kind) in versions


def test_loss_and_gradients_equal_stock(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    fast = loss_and_gradients(captioner, pixels[:3])
    with stock_attention(captioner.network):
        stock = loss_and_gradients(captioner, pixels[:3])
    torch.testing.assert_close(fast[0], stock[0], rtol=0, atol=1e-6)
    assert fast[1].keys() == stock[1].keys()
    for name, gradient in stock[1].items():
        torch.testing.assert_close(fast[1][name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def test_our_loss_and_gradients_equal_stock_with_masked_labels(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    """The whole fast path: fused attention, positions that count only, fused cross-entropy."""
    with stock_attention(captioner.network):
        loss, gradients = loss_and_gradients(captioner, pixels[:3])
    captioner.network.zero_grad()
    batch = captioner.collate(captioner.tokenize(TEXTS, 64))
    ours = captioner.token_losses(captioner.encode(pixels[:3]), batch, 0.0) / len(batch.targets)
    ours.backward()
    torch.testing.assert_close(ours.detach(), loss, rtol=0, atol=1e-6)
    for name, parameter in captioner.network.named_parameters():
        if name in gradients:
            torch.testing.assert_close(
                parameter.grad, gradients[name], rtol=1e-5, atol=1e-6, msg=name
            )


@pytest.mark.parametrize("num_beams", [1, 3])
def test_tokens_are_identical(
    captioner: BlipCaptioner, pixels: torch.Tensor, num_beams: int
) -> None:
    how = {"num_beams": num_beams, "max_new_tokens": 12, "do_sample": False}
    fast = captioner.network.generate(pixel_values=pixels, **how)
    with stock_attention(captioner.network):
        stock = captioner.network.generate(pixel_values=pixels, **how)
    assert fast.tolist() == stock.tolist()


def test_masking_image_tokens_equals_dropping_them(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    """transformers hands the mask over under a name that its attention does not look at."""
    embeds = captioner.encode(pixels[:2]).detach()
    batch = captioner.collate(captioner.tokenize(TEXTS[:2], 64))
    mask = torch.ones(embeds.shape[:2], dtype=torch.long)
    mask[:, 9:] = 0

    def logits(states: torch.Tensor, keep: torch.Tensor | None) -> torch.Tensor:
        out: torch.Tensor = captioner.network.text_decoder(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask,
            encoder_hidden_states=states, encoder_attention_mask=keep, use_cache=False,
        ).logits  # fmt: skip
        return out[batch.attention_mask == 1]

    dropped, masked = logits(embeds[:, :9], None), logits(embeds, mask)
    torch.testing.assert_close(masked, dropped, rtol=0, atol=1e-5)
    assert (masked - logits(embeds, None)).abs().max() > 0.01
    with stock_attention(captioner.network):  # the reason for the patch; remove it when this fails
        torch.testing.assert_close(logits(embeds, mask), logits(embeds, None), rtol=0, atol=0)


def test_another_version_stays_stock_and_says_so(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blip_patches, "fingerprint", lambda kind: "of another version")
    with pytest.warns(UserWarning, match="BlipAttention, BlipTextSelfAttention"):
        captioner = BlipCaptioner.load(Loading(source=str(tiny_folder)), "")
    assert not any(type(m).__name__.startswith("Fast") for m in captioner.network.modules())


def test_a_copy_is_patched_for_itself(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    other = copy.deepcopy(captioner.network)
    for parameter in other.parameters():
        parameter.data.zero_()
    assert not captioner.network.vision_model(pixels).last_hidden_state.equal(
        other.vision_model(pixels).last_hidden_state
    )


def test_patching_twice_changes_nothing(captioner: BlipCaptioner, pixels: torch.Tensor) -> None:
    once = captioner.encode(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert patch(captioner.network)
    torch.testing.assert_close(captioner.encode(pixels), once, rtol=0, atol=0)


def test_no_attention_map_is_kept_for_the_backward_pass(
    captioner: BlipCaptioner, pixels: torch.Tensor
) -> None:
    """17 x 17 probabilities per head and image: stock keeps them, the fast path does not."""

    def largest_square(run: object) -> int:
        kept: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape[-2:] == (17, 17):
                kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            captioner.network.vision_model(pixels)
        return len(kept)

    assert largest_square(None) == 0
    with stock_attention(captioner.network):
        assert largest_square(None) > 0
