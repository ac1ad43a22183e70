"""A conversation about an image as a vision-language model takes it: text, tokens, pixels."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch

__all__ = ["Template", "asked", "end_of", "processed", "sees_ahead", "side_of"]

#: Side of the square that images become where the processor names none.
_SIDE = 448
_LARGEST = 1024
#: Of what a processor makes: what is made here.
_OWN = ("input_ids", "attention_mask", "labels")


class Template:
    """The user's turn, with the places of one image.

    Args:
        made: What the processor made of it and of one image.
    """

    def __init__(self, made: dict[str, torch.Tensor]) -> None:
        self._made = made
        self.ids: list[int] = made["input_ids"][0].tolist()

    def per_token(self, count: int, length: int, *, marks_prefix: bool) -> dict[str, torch.Tensor]:
        """Return what else belongs to each token (count, length), a caption's tokens included.

        Args:
            count: Captions.
            length: Tokens of each, this turn included.
            marks_prefix: Whether type 0 means: sees what comes after it, as PaliGemma's does; a
                caption's tokens are then 1. Else they are of the last prompt token's type, as in
                generation.
        """
        found = {}
        for name, tensor in self._made.items():
            if tensor.shape == self._made["input_ids"].shape and name not in _OWN:
                own = torch.ones_like if marks_prefix and name == "token_type_ids" else torch.clone
                behind = own(tensor[:, -1:]).expand(-1, length - tensor.shape[1])
                found[name] = torch.cat((tensor, behind), 1).repeat(count, 1)
        return found

    def is_of_images(self, name: str, tensor: torch.Tensor) -> bool:
        """Whether something that a processor made is of the images, not of the tokens."""
        return name not in _OWN and tensor.shape[1:] != self._made["input_ids"].shape[1:]


def processed(processor: Any, images: list[np.ndarray], prompt: str) -> Any:
    """Return what a processor makes of images, uint8 (H, W, 3) each, and one prompt for all."""
    with warnings.catch_warnings():  # PaliGemma's processor copies arrays as numpy 1 did
        warnings.simplefilter("ignore", DeprecationWarning)
        return processor(
            text=[asked(processor, prompt)] * len(images), images=[[one] for one in images],
            return_tensors="pt",
        )  # fmt: skip


def asked(processor: Any, prompt: str, answer: str | None = None) -> str:
    """Return the conversation as text; base models have no template and get image and words."""
    if not processor.chat_template:
        return f"{getattr(processor, 'image_token', '<image>')}{prompt}"
    words = [{"type": "text", "text": prompt}] if prompt else []
    turns: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, *words]}]
    if answer is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    text: str = processor.apply_chat_template(turns, add_generation_prompt=answer is None)
    return text


def end_of(processor: Any) -> int:
    """Return the token that ends an answer: what the template writes behind one."""
    tokenizer = processor.tokenizer
    if processor.chat_template:
        behind = asked(processor, "x", "zzz").rpartition("zzz")[2].lstrip()
        ids = tokenizer(behind, add_special_tokens=False)["input_ids"] if behind else []
        if ids and ids[0] in tokenizer.added_tokens_decoder:
            return int(ids[0])
    return int(tokenizer.eos_token_id)


def side_of(image_processor: Any) -> int:
    """Return the side of the square that a processor wants, or a usual one."""
    if hasattr(image_processor, "merge_size"):  # Qwen's sizes are numbers of pixels
        return min(_SIDE, math.isqrt(image_processor.size["longest_edge"]))
    for name in ("crop_size", "size"):
        sizes = getattr(image_processor, name, None) or {}
        for key in ("height", "shortest_edge", "longest_edge"):
            side = sizes.get(key) if hasattr(sizes, "get") else getattr(sizes, key, None)
            if side and side <= _LARGEST:
                return int(side)
    return _SIDE


@torch.no_grad()
def sees_ahead(network: Any, ids: torch.Tensor, how: dict[str, Any]) -> bool:
    """Whether the logits of a network change with the last token, where they come before it.

    By more than a tenth of what changes at that token itself: numbers of 8 bits share a scale with
    the tokens after them, which moves the logits of a causal network by about a fiftieth.
    """
    modes = {module: module.training for module in network.modules()}
    network.eval()
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1) % 100
    said = [
        network(input_ids=one, attention_mask=torch.ones_like(one), use_cache=False, **how)
        .logits.float()
        for one in (ids, other)
    ]  # fmt: skip
    for module, training in modes.items():  # one by one: what is frozen is not in training mode
        module.training = training
    moved = (said[0] - said[1]).abs()
    return bool(moved[:, :-1].max() > 0.1 * moved[:, -1].max())
