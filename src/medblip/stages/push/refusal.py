"""What the hub refuses, or that it does not answer, as got, expected, do. No token is shown."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from medblip.data.hub_http import Unreachable
from medblip.errors import HubError, MedblipError, explain

__all__ = ["refusals_told"]

_AGAIN = "run the same command again: what has arrived is not sent twice"


@contextlib.contextmanager
def refusals_told(name: str, endpoint: str, token: str, whose: str) -> Iterator[None]:
    """Turn whatever publishing raises into one message.

    Args:
        name: `owner/name`.
        endpoint: Of the hub.
        token: In use; taken out of anything that is shown.
        whose: Where the token is from, in words.

    Raises:
        HubError: The hub refuses, fails or does not answer.
    """
    from huggingface_hub import errors

    http: Any = importlib.import_module("huggingface_hub.utils").httpx
    try:
        yield
    except MedblipError:
        raise
    except Exception as error:
        chain = list(_chain(error))
        answered = next((e for e in chain if isinstance(e, errors.HfHubHTTPError)), None)
        lost = next((e for e in chain if isinstance(e, (http.HTTPError, http.InvalidURL,
                     errors.OfflineModeIsEnabled, Unreachable, TimeoutError))), None)  # fmt: skip
        if answered is not None:
            words = [getattr(e, "server_message", None) for e in chain]
            said = next((w for w in words if w), "").replace(token, "...")
            message = _refused(name, answered.response.status_code, said, whose, endpoint)
        elif lost is not None:
            message = explain(
                f"{endpoint} does not answer",
                got=_first_line(lost, token),
                expected="a connection that lasts",
                do=_AGAIN,
            )
        else:
            message = explain(
                f"{name} could not be pushed",
                got=_first_line(chain[-1], token),  # the first cause says most
                expected="an upload that the hub takes",
                do=_AGAIN,
            )
        raise HubError(message) from None


def _refused(name: str, status: int, said: str, whose: str, endpoint: str) -> str:
    got = f"HTTP {status}, with {whose}" + (f": {_one_line(said)}" if said else "")
    what, expected, do = f"{name}: the hub refuses the request", "an answer", _AGAIN
    if status == 401:
        what, expected = f"{name}: the hub does not know the token", "a valid access token"
        do = f"make one on {endpoint}/settings/tokens, then set HF_TOKEN or run `hf auth login`"
    elif status == 403:
        what = f"{name}: this account may not write there"
        expected = "a token that may write to this owner's repositories"
        do = "check the owner, join the organisation, or make a token with write access"
    elif status == 404:
        what, expected = (
            f"{name} is not there, or is hidden",
            "a repository or branch to write to",
        )
        do = "check owner, name and --revision"
    elif status in (409, 412):
        what = f"{name} was changed by somebody else just now"
        expected = "one writer at a time"
    elif status in (402, 413, 507):
        what, expected = f"{name}: too large for the hub", "files within the account's limits"
        do = f"look at {endpoint}/settings/billing, or push a smaller captioner"
    elif status == 429:
        what, expected = f"{name}: the hub asks to slow down", "fewer requests"
        do = f"wait some minutes; then {_AGAIN}"
    elif status >= 500:
        what, expected = f"{name}: the hub fails", "a hub that is well"
    elif status == 400:
        do = "correct what it names"
    return explain(what, got=got, expected=expected, do=do)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _first_line(error: BaseException, token: str) -> str:
    text = str(error).replace(token, "...").partition("\n")[0]
    return _one_line(f"{type(error).__name__}: {text}".removesuffix(": "))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
