"""What a failed attempt means: whether to try again, and when."""

from __future__ import annotations

import dataclasses
import datetime
import email.utils
import re
from typing import Any

__all__ = ["Failure", "failure_of", "told_wait"]

#: Statuses that pass; so do all of 500 and above.
_PASSING = (408, 409, 429)


@dataclasses.dataclass(frozen=True)
class Failure:
    """An attempt without an answer.

    Args:
        text: What happened.
        status: Of HTTP.
        passing: Whether another attempt may succeed.
        wait_s: What the server asks to wait.
    """

    text: str
    status: int | None = None
    passing: bool = True
    wait_s: float | None = None


def failure_of(status: int, record: Any, wait_s: float | None) -> Failure:
    """Return what an error answer means."""
    error = record.get("error") if isinstance(record, dict) else None
    error = error if isinstance(error, dict) else {}
    text = f"HTTP {status}"
    # of a wrong key, servers repeat a part in their message
    if status not in (401, 403) and "api key" not in str(error.get("message")).lower():
        said = " ".join(str(error.get("message") or "").split())[:300]
        text += f" ({said})" if said else ""
    spent = error.get("code") == "insufficient_quota"  # OpenAI's 429 that no waiting mends
    passing = (status in _PASSING or status >= 500) and not spent
    if status == 400 and "api key" in str(error.get("message")).lower():
        return Failure("HTTP 400: the key is not valid", 401, passing=False)  # as Gemini says it
    return Failure(text, status, passing, wait_s if passing else None)


def told_wait(header: str | None, record: Any) -> float | None:
    """Return the seconds to wait: of the header Retry-After, or of RetryInfo in a Gemini answer."""
    value = (header or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if value:
        try:
            then = email.utils.parsedate_to_datetime(value)
        except ValueError:
            then = None
        if then is not None:
            if then.tzinfo is None:
                then = then.replace(tzinfo=datetime.UTC)
            return max(0.0, (then - datetime.datetime.now(datetime.UTC)).total_seconds())
    try:
        for detail in record["error"]["details"]:
            found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay")))
            if found:
                return float(found[1])
    except (LookupError, TypeError, AttributeError):
        pass
    return None
