"""The broadcaster's socket: who may connect, health over plain HTTP, and the stop.

Interprets request lines and limits connections. After the opening handshake the reader takes over
(readers.py).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

import structlog
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tokenwire.broadcaster.connection import ReaderConnection
from tokenwire.broadcaster.readers import CLOSE_SECONDS, SocketReader, SocketReaders
from tokenwire.protocol.frames import CloseCode
from tokenwire.streams.addresses import Addresses
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.streams.log.ports import LogUnavailable

SPREAD_SECONDS = 1.0
"""Readers are closed over this time, or all would reconnect at once."""
STOP_SECONDS = 2.0
"""The longest time for closing handshakes. After it, readers are cut off."""
READY_SECONDS = 1.5
WRITE_LIMIT_BYTES = 32 * 1024
"""A socket with more unsent bytes is full. It has room again below a quarter of it."""
BACKLOG = 1024

_CONVERSATION = re.compile(r"/conversations/([0-9A-Za-z_-]{1,64})")

Ready = Callable[[], Awaitable[str | None]]
"""Returns the problem, or None. May raise LogUnavailable."""

log_line = structlog.get_logger("tokenwire.broadcaster")


@dataclass(frozen=True, slots=True)
class Caps:
    """Limits of connections, in total and per address (None: unlimited); `addresses` gives a
    client's address.

    `head_bytes`, `headers`: of one handshake; the library has its own limits (128 headers, 8 KiB
    each). `stalled_seconds`: how long a client may take nothing of its waiting output.
    """

    all: int
    per_address: int | None = None
    addresses: Addresses = field(default_factory=lambda: Addresses(""))
    head_bytes: int = 32 * 1024
    headers: int = 100
    stalled_seconds: float = 60.0


class Server:
    """A WebSocket server for `readers`. `/readyz` calls `ready`."""

    def __init__(self, readers: SocketReaders, ready: Ready, caps: Caps) -> None:
        self._readers = readers
        self._ready = ready
        self._caps = caps
        self._addresses = Occupancy(caps.per_address)
        self._connections: set[ReaderConnection] = set()
        self._listener: WebSocketServer | None = None

    async def start(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Listen; returns the port (port 0: any free one). `reuse_port`: other processes listen on
        it, too. Raises OSError.
        """
        self._listener = await serve(
            self._serve,
            host,
            port,
            process_request=self._request,
            compression=None,  # compression costs more per event than everything else together
            server_header=None,
            # No pings: a slow reader would count as dead. Our heartbeats satisfy proxies, and the
            # expiry of tokens ends dead connections.
            ping_interval=None,
            close_timeout=CLOSE_SECONDS,
            write_limit=WRITE_LIMIT_BYTES,
            create_connection=type(
                "Connection", (ReaderConnection,), {"stalled_seconds": self._caps.stalled_seconds}
            ),
            logger=logging.getLogger("websockets.server"),
            backlog=BACKLOG,
            reuse_port=reuse_port or None,
        )
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Stop accepting, close all readers with 1012 over a second, and be done within three in
        any case.
        """
        if self._listener is None:
            return
        self._listener.close(close_connections=False)
        readers = list(self._readers.all)
        log_line.info("stopping", readers=len(readers))
        loop = asyncio.get_running_loop()
        for number, reader in enumerate(readers):
            loop.call_later(
                SPREAD_SECONDS * number / len(readers), reader.end, CloseCode.RESTART, "shutdown"
            )
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._listener.wait_closed()
        except TimeoutError:
            for connection in tuple(self._connections):
                connection.transport.abort()

    async def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None for a request that may become a WebSocket."""
        if _is_too_long(request, self._caps):
            return connection.respond(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too long\n"
            )
        path, _, query = request.path.partition("?")
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "ok\n")
        if path == "/readyz":
            problem = await self._problem()
            return connection.respond(
                HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK, f"{problem or 'ok'}\n"
            )
        found = _CONVERSATION.fullmatch(path)
        if found is None or not isinstance(connection, ReaderConnection):
            return connection.respond(HTTPStatus.NOT_FOUND, "not found\n")
        connection.conversation_id = found[1]
        connection.token_in_query = "token" in parse_qs(query, keep_blank_values=True)
        return None

    async def _problem(self) -> str | None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await self._ready()
        except (LogUnavailable, TimeoutError):
            return "Redis does not answer"

    async def _serve(self, connection: ServerConnection) -> None:
        """One client, from the opening handshake to the last byte."""
        if not isinstance(connection, ReaderConnection):
            raise TypeError("made by create_connection")
        reader = SocketReader(self._readers, connection)
        self._connections.add(connection)
        address: str | None = None
        try:
            address = self._admit(reader, connection)
            async for message in connection:
                await reader.receive(message)
        except ConnectionClosed as closed:
            if closed.sent is not None and not closed.rcvd_then_sent:
                reader.closed_with(closed.sent.code)
        finally:
            self._connections.discard(connection)
            self._addresses.release(address)
            reader.gone()

    def _admit(self, reader: SocketReader, connection: ReaderConnection) -> str | None:
        """The address that holds a slot, if any."""
        name = self._caps.addresses.name(_client(connection, self._caps.addresses))
        try:
            self._addresses.take(name)
        except Full:
            reader.end(CloseCode.OVER_CAPACITY, "too many connections of this address")
            return None
        if len(self._readers.all) > self._caps.all:
            reader.end(CloseCode.OVER_CAPACITY, "too many connections")
        elif connection.token_in_query:  # every proxy's log has the token by now
            reader.end(CloseCode.MALFORMED, "token in the query string")
        return name


def _is_too_long(request: Request, caps: Caps) -> bool:
    headers = list(request.headers.raw_items())
    size = len(request.path) + sum(len(name) + len(value) + 4 for name, value in headers)
    return len(headers) > caps.headers or size > caps.head_bytes


def _client(connection: ReaderConnection, addresses: Addresses) -> str | None:
    """The client's address: the connection's, or the one that trusted proxies report."""
    peer = connection.remote_address[0] if connection.remote_address else None
    forwarded = connection.request.headers.get_all("X-Forwarded-For") if connection.request else []
    return addresses.client(peer, ", ".join(forwarded))
