"""A streamed HTTP answer: its headers, its slot in this process, and its end when the client
leaves.

The caller decides its content and end. Refusals while it is opened are ordinary problem documents,
since nothing was sent by then.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tokenwire.web.http import sse
from tokenwire.web.http.departure import ClientGone, until_gone
from tokenwire.web.problems import ROOM_AFTER_SECONDS, ApiProblem

TURN_BYTES = 64 * 1024
"""After so many bytes the other clients of this process have their turn."""
Open = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes] | Response]]
"""Opens the content: pieces of text, or another answer (204, a refusal). May raise what routes may
raise.
"""


def stream_of(description: str) -> dict[int | str, dict[str, Any]]:
    """A 200 with an event stream, for a route's `responses`."""
    content = {sse.MEDIA_TYPE: {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content}}


RESPONSES = stream_of("Events, without end")


def event_headers(**extra: str) -> dict[str, str]:
    """The headers of a stream: events, unless `Content_Type` says otherwise.

    `extra`: additional or replaced headers; `_` stands for `-`.
    """
    return dict(sse.HEADERS) | {name.replace("_", "-"): value for name, value in extra.items()}


def retry_ms() -> int:
    """When a client should reconnect; random, so that a restart does not bring all at once."""
    return random.randint(500, 2500)  # noqa: S311 -- spreads load, guards nothing


class Cut(Exception):
    """Raised by a body: break the connection, so that the client sees no orderly end."""


class Places:
    """The limit of streamed answers in this process."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot. Raises ApiProblem (503) if all are taken."""
        if self.taken >= self._limit:
            raise ApiProblem(
                "over_capacity",
                "This server has no room for another stream.",
                {"Retry-After": str(ROOM_AFTER_SECONDS)},
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class EventStream(Response):
    """A streamed answer. `headers`: all of them (None: `event_headers()`).

    `open_body` is entered before the first byte is sent.
    """

    def __init__(
        self, places: Places, open_body: Open, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status_code = 200
        self.background: BackgroundTask | None = None
        self.init_headers(event_headers() if headers is None else headers)
        self._places = places
        self._open_body = open_body

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        """No Content-Length: the end is unknown."""
        self.raw_headers = [
            (name.lower().encode(), value.encode("latin-1"))
            for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places.take():
            async with self._opened() as body:
                if isinstance(body, Response):
                    await body(scope, receive, send)
                else:
                    await self._stream(body, receive, send)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[AsyncIterator[bytes] | Response]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                body = await stack.enter_async_context(self._open_body())
            except Cut as cut:  # nothing was sent yet, so it can be a refusal
                raise ApiProblem("unavailable", "The server is restarting.") from cut
            yield body

    async def _stream(self, body: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
        """Send the content, or stop when the client leaves."""
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        try:
            with contextlib.suppress(ClientGone, Cut):
                await until_gone(receive, _send_all(body, send))
        finally:
            if isinstance(body, AsyncGenerator):  # left before its end
                await body.aclose()


async def _send_all(body: AsyncIterator[bytes], send: Send) -> None:
    """Send the content, piece by piece.

    A client that does not read blocks `send`: no more content is requested meanwhile. `send` never
    waits for one that reads fast, so others would wait until a long replay is over.
    """
    since_turn = 0
    async for data in body:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            since_turn += len(data)
        if since_turn >= TURN_BYTES:
            since_turn = 0
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
