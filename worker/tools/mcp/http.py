"""The connections to an MCP server that speaks streamable HTTP: what lies under the client of the
package `mcp`.

Guarantees: a request is sent once, over a connection of its own, to the address of the catalogue
and no other: no redirect is followed, no proxy and no cookie is used. A request that fails costs
only itself, never the session and the calls of others. Of an answer at most MESSAGE_BYTES are read
(of an event stream: for each event).

Rejected: errors of connections as exceptions. The package would end the whole session, and with it
every other call. So they become answers that the session can read, and `CallPassage` notes the
truth.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from mcp.client.streamable_http import streamable_http_client

from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.mcp.gate import (
    MESSAGE_BYTES,
    PRESENT,
    CallPassage,
    ServerLink,
    Streams,
    throttle,
)

TIMEOUTS = httpx2.Timeout(connect=10.0, read=3600.0, write=60.0, pool=10.0)
"""The time of a call is limited by the executor."""
DELETE_SECONDS = 0.5
"""The longest wait at the end of a session."""
STREAM_SECONDS = 0.25
"""The shortest time between two attempts to follow a stream of the server's own messages."""
MAX_RESUMED = 100
"""Streams of one session that are resumed after a break."""
UNAVAILABLE = 503
ELSEWHERE = "HTTP {}: no streamable HTTP there, and the older transport, SSE, is not supported"

_UNSENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


class _TooLong(httpx2.StreamError):
    """The package takes it as an answer that cannot be read."""


@asynccontextmanager
async def connected(spec: McpSpec, link: ServerLink) -> AsyncIterator[Streams]:
    """The streams of a session with this server."""
    client = httpx2.AsyncClient(
        transport=_Connections(link),
        headers={**spec.headers, "accept-encoding": "identity"},
        timeout=TIMEOUTS,
        trust_env=False,
        max_redirects=0,
    )
    session = streamable_http_client(
        str(spec.url), http_client=client, max_sse_event_size=MESSAGE_BYTES
    )
    async with client, session as streams:
        yield streams


class _Connections(httpx2.AsyncBaseTransport):
    """Sends requests, and turns what goes wrong into answers."""

    def __init__(self, link: ServerLink) -> None:
        self._link = link
        self._resumed = 0
        self._followed_at = 0.0
        self._inner = httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """The answer of the server, or one of ours."""
        if request.method == "DELETE":
            return await self._ended(request)
        if request.method == "GET":
            return await self._followed(request)
        return await self._sent(request, PRESENT.get() or CallPassage())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()

    async def _sent(self, request: httpx2.Request, sending: CallPassage) -> httpx2.Response:
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError as error:
            sending.unsent, sending.broke = isinstance(error, _UNSENT), True
            self._link.fault = type(error).__name__
            self._link.changed.set()  # to find out whether the server is there
            return httpx2.Response(UNAVAILABLE)
        if response.status_code in (404, 405) and "mcp-session-id" not in request.headers:
            self._link.fault = ELSEWHERE.format(response.status_code)
        if response.status_code == 404:
            self._link.end()  # the server knows this session no more
        return _checked(response, sending)

    async def _followed(self, request: httpx2.Request) -> httpx2.Response:
        """A stream of the server's own messages, or a stream that is resumed."""
        self._resumed += "last-event-id" in request.headers
        if self._resumed > MAX_RESUMED:
            return httpx2.Response(405)
        since, self._followed_at = time.monotonic() - self._followed_at, time.monotonic()
        await asyncio.sleep(max(0.0, STREAM_SECONDS - since))
        try:
            response = await self._inner.handle_async_request(request)
        except httpx2.TransportError:
            self._link.changed.set()
            return httpx2.Response(UNAVAILABLE)
        if response.status_code == 404:  # of the session, or because it has no such streams
            self._link.changed.set()
        return _checked(response, CallPassage())

    async def _ended(self, request: httpx2.Request) -> httpx2.Response:
        try:
            async with asyncio.timeout(DELETE_SECONDS):
                response = await self._inner.handle_async_request(request)
                await response.aclose()
        except (TimeoutError, httpx2.TransportError):
            pass
        return httpx2.Response(204)


def _checked(response: httpx2.Response, sending: CallPassage) -> httpx2.Response:
    """The response with a body that ends. `sending` notes what is no answer of the protocol."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    known = kind in ("application/json", "text/event-stream")
    encoded = response.headers.get("content-encoding", "identity") != "identity"
    if response.status_code != 200 or not known or encoded:
        sending.status = response.status_code
    headers = [(k, v) for k, v in response.headers.raw if k.lower() != b"set-cookie"]
    stream = response.stream
    if not isinstance(stream, httpx2.AsyncByteStream):
        raise TypeError("the transport gave no asynchronous stream")
    most = None if kind == "text/event-stream" else MESSAGE_BYTES
    return httpx2.Response(
        response.status_code, headers=headers, stream=_Body(stream, 0 if encoded else most)
    )


class _Body(httpx2.AsyncByteStream):
    """A body that is read at a limited speed, to a limited length."""

    def __init__(self, stream: httpx2.AsyncByteStream, most: int | None) -> None:
        self._stream = stream
        self._most = most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._stream:
                size += len(piece)
                if self._most is not None and size > self._most:
                    raise _TooLong(f"more than {self._most} bytes")
                yield piece
                await throttle(len(piece))
        except httpx2.TransportError as error:
            raise _TooLong(f"it ended too early: {type(error).__name__}") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()
