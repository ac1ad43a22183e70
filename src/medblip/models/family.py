"""What the families of captioners have in common, so that each file says only what differs."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from PIL import Image

from medblip.config import DecodeConfig
from medblip.errors import CheckpointError
from medblip.files import write_json
from medblip.models.adapters import BOTTLENECK, bottlenecks_of, save_bottlenecks
from medblip.models.captioner import Generated, TokenBatch
from medblip.models.decode import Hypothesis, Special
from medblip.models.hub import not_loadable
from medblip.models.loading import Loading, float_dtype, quiet_bars
from medblip.models.replay import Replays
from medblip.models.tokens import collate, generated

__all__ = ["Family", "float_dtype"]

#: Of a configuration: how it was stored, not what it computes.
_STORAGE = ("dtype", "torch_dtype", "_name_or_path", "transformers_version", "architectures")


class Family(Replays):
    """A network with its processors.

    Args:
        network: Of transformers, possibly wrapped by PEFT.
        image_processor: Says size, mean and deviation.
        tokenizer: Of the text side.
        special: End of a caption, and padding.
        prompt: Words that every caption begins with, or an instruction.
    """

    #: What `load` expects, in an error's words.
    expected: ClassVar[str]

    def __init__(
        self, network: Any, image_processor: Any, tokenizer: Any, special: Special, prompt: str
    ) -> None:
        self.network, self.tokenizer, self.prompt = network, tokenizer, prompt
        self._image_processor, self._special = image_processor, special
        size = image_processor.size
        self.image_size: tuple[int, int] = (size["height"], size["width"])
        self.image_resample: str = Image.Resampling(image_processor.resample).name.lower()
        self.image_mean: tuple[float, float, float] = tuple(image_processor.image_mean)
        self.image_std: tuple[float, float, float] = tuple(image_processor.image_std)

    @classmethod
    def load(cls, how: Loading, prompt: str) -> Self:
        """Load network and processors from a folder or the hub.

        Raises:
            CheckpointError: They are missing, damaged or too large.
        """
        try:
            return cls._load(how, prompt)
        except Exception as error:  # transformers, safetensors and OSError: all mean "not loadable"
            raise not_loadable(how.source, error, cls.expected) from error

    @classmethod
    @abc.abstractmethod
    def _load(cls, how: Loading, prompt: str) -> Self:
        """As `load`, with whatever is raised on the way."""

    @property
    def _encoder(self) -> Any:
        """The image encoder."""
        return self.network.vision_model

    @abc.abstractmethod
    def _given(self) -> list[int]:
        """What stands before a caption's words in the decoder and is never trained on."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        place: torch.device = next(self.network.parameters()).device
        return place

    @property
    def encoder_trains(self) -> bool:
        """Whether any parameter of the image encoder takes a gradient."""
        return any(p.requires_grad for p in self._encoder.parameters())

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Image tokens and their width: (P, D) of what `encode` returns."""
        vision = self._encoder.config
        return (vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size

    def encoder_digest(self) -> str:
        """Return a hash of the image encoder: weights, buffers and settings."""
        settings = self._encoder.config.to_dict()
        for name in _STORAGE:
            settings.pop(name, None)
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self._encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]

    def tokenize(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """Return token ids per caption: start token, prompt, words, end token.

        What is given (start token and prompt) is not counted in `max_tokens`.
        """
        lead = self._lead()
        captions = [f"{lead}{caption}" for caption in captions]
        texts = self.tokenizer(captions, add_special_tokens=False, verbose=False)["input_ids"]
        given = self._given()
        return [[*given, *ids[: max_tokens - 1], self._special.end] for ids in texts]

    def label_text(self, token_ids: list[int]) -> str:
        """Return what token ids say, without what is given and end; unknown words stay visible."""
        inner = token_ids[len(self._given()) : -1]
        return str(self.tokenizer.decode(inner, skip_special_tokens=False)).strip(" ")

    def _lead(self) -> str:
        """Return what stands between prompt and caption: the blank that GPT-2's kind keeps."""
        pieces = self.tokenizer.tokenize(" a") if self.prompt else []
        return " " if pieces and pieces[0].startswith("Ġ") else ""

    @property
    def unknown_id(self) -> int:
        """The token that stands for what the vocabulary lacks; -1 where it lacks nothing."""
        unknown = self.tokenizer.unk_token_id
        return -1 if unknown is None or unknown == self._special.end else int(unknown)

    def collate(self, token_ids: list[list[int]]) -> TokenBatch:
        """Pad token ids into one batch on the network's device."""
        return collate(token_ids, len(self._given()), self._special.pad, self.device)

    @torch.inference_mode()
    def caption_logprobs(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]]
    ) -> list[torch.Tensor]:
        """Return log-probabilities of given captions' pieces and ends; see `Captioner`."""
        batch = self.collate([self._ids_of(one) for one in captions])
        losses_N = self.token_losses(embeds, batch, 0.0, each=True)
        counts = (batch.labels != -100).sum(1).tolist()
        return list(torch.split((-losses_N).float().cpu(), counts))

    @abc.abstractmethod
    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the cross-entropy of all trained-on tokens; see `Captioner`."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Run the image encoder: (B, 3, H, W) -> (B, P, D); without a graph when it is frozen."""
        encoder = self._encoder
        with torch.set_grad_enabled(self.encoder_trains and torch.is_grad_enabled()):
            pixels = pixels.to(self.device, float_dtype(encoder))
            embeds_BPD: torch.Tensor = encoder(pixel_values=pixels).last_hidden_state
        return embeds_BPD

    def save(self, folder: Path) -> None:
        """Write a folder that transformers' `from_pretrained` loads."""
        if hasattr(self.network, "merge_and_unload"):
            raise CheckpointError("merge the LoRA adapters before saving (medblip.models.adapters)")
        weights = {n: t for n, t in self.network.state_dict().items() if BOTTLENECK not in n}
        with quiet_bars():
            self.network.save_pretrained(folder, state_dict=weights)
        self._save_processors(folder)
        bottlenecks = bottlenecks_of(self.network)
        own = {"adapter": dataclasses.asdict(bottlenecks)} if bottlenecks else {}
        if bottlenecks:
            save_bottlenecks(self.network, folder)
        write_json(folder / "medblip.json", {"prompt": self.prompt} | own)

    def _save_processors(self, folder: Path) -> None:
        self._image_processor.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _captions(
        self, found: list[list[Hypothesis]], decode: DecodeConfig
    ) -> list[list[Generated]]:
        """Return hypotheses as captions."""
        return [
            [
                generated(self.tokenizer, one.ids, one.logprobs, close_up=decode.close_up)
                for one in hypotheses
            ]
            for hypotheses in found
        ]
