"""The seam between the stages and a family of captioners, and the loader that picks one.

Legend: `B` images or captions, `T` tokens, `P` image tokens (patches + 1), `D` width, `H` heads.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from medblip.config import BUNDLED, DecodeConfig, ModelConfig
from medblip.errors import CheckpointError, explain, nearest
from medblip.models.known import KNOWN, hub_id
from medblip.remote.names import remote_of
from medblip.rundir import RunDir
from medblip.settings_remote import INSTRUCTION

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medblip.models.loading import Numbers
    from medblip.models.maps import Gradients, Replay

__all__ = [
    "Captioner",
    "Generated",
    "TokenBatch",
    "bundled_folder",
    "load_captioner",
    "resolve",
    "settled",
]


@dataclasses.dataclass(frozen=True)
class Row:
    """A family: the file beside this one that knows it, its class, and the published prompt."""

    module: str
    kind: str
    prompt: str


#: transformers' `model_type` -> its family. Prompts: LAVIS blip_caption.py; LAVIS
#: blip2_caption_*.yaml and arXiv 2301.12597, section 4.2; a template of InstructBLIP's own training
#: (arXiv 2305.06500, appendix); ViT-GPT2 was trained without.
FAMILIES = {
    "blip": Row("blip", "BlipCaptioner", "a picture of"),
    "blip-2": Row("qformer", "QFormerCaptioner", "a photo of"),
    "instructblip": Row("qformer", "QFormerCaptioner", "Write a short description for the image."),
    "vision-encoder-decoder": Row("vision_encoder_decoder", "VisionEncoderDecoderCaptioner", ""),
}
#: Any other image-text-to-text model that transformers' Auto classes know.
ANY = Row("vlm", "VlmCaptioner", INSTRUCTION)


@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """Captions as tensors, right-padded.

    Args:
        input_ids: int64 (B, T); begins with the decoder's start token and the prompt.
        attention_mask: int64 (B, T); 1 for tokens, 0 for padding.
        labels: int64 (B, T); -100 on padding, start token and prompt: they are never trained on.
        positions: int64 (N,); places in the flattened (B * T) that predict a trained-on token.
        targets: int64 (N,); the token that each of them predicts.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Generated:
    """One caption as the network wrote it.

    Args:
        text: Without prompt and special tokens.
        logprob: Mean natural-log probability per generated token, the end token included; what the
            network itself gives, before penalties and temperature.
        tokens: The tokenizer's pieces, the end token included where it was reached.
        token_logprobs: One per token.
    """

    text: str
    logprob: float
    tokens: tuple[str, ...]
    token_logprobs: tuple[float, ...]


class Captioner(Protocol):
    """What a stage may ask of a model. One family is one file beside this one."""

    network: nn.Module
    prompt: str
    image_size: tuple[int, int]
    image_resample: str
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def encoder_trains(self) -> bool:
        """Whether any parameter of the image encoder takes a gradient."""

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Image tokens and their width: (P, D) of what `encode` returns."""

    def encoder_digest(self) -> str:
        """Return a hash of all that decides the output of the image encoder, but the image."""

    def compile(self) -> None:
        """Let torch.compile fuse what `encode` and `token_losses` run."""

    def tokenize(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """Return token ids per caption, start token, prompt and end token included."""

    def label_text(self, token_ids: list[int]) -> str:
        """Return what token ids say, without start, prompt and end; unknown words stay visible."""

    @property
    def unknown_id(self) -> int:
        """The token that stands for what the vocabulary lacks."""

    def collate(self, token_ids: list[list[int]]) -> TokenBatch:
        """Pad token ids into one batch on the network's device."""

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return image tokens (B, P, D) of normalised pixels, float32 (B, 3, H, W).

        Everything below takes these, so that an image is encoded once; they carry a gradient
        only while the encoder trains.
        """

    def token_losses(
        self, embeds: torch.Tensor, batch: TokenBatch, smoothing: float,
        weights: torch.Tensor | None = None, *, each: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        """Return the sum of the cross-entropy over all trained-on tokens, a scalar with gradient.

        Args:
            embeds: (B, P, D), from `encode`.
            batch: The captions of these images.
            smoothing: Label smoothing, 0 for a log-likelihood.
            weights: float32 (N,) of the batch's positions; None: all 1.
            each: Return each token's, float32 (N,), unweighted, instead of their sum.
        """

    def caption_logprobs(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]]
    ) -> list[torch.Tensor]:
        """Return the natural-log probability of each piece of given captions, and of their ends.

        Args:
            embeds: (B, P, D), from `encode`.
            captions: Of these images: text, or the pieces that were generated.

        Returns:
            Per caption float32 (T + 1,) on the CPU, given image and all pieces before.
        """

    def generate(
        self, embeds: torch.Tensor, decode: DecodeConfig, *,
        prompts: Sequence[str] | None = None, keys: Sequence[str] | None = None,
    ) -> list[list[Generated]]:  # fmt: skip
        """Write `decode.num_captions` captions for each image, the best first.

        Args:
            embeds: (B, P, D), from `encode`.
            decode: How.
            prompts: Words that each caption begins with; None: the captioner's own prompt.
            keys: What tells images apart where tokens are drawn, their ids; None: all draw alike.
        """

    def word_attention(
        self, embeds: torch.Tensor, captions: list[str]
    ) -> list[tuple[list[str], torch.Tensor]]:
        """Return, per image, the caption's words and their maps, float32 (words, rows, columns).

        The paper's view: last decoder layer, mean over heads (`medblip.models.views`).
        """

    def replay(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]], *,
        gradients: Gradients = "none",
    ) -> list[Replay]:  # fmt: skip
        """Read given captions once, by eager attention; return what all layers and heads looked at.

        Args:
            embeds: (B, P, D), from `encode`.
            captions: Of these images: text, or the pieces that were generated
                (`Generated.tokens`): text may be cut into other pieces than those it came from.
            gradients: Also of each piece's log-probability with respect to its own attention: of
                the `last` layer (one backward pass) or of `all` (one per piece).

        Raises:
            CheckpointError: This captioner's attention cannot be laid over an image.
        """

    def vision_attention(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the image encoder's self-attention of (B, 3, H, W): (B, L, heads, P, P), float32.

        Raises:
            CheckpointError: The encoder has none over whole images.
        """

    def save(self, folder: Path) -> None:
        """Write a folder that plain transformers loads; weights as safetensors."""


