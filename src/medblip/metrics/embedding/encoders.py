"""Text encoders for embedding metrics: named presets, a local folder, or a model of the hub.

An `Encoder` turns a caption into unit vectors, one per token or one per sentence. Weights come from
safetensors or from a pickle read with `weights_only`; no code of a model repository is ever run.
Which metric is made of the vectors is not decided here: `bertscore.py`, `cosine.py`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medblip.errors import CheckpointError, MetricError, explain
from medblip.metrics.embedding.files import SourceFolder, find_encoder, pooling_of
from medblip.progress import track

if TYPE_CHECKING:
    import torch

__all__ = ["Encoder", "Vectors", "forget_encoders", "open_encoder"]

Vectors = npt.NDArray[np.float32]

#: Vectors that an encoder keeps between calls, bytes: five systems share their references.
_KEPT_BYTES = 512_000_000
#: Tokens of one batch, padding included: attention needs memory for their squares.
_BATCH_TOKENS = 4096
#: For a model without a table of positions and a tokenizer without a limit (some T5).
_LONGEST = 512
#: Stands for vectors that are wanted and not there yet.
_NOTHING: Vectors = np.zeros(0, np.float32)


class Encoder:
    """One network, cut off above `layer`, with its tokenizer.

    Args:
        network: Returns `last_hidden_state`, (B, T, D).
        tokenizer: Fast tokenizer of the network.
        label: Name and revision or hash, for signatures.
        layer: The last layer that is computed.
        longest: Texts are cut after so many tokens, specials included.
        pooling: `mean` or `cls` makes one vector per text; None keeps one per token.
        device: Where the network is.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        *,
        label: str,
        layer: int,
        longest: int,
        pooling: str | None,
        device: str,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.label = label
        self.layer = layer
        self.longest = longest
        self.pooling = pooling
        self.device = device
        self.width = int(network.config.hidden_size)
        self.specials = len(self.token_ids([""])[""])
        self._kept: dict[str, Vectors] = {}

    @property
    def signature(self) -> str:
        """What the vectors depend on besides the captions."""
        place = f"pool:{self.pooling}" if self.pooling else f"layer:{self.layer}"
        version = importlib.metadata.version("transformers")
        return f"model:{self.label}|{place}|len:{self.longest}|fp32|transformers:{version}"

    def token_ids(self, texts: Iterable[str]) -> dict[str, list[int]]:
        """Return the token ids of each distinct text, special tokens included."""
        distinct = list(dict.fromkeys(texts))
        if not distinct:
            return {}
        # Byte-level BPE writes a word otherwise where no space is before it. RoBERTa and GPT-2 get
        # one, as in the published BERTScore; sentence models and DeBERTa take the text as it is.
        spaced = self.pooling is None and type(self.tokenizer).__name__ in (
            "RobertaTokenizer",
            "GPT2Tokenizer",
        )
        stripped = [text.strip() for text in distinct]
        encoded = self.tokenizer(
            [" " + text if spaced and text else text for text in stripped],
            truncation=True,
            max_length=self.longest,
            padding=False,
            return_attention_mask=False,
        )
        return dict(zip(distinct, encoded["input_ids"], strict=True))

    def keep(self, texts: Iterable[str]) -> None:
        """Name the texts whose vectors stay for later calls; all others are forgotten."""
        self._kept = {text: self._kept.get(text, _NOTHING) for text in texts}

    def encode(
        self,
        ids: Mapping[str, Sequence[int]],
        *,
        batch_size: int,
        known: Mapping[str, Vectors] | None = None,
        label: str = "",
    ) -> dict[str, Vectors]:
        """Return unit vectors per text: float32 (tokens, width), or (width,) with pooling.

        Texts of like length share a batch, so little of it is padding. A text without any token
        (an empty one, where the tokenizer adds no specials) has vectors of zeros.

        Args:
            ids: Token ids by text, from `token_ids`.
            batch_size: Most texts per forward pass.
            known: Vectors that need not be computed again.
            label: Shows a progress bar of this name.
        """
        found = {text: known[text] for text in ids if text in known} if known else {}
        for text in ids:
            if text not in found and self._kept.get(text, _NOTHING) is not _NOTHING:
                found[text] = self._kept[text]
        rest = sorted((text for text in ids if text not in found), key=lambda text: -len(ids[text]))
        batches = _batches(rest, ids, batch_size)
        budget = _KEPT_BYTES - sum(vectors.nbytes for vectors in self._kept.values())
        for batch in track(batches, label, len(batches), unit="batch") if label else batches:
            for text, vectors in zip(batch, self._forward([ids[t] for t in batch]), strict=True):
                found[text] = vectors
                if text in self._kept and vectors.nbytes <= budget:
                    self._kept[text] = vectors
                    budget -= vectors.nbytes
        return found

    def _forward(self, ids: Sequence[Sequence[int]]) -> list[Vectors]:
        """Return the unit vectors of one batch."""
        import torch

        lengths = [len(row) for row in ids]
        if not max(lengths):
            shape = (self.width,) if self.pooling else (0, self.width)
            return [np.zeros(shape, np.float32) for _ in ids]
        pad = self.tokenizer.pad_token_id or 0
        ids_BT = torch.full((len(ids), max(lengths)), pad)
        mask_BT = torch.zeros_like(ids_BT)
        for row, (tokens, length) in enumerate(zip(ids, lengths, strict=True)):
            ids_BT[row, :length] = torch.tensor(tokens, dtype=torch.long)
            mask_BT[row, :length] = 1
        ids_BT, mask_BT = ids_BT.to(self.device), mask_BT.to(self.device)
        with torch.inference_mode():
            states_BTD = self.network(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
            vectors = self._pooled(states_BTD, mask_BT) if self.pooling else states_BTD
            vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            array: Vectors = vectors.cpu().numpy()
        if self.pooling:
            return [row.copy() for row in array]
        return [row[:length].copy() for row, length in zip(array, lengths, strict=True)]

    def _pooled(self, states_BTD: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        if self.pooling == "cls":
            return states_BTD[:, 0]
        weights_BT1 = mask_BT.unsqueeze(-1).to(states_BTD.dtype)
        return (states_BTD * weights_BT1).sum(1) / weights_BT1.sum(1).clamp(min=1)


def _batches(
    texts: Sequence[str], ids: Mapping[str, Sequence[int]], batch_size: int
) -> list[Sequence[str]]:
    """Cut `texts`, longest first, into batches; fewer texts to a batch where they are long."""
    batches = []
    start = 0
    while start < len(texts):
        longest = max(1, len(ids[texts[start]]))
        size = max(1, min(batch_size, _BATCH_TOKENS // longest))
        batches.append(texts[start : start + size])
        start += size
    return batches


def open_encoder(
    model: str, *, layer: int | None = None, pooled: bool = False, device: str = "auto"
) -> Encoder:
    """Return an encoder; the last two opened stay in memory with the vectors that they keep.

    Args:
        model: Preset, `preset=FOLDER`, a local folder, or `owner/name[@revision]` of the hub.
        layer: 1 .. number of layers. None: the preset's, else three quarters of the layers,
            rounded up (9 of 12, 18 of 24): what bert-score's table, tuned on human judgements of
            translations, has for the BERT family. Pooling always takes the last layer.
        pooled: One vector per text, pooled as preset or folder say (else: mean over tokens).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        CheckpointError: The encoder is not here, is damaged, or cannot be pooled in a known way.
        MetricError: No such layer or device.
    """
    source = find_encoder(model)
    pooling = pooling_of(source) if pooled else None
    if layer is None and not pooled and source.preset:
        layer = source.preset.layer
    return _opened(source, layer, pooling, device)


def forget_encoders() -> None:
    """Give back the memory of the encoders that are open."""
    _opened.cache_clear()


@functools.lru_cache(maxsize=2)  # one for BERTScore, one for the cosine
def _opened(source: SourceFolder, layer: int | None, pooling: str | None, device: str) -> Encoder:
    place = _device(device)
    try:
        with _quiet():
            network, tokenizer, layer, missing = _load(source, layer, pooling is not None)
    except MetricError:
        raise
    except Exception as error:  # transformers, safetensors, pickle, OSError: all mean "unusable"
        raise CheckpointError(
            explain(
                f"{source.folder}: the encoder cannot be loaded",
                got=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}",
                expected="config.json, a tokenizer and weights of a text encoder of transformers",
                do="check the folder or copy it again; models with code of their own are not run",
            )
        ) from error
    if missing:
        raise CheckpointError(
            explain(
                f"{source.folder}: weights are missing",
                got=f"{len(missing)} absent, first {missing[0]}",
                expected="every weight of the encoder that config.json describes",
                do="copy the folder again, or name a text encoder",
            )
        )
    longest = _longest(network, tokenizer)
    if pooling and source.longest:
        longest = min(longest, source.longest)
    return Encoder(
        network.to(place).eval(), tokenizer, label=source.label, layer=layer, longest=longest,
        pooling=pooling, device=place,
    )  # fmt: skip


def _load(source: SourceFolder, layer: int | None, whole: bool) -> tuple[Any, Any, int, list[str]]:
    """Return network, tokenizer, layer and the names of absent weights.

    The network is built with `layer` layers: those above cost nothing, and a final norm follows
    the last one that is there, as in bert-score.
    """
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(source.folder, **where)
    layers = getattr(config, "num_hidden_layers", None)
    if not isinstance(layers, int) or not isinstance(getattr(config, "hidden_size", None), int):
        raise ValueError(f"{config.model_type} is not a text encoder")
    if layer is None:
        layer = layers if whole else math.ceil(3 * layers / 4)
    if not 1 <= layer <= layers:
        raise MetricError(
            explain(
                f"{source.label} has no such layer",
                got=layer,
                expected=f"1 .. {layers}",
                do="name another layer, or leave it out",
            )
        )
    config.num_hidden_layers = layer
    kind: Any = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
    network, report = kind.from_pretrained(
        source.folder,
        config=config,
        dtype=torch.float32,
        weights_only=True,
        output_loading_info=True,
        **where,
    )
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    return network, AutoTokenizer.from_pretrained(source.folder, **where), layer, missing


def _longest(network: Any, tokenizer: Any) -> int:
    """Return how many tokens both tokenizer and table of positions take."""
    config = network.config
    places = getattr(config, "max_position_embeddings", None) or _LONGEST
    table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    if offset is not None:  # RoBERTa counts positions from padding + 1: 514 rows are 512 places
        places -= offset + 1
    return int(min(tokenizer.model_max_length, places))


def _device(name: str) -> str:
    """Return `name`, or for `auto` the best device there is."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise MetricError(
            explain(
                "device not available",
                got=name,
                expected="auto, cpu, cuda, cuda:N or mps",
                do="choose one that this machine has",
            )
        ) from error
    return name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing bars and from listing the heads that an encoder lacks."""
    from transformers.utils import logging

    bars: Any = logging  # untyped
    level, shown = bars.get_verbosity(), bars.is_progress_bar_enabled()
    bars.set_verbosity_error()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        bars.set_verbosity(level)
        if shown:
            bars.enable_progress_bar()
