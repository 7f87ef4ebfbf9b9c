"""Pure: removes the conversation's texts from errors of providers.

Errors are logged and shown to operators, and some providers quote the request in them.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tokenwire.providers.base import HistoryMessage, ProviderError, Request
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.quotes import without_quotes

MAX_CHARS = 1000
"""The longest message of a provider's error that is logged, in characters."""


def remove_quotes(error: BaseException, texts: Iterable[str]) -> None:
    """Remove quotations of these texts from a provider's error. Other exceptions are unchanged."""
    if not isinstance(error, ProviderError):
        return
    found = [text for text in texts if text]
    error.message = without_quotes(error.message[:MAX_CHARS], found)
    error.code = error.code and without_quotes(error.code, found)
    error.args = (error.message,)


def texts_in(request: Request) -> Iterator[str]:
    """All texts of a request: of people, models and tools."""
    for message in request.messages:
        yield from _texts_of(message)
    if request.continuation is not None:
        yield request.continuation.text


def written(value: Any) -> str:
    """A tool's arguments, or a provider's item, as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _texts_of(message: HistoryMessage) -> Iterator[str]:
    for part in message.parts:
        yield from _texts_of_part(part)


def _texts_of_part(part: HistoryPart) -> Iterator[str]:
    match part:
        case TextPart(text, kept):
            yield text
            yield from (written(item.value) for item in kept)
        case CallPart(input=text) | ResultPart(text=text):
            yield text
        case KeptPart(value=value):
            yield written(value)
        case Attachment(name=name, url=url):
            yield name or ""
            yield url or ""
    match part:
        case ReasoningPart(kept=Kept(value=value)) | Attachment(kept=Kept(value=value)):
            yield written(value)
