"""Talking to the Hugging Face hub: time limits, its refusals in our words, files that go on.

huggingface_hub (1.31 to 2.4 at least) begins a file anew after a kill and leaves the torso behind.
`download` goes on where it stopped, and checks what it got. Knows nothing of data sets.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from medblip.errors import DataError, explain

__all__ = ["Unreachable", "download", "explained", "progress_bar", "token", "within"]

T = TypeVar("T")
PIECE_BYTES = 1 << 20
#: Attempts in a row that bring nothing; the pauses between them double.
ATTEMPTS = 5
PAUSE_S = 1.0


class Unreachable(Exception):
    """The hub does not answer, or not like a hub; the text says how."""


def token() -> str | None:
    """Return the access token of the environment (HF_TOKEN), from nowhere else.

    Raises:
        DataError: It is none; it is not shown.
    """
    value = os.environ.get("HF_TOKEN", "").strip()
    if not all("!" <= letter <= "~" for letter in value):  # httpx would print it in its error
        raise DataError(
            explain(
                "HF_TOKEN holds no access token",
                got="a text with spaces or special letters",
                expected="hf_ and letters or digits",
                do="copy the token again, or unset HF_TOKEN",
            )
        )
    return value or None


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, or give it up: name resolution cannot be told a time limit.

    Raises:
        Unreachable: It did not return in time.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="hub").start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.done():  # the call's own
            raise
        raise Unreachable(f"no answer within {seconds:g} s") from None


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises about a data set into `Unreachable` or a message.

    Raises:
        Unreachable: No answer, a passing failure (429, 5xx), or not the answer of a hub.
        DataError: The hub refuses, with what to do.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status == 429 or status >= 500:
            raise Unreachable(f"the hub answers HTTP {status}") from None
        raise DataError(_refusal(name, error, status)) from None
    except errors.LocalEntryNotFoundError as error:  # the hub went away during a snapshot
        raise Unreachable(_reason(error.__cause__ or error)) from None
    except (_http().HTTPError, _http().InvalidURL, errors.OfflineModeIsEnabled) as error:
        raise Unreachable(_reason(error)) from None
    except (KeyError, TypeError, ValueError):  # a portal's login page, a proxy's error page
        raise Unreachable("the answer is not that of a hub") from None


def _refusal(name: str, error: Any, status: int) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/datasets/{name}"
    who = "the token of HF_TOKEN" if token() else "no token (HF_TOKEN is not set)"
    got = f"HTTP {status}, with {who}"
    if isinstance(error, errors.GatedRepoError):
        return explain(
            f"hf:{name} is gated",
            got=got,
            expected="the token of an account that has accepted the terms",
            do=f"accept them on {page}, then set HF_TOKEN",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return explain(
            f"hf:{name} has no such revision",
            got=got,
            expected="a commit, a tag or a branch of it",
            do=f"choose one from {page}/commits/main",
        )
    if isinstance(error, errors.DisabledRepoError):
        return explain(
            f"hf:{name} was closed by the hub",
            got=got,
            expected="an accessible data set",
            do="choose another data set",
        )
    if status == 404 or isinstance(error, errors.RepositoryNotFoundError):
        return explain(
            f"hf:{name} is not there, or is private",
            got=got,
            expected="the name of a data set that this account may read",
            do=f"check the name on {page}; for a private one set HF_TOKEN",
        )
    if status in (401, 403):
        return explain(
            f"hf:{name}: the hub refuses access",
            got=got,
            expected="a valid token that may read it",
            do="renew the token, give it read access, or unset HF_TOKEN",
        )
    return explain(
        f"hf:{name}: the hub refuses the request",
        got=got,
        expected="an answer",
        do=f"try {page} in a browser",
    )


def download(
    url: str, into: Path, partial: Path, *, size: int, checksum: str, advance: Callable[[int], Any]
) -> None:
    """Download a file by way of `partial`, from where an earlier attempt stopped.

    Args:
        url: On the hub; the token is not sent on to where it is redirected.
        into: Its place, taken when it is whole.
        partial: What there is of it so far.
        size: In bytes.
        checksum: SHA-256, or the SHA-1 of a git blob.
        advance: Told of bytes as they come.

    Raises:
        Unreachable: Several attempts in a row brought nothing, or the result is damaged.
    """
    if _length(partial) > size:
        partial.unlink()
    advance(_length(partial))
    failures = 0
    while (have := _length(partial)) < size:
        reason = _attempt(url, partial, have, advance)
        failures = failures + 1 if _length(partial) <= have else 0
        if failures == ATTEMPTS:
            raise Unreachable(reason)
        if reason:
            time.sleep(PAUSE_S * 2 ** max(0, failures - 1))
    if _checksum(partial, len(checksum)) != checksum:
        partial.unlink()
        raise Unreachable(f"{into.name[:12]} arrived damaged; it was deleted")
    os.replace(partial, into)


def _attempt(url: str, partial: Path, have: int, advance: Callable[[int], Any]) -> str:
    """Append to `partial` as far as the connection lasts; return why it did not, or ""."""
    from huggingface_hub import constants

    http = importlib.import_module("huggingface_hub.utils")
    headers = http.build_hf_headers(token=token() or False) | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    options = {"headers": headers, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    try:
        with http.get_session().stream("GET", url, follow_redirects=True, **options) as response:
            if response.status_code == 429 or response.status_code >= 500:
                return f"the hub answers HTTP {response.status_code}"
            http.hf_raise_for_status(response)
            goes_on = response.status_code == 206
            if have and not goes_on:  # the server sends the whole file
                advance(-have)
            with partial.open("ab" if goes_on else "wb") as file:
                for piece in response.iter_bytes(PIECE_BYTES):
                    file.write(piece)
                    advance(len(piece))
    except http.httpx.RequestError as error:
        return _reason(error)
    return ""


def _http() -> Any:
    """Return the HTTP library of huggingface_hub: httpx in its version 1, httpx2 in 2."""
    return importlib.import_module("huggingface_hub.utils").httpx


def progress_bar(total: int) -> Any:
    """Return huggingface_hub's own bar, in bytes; nothing is drawn unless on a terminal."""
    bar = importlib.import_module("huggingface_hub.utils").tqdm
    return bar(total=total, unit="B", unit_scale=True, desc="Downloading", disable=None)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")[:150]


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _checksum(path: Path, length: int) -> str:
    """Return the SHA-256 (64 letters) of a file, or the SHA-1 (40) of it as a git blob."""
    digest = hashlib.sha256()
    if length == 40:
        digest = hashlib.sha1(f"blob {_length(path)}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
