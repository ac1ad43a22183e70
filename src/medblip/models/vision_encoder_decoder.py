"""ViT-GPT2 and its kin: any image encoder with any text decoder of transformers.

Wraps `VisionEncoderDecoderModel`. Decoders other than GPT-2 write with transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from transformers import (
    AutoTokenizer,
    GPT2LMHeadModel,
    VisionEncoderDecoderModel,
    ViTImageProcessorPil,
)
from transformers.modeling_outputs import BaseModelOutput

from medblip.config import DecodeConfig
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Hypothesis, Searches, Special, stock
from medblip.models.decode.gpt2 import Gpt2Stack
from medblip.models.family import Family
from medblip.models.loading import Loading, network_of
from medblip.models.loss import cross_entropy_of, linear_cross_entropy
from medblip.models.maps import Looks, eager_attention

__all__ = ["VisionEncoderDecoderCaptioner"]


class VisionEncoderDecoderCaptioner(Family):
    """An encoder-decoder with its processors; implements `medblip.models.captioner.Captioner`.

    Args:
        network: `VisionEncoderDecoderModel`, possibly wrapped by PEFT.
        image_processor: Says size, mean and deviation.
        tokenizer: Of the decoder.
        prompt: Words that every caption begins with.
    """

    expected = "a vision-encoder-decoder model"

    def __init__(
        self, network: Any, image_processor: Any, tokenizer: Any, prompt: str = ""
    ) -> None:
        config = network.config
        self._start = _first(config.decoder_start_token_id, config.decoder.bos_token_id)
        end = _first(config.eos_token_id, config.decoder.eos_token_id)
        special = Special(end, _first(config.pad_token_id, config.decoder.pad_token_id, end))
        super().__init__(network, image_processor, tokenizer, special, prompt)
        self._searches = Searches(special)

    @classmethod
    def _load(cls, how: Loading, prompt: str) -> Self:
        network = network_of(VisionEncoderDecoderModel, how)
        image_processor = ViTImageProcessorPil.from_pretrained(how.source, **how.where)
        tokenizer: Any = AutoTokenizer.from_pretrained(how.source, **how.where)
        return cls(network, image_processor, tokenizer, prompt)

    @property
    def _encoder(self) -> Any:
        return self.network.encoder

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Image tokens and their width: (P, D) of what `encode` returns."""
        with torch.no_grad():
            blank = torch.zeros(1, 3, *self.image_size, device=self.device)
            _, tokens, width = self.encode(blank).shape
        return tokens, width

    def compile(self) -> None:
        """Let torch.compile fuse what `encode` and `token_losses` run."""
        self.network.encoder.compile()
        self.network.decoder.compile(dynamic=True)

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the summed cross-entropy of all trained-on tokens; see `Captioner`."""
        decoder = self.network.decoder
        how = {
            "input_ids": batch.input_ids, "attention_mask": batch.attention_mask,
            "encoder_hidden_states": self._joined(embeds), "use_cache": False,
        }  # fmt: skip
        if isinstance(decoder, GPT2LMHeadModel):
            states_BTD = decoder.transformer(**how).last_hidden_state
            head = decoder.lm_head.weight
            return linear_cross_entropy(
                states_BTD.flatten(0, 1).index_select(0, batch.positions), head,
                head.new_zeros(len(head)), batch.targets, smoothing, weights, each=each,
            )  # fmt: skip
        logits_ND = decoder(**how).logits.flatten(0, 1).index_select(0, batch.positions)
        return cross_entropy_of(logits_ND, batch.targets, smoothing, weights, each=each)

    @torch.inference_mode()
    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write captions for each image of (B, P, D); see `Captioner`."""
        heads = [self._prompt_ids(one) for one in prompts or [self.prompt] * len(embeds)]
        keys = keys or [""] * len(embeds)
        with torch.compiler.set_stance("force_eager"):
            found = self._written(embeds, decode, heads, keys)
        return self._captions(found, decode)

    def _looks(self, embeds: torch.Tensor, batch: TokenBatch) -> Looks:
        with eager_attention(self.network.decoder):
            output = self.network.decoder(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False,
                encoder_hidden_states=self._joined(embeds), output_attentions=True,
            )  # fmt: skip
        return Looks(tuple(output.cross_attentions), output.logits)

    def _joined(self, embeds: torch.Tensor) -> torch.Tensor:
        """Return image tokens as wide as the decoder sees them."""
        kind = embeds.device.type
        if not torch.is_autocast_enabled(kind):
            embeds = embeds.to(self.network.decoder.dtype)
        project = getattr(self.network, "enc_to_dec_proj", None)
        joined: torch.Tensor = embeds if project is None else project(embeds)
        return joined

    def _written(
        self, embeds: torch.Tensor, decode: DecodeConfig, heads: list[list[int]],
        keys: Sequence[str],
    ) -> list[list[Hypothesis]]:  # fmt: skip
        decoder = self.network.decoder
        if not isinstance(decoder, GPT2LMHeadModel):
            return stock.generate(
                self.network, decode, self._special, heads, keys, "decoder_input_ids",
                lambda rows: {"encoder_outputs": BaseModelOutput(embeds[rows].to(decoder.dtype))},
            )  # fmt: skip
        states = self._joined(embeds)
        search = self._searches.get(Gpt2Stack(decoder), decoder.parameters(), decode, states, heads)
        return search.run(states, heads, keys)

    def _begins_word(self, piece: str) -> bool:
        """Byte-level pieces say where a word begins; WordPieces, where it goes on."""
        gpt2 = isinstance(self.network.decoder, GPT2LMHeadModel)
        return piece.startswith("Ġ") if gpt2 else not piece.startswith("##")

    def _given(self) -> list[int]:
        return self._prompt_ids()

    def _prompt_ids(self, prompt: str | None = None) -> list[int]:
        words = self.prompt if prompt is None else prompt
        ids = self.tokenizer(words, add_special_tokens=False)["input_ids"] if words else []
        return [self._start, *(int(i) for i in ids)]


def _first(*ids: int | None) -> int:
    return next(one for one in ids if one is not None)
