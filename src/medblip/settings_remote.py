"""The settings of captioners behind an HTTP interface."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from medblip.settings_class import config

__all__ = ["INSTRUCTION", "RemoteConfig"]

#: What a model is asked that follows instructions: a remote one, and one of this machine that was
#: published without a prompt for captions.
INSTRUCTION = (
    "Describe this radiology image in one sentence, as the caption of a figure in a medical "
    "article. Answer with the caption alone."
)


@config
class RemoteConfig:
    """How a captioner behind an HTTP interface is asked (docs/captioning.md).

    Args:
        url: Of the interface; None: the provider's own.
        key_env: Environment variable of the key; None: the provider's, for its own URL; "": none.
        prompt: What the model is asked to do with each image.
        temperature: None leaves it to the model.
        thinking_tokens: Granted above `decode.max_new_tokens`, to models that think first.
        token_field: OpenAI's name of the limit; `auto`: `max_tokens` where `url` is given.
        image_side: Longer side of what is sent; smaller images stay as they are.
        timeout_s: Without a sign of life from the server.
        retries: After an attempt that may succeed later.
        per_minute: Attempts at most; None: no limit.
        concurrency: Images in flight.
        max_images: A call with more is refused before it begins.
        max_cost: Stop before it is exceeded; needs both prices. None: no ceiling.
        price_in: Of a million tokens sent, in any currency; `price_out`: received.
    """

    url: str | None = None
    key_env: str | None = None
    prompt: str = INSTRUCTION
    temperature: float | None = 0.0
    thinking_tokens: int = 0
    token_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    image_side: int = 1024
    timeout_s: float = 60.0
    retries: int = 5
    per_minute: int | None = 60
    concurrency: int = 4
    max_images: int = 1000
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        for name in ("image_side", "concurrency", "max_images", "per_minute"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"remote.{name} must be at least 1; got {value}")
        for name in ("thinking_tokens", "retries", "price_in", "price_out", "max_cost"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"remote.{name}: 0 or more; got {getattr(self, name)}")
        if self.timeout_s <= 0:
            raise ValueError("remote.timeout_s must be positive")
        if self.max_cost is not None and None in (self.price_in, self.price_out):
            raise ValueError("remote.max_cost needs remote.price_in and remote.price_out")
        if self.url is not None:
            parts = urlsplit(self.url)  # what is wrong is not shown: it may hold a password
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("remote.url begins with http:// or https:// and a host")
            if parts.username or parts.password or parts.query or parts.fragment:
                raise ValueError("remote.url holds no user, password, ? or #: see remote.key_env")
