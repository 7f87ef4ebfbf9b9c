"""The pub/sub connection of a process: an asyncio protocol around hiredis' parser, far cheaper per
message than a general client.

Decides when the connection is dead, when to retry, and which channels are subscribed. The hub
interprets the messages.

Guarantees: `subscribe` returns once the server has confirmed that subscription, or a later one of
the channel. After a break, every channel is subscribed and reported again, because messages may be
lost.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from tokenwire.config.background import supervise
from tokenwire.config.pauses import GrowingPause
from tokenwire.streams.log.ports import LogUnavailable

log_line = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
CONFIRM_SECONDS = 5.0
PING_SECONDS = 5.0
"""A PING this often; silence of two such intervals is a dead connection."""
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
MAX_CHANNELS_PER_COMMAND = 500

Receive = Callable[[list[tuple[bytes, bytes]]], None]


class _PubSubConnection(asyncio.Protocol):
    """One TCP connection in subscribed mode (RESP2)."""

    def __init__(self, receive: Receive, confirmed: Callable[[bytes], None]) -> None:
        self._reader = hiredis.Reader()
        self._receive = receive
        self._confirmed = confirmed
        self._transport: asyncio.Transport | None = None
        self.heard = True
        self.failure: Exception | None = None
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # No isinstance: uvloop's stream transports are not subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        messages: list[tuple[bytes, bytes]] = []
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._take(reply, messages)
        except hiredis.HiredisError as error:
            self.fail(error)
        if messages:
            self._receive(messages)

    def _take(self, reply: Any, messages: list[tuple[bytes, bytes]]) -> None:
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        if not isinstance(reply, list):  # the OK of AUTH
            return
        if reply[0] == b"message":
            messages.append((reply[1], reply[2]))
        elif reply[0] == b"subscribe":
            self._confirmed(reply[1])

    def connection_lost(self, exc: Exception | None) -> None:
        self.failure = self.failure or exc
        self.closed.set()

    def fail(self, error: Exception) -> None:
        """Close at once."""
        self.failure = error
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def send(self, *command: str) -> None:
        if self._transport is not None and not self._transport.is_closing():
            # Its stub means a tuple of any length.
            self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type]


class RedisPubSub:
    """`streams.log.ports.PubSub` on the server at `url` (redis:// or rediss://).

    Belongs to one event loop.
    """

    def __init__(self, url: str) -> None:
        self._address: dict[str, Any] = dict(parse_url(url))
        self._wanted: set[str] = set()
        self._awaited: dict[
            str, int
        ] = {}  # pending confirmations by channel: an older one must not count for a newer
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}
        self._connection: _PubSubConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._ready.is_set()

    async def start(self, receive: Receive, subscribed: Callable[[bytes], None]) -> None:
        """Begin, without waiting for the connection."""
        self._receive, self._subscribed = receive, subscribed
        self._task = asyncio.create_task(supervise("pubsub", self._stay_connected))

    async def subscribe(self, channel: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(channel, []).append(waiter)
        self._wanted.add(channel)
        if self._connection is not None:
            self._send_subscribe([channel])
        try:
            async with asyncio.timeout(CONFIRM_SECONDS):
                await waiter
        except BaseException as error:
            self._give_up(channel, waiter)
            if isinstance(error, TimeoutError):
                raise LogUnavailable("SUBSCRIBE was not confirmed") from error
            raise

    def unsubscribe(self, channel: str) -> None:
        self._wanted.discard(channel)
        if self._connection is not None:
            self._connection.send("UNSUBSCRIBE", channel)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _give_up(self, channel: str, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(channel, [])
        if waiter in waiters:
            waiters.remove(waiter)
        if not waiters:
            self._waiters.pop(channel, None)
            self.unsubscribe(channel)

    # --- the connection ---

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        pause = GrowingPause(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        while True:
            began = loop.time()
            try:
                connection = await self._connect()
            except (OSError, TimeoutError) as error:
                reason: object = error or type(error).__name__
            else:
                await self._use(connection)
                reason = connection.failure or "closed by the server"
            pause.ran(loop.time() - began)
            # The first failure is logged, the retries that follow are not.
            log_line.log(
                logging.WARNING if pause.is_first else logging.DEBUG,
                "pub/sub connection lost: %s",
                reason,
            )
            await asyncio.sleep(pause.spread())

    async def _connect(self) -> _PubSubConnection:
        loop = asyncio.get_running_loop()
        address = self._address

        def factory() -> _PubSubConnection:
            return _PubSubConnection(self._receive, self._confirm)

        async with asyncio.timeout(CONNECT_SECONDS):
            if address.get("connection_class") is UnixDomainSocketConnection:
                _, connection = await loop.create_unix_connection(factory, address["path"])
            else:
                host, port = address.get("host", "localhost"), address.get("port", 6379)
                _, connection = await loop.create_connection(factory, host, port, ssl=self._tls())
        if "password" in address:
            user = (address["username"],) if "username" in address else ()
            connection.send("AUTH", *user, address["password"])
        return connection

    def _tls(self) -> Any:
        address = dict(self._address)
        kind = address.pop("connection_class", None)
        return SSLConnection(**address).ssl_context.get() if kind is SSLConnection else None

    async def _use(self, connection: _PubSubConnection) -> None:
        self._connection = connection
        self._awaited.clear()
        self._ready.set()
        wanted = sorted(self._wanted)
        for start in range(0, len(wanted), MAX_CHANNELS_PER_COMMAND):
            self._send_subscribe(wanted[start : start + MAX_CHANNELS_PER_COMMAND])
        try:
            while not connection.closed.is_set():
                connection.heard = False
                connection.send("PING")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING_SECONDS):
                        await connection.closed.wait()
                if not connection.heard:
                    connection.fail(TimeoutError("silent"))
        finally:
            self._ready.clear()
            self._connection = None
            connection.close()

    def _send_subscribe(self, channels: list[str]) -> None:
        for channel in channels:
            self._awaited[channel] = self._awaited.get(channel, 0) + 1
        if self._connection is not None:
            self._connection.send("SUBSCRIBE", *channels)

    def _confirm(self, name: bytes) -> None:
        channel = name.decode()
        left = self._awaited.pop(channel, 1) - 1
        if left > 0:
            self._awaited[channel] = left
            return
        waiters = self._waiters.pop(channel, [])
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if not waiters and channel in self._wanted:
            self._subscribed(name)
