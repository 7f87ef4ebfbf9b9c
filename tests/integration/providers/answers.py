"""An answer of a scripted provider as its consumer reads it."""

import json
from typing import Any

from tokenwire.providers.base import (
    Continuation,
    Delta,
    HistoryMessage,
    Interrupted,
    Provider,
    ProviderError,
    Request,
    TextDelta,
)
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.providers.spec import ModelSpec

HELLO = Request([HistoryMessage("user", "hello")])
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def chunk(text: str) -> bytes:
    return b'data: {"id":"x","choices":[{"delta":{"content":%b}}]}\n\n' % json.dumps(text).encode()


def spec(url: str, **fields: Any) -> ModelSpec:
    return ModelSpec(
        **{"name": "m", "provider": "openai_compatible", "model": "m", "base_url": url, **fields}
    )


def background(url: str) -> ModelSpec:
    """A model whose runs continue at their provider: background responses."""
    return spec(
        url, provider="openai_responses", continuation="attach", options={"background": True}
    )


def continued(
    rung: Any, held: str, run_id: str | None = None, cursor: int | None = None
) -> Request:
    """A request that continues an answer of which readers hold this text."""
    return Request(HELLO.messages, continuation=Continuation(rung, held, run_id, cursor))


async def broken_off(provider: Provider) -> tuple[str, tuple[str | None, int | None]]:
    """The text of an interrupted answer, and what attaching needs."""
    text, run = "", (None, None)
    try:
        async with provider.stream(HELLO) as stream:
            async for batch in stream:
                text += "".join(delta.text for delta in batch if isinstance(delta, TextDelta))
                run = (stream.run_id, stream.cursor)
    except Interrupted:
        return text, run
    raise AssertionError("the answer was not interrupted")


async def read(
    client: HttpClient, entry: ModelSpec, request: Request = HELLO
) -> tuple[str, list[Delta], ProviderError | None]:
    """The text, the deltas and the error of an answer."""
    deltas: list[Delta] = []
    error = None
    try:
        async with open_provider(entry, client).stream(request) as stream:
            async for batch in stream:
                deltas += batch
    except ProviderError as raised:
        error = raised
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta)), deltas, error
