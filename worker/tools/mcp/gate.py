"""What passes between a session of the package `mcp` and a transport, in both directions.

Guarantees: a server makes us hold and answer little. Of what it sends by itself, only the news that
its list of tools has changed is heard; of its requests (for input of a person, for a model, for
files) the first MAX_REQUESTS are passed on, to be refused, and then the connection ends. Each
message costs it MESSAGE_SECONDS, so a flood holds neither the loop nor the interpreter's lock.

`CallPassage` is the difference between "failed" and "nobody knows": a call that was not handed to a
transport never left, and neither did one whose transport has proved it. The call is marked in the
caller's own task. The transport finds it in a context variable: were that lost, the outcome would
be unknown, never wrong.
"""

import asyncio
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol, Self, TypeAlias

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest

MAX_REQUESTS = 100
"""Requests of a server in one session."""
MESSAGE_SECONDS = 0.001
BYTES_PER_SECOND = 16 * 1024 * 1024
"""What is read from one server, at most."""
MESSAGE_BYTES = 4 * 1024 * 1024
"""The longest message. A longer one is not read to its end."""
_CHANGED = "notifications/tools/list_changed"


class Source(Protocol):
    """What a transport reads."""

    async def receive(self) -> SessionMessage | Exception:
        """The next message. Raises anyio.EndOfStream."""

    async def aclose(self) -> None:
        """Close it."""


class Sink(Protocol):
    """What a transport writes."""

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message. Raises anyio.BrokenResourceError."""

    async def aclose(self) -> None:
        """Close it."""


Streams: TypeAlias = tuple[Source, Sink]


class CallPassage:
    """One call on its way."""

    def __init__(self) -> None:
        self.handed = False
        """A transport has it."""
        self.unsent = False
        """The transport could send nothing of it, and will not try again."""
        self.broke = False
        """Its connection broke."""
        self.status: int | None = None
        """The status of an HTTP answer that is none of the protocol."""

    @property
    def never_left(self) -> bool:
        """Whether it is certain that the server did not get it."""
        return self.unsent or not self.handed


PRESENT: ContextVar[CallPassage | None] = ContextVar("PRESENT", default=None)
"""The call that this task sends."""


class ServerLink:
    """What a connection reports to whoever keeps it."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        """The list of tools may have changed; or the connection is lost."""
        self.lost = asyncio.Event()
        """The connection is of no use any more."""
        self.fault: str | None = None
        """The last error of a connection, for the log."""

    def end(self) -> None:
        """The connection is lost."""
        self.lost.set()
        self.changed.set()


async def throttle(size: int) -> None:
    """Wait as long as the server may take for so many bytes."""
    await asyncio.sleep(size / BYTES_PER_SECOND)


class Inlet:
    """What a server sends, as the session gets it."""

    def __init__(self, stream: Source, link: ServerLink) -> None:
        self._stream = stream
        self._link = link
        self._requests = 0

    async def receive(self) -> SessionMessage | Exception:
        """The next message for the session. Raises anyio.EndOfStream."""
        while True:
            try:
                item = await self._stream.receive()
            except BaseException:
                self._link.end()
                raise
            await asyncio.sleep(MESSAGE_SECONDS)
            if isinstance(item, SessionMessage) and self._passes(item):
                return item

    def _passes(self, item: SessionMessage) -> bool:
        match item.message:
            case JSONRPCNotification(method=method):
                if method == _CHANGED:
                    self._link.changed.set()
                return False
            case JSONRPCRequest():
                self._requests += 1
                if self._requests > MAX_REQUESTS:
                    self._link.end()
                    raise anyio.EndOfStream
        return True

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


class Outlet:
    """What the session sends."""

    def __init__(self, stream: Sink) -> None:
        self._stream = stream

    async def send(self, item: SessionMessage, /) -> None:
        """Hand a message to the transport."""
        if (sending := PRESENT.get()) is not None:
            sending.handed = True
        try:
            await self._stream.send(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            if sending is not None:
                sending.unsent = True
            raise

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