def bundled_folder() -> Path:
    """Return the folder of the captioner that ships inside the package."""
    return Path(__file__).resolve().parent.parent / "assets" / "everyday-blip"


def load_captioner(
    model: ModelConfig, *, device: str = "cpu", weights: bool = True,
    numbers: tuple[Numbers, ...] = ("fp32",), spills: bool = False,
) -> Captioner:  # fmt: skip
    """Load a captioner by name, folder, run directory or hub id.

    Args:
        model: Which one.
        device: Where to put it.
        weights: False loads tokenizer, image processor and configuration only: enough to tell what
            the captioner would see and learn.
        numbers: How weights are kept where `model.weights` is `auto`: the first of these that fits.
        spills: Whether main memory may hold what a GPU has no room for: to caption, not to train.

    Raises:
        CheckpointError: Nothing loadable is there, it fits nowhere, or no family knows it.
    """
    from medblip.models.loading import Loading

    model = settled(model)
    source = resolve(model.name)
    row = _family(source, _config(source, model.revision))
    kind: Any = getattr(importlib.import_module(f"medblip.models.{row.module}"), row.kind)
    how = Loading(
        source=source, revision=model.revision, device=device, weights=weights,
        numbers=numbers if model.weights == "auto" else (model.weights,), spills=spills,
    )  # fmt: skip
    captioner: Captioner = kind.load(how, model.prompt)
    return captioner


def settled(model: ModelConfig) -> ModelConfig:
    """Return the settings as a run records them: prompt and commit of a hub id filled in.

    The prompt is the one that the captioner was trained with where it says so, else the published
    one of its family.

    Raises:
        CheckpointError: As `load_captioner`.
    """
    from medblip.models.loading import commit_of, prompt_of

    source = resolve(model.name)
    config = _config(source, model.revision)
    row = _family(source, config)
    if not Path(source).is_dir():
        model = dataclasses.replace(model, revision=commit_of(source, model.revision))
    if model.prompt is not None:
        return model
    own = prompt_of(source, model.revision)
    return dataclasses.replace(model, prompt=row.prompt if own is None else own)


def resolve(name: str) -> str:
    """Return a local folder where `name` is one (or is the bundled captioner), else the hub id.

    Raises:
        CheckpointError: `name` looks like a path and nothing is there, or is a remote captioner.
    """
    if name == BUNDLED:
        return str(bundled_folder())
    path = Path(name)
    if remote_of(name) is not None and not path.exists():
        raise CheckpointError(
            explain(
                f"{name} is a remote captioner: it can only caption",
                got="no weights here to train, check or explain",
                expected="a captioner on this machine, or a hub id",
                do=f"use `medblip caption ... --model {name}`, or name another captioner",
            )
        )
    published = hub_id(name)
    if published is not None and not path.exists():
        return published
    if path.is_dir():
        best = RunDir(path).checkpoint
        if best.is_dir():
            return str(best)
        if list(path.glob("model*.safetensors")):
            return str(path)
        raise CheckpointError(
            explain(
                f"{path} holds no trained captioner",
                got=", ".join(sorted(p.name for p in path.iterdir())[:8]) or "an empty folder",
                expected="checkpoints/best (a run), or config.json and model.safetensors",
                do="finish `medblip train` for this run, or name another folder",
            )
        )
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise CheckpointError(
            explain(
                "captioner not found",
                got=name,
                expected="a name that `medblip models` lists, an existing folder, or a hub id",
                do=f"did you mean {nearest(name, [BUNDLED, *(one.name for one in KNOWN)])}?",
            )
        )
    return name


def _family(source: str, config: Any) -> Row:
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    family = str(config.model_type)
    if family in FAMILIES:
        return FAMILIES[family]
    if family in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        return ANY
    raise CheckpointError(
        explain(
            f"{source}: unknown family of captioner",
            got=family,
            expected=f"{', '.join(FAMILIES)}, or an image-text-to-text model of transformers",
            do="name a captioner that `medblip models` lists",
        )
    )


def _config(source: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    if not Path(source).is_dir():
        from medblip.models.hub import look_for_hub

        look_for_hub()
    try:
        return AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        from medblip.models.hub import not_loadable

        raise not_loadable(source, error, "a captioner") from error
