"""The processor of any vision-language model, with or without torchvision.

Some families (Qwen-VL, SmolVLM) bring a video processor that needs torchvision. Nothing here shows
a video: where torchvision is absent the processor is built from its image part and its tokenizer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any

import transformers
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.auto import processing_auto

from medblip.models.loading import Loading

__all__ = ["processor_of"]

#: Of `processor_config.json`: parts of their own, or not settings.
_PARTS = ("image_processor", "tokenizer", "video_processor", "processor_class", "auto_map")


def processor_of(how: Loading, family: str) -> Any:
    """Return the processor of a folder or hub id whose `model_type` is `family`.

    Raises:
        OSError: It is not there.
        ValueError: The family has no processor that takes images and text.
    """
    names: Any = processing_auto
    name = names.PROCESSOR_MAPPING_NAMES.get(family)
    kind: Any = getattr(transformers, name, None) if name else None
    if kind is None:
        raise ValueError(f"transformers has no processor for {family}")
    takes = inspect.signature(kind.__init__).parameters
    if "video_processor" not in takes or importlib.util.find_spec("torchvision") is not None:
        make: Any = AutoProcessor
        return make.from_pretrained(how.source, **how.where)
    make_images: Any = AutoImageProcessor
    make_tokenizer: Any = AutoTokenizer
    tokenizer = make_tokenizer.from_pretrained(how.source, **how.where)
    settings, _ = kind.get_processor_dict(how.source, **how.where)
    template = settings.pop("chat_template", None) or tokenizer.chat_template
    own = {k: v for k, v in settings.items() if k in takes and k not in _PARTS}
    with _no_videos():
        return kind(
            image_processor=make_images.from_pretrained(how.source, **how.where),
            tokenizer=tokenizer, video_processor=None, chat_template=template, **own,
        )  # fmt: skip


@contextlib.contextmanager
def _no_videos() -> Iterator[None]:
    """Let a processor be made without its video part inside the block."""
    checked: Any = ProcessorMixin.check_argument_for_proper_class

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if name == "video_processor" else checked(self, name, argument)

    mixin: Any = ProcessorMixin
    mixin.check_argument_for_proper_class = check
    try:
        yield
    finally:
        mixin.check_argument_for_proper_class = checked
