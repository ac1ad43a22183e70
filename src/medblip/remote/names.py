"""Which names mean a remote captioner, and where it is."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Literal
from urllib.parse import urlsplit

from medblip.settings import RemoteConfig

__all__ = ["GEMINI", "Remote", "is_loopback", "remote_of", "url_of"]

#: What `gemini` alone means: Google's replacement for gemini-2.5-flash, which thinks little.
GEMINI = "gemini-3.5-flash-lite"
_OFFICIAL = {
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com",
}


@dataclasses.dataclass(frozen=True)
class Remote:
    """A remote captioner: the wire format it speaks, and the model's name there."""

    kind: Literal["openai", "gemini"]
    model: str

    @property
    def name(self) -> str:
        """The name in full."""
        return f"{self.kind}:{self.model}"


def remote_of(name: str) -> Remote | None:
    """Return the remote captioner that a model name means, or None.

    >>> remote_of("openai:gpt-4.1-mini")
    Remote(kind='openai', model='gpt-4.1-mini')
    >>> remote_of("bundled") is None
    True
    """
    if name == "gemini":
        return Remote("gemini", GEMINI)
    kind, colon, model = name.partition(":")
    if not (colon and model.strip()):
        return None
    if kind == "openai":
        return Remote("openai", model.strip())
    return Remote("gemini", model.strip().removeprefix("models/")) if kind == "gemini" else None


def url_of(remote: Remote, cfg: RemoteConfig) -> str:
    """Return the address of its interface, without a slash at the end."""
    return (cfg.url or _OFFICIAL[remote.kind]).rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether a URL means this machine; other names than localhost are not looked up."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
