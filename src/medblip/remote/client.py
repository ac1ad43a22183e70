"""One image to one answer: key, retries, refusals.

The key is read from the environment and goes into one header. No message of this file holds it:
what a server says is shown only without it.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import ssl
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from medblip.errors import ConfigError, RunError, explain
from medblip.remote.formats import Answer, format_of
from medblip.remote.names import Remote, is_loopback, url_of
from medblip.remote.pace import Pace
from medblip.remote.picture import Picture
from medblip.remote.retry import Failure, failure_of, told_wait
from medblip.settings import RemoteConfig

__all__ = ["Client"]

#: First pause after an attempt that failed; each next one is twice as long.
PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
#: A server that asks for a longer wait is not waited for.
_PATIENCE_S = 300.0
_MAX_ANSWER_BYTES = 10_000_000


class Client:
    """A remote captioner; many threads may ask it at once.

    Args:
        remote: Which.
        cfg: How.
        max_tokens: Of a caption.
        seed: Of the model's draws, and of the pauses' jitter.

    Raises:
        ConfigError: The key is missing, or cannot be one.
    """

    def __init__(self, remote: Remote, cfg: RemoteConfig, *, max_tokens: int, seed: int) -> None:
        self.pace = Pace(cfg.per_minute)
        parts = urlsplit(url_of(remote, cfg))
        self.host, self.encrypted = parts.netloc, parts.scheme == "https"
        self.local = is_loopback(url_of(remote, cfg))
        self._remote, self._cfg, self._seed = remote, cfg, seed
        self._format = format_of(remote, cfg, max_tokens=max_tokens, seed=seed)
        self._address = self._format.address(url_of(remote, cfg))
        self.__key = self._read_key()
        handlers: list[Any] = [_NoRedirect]
        if self.local:  # what is for this machine goes through no proxy
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, picture: Picture, number: int, prompt: str | None = None) -> Answer:
        """Return the answer for one image.

        Args:
            picture: The image.
            number: Its place in the list, for the jitter.
            prompt: Instead of the settings' prompt.

        Raises:
            RunError: The server refuses for good, or too often.
            Stopped: The whole call ends.
        """
        body = json.dumps(self._format.body(prompt or self._cfg.prompt, picture)).encode()
        jitter = random.Random(f"{self._seed} {number}")
        attempt = 0
        while True:
            self.pace.turn()
            result = self._attempt(body)
            if isinstance(result, Answer):
                return result
            late = (result.wait_s or 0) > _PATIENCE_S
            if not result.passing or late or attempt == self._cfg.retries:
                raise RunError(self._refusal(result, attempt + 1))
            if result.wait_s is not None:
                self.pace.hold(result.wait_s)
            else:
                pause = min(_LONGEST_PAUSE_S, PAUSE_S * 2**attempt)
                self.pace.sleep(pause * jitter.uniform(0.5, 1))
            attempt += 1

    def _attempt(self, body: bytes) -> Answer | Failure:
        headers = {"Content-Type": "application/json", "User-Agent": "medblip"}
        if self.__key:
            headers |= self._format.key_header(self.__key)
        request = urllib.request.Request(self._address, body, headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._cfg.timeout_s) as response:
                text = self._without_key(response.read(_MAX_ANSWER_BYTES).decode(errors="replace"))
        except urllib.error.HTTPError as error:
            with error:
                return self._http_failure(error)
        except TimeoutError:
            return Failure(f"no answer within {self._cfg.timeout_s:g} s")
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                return Failure(f"no answer within {self._cfg.timeout_s:g} s")
            untrusted = isinstance(reason, ssl.SSLCertVerificationError)
            return Failure(
                self._without_key(f"{type(reason).__name__}: {reason}"), passing=not untrusted
            )
        try:
            return self._format.answer(json.loads(text))
        except (ValueError, LookupError, TypeError, AttributeError):
            return Failure("an answer that is not of this interface")

    def _http_failure(self, error: urllib.error.HTTPError) -> Failure:
        try:
            text = error.read(_MAX_ANSWER_BYTES).decode(errors="replace")
            record = json.loads(self._without_key(text))
        except (ValueError, OSError, http.client.HTTPException):
            record = {}
        return failure_of(error.code, record, told_wait(error.headers.get("Retry-After"), record))

    def _refusal(self, failure: Failure, attempts: int) -> str:
        got, do = failure.text, "see what the server says; the same command goes on"
        expected = "an answer"
        key = self._cfg.key_env or self._format.key_env
        if failure.status in (401, 403):
            expected = f"a key that {self.host} accepts"
            do = f"put a valid key into {key}, with access to {self._remote.model}"
            if not self.__key:
                do = f"name the variable that holds one: --set remote.key_env={key}"
        elif failure.status == 404:
            expected = "the name of a model that is there, and the URL of the interface"
            do = "correct the name after the colon, or remote.url"
        elif failure.status == 400:
            expected = "a request that this model accepts"
            do = "correct remote.temperature, remote.token_field, decode.max_new_tokens or the key"
        elif failure.status is not None and 300 <= failure.status < 400:
            expected = "an answer without a redirect: images go nowhere else"
            do = "correct remote.url"
        elif (failure.wait_s or 0) > _PATIENCE_S:
            got = f"{got}; to be tried again in {failure.wait_s:.0f} s"
            do = "wait, then repeat the command: it goes on; or lower remote.per_minute"
        elif failure.passing:
            got = f"{got}, {attempts} times"
            do = "repeat the command later: it goes on; or raise remote.retries"
        what = f"{self._remote.name}: {self.host} gives no caption"
        return explain(what, got=got, expected=expected, do=do)

    def _read_key(self) -> str:
        name = self._cfg.key_env
        if name is None and self._cfg.url is None:
            name = self._format.key_env
        if not name:  # a key for the provider is not for other servers
            return ""
        value = os.environ.get(name, "").strip()
        if value and all("!" <= letter <= "~" for letter in value):
            return value
        raise ConfigError(
            explain(
                f"{self._remote.name} needs a key",
                got=f"{name} holds letters that no key has" if value else f"{name} is not set",
                expected=f"the key in the environment variable {name}",
                do=f"export {name}=..., or name another variable: --set remote.key_env=NAME",
            )
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self.__key, "***") if self.__key else text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are errors: an image goes where it was sent, or nowhere."""

    def redirect_request(self, *_: Any) -> None:
        return None
