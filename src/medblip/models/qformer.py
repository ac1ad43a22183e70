"""BLIP-2 (arXiv 2301.12597) and InstructBLIP (arXiv 2305.06500): image tokens become 32 queries.

A Q-Former asks the image 32 questions, and a language model goes on from the answers and a prompt:
OPT and Vicuna as decoders, FLAN-T5 as encoder and decoder. InstructBLIP's Q-Former reads the prompt
as well. What is kept of an image is the vision encoder's output, for the Q-Former trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertTokenizer,
    Blip2ForConditionalGeneration,
    BlipImageProcessorPil,
    InstructBlipForConditionalGeneration,
)

from medblip.config import DecodeConfig
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Special, stock
from medblip.models.family import Family, float_dtype
from medblip.models.loading import Loading, network_of
from medblip.models.loss import cross_entropy_of, linear_cross_entropy
from medblip.models.maps import Looks, eager_attention

__all__ = ["QFormerCaptioner"]

_CLASSES: dict[str, Any] = {
    "blip-2": Blip2ForConditionalGeneration,
    "instructblip": InstructBlipForConditionalGeneration,
}


class QFormerCaptioner(Family):
    """One of these networks with its processors; implements `medblip.models.captioner.Captioner`.

    Args:
        network: `Blip2ForConditionalGeneration` or `InstructBlipForConditionalGeneration`.
        image_processor: Says size, mean and deviation.
        tokenizer: Of the language model.
        qformer_tokenizer: Of InstructBLIP's Q-Former, which reads the prompt; None for BLIP-2.
        prompt: Words before the caption, an instruction for example.
    """

    expected = "BLIP-2 or InstructBLIP"

    def __init__(
        self, network: Any, image_processor: Any, tokenizer: Any, qformer_tokenizer: Any = None,
        prompt: str = "",
    ) -> None:  # fmt: skip
        text = network.config.text_config
        end = text.eos_token_id  # OPT's is a line feed, as LAVIS trains it (blip2_opt.py)
        special = Special(end, end if text.pad_token_id is None else text.pad_token_id)
        super().__init__(network, image_processor, tokenizer, special, prompt)
        self._qformer_tokenizer = qformer_tokenizer
        self._alone = bool(network.config.use_decoder_only_language_model)
        self._start = None if self._alone else int(text.decoder_start_token_id)

    @classmethod
    def _load(cls, how: Loading, prompt: str) -> Self:
        make: Any = AutoTokenizer
        family = AutoConfig.from_pretrained(how.source, **how.where).model_type
        reader = None
        if family == "instructblip":
            # a Q-Former is a BERT. By name, for AutoTokenizer asks for a config.json that this
            # folder never has: without a network, a cache cannot say that it is not there
            bert: Any = BertTokenizer
            reader = bert.from_pretrained(how.source, subfolder="qformer_tokenizer", **how.where)
        return cls(
            network_of(_CLASSES[family], how),
            BlipImageProcessorPil.from_pretrained(how.source, **how.where),
            make.from_pretrained(how.source, **how.where), reader, prompt,
        )  # fmt: skip

    def compile(self) -> None:
        """Let torch.compile fuse what `encode` and `token_losses` run."""
        self.network.vision_model.compile()
        self.network.qformer.compile()
        self.network.language_model.compile(dynamic=True)

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the summed cross-entropy of all trained-on tokens; see `Captioner`."""
        model = self.network.language_model
        answers_BQD = self._answers(embeds, [self.prompt] * len(embeds))
        if self._alone:
            inputs, mask = self._joined(answers_BQD, batch.input_ids, batch.attention_mask)
            states_BTD = model.base_model(
                inputs_embeds=inputs, attention_mask=mask, use_cache=False
            ).last_hidden_state[:, answers_BQD.shape[1] :]
            head = model.get_output_embeddings().weight
            return linear_cross_entropy(
                states_BTD.flatten(0, 1).index_select(0, batch.positions), head,
                head.new_zeros(len(head)), batch.targets, smoothing, weights, each=each,
            )  # fmt: skip
        inputs, mask = self._joined(answers_BQD, *self._prompt_batch([self.prompt] * len(embeds)))
        logits_BTV = model(
            inputs_embeds=inputs, attention_mask=mask, decoder_input_ids=batch.input_ids,
            decoder_attention_mask=batch.attention_mask, use_cache=False,
        ).logits  # fmt: skip
        logits_NV = logits_BTV.flatten(0, 1).index_select(0, batch.positions)
        return cross_entropy_of(logits_NV, batch.targets, smoothing, weights, each=each)

    @torch.inference_mode()
    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write captions for each image of (B, P, D) by transformers' own search."""
        texts = list(prompts or [self.prompt] * len(embeds))
        config = self.network.config
        if self._alone:  # the ids of the image's place stand before the prompt's, as in Blip2's own
            place = [config.image_token_index] * config.num_query_tokens
            given = [[*place, *self._prompt_ids(text)] for text in texts]
        else:
            given = [self._given() for _ in texts]

        def images(rows: list[int]) -> dict[str, Any]:
            own = [texts[row] for row in rows]
            answers = self._answers(embeds[rows], own)
            inputs, mask = self._joined(answers, *self._prompt_batch(own))
            return {"inputs_embeds": inputs, "attention_mask": mask}

        with torch.compiler.set_stance("force_eager"):
            found = stock.generate(
                self.network.language_model, decode, self._special, given,
                keys or [""] * len(embeds),
                "input_ids" if self._alone else "decoder_input_ids", images,
            )  # fmt: skip
        return self._captions(found, decode)

    def _save_processors(self, folder: Path) -> None:
        super()._save_processors(folder)
        if self._qformer_tokenizer is not None:
            self._qformer_tokenizer.save_pretrained(folder / "qformer_tokenizer")

    def _looks(self, embeds: torch.Tensor, batch: TokenBatch) -> Looks:
        """Return what the language model looks at among the answers, and where these looked.

        The Q-Former looks at an image once, not once per word.
        """
        seen: list[Any] = []
        handle = self.network.qformer.register_forward_hook(lambda _m, _i, out: seen.append(out))
        prompts = [self.prompt] * len(embeds)
        with eager_attention(self.network):
            try:
                answers = self._answers(embeds, prompts, output_attentions=True)
            finally:
                handle.remove()
            own = ((batch.input_ids, batch.attention_mask) if self._alone
                   else self._prompt_batch(prompts))  # fmt: skip
            inputs, mask = self._joined(answers, *own)
            decoder = {} if self._alone else {
                "decoder_input_ids": batch.input_ids, "decoder_attention_mask": batch.attention_mask
            }  # fmt: skip
            out = self.network.language_model(
                inputs_embeds=inputs, attention_mask=mask, output_attentions=True, use_cache=False,
                **decoder,
            )  # fmt: skip
        count = answers.shape[1]
        first = count if self._alone else 0  # the answers stand before the words
        layers = out.attentions if self._alone else out.cross_attentions
        crossed = (one for one in seen[0].cross_attentions if one is not None and one.numel())
        return Looks(
            tuple(layers), out.logits[:, first:], rows=first, keys=range(count),
            bridge=tuple(one[:, :, :count] for one in crossed),
        )  # fmt: skip

    def _answers(
        self, embeds: torch.Tensor, prompts: list[str], *, output_attentions: bool = False
    ) -> torch.Tensor:
        """Return the Q-Former's answers as the language model's tokens (B, Q, D)."""
        network = self.network
        if not torch.is_autocast_enabled(embeds.device.type):
            embeds = embeds.to(float_dtype(network.qformer))
        queries = network.query_tokens.expand(len(embeds), -1, -1)
        how: dict[str, Any] = {"query_embeds": queries, "encoder_hidden_states": embeds}
        if output_attentions:
            how["output_attentions"] = True
        if self._qformer_tokenizer is not None:
            read = self._qformer_tokenizer(prompts, padding=True, return_tensors="pt")
            ids, mask = read["input_ids"].to(self.device), read["attention_mask"].to(self.device)
            seen = torch.ones(queries.shape[:2], dtype=mask.dtype, device=mask.device)
            how |= {"input_ids": ids, "attention_mask": torch.cat((seen, mask), 1)}
        out = network.qformer(**how).last_hidden_state[:, : queries.shape[1]]
        answers: torch.Tensor = network.language_projection(out.to(embeds.dtype))
        return answers

    def _joined(
        self, answers: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put embedded text behind the answers; return both and their mask."""
        words = self.network.language_model.get_input_embeddings()(ids)
        seen = torch.ones(answers.shape[:2], dtype=mask.dtype, device=mask.device)
        return torch.cat((answers.to(words.dtype), words), 1), torch.cat((seen, mask), 1)

    def _prompt_batch(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ids and mask of prompts (B, T); only an encoder meets any of unequal length."""
        rows = [self._prompt_ids(one) for one in prompts]
        ids = torch.full((len(rows), max(map(len, rows))), self._special.pad)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(rows):
            ids[row, : len(own)] = torch.tensor(own, dtype=torch.int64)
            mask[row, : len(own)] = 1
        return ids.to(self.device), mask.to(self.device)

    def _prompt_ids(self, prompt: str) -> list[int]:
        """Return the prompt as the tokenizer writes it, with the tokens that it adds."""
        return [int(i) for i in self.tokenizer(prompt)["input_ids"]]

    def _given(self) -> list[int]:
        """What stands before a caption's words in the decoder and is never trained on."""
        return self._prompt_ids(self.prompt) if self._start is None else [self._start]
