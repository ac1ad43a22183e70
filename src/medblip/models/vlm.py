"""Any other image-text-to-text model of transformers, through its Auto classes.

LLaVA, PaliGemma, Qwen-VL, Gemma 3 (MedGemma) and their kin. What their encoders make of an image
cannot be kept apart, because the language model's positions depend on the image's grid: so what
`encode` returns are the pixels themselves, and the whole network runs on them each time.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from medblip.config import DecodeConfig
from medblip.errors import CheckpointError, explain
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Special, stock
from medblip.models.family import Family, float_dtype
from medblip.models.loading import Loading, network_of
from medblip.models.loss import cross_entropy_of
from medblip.models.maps import Gradients, Looks, Replay, eager_attention, no_view
from medblip.models.vlm_inputs import Template, end_of, processed, sees_ahead, side_of
from medblip.models.vlm_processor import processor_of

__all__ = ["VlmCaptioner"]

_OTHER = "choose another --view, or explain a BLIP or a vision-encoder-decoder"


class VlmCaptioner(Family):
    """A vision-language model; implements `medblip.models.captioner.Captioner`.

    Args:
        network: Of `AutoModelForImageTextToText`, possibly wrapped by PEFT.
        processor: Makes tokens of a prompt and inputs of an image.
        prompt: The user's turn; the caption is the answer.
    """

    expected = "an image-text-to-text model"

    def __init__(self, network: Any, processor: Any, prompt: str = "") -> None:
        self.network, self.processor, self.prompt = network, processor, prompt
        self.tokenizer = processor.tokenizer
        side = side_of(processor.image_processor)
        self.image_size, self.image_resample = (side, side), "bicubic"
        self.image_mean, self.image_std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # its own come later
        end = end_of(processor)
        pad = self.tokenizer.pad_token_id
        self._special = Special(end, end if pad is None else int(pad))
        self._causal = False
        self._templates: dict[str, Template] = {}

    @classmethod
    def _load(cls, how: Loading, prompt: str) -> Self:
        config = AutoConfig.from_pretrained(how.source, **how.where)
        processor = processor_of(how, config.model_type)
        return cls(network_of(AutoModelForImageTextToText, how, config=config), processor, prompt)

    @property
    def encoder_trains(self) -> bool:
        """True: nothing of an image is worth keeping but its pixels."""
        return True

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Channels and pixels."""
        return 3, math.prod(self.image_size)

    def compile(self) -> None:
        """Let torch.compile fuse the language model."""
        self.network.get_decoder().compile(dynamic=True)

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (B, 3, H * W) of pixels (B, 3, H, W), from 0 to 1: as they are."""
        return pixels.flatten(2)

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the summed cross-entropy of all trained-on tokens; see `Captioner`."""
        count, length = batch.input_ids.shape
        given = len(self._given())
        seen = length - given + 1  # positions whose logits are wanted: the caption's
        how: dict[str, Any] = self._per_token(self.prompt, count, length)
        how |= self._inputs(embeds, self.prompt)
        if "logits_to_keep" in inspect.signature(self._plain().forward).parameters:
            how["logits_to_keep"] = seen
        self._require_causal(batch.input_ids, how)
        logits_BTV = self.network(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False, **how
        ).logits[:, -seen:]
        row, column = batch.positions // length, batch.positions % length
        logits_NV = logits_BTV.flatten(0, 1).index_select(0, row * seen + column - (length - seen))
        return cross_entropy_of(logits_NV, batch.targets, smoothing, weights, each=each)

    @torch.inference_mode()
    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write captions for each image of (B, 3, H * W) by transformers' own search."""
        texts = list(prompts or [self.prompt] * len(embeds))
        given = [self._ids(text) for text in texts]

        def images(rows: list[int]) -> dict[str, Any]:
            length = len(given[rows[0]])
            found: dict[str, list[torch.Tensor]] = {}
            for row in rows:  # of one length, not always of one text
                one = self._inputs(embeds[row : row + 1], texts[row])
                for name, tensor in (one | self._per_token(texts[row], 1, length)).items():
                    found.setdefault(name, []).append(tensor)
            mask = torch.ones(len(rows), length, dtype=torch.int64, device=self.device)
            joined = {name: torch.cat(parts) for name, parts in found.items()}
            return joined | {"attention_mask": mask}

        with torch.compiler.set_stance("force_eager"):
            made = stock.generate(
                self.network, decode, self._special, given, keys or [""] * len(embeds),
                "input_ids", images,
            )  # fmt: skip
        return self._captions(made, decode)

    def replay(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]], *,
        gradients: Gradients = "none",
    ) -> list[Replay]:  # fmt: skip
        """Read given captions once, one by one; see `Captioner`.

        Raises:
            CheckpointError: As there; or gradients are asked for, which stop at the pixels' bytes.
        """
        if gradients != "none":
            raise no_view("a model of pixels in bytes: no gradient", "another view of it", _OTHER)
        found = []
        for row, caption in enumerate(captions):
            found += super().replay(embeds[row : row + 1], [caption])
        return found

    def vision_attention(self, pixels: torch.Tensor) -> torch.Tensor:
        """Refuse: what the encoder sees is merged and cut before the language model reads it."""
        raise no_view("an image encoder whose tokens are merged", "one token per patch", _OTHER)

    def _grid(self) -> tuple[int, int]:
        count = len(self._places())
        side = math.isqrt(count)
        if not count or side * side != count:
            raise no_view(f"{count} tokens for an image", "a square of image tokens", _OTHER)
        return side, side

    def _places(self) -> list[int]:
        """Return where the image's tokens stand."""
        config = self._plain().config
        image = getattr(config, "image_token_id", None) or config.image_token_index
        return [place for place, token in enumerate(self._given()) if token == image]

    def _looks(self, embeds: torch.Tensor, batch: TokenBatch) -> Looks:
        length = batch.input_ids.shape[1]
        how = self._per_token(self.prompt, 1, length) | self._inputs(embeds, self.prompt)
        with eager_attention(self.network):
            out = self.network(
                input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                output_attentions=True, use_cache=False, **how,
            )  # fmt: skip
        if not out.attentions or out.attentions[-1] is None:
            raise no_view("a network that keeps its attention to itself", "eager attention", _OTHER)
        layers = tuple(one for one in out.attentions if one is not None)
        return Looks(layers, out.logits[:, -length:], keys=self._places())

    def _save_processors(self, folder: Path) -> None:
        whole = getattr(self.processor, "video_processor", self) is not None
        for part in [self.processor] if whole else [self.processor.image_processor, self.tokenizer]:
            part.save_pretrained(folder)
        if not whole and (template := self.processor.chat_template):
            (folder / "chat_template.jinja").write_text(template)

    def _plain(self) -> Any:
        """Return the network without PEFT around it."""
        return getattr(self.network, "get_base_model", lambda: self.network)()

    def _require_causal(self, ids: torch.Tensor, how: dict[str, Any]) -> None:
        """Refuse a network whose tokens see those after them: it would learn to copy. Asked once.

        Raises:
            CheckpointError: It is one.
        """
        if not self._causal and sees_ahead(self.network, ids, how):
            raise CheckpointError(
                explain(
                    "this model cannot be trained here",
                    got="tokens of a caption that see the tokens after them",
                    expected="a causal language model behind the image",
                    do="use it as it is (`medblip caption`), or train another captioner",
                )
            )
        self._causal = True

    def _lead(self) -> str:
        """The template says where the answer begins."""
        return ""

    def _given(self) -> list[int]:
        """The user's turn, image tokens included: never trained on."""
        return self._ids(self.prompt)

    def _ids(self, prompt: str) -> list[int]:
        return self._template(prompt).ids

    def _template(self, prompt: str) -> Template:
        """Return what the processor makes of a prompt and an image; all images are of one size."""
        if prompt not in self._templates:
            blank = np.zeros((*self.image_size, 3), np.uint8)
            self._templates[prompt] = Template(dict(processed(self.processor, [blank], prompt)))
        return self._templates[prompt]

    def _per_token(self, prompt: str, count: int, length: int) -> dict[str, torch.Tensor]:
        """Return what else belongs to each token, its type for example (B, T)."""
        prefix = self._plain().config.model_type == "paligemma"
        found = self._template(prompt).per_token(count, length, marks_prefix=prefix)
        return {name: tensor.to(self.device) for name, tensor in found.items()}

    def _inputs(self, embeds: torch.Tensor, prompt: str) -> dict[str, torch.Tensor]:
        """Return what the network takes of images (B, 3, H * W)."""
        template = self._template(prompt)
        pixels = embeds.reshape(len(embeds), 3, *self.image_size).float().mul(255)
        pixels = pixels.round().to(torch.uint8)
        images = list(pixels.permute(0, 2, 3, 1).cpu().numpy())
        kind = float_dtype(self.network)
        return {
            name: tensor.to(self.device, kind if tensor.is_floating_point() else tensor.dtype)
            for name, tensor in processed(self.processor, images, prompt).items()
            if template.is_of_images(name, tensor)
        }
