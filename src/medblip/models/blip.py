"""BLIP (arXiv 2201.12086): ViT image encoder, BERT-style text decoder with cross-attention.

Wraps transformers' `BlipForConditionalGeneration`; copies none of it. The encoder is run once per
image and the decoder is called on its output, which `forward` and `generate` of transformers do
not offer (modeling_blip.py, BlipForConditionalGeneration).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)
from transformers.utils import logging as transformers_logging

from medblip.config import DecodeConfig
from medblip.errors import CheckpointError, explain
from medblip.models.blip_patches import patch, stock_attention
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Searches, Special
from medblip.models.decode.blip import BlipStack
from medblip.models.loss import linear_cross_entropy
from medblip.models.maps import merge_words
from medblip.models.tokens import collate, generated

__all__ = ["BlipCaptioner"]


class BlipCaptioner:
    """A BLIP network with its processor; implements `medblip.models.captioner.Captioner`.

    Args:
        network: `BlipForConditionalGeneration`, possibly wrapped by PEFT.
        processor: Tokenizer and image processor.
        prompt: Words that every caption begins with.
    """

    def __init__(self, network: Any, processor: BlipProcessor, prompt: str = "") -> None:
        patch(network)
        self.network = network
        self.processor = processor
        self.prompt = prompt
        config = self._text_config
        self._searches = Searches(Special(config.sep_token_id, config.pad_token_id))
        image = processor.image_processor
        self.image_size: tuple[int, int] = (image.size["height"], image.size["width"])
        self.image_resample: str = Image.Resampling(image.resample).name.lower()
        self.image_mean: tuple[float, float, float] = tuple(image.image_mean)
        self.image_std: tuple[float, float, float] = tuple(image.image_std)

    @classmethod
    def load(
        cls,
        source: str,
        *,
        prompt: str = "",
        revision: str | None = None,
        device: str = "cpu",
        weights: bool = True,
    ) -> Self:
        """Load float32 weights from a folder or the hub; safetensors only, no remote code.

        Without `weights` the network is a shape without numbers (device `meta`).

        Raises:
            CheckpointError: Weights or processor are missing or damaged.
        """
        try:
            where: dict[str, Any] = {"revision": revision} if revision else {}
            with _without_bars(local=Path(source).is_dir()):
                network, report = _network(source, weights, where)
            make: Any = BlipProcessor  # untyped in transformers
            processor = make(
                BlipImageProcessorPil.from_pretrained(source, **where),
                BertTokenizer.from_pretrained(source, **where),
            )
        except Exception as error:  # transformers, safetensors and OSError: all mean "not loadable"
            raise CheckpointError(
                explain(
                    f"{source} cannot be loaded",
                    got=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
                    expected="config, model.safetensors, tokenizer and image processor of a BLIP",
                    do="check the folder, or copy it again",
                )
            ) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise CheckpointError(
                explain(
                    f"{source}: weights are missing",
                    got=f"{len(missing)} absent, first {missing[0]}",
                    expected="every weight of BlipForConditionalGeneration",
                    do="copy the folder again, or name a captioner (not a retrieval or VQA model)",
                )
            )
        return cls((network.to(device) if weights else network).eval(), processor, prompt)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        place: torch.device = next(self.network.parameters()).device
        return place

    @property
    def encoder_trains(self) -> bool:
        """Whether any parameter of the vision encoder takes a gradient."""
        return any(p.requires_grad for p in self.network.vision_model.parameters())

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Image tokens and their width: (P, D) of what `encode` returns."""
        vision = self.network.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        return patches + 1, vision.hidden_size

    def encoder_digest(self) -> str:
        """Return a hash of the vision encoder: weights, buffers and settings."""
        digest = hashlib.sha256(self.network.config.vision_config.to_json_string().encode())
        for name, tensor in sorted(self.network.vision_model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

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

    def tokenize(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """Return token ids per caption: start token, prompt, words, end token.

        BLIP's decoder starts with its own token, not BERT's [CLS] (LAVIS blip_caption.py); the
        tokenizer puts [CLS] there, so it is replaced. The prompt is not counted in `max_tokens`.
        """
        prompt = self._prompt_ids()
        texts = self.processor.tokenizer(captions, add_special_tokens=False, verbose=False)
        end = self._text_config.sep_token_id
        return [[*prompt, *ids[: max_tokens - 1], end] for ids in texts["input_ids"]]

    def label_text(self, token_ids: list[int]) -> str:
        """Return what token ids say, without start, prompt and end; unknown words stay visible."""
        inner = token_ids[len(self._prompt_ids()) : -1]
        return str(self.processor.tokenizer.decode(inner, skip_special_tokens=False))

    @property
    def unknown_id(self) -> int:
        """The token that stands for what the vocabulary lacks."""
        return int(self.processor.tokenizer.unk_token_id)

    def collate(self, token_ids: list[list[int]]) -> TokenBatch:
        """Pad token ids into one batch on the network's device."""
        given = len(self._prompt_ids())
        return collate(token_ids, given, self._text_config.pad_token_id, self.device)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the vision encoder: (B, 3, H, W) -> (B, P, D); without a graph when it is frozen."""
        vision = self.network.vision_model
        with torch.set_grad_enabled(self.encoder_trains and torch.is_grad_enabled()):
            pixels = pixels.to(self.device, vision.dtype)
            embeds_BPD: torch.Tensor = vision(pixel_values=pixels).last_hidden_state
        return embeds_BPD

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Return the summed cross-entropy of all trained-on tokens; see `Captioner`."""
        head = self._decoder.cls.predictions
        return linear_cross_entropy(
            head.transform(self._states(embeds, batch)),
            head.decoder.weight, head.decoder.bias, batch.targets, smoothing, weights,
        )  # fmt: skip

    @torch.inference_mode()
    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write captions for each image of (B, P, D); see `Captioner`."""
        tokenizer = self.processor.tokenizer
        heads = [self._prompt_ids(one) for one in prompts or [self.prompt] * len(embeds)]
        if not torch.is_autocast_enabled(embeds.device.type):
            embeds = embeds.to(next(self._decoder.parameters()).dtype)
        with torch.compiler.set_stance("force_eager"):
            search = self._searches.get(
                BlipStack(self._decoder), self._decoder.parameters(), decode, embeds, heads
            )
            found = search.run(embeds, heads, keys or [""] * len(embeds))
        return [
            [generated(tokenizer, one.ids, one.logprobs) for one in hypotheses]
            for hypotheses in found
        ]

    @torch.inference_mode()
    def word_attention(
        self, embeds: torch.Tensor, captions: list[str]
    ) -> list[tuple[list[str], torch.Tensor]]:
        """Return words and their cross-attention: last decoder layer, mean over heads.

        The caption is replayed once; the query that *predicts* a token attends for it, so the
        map of token t is row t - 1. Sub-word pieces of a word are averaged; the first image token
        ([CLS]) has no place and is left out, then each map is scaled to sum 1.

        Returns:
            Per image: words, and float32 (words, rows, columns).
        """
        token_ids = self.tokenize(captions, max_tokens=10_000)
        batch = self.collate(token_ids)
        with stock_attention(self.network):
            output = self._decoder(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                encoder_hidden_states=embeds,
                output_attentions=True,
            )
        attention_BTP = output.cross_attentions[-1].mean(dim=1).float().cpu()
        patch = self.network.config.vision_config.patch_size
        rows, columns = (side // patch for side in self.image_size)
        skip = len(self._prompt_ids())
        return [
            merge_words(
                self.processor.tokenizer.convert_ids_to_tokens(ids[skip:-1]),
                attention_BTP[index, skip - 1 : len(ids) - 2, 1:].reshape(-1, rows, columns),
                begins=lambda piece: not piece.startswith("##"),
                text=lambda pieces: pieces[0] + "".join(piece[2:] for piece in pieces[1:]),
            )
            for index, ids in enumerate(token_ids)
        ]

    def save(self, folder: Path) -> None:
        """Write a folder that `BlipForConditionalGeneration.from_pretrained` loads."""
        network = self.network
        if hasattr(network, "merge_and_unload"):
            raise CheckpointError("merge the LoRA adapters before saving (medblip.models.lora)")
        with _without_bars(local=True):
            network.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    @property
    def _decoder(self) -> Any:
        return self.network.text_decoder

    @property
    def _text_config(self) -> Any:
        return self.network.config.text_config

    def _states(self, embeds_BPD: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        """Return the decoder's states (N, D) at the positions that predict a trained-on token."""
        kind = embeds_BPD.device.type
        mixed = torch.is_autocast_enabled(kind)  # cast once, not per layer, keys and values
        embeds_BPD = embeds_BPD.to(torch.get_autocast_dtype(kind) if mixed else torch.float32)
        states_BTD = self._decoder.bert(
            input_ids=batch.input_ids,
            attention_mask=_causal_mask(batch.attention_mask),
            encoder_hidden_states=embeds_BPD,
            is_decoder=True,
            use_cache=False,
        ).last_hidden_state
        states_ND: torch.Tensor = states_BTD.flatten(0, 1).index_select(0, batch.positions)
        return states_ND

    def _prompt_ids(self, prompt: str | None = None) -> list[int]:
        start = [self._text_config.bos_token_id]
        words = self.prompt if prompt is None else prompt
        if not words:
            return start
        ids = self.processor.tokenizer(words, add_special_tokens=False)["input_ids"]
        return start + [int(i) for i in ids]


def _network(source: str, weights: bool, where: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the network, and what was missing when its weights were read."""
    if weights:
        loaded: Any = BlipForConditionalGeneration.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
        )
        network, report = loaded
        return network, report
    with torch.device("meta"):
        config = BlipConfig.from_pretrained(source, **where)
        empty: Any = BlipForConditionalGeneration(config)
        return empty, {"missing_keys": []}


def _causal_mask(mask_BT: torch.Tensor) -> torch.Tensor:
    """Return what is added to scores, float32 (B, 1, T, T): 0 for earlier tokens that are no pads.

    transformers makes the same from (B, T), with a copy from the host that no CUDA graph allows.
    """
    length = mask_BT.shape[1]
    earlier_TT = torch.ones(length, length, dtype=torch.bool, device=mask_BT.device).tril_()
    hidden_B1TT = ~(earlier_TT & (mask_BT[:, None, None, :] == 1))
    added = torch.zeros(hidden_B1TT.shape, device=mask_BT.device)
    return added.masked_fill_(hidden_B1TT, torch.finfo(torch.float32).min)


@contextlib.contextmanager
def _without_bars(*, local: bool) -> Iterator[None]:
    """Keep transformers from drawing a bar for files on disk; downloads keep theirs."""
    bars: Any = transformers_logging  # untyped
    if not (local and bars.is_progress_bar_enabled()):
        yield
        return
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.enable_progress_bar()
