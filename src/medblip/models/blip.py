"""BLIP (arXiv 2201.12086): ViT image encoder, BERT-style text decoder with cross-attention.

Wraps transformers' `BlipForConditionalGeneration`; copies none of it. The encoder is run once per
image and the decoder is called on its output, which `forward` and `generate` of transformers do
not offer (modeling_blip.py, BlipForConditionalGeneration).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import (
    BertTokenizer,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

from medblip.config import DecodeConfig
from medblip.models.blip_patches import patch, stock_attention
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Searches, Special
from medblip.models.decode.blip import BlipStack
from medblip.models.family import Family, float_dtype
from medblip.models.loading import Loading, network_of
from medblip.models.loss import linear_cross_entropy
from medblip.models.maps import Looks

__all__ = ["BlipCaptioner"]


class BlipCaptioner(Family):
    """A BLIP network with its processor; implements `medblip.models.captioner.Captioner`.

    Args:
        network: `BlipForConditionalGeneration`, possibly wrapped by PEFT.
        processor: Tokenizer and image processor.
        prompt: Words that every caption begins with.
    """

    expected = "a BLIP"

    def __init__(self, network: Any, processor: BlipProcessor, prompt: str = "") -> None:
        patch(network)
        text = network.config.text_config
        special = Special(text.sep_token_id, text.pad_token_id)
        parts: Any = processor
        super().__init__(network, parts.image_processor, parts.tokenizer, special, prompt)
        self.processor = processor
        self._searches = Searches(special)

    @classmethod
    def _load(cls, how: Loading, prompt: str) -> Self:
        make: Any = BlipProcessor  # untyped in transformers
        processor = make(
            BlipImageProcessorPil.from_pretrained(how.source, **how.where),
            BertTokenizer.from_pretrained(how.source, **how.where),
        )
        return cls(network_of(BlipForConditionalGeneration, how), processor, prompt)

    def compile(self) -> None:
        """Let torch.compile fuse each layer; all layers of a tower share what is compiled.

        Generation stays as it is: its cache grows with every token.
        """
        settings: Any = torch._dynamo.config
        settings.recompile_limit = 32  # two towers, with and without gradient, whole and last batch
        for layer in self.network.vision_model.encoder.layers:
            layer.compile()
        for layer in self._decoder.bert.encoder.layer:
            layer.compile(dynamic=True)

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the summed cross-entropy of all trained-on tokens; see `Captioner`."""
        head = self._decoder.cls.predictions
        return linear_cross_entropy(
            head.transform(self._states(embeds, batch)),
            head.decoder.weight, head.decoder.bias, batch.targets, smoothing, weights, each=each,
        )  # fmt: skip

    @torch.inference_mode()
    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write captions for each image of (B, P, D); see `Captioner`."""
        heads = [self._prompt_ids(one) for one in prompts or [self.prompt] * len(embeds)]
        if not torch.is_autocast_enabled(embeds.device.type):
            embeds = embeds.to(float_dtype(self._decoder))
        with torch.compiler.set_stance("force_eager"):
            search = self._searches.get(
                BlipStack(self._decoder), self._decoder.parameters(), decode, embeds, heads
            )
            found = search.run(embeds, heads, keys or [""] * len(embeds))
        return self._captions(found, decode)

    def _looks(self, embeds: torch.Tensor, batch: TokenBatch) -> Looks:
        with stock_attention(self.network):
            output = self._decoder(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                encoder_hidden_states=embeds.to(float_dtype(self._decoder)),
                output_attentions=True, use_cache=False,
            )  # fmt: skip
        return Looks(tuple(output.cross_attentions), output.logits)

    def _eager(self, network: Any) -> contextlib.AbstractContextManager[None]:
        return stock_attention(network)

    def _begins_word(self, piece: str) -> bool:
        return not piece.startswith("##")

    def _word(self, pieces: list[str]) -> str:
        return pieces[0] + "".join(piece[2:] for piece in pieces[1:])

    def _save_processors(self, folder: Path) -> None:
        self.processor.save_pretrained(folder)

    @property
    def _decoder(self) -> Any:
        return self.network.text_decoder

    def _states(self, embeds_BPD: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the decoder's states (N, D) at the positions that predict a trained-on token."""
        kind = embeds_BPD.device.type
        mixed = torch.is_autocast_enabled(kind)  # cast once, not per layer, keys and values
        embeds_BPD = embeds_BPD.to(
            torch.get_autocast_dtype(kind) if mixed else float_dtype(self._decoder)
        )
        states_BTD = self._decoder.bert(
            input_ids=batch.input_ids,
            attention_mask=_causal_mask(batch.attention_mask),
            encoder_hidden_states=embeds_BPD,
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        states_ND: torch.Tensor = states_BTD.flatten(0, 1).index_select(0, batch.positions)
        return states_ND

    def _given(self) -> list[int]:
        """BLIP's decoder starts with its own token, not BERT's [CLS] (LAVIS blip_caption.py)."""
        return self._prompt_ids()

    def _prompt_ids(self, prompt: str | None = None) -> list[int]:
        start = [self.network.config.text_config.bos_token_id]
        words = self.prompt if prompt is None else prompt
        if not words:
            return start
        ids = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        return start + [int(i) for i in ids]


def _causal_mask(mask_BT: torch.Tensor) -> torch.Tensor:
    """Return what is added to scores, float32 (B, 1, T, T): 0 for earlier tokens that are no pads.

    transformers makes the same from (B, T), with a copy from the host that no CUDA graph allows.
    """
    length = mask_BT.shape[1]
    earlier_TT = torch.ones(length, length, dtype=torch.bool, device=mask_BT.device).tril_()
    hidden_B1TT = ~(earlier_TT & (mask_BT[:, None, None, :] == 1))
    added = torch.zeros(hidden_B1TT.shape, device=mask_BT.device)
    return added.masked_fill_(hidden_B1TT, torch.finfo(torch.float32).min)
