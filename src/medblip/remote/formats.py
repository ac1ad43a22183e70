"""OpenAI's and Gemini's requests and answers.

| | OpenAI, and servers that speak as it does | Gemini |
| --- | --- | --- |
| address | `{url}/chat/completions` | `{url}/v1beta/models/{model}:generateContent` |
| key | `Authorization: Bearer` | `x-goog-api-key` |
| image | `image_url` with a data URL | `inline_data` |
| refusal | `message.refusal`, `finish_reason: content_filter` | `finishReason`, `blockReason` |
"""

from __future__ import annotations

import base64
import dataclasses
from typing import Any, Protocol
from urllib.parse import quote

from medblip.remote.names import Remote
from medblip.remote.picture import Picture
from medblip.settings import RemoteConfig

__all__ = ["Answer", "Format", "format_of"]


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back for one image.

    Args:
        text: The caption; "" where it was refused.
        refused: Why there is none, or None.
        tokens: Sent and received, thoughts included; None: the server does not tell.
    """

    text: str
    refused: str | None
    tokens: tuple[int, int] | None


class Format(Protocol):
    """One provider's wire format."""

    #: Environment variable of the key at the provider's own URL.
    key_env: str

    def address(self, url: str) -> str:
        """Return where requests go."""

    def key_header(self, key: str) -> dict[str, str]:
        """Return the header that carries the key."""

    def body(self, prompt: str, picture: Picture) -> dict[str, Any]:
        """Return the request."""

    def answer(self, record: Any) -> Answer:
        """Read the answer; KeyError, TypeError and the like mean that it is none."""


def format_of(remote: Remote, cfg: RemoteConfig, *, max_tokens: int, seed: int) -> Format:
    """Return the wire format of a remote captioner."""
    kind = _OpenAI if remote.kind == "openai" else _Gemini
    return kind(remote.model, cfg, max_tokens + cfg.thinking_tokens, seed)


class _OpenAI:
    key_env = "OPENAI_API_KEY"

    def __init__(self, model: str, cfg: RemoteConfig, max_tokens: int, seed: int) -> None:
        # OpenAI's newer models refuse max_tokens; other servers may know nothing else
        own = "max_completion_tokens" if cfg.url is None else "max_tokens"
        field = own if cfg.token_field == "auto" else cfg.token_field
        self._fixed: dict[str, Any] = {"model": model, field: max_tokens, "seed": seed}
        if cfg.temperature is not None:
            self._fixed["temperature"] = cfg.temperature

    def address(self, url: str) -> str:
        return f"{url}/chat/completions"

    def key_header(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}

    def body(self, prompt: str, picture: Picture) -> dict[str, Any]:
        address = f"data:{picture.mime};base64,{base64.b64encode(picture.data).decode()}"
        content = [
            {"type": "text", "text": prompt},
            {"type": "image_url", "image_url": {"url": address}},
        ]
        return {**self._fixed, "messages": [{"role": "user", "content": content}]}

    def answer(self, record: Any) -> Answer:
        choice = record["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        if not isinstance(text, str):  # some servers answer in parts, as requests are made
            text = "".join(part.get("text") or "" for part in text)
        usage = record.get("usage") or {}
        tokens = None
        if "prompt_tokens" in usage:
            tokens = int(usage["prompt_tokens"]), int(usage.get("completion_tokens") or 0)
        reason = None
        if message.get("refusal"):
            reason = f"refused: {' '.join(str(message['refusal']).split())[:200]}"
        elif finish == "content_filter":
            reason = "content_filter"
        return _answer(text, reason, tokens, cut=finish == "length")


class _Gemini:
    key_env = "GEMINI_API_KEY"
    #: Ends with a caption; all others are refusals, also those that Google adds.
    _FINE = (None, "STOP", "MAX_TOKENS", "FINISH_REASON_UNSPECIFIED")

    def __init__(self, model: str, cfg: RemoteConfig, max_tokens: int, seed: int) -> None:
        self._model = model
        self._fixed: dict[str, Any] = {"maxOutputTokens": max_tokens, "seed": seed}
        if cfg.temperature is not None:
            self._fixed["temperature"] = cfg.temperature

    def address(self, url: str) -> str:
        return f"{url}/v1beta/models/{quote(self._model, safe='')}:generateContent"

    def key_header(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def body(self, prompt: str, picture: Picture) -> dict[str, Any]:
        data = base64.b64encode(picture.data).decode()
        parts = [{"text": prompt}, {"inline_data": {"mime_type": picture.mime, "data": data}}]
        contents = [{"role": "user", "parts": parts}]
        return {"contents": contents, "generationConfig": self._fixed}

    def answer(self, record: Any) -> Answer:
        usage = record.get("usageMetadata") or {}
        tokens = None
        if "promptTokenCount" in usage:
            received = (usage.get(f"{name}TokenCount") or 0 for name in ("candidates", "thoughts"))
            tokens = int(usage["promptTokenCount"]), sum(map(int, received))
        blocked = (record.get("promptFeedback") or {}).get("blockReason")
        if blocked:
            return _answer("", f"blocked: {blocked}", tokens)
        candidate = record["candidates"][0]
        finish = candidate.get("finishReason")
        parts = (candidate.get("content") or {}).get("parts") or []
        text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
        reason = None if finish in self._FINE else str(finish)
        return _answer(text, reason, tokens, cut=finish == "MAX_TOKENS")


def _answer(
    text: str, reason: str | None, tokens: tuple[int, int] | None, *, cut: bool = False
) -> Answer:
    """Return one caption on one line, or none with the reason."""
    text = " ".join(text.split())
    if reason is None and not text:
        limit = "decode.max_new_tokens and remote.thinking_tokens"
        reason = f"empty answer, cut at the limit of {limit}" if cut else "empty answer"
    return Answer("" if reason else text, reason, tokens)
