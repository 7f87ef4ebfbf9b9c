"""Pure: how long a provider asks to wait, in seconds, from headers and the body of an error.

Understood: `retry-after` in seconds or as an HTTP date, `retry-after-ms`, `x-ratelimit-reset-*` as
`6m0s`, `76ms`, a number or an RFC 3339 time, `anthropic-ratelimit-*-reset`, Google's
`RetryInfo.retryDelay`, and "try again in 1.5s" in a message. Zero counts as absent (Azure sends
`retry-after: 1` and `retry-after-ms: 0` together). Of several hints, the longest of the strongest
kind counts.
"""

import re
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_S = 24 * 3600.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_LONGEST_TEXT = 64
"""No duration or date is longer."""
_MAX_READ = 2000
"""Characters of a message that are searched for a wait."""
_MAX_DEPTH = 4
_MOST_DETAILS = 32
_IN_WORDS = re.compile(
    r"(?:try again|retry) (?:in|after) (\d[\dhms.]*(?:ms|s|m|h))\b", re.IGNORECASE
)


def retry_after(
    headers: Mapping[str, str], body: Any = None, now: float | None = None
) -> float | None:
    """Seconds to wait, or None. `headers` have lower-case names; `now` is a Unix time (default: the
    clock).
    """
    now = time.time() if now is None else now
    return asked_to_wait(headers, body, now) or _longest(_resets(headers, now))


def asked_to_wait(
    headers: Mapping[str, str], body: Any = None, now: float | None = None
) -> float | None:
    """As `retry_after`, from hints about this request only: some providers send resets of budgets
    with every answer.
    """
    now = time.time() if now is None else now
    return _longest(_explicit(headers, now)) or _longest(_in_body(body))


def duration(text: str) -> float | None:
    """`6m0s`, `76ms`, `48.9s`, `1h2m` or a number, as seconds; None for anything else."""
    text = text.strip()
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    found = _DURATION.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in found)


def _longest(waits: Iterable[float | None]) -> float | None:
    known = [wait for wait in waits if wait is not None and 0 < wait <= LONGEST_S]
    return max(known) if known else None


def _explicit(headers: Mapping[str, str], now: float) -> Iterable[float | None]:
    if milliseconds := duration(headers.get("retry-after-ms", "")):
        yield milliseconds / 1000
    value = headers.get("retry-after", "")
    if value:
        seconds = duration(value)
        yield seconds if seconds is not None else _until(value, now)


def _resets(headers: Mapping[str, str], now: float) -> Iterable[float | None]:
    # A reset counts only for an exhausted budget; some providers send every budget's reset with
    # every answer.
    for name, value in headers.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        remaining = headers.get(name.replace("reset", "remaining"), "0")
        if duration(remaining):
            continue
        seconds = duration(value)
        if seconds is not None and seconds > 1e9:
            seconds = (seconds / 1000 if seconds > 1e11 else seconds) - now
        yield seconds if seconds is not None else _until(value, now)


def _until(moment: str, now: float) -> float | None:
    if len(moment) > _LONGEST_TEXT:
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            when = read(moment)
            return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError, TypeError, OSError):
            continue  # not a date of this kind, or an impossible one
    return None


def _in_body(body: Any, depth: int = 0) -> Iterable[float | None]:
    if isinstance(body, list) and depth < _MAX_DEPTH:
        for item in body[:8]:
            yield from _in_body(item, depth + 1)
        return
    if not isinstance(body, dict):
        return
    error = body.get("error", body)
    if not isinstance(error, dict):
        error = {"message": error}
    details = error.get("details")
    for detail in details[:_MOST_DETAILS] if isinstance(details, list) else ():
        if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
            yield duration(detail["retryDelay"])
    seconds = error.get("retry_after", error.get("retry_after_seconds"))
    if isinstance(seconds, int | float) and 0 < seconds <= LONGEST_S:
        yield float(seconds)
    message = error.get("message")
    if isinstance(message, str):
        for found in _IN_WORDS.findall(message[:_MAX_READ]):
            yield duration(found)
