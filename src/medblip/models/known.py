"""Captioners that can be called by a short name: where they are, how large, on which terms."""

from __future__ import annotations

import dataclasses

__all__ = ["KNOWN", "Known", "hub_id"]


@dataclasses.dataclass(frozen=True)
class Known:
    """One published captioner.

    Args:
        name: Short name.
        hub: Hub id.
        family: transformers' `model_type`.
        parameters: Counted on networks of the published shapes (a test does it again), each tied
            weight once; the head of FLAN-T5 is not tied.
        licence: As the model's hub page states it; a language model inside may add its own terms.
        regimes: What of it can be trained by a preset or a few rules.
        maps: What `explain` can show.
    """

    name: str
    hub: str
    family: str
    parameters: int
    licence: str
    regimes: tuple[str, ...]
    maps: str

    def weights_gb(self, bytes_each: int) -> float:
        """Return the size of the weights in GB (10^9 bytes)."""
        return self.parameters * bytes_each / 1e9


_TOWERS = ("full", "decoder", "encoder", "cross-attention", "lora", "adapter", "custom")
_BRIDGED = (
    "connector",
    "connector-lora",
    "encoder",
    "decoder",
    "full",
    "lora",
    "adapter",
    "custom",
)
_WORDS = "per word, cross-attention"
_ANSWERS = "per word, through the Q-Former's answers"

KNOWN: tuple[Known, ...] = (
    Known(
        "blip-base", "Salesforce/blip-image-captioning-base", "blip",
        223_971_644, "BSD-3-Clause", _TOWERS, _WORDS,
    ),
    Known(
        "blip-large", "Salesforce/blip-image-captioning-large", "blip",
        446_290_492, "BSD-3-Clause", _TOWERS, _WORDS,
    ),
    Known(
        "blip2-opt-2.7b", "Salesforce/blip2-opt-2.7b", "blip-2",
        3_744_761_856, "MIT; OPT: its own, research", _BRIDGED, _ANSWERS,
    ),
    Known(
        "blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xl", "blip-2",
        3_942_446_592, "MIT", _BRIDGED, _ANSWERS,
    ),
    Known(
        "instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xl", "instructblip",
        4_022_968_320, "MIT", _BRIDGED, _ANSWERS,
    ),
    Known(
        "instructblip-vicuna-7b", "Salesforce/instructblip-vicuna-7b", "instructblip",
        7_913_209_856, "other; Vicuna: LLaMA's, non-commercial", _BRIDGED, _ANSWERS,
    ),
    Known(
        "vit-gpt2", "nlpconnect/vit-gpt2-image-captioning", "vision-encoder-decoder",
        239_195_904, "Apache-2.0", _TOWERS, _WORDS,
    ),
)  # fmt: skip


def hub_id(name: str) -> str | None:
    """Return the hub id of a short name, or None."""
    return next((known.hub for known in KNOWN if known.name == name), None)
