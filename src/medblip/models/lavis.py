"""Names and sizes of BLIP's original captioner, as BLIP and LAVIS store it, and transformers' own.

Names: LAVIS `models/vit.py` (visual_encoder) and `models/med.py` (text_decoder), BLIP the same.
One table is read in both directions; every tensor is used, listed as no part of a captioner, or an
error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import BlipConfig, BlipForConditionalGeneration

from medblip.errors import CheckpointError, explain

__all__ = [
    "config_of", "empty_network", "from_original", "original_name", "to_original",
    "transformers_name",
]  # fmt: skip

#: Original -> transformers: whole names, or beginnings that end with a dot. `{n}`: a layer.
RENAMES = {
    "visual_encoder.cls_token": "vision_model.embeddings.class_embedding",
    "visual_encoder.pos_embed": "vision_model.embeddings.position_embedding",
    "visual_encoder.patch_embed.proj.": "vision_model.embeddings.patch_embedding.",
    "visual_encoder.norm.": "vision_model.post_layernorm.",
    "visual_encoder.blocks.{n}.norm1.": "vision_model.encoder.layers.{n}.layer_norm1.",
    "visual_encoder.blocks.{n}.attn.qkv.": "vision_model.encoder.layers.{n}.self_attn.qkv.",
    "visual_encoder.blocks.{n}.attn.proj.": "vision_model.encoder.layers.{n}.self_attn.projection.",
    "visual_encoder.blocks.{n}.norm2.": "vision_model.encoder.layers.{n}.layer_norm2.",
    "visual_encoder.blocks.{n}.mlp.": "vision_model.encoder.layers.{n}.mlp.",
    "text_decoder.": "text_decoder.",
}
#: A buffer that counts 0, 1, 2, ...; transformers does not store it.
POSITION_IDS = "text_decoder.bert.embeddings.position_ids"
_WORDS = "text_decoder.bert.embeddings.word_embeddings.weight"
_PLACES = "text_decoder.bert.embeddings.position_embeddings.weight"
#: Two names of one tensor, in both layouts.
TIED = {
    "text_decoder.cls.predictions.decoder.weight": _WORDS,
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}
#: Of a pre-training checkpoint, beside its captioner: other heads, momentum copies, queues.
EXTRAS = (
    "text_encoder.", "visual_encoder_m.", "text_encoder_m.", "vision_proj.", "text_proj.",
    "vision_proj_m.", "text_proj_m.", "itm_head.", "temp", "image_queue", "text_queue",
    "queue_ptr", "ptr_queue", "idx_queue",
)  # fmt: skip
_TEXT_HEADS = 12  # BERT base, at every size of BLIP
_HEAD_WIDTH = 64  # of the image encoder: 12 heads of 768, 16 of 1024


def transformers_name(name: str) -> str | None:
    """Return what transformers calls a tensor of the original; None: not of a captioner.

    >>> transformers_name("visual_encoder.blocks.3.attn.proj.bias")
    'vision_model.encoder.layers.3.self_attn.projection.bias'
    """
    return _renamed(name, RENAMES.items())


def original_name(name: str) -> str | None:
    """Return what the original calls a tensor of transformers' BLIP.

    >>> original_name("vision_model.post_layernorm.weight")
    'visual_encoder.norm.weight'
    """
    return _renamed(name, ((there, here) for here, there in RENAMES.items()))


def _renamed(name: str, table: Iterable[tuple[str, str]]) -> str | None:
    for old, new in table:
        end = "" if old.endswith(".") else "$"
        found = re.match(re.escape(old).replace(r"\{n\}", r"(?P<n>\d+)") + end, name)
        if found:
            return new.replace("{n}", found.groupdict().get("n", "")) + name[found.end() :]
    return None


def config_of(tensors: Mapping[str, torch.Tensor], source: str) -> BlipConfig:
    """Return the configuration whose network these original tensors fill, read from their shapes.

    What shapes do not tell is the original's: GELU, LayerNorm's epsilon of both towers, heads, the
    ids of [DEC], [SEP] and [PAD], label smoothing. No dropout, as in the hub's conversions.

    Raises:
        CheckpointError: They are no BLIP captioner, or sizes contradict each other.
    """
    _refuse_others(tensors, source)
    try:
        (_, places, width), patch = (
            tensors["visual_encoder.pos_embed"].shape,
            tensors["visual_encoder.patch_embed.proj.weight"].shape[-1],
        )
        words, text_width = tensors[_WORDS].shape
        side = math.isqrt(places - 1)
        vision = {
            "hidden_size": width,
            "intermediate_size": tensors["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, r"visual_encoder\.blocks\.(\d+)\."),
            "num_attention_heads": width // _HEAD_WIDTH,
            "image_size": side * patch, "patch_size": patch,
            "layer_norm_eps": 1e-6, "initializer_range": 0.02,
        }  # fmt: skip
        layer = "text_decoder.bert.encoder.layer."
        text = {
            "hidden_size": text_width, "vocab_size": words,
            "intermediate_size": tensors[layer + "0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, re.escape(layer) + r"(\d+)\."),
            "max_position_embeddings": tensors[_PLACES].shape[0],
            "num_attention_heads": _TEXT_HEADS, "layer_norm_eps": 1e-12, "label_smoothing": 0.1,
            "bos_token_id": 30522, "sep_token_id": 102, "pad_token_id": 0, "eos_token_id": 2,
        }  # fmt: skip
    except KeyError as error:
        raise _wrong(source, f"no tensor {error}", "every tensor of a captioner") from None
    except (IndexError, ValueError):
        raise _wrong(source, "tensors of other ranks", "the shapes of a captioner") from None
    got = f"image encoder {width} wide, {places} tokens; text decoder {text_width} wide"
    if side < 1 or side**2 != places - 1:
        raise _wrong(source, got, "square images: a square number of patches, and one token more")
    if not width or width % _HEAD_WIDTH or not text_width or text_width % _TEXT_HEADS:
        raise _wrong(source, got, f"image heads {_HEAD_WIDTH} wide, {_TEXT_HEADS} text heads")
    return BlipConfig(text_config=text, vision_config=vision, label_smoothing=0.1)


def empty_network(config: BlipConfig) -> Any:
    """Return transformers' network without numbers (device `meta`)."""
    with torch.device("meta"):
        return BlipForConditionalGeneration(config)


