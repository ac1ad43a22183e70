"""How every family replays a caption; what differs is how attention is read (`_looks`)."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from medblip.errors import ConfigError, explain
from medblip.models.captioner import TokenBatch
from medblip.models.decode import Special
from medblip.models.loading import float_dtype
from medblip.models.maps import (
    Gradients,
    Looks,
    Replay,
    eager_attention,
    gradients_of,
    group_words,
    no_view,
)
from medblip.models.views import word_maps

__all__ = ["Replays"]


class Replays(abc.ABC):
    """The part of a family that says what was looked at; the attributes are the family's."""

    network: Any
    tokenizer: Any
    image_size: tuple[int, int]
    _special: Special

    @torch.inference_mode()
    def word_attention(
        self, embeds: torch.Tensor, captions: list[str]
    ) -> list[tuple[list[str], torch.Tensor]]:
        """Return words and their maps: last decoder layer, mean over heads; see `Captioner`."""
        return [(list(one.words), word_maps(one)) for one in self.replay(embeds, captions)]

    def replay(
        self, embeds: torch.Tensor, captions: Sequence[str | Sequence[str]], *,
        gradients: Gradients = "none",
    ) -> list[Replay]:  # fmt: skip
        """Read given captions once and return all attention to the image; see `Captioner`."""
        rows, columns = self._grid()
        ids = [self._ids_of(one) for one in captions]
        self._require_room(max(map(len, ids), default=0))
        first = len(self._given())
        graph = gradients != "none"
        with torch.inference_mode(not graph), torch.set_grad_enabled(graph):
            if graph:  # a graph over attention, whatever is frozen; none over the encoder
                embeds = embeds.detach().clone().requires_grad_(True)
            looks = self._looks(embeds, self.collate(ids))
            last = looks.bridge[-1] if looks.bridge else looks.of_image(looks.layers[-1])
            tokens = last.shape[-1]
            if tokens < rows * columns:
                raise no_view(
                    f"{tokens} image tokens", f"one for each of {rows} x {columns} patches"
                )
            asks = [_asks(one, first) for one in ids]
            slopes = gradients_of(looks, asks, gradients)
        layers = [looks.of_image(layer.detach()).float().cpu() for layer in looks.layers]
        bridge = [layer.detach().float().cpu() for layer in looks.bridge]
        silent = frozenset(self.tokenizer.all_special_ids)
        found = []
        for row, (one, slope) in enumerate(zip(ids, slopes, strict=True)):
            at, said = asks[row]
            logp_TV = looks.logits[row, at].detach().float().log_softmax(-1).cpu()
            pieces = self.tokenizer.convert_ids_to_tokens(one[first:-1])
            shown = list(range(len(pieces)))
            if not isinstance(captions[row], str):  # a generated [PAD] is in no caption's text
                shown = [at for at in shown if one[first + at] not in silent]
            words, spans = self._words_of(pieces, shown)
            found.append(
                Replay(
                    pieces=tuple(pieces), words=words, spans=spans, grid=(rows, columns),
                    logprobs=logp_TV.gather(1, said[:, None])[:, 0], gradient=slope,
                    cross=torch.stack([layer[row][:, at] for layer in layers]),
                    bridge=torch.stack([layer[row] for layer in bridge]) if bridge else None,
                )
            )  # fmt: skip
        return found

    @torch.inference_mode()
    def vision_attention(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the image encoder's self-attention (B, L, heads, P, P); see `Captioner`."""
        encoder = self._encoder
        pixels = pixels.to(self.device, float_dtype(encoder))
        with self._eager(encoder):
            layers = encoder(pixel_values=pixels, output_attentions=True).attentions
        rows, columns = self._grid()
        tokens = {-1 if one is None else int(one.shape[-1]) for one in layers or [None]}
        if len(tokens) > 1 or max(tokens) < rows * columns:
            raise no_view("an image encoder of windows or none", "attention over the whole image")
        return torch.stack(layers, 1).float().cpu()

    @abc.abstractmethod
    def _looks(self, embeds: torch.Tensor, batch: TokenBatch) -> Looks:
        """Return the attention of every layer to the image, and the logits, for each position."""

    def _eager(self, network: Any) -> contextlib.AbstractContextManager[None]:
        """Run attention that returns its probabilities."""
        return eager_attention(network)

    def _grid(self) -> tuple[int, int]:
        """Return rows and columns of patches; together they cover the whole image."""
        patch = self._encoder.config.patch_size
        height, width = self.image_size
        if height % patch or width % patch:
            raise no_view(
                f"{height} x {width} pixels in patches of {patch}", "patches that cover the image"
            )
        return height // patch, width // patch

    def _ids_of(self, caption: str | Sequence[str]) -> list[int]:
        """Return start, prompt, caption and end."""
        if isinstance(caption, str):
            return self.tokenize([caption], 10_000)[0]
        ids = [int(one) for one in self.tokenizer.convert_tokens_to_ids(list(caption))]
        end = self._special.end
        return [*self._given(), *(ids[:-1] if ids[-1:] == [end] else ids), end]

    def _words_of(
        self, pieces: Sequence[str], shown: Sequence[int]
    ) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
        """Return the words of the pieces at some places, and the span of each among all pieces."""
        words, spans = group_words([pieces[at] for at in shown], self._begins_word, self._word)
        return words, tuple((shown[start], shown[stop - 1] + 1) for start, stop in spans)

    def _require_room(self, longest: int) -> None:
        """Refuse a caption with more tokens than the decoder has positions.

        Raises:
            ConfigError: It is one.
        """
        config = self.network.config
        places = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
        ahead = getattr(config, "num_query_tokens", 0)  # a Q-Former's answers stand before words
        if places is not None and longest + ahead > places:
            raise ConfigError(
                explain(
                    "the caption is too long for this captioner",
                    got=f"{longest} tokens, with prompt and end",
                    expected=f"at most {places - ahead}",
                    do="explain a shorter caption",
                )
            )

    def _begins_word(self, piece: str) -> bool:
        """Byte-level and SentencePiece pieces say where a word begins."""
        return piece.startswith(("Ġ", "▁"))

    def _word(self, pieces: list[str]) -> str:
        return str(self.tokenizer.convert_tokens_to_string(pieces)).strip()

    @property
    @abc.abstractmethod
    def _encoder(self) -> Any:
        """The image encoder."""

    @abc.abstractmethod
    def _given(self) -> list[int]:
        """What stands before a caption's words in the decoder and is never trained on."""

    @property
    @abc.abstractmethod
    def device(self) -> torch.device:
        """Where the weights are."""

    @abc.abstractmethod
    def tokenize(self, captions: list[str], max_tokens: int) -> list[list[int]]:
        """Return start, prompt, caption and end of each."""

    @abc.abstractmethod
    def collate(self, token_ids: list[list[int]]) -> TokenBatch:
        """Pad token ids into one batch."""


def _asks(ids: list[int], first: int) -> torch.Tensor:
    """Return the positions that predict a caption's pieces, and these pieces: int64 (2, T)."""
    return torch.tensor([list(range(first - 1, len(ids) - 2)), ids[first:-1]], dtype=torch.int64)