def from_original(
    tensors: Mapping[str, torch.Tensor], network: Any, source: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors under transformers' names, and the names that are no part of a captioner.

    Args:
        tensors: By original name.
        network: Of the shape that they are to fill; device `meta` will do.
        source: What to call them in messages.

    Raises:
        CheckpointError: One is missing, unknown, of another shape, or of two that the captioner
            holds once one differs.
    """
    _refuse_others(tensors, source)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found: dict[str, torch.Tensor] = {}
    left, strange = [], []
    for name, tensor in tensors.items():
        new = transformers_name(name)
        if name == POSITION_IDS:
            _check_positions(tensor, network.config.text_config.max_position_embeddings, source)
        elif new is not None and new in wanted:
            found[new] = tensor
        elif any(name.startswith(one) if one[-1] == "." else name == one for one in EXTRAS):
            left.append(name)
        else:
            strange.append(name)
    missing = [str(original_name(name)) for name in wanted if name not in found]
    if missing or strange:
        raise CheckpointError(
            explain(
                f"{source}: not the tensors of a BLIP captioner of this size",
                got="; ".join(
                    f"{len(names)} {what}: {_some(names)}"
                    for what, names in (("missing", missing), ("unknown", strange))
                    if names
                ),
                expected=f"{len(wanted)} tensors, all of them known",
                do="save the whole captioner's state_dict(); LAVIS leaves out weights that were "
                "frozen: load the checkpoint there first. Nothing was written",
            )
        )
    other = [name for name in wanted if tuple(found[name].shape) != wanted[name]]
    if other:
        first = other[0]
        raise _wrong(
            source,
            f"{original_name(first)} of shape {tuple(found[first].shape)}, {len(other)} such",
            f"{wanted[first]}",
        )
    kinds = {tensor.dtype for tensor in found.values()}
    if len(kinds) > 1 or not next(iter(kinds)).is_floating_point:
        raise _wrong(source, f"tensors of {_some(str(kind) for kind in kinds)}", "one float type")
    for alias, name in TIED.items():
        if not torch.equal(found[alias], found[name]):
            raise CheckpointError(
                explain(
                    f"{source}: two tensors that a captioner holds once differ",
                    got=f"{alias} and {name}",
                    expected="equal numbers, as BLIP and LAVIS write them for a captioner",
                    do="load it with BLIP's blip_decoder or LAVIS's blip_caption, which tie them, "
                    "and save that network's state_dict(); nothing was written",
                )
            )
    return found, left


def to_original(network: Any) -> dict[str, torch.Tensor]:
    """Return a network's tensors under all names that the original captioner has, tied ones too."""
    state = network.state_dict()
    tensors = {str(original_name(name)): tensor.detach() for name, tensor in state.items()}
    count = network.config.text_config.max_position_embeddings
    return {POSITION_IDS: torch.arange(count).expand(1, -1)} | tensors


def _refuse_others(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Name checkpoints of other tasks: they have the same encoder, but no captioning decoder."""
    parts = {name.split(".")[0] for name in tensors}
    answers = {"text_encoder", "text_decoder"} <= parts and "itm_head" not in parts
    if {"visual_encoder", "text_decoder"} <= parts and not answers:
        return
    raise CheckpointError(
        explain(
            f"{source}: not a captioner",
            got=("a model that answers questions: " if answers else "") + _some(sorted(parts)),
            expected="visual_encoder and text_decoder, which looks at the image (retrieval and "
            "matching models have no decoder, question answering has one that reads a question)",
            do="name a captioning checkpoint, such as model_base_caption_capfilt_large.pth, "
            "or what a fine-tuning of blip_caption wrote",
        )
    )


def _check_positions(tensor: torch.Tensor, count: int, source: str) -> None:
    if tensor.dtype != torch.long or not torch.equal(tensor, torch.arange(count)[None]):
        raise _wrong(source, f"{POSITION_IDS} that are not counted up", f"0 to {count - 1}")


def _layers(tensors: Mapping[str, torch.Tensor], pattern: str) -> int:
    """Count distinct numbers: a large one is a missing tensor later, not a large network."""
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f", and {len(names) - 8} more" if len(names) > 8 else "")


def _wrong(source: str, got: str, expected: str) -> CheckpointError:
    do = "name a captioning checkpoint of BLIP or LAVIS, stored whole; nothing was written"
    return CheckpointError(
        explain(f"{source}: not a BLIP captioner", got=got, expected=expected, do=do)
    )
