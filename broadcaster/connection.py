"""The connection class of the websockets library, with the changes that the protocol requires.

Broken and oversized frames, for which the library has codes of its own (1002, 1007, 1009), close
with 4400. The connection's listener learns of a full socket and of room in it, of control frames,
and of the beginning of the close. A client that does not read is cut off. Everything else is the
library's.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import structlog
from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode as LibraryCode
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from tokenwire.protocol.frames import MAX_CLIENT_FRAME_BYTES, CloseCode
from tokenwire.streams.limits.stalled import Stalled, StalledWrites

log_line = structlog.get_logger("tokenwire.broadcaster")

MAX_FRAGMENTS = 64
"""The most frames of one message. The library limits only bytes, so empty frames would pile up."""
_CLIENTS_FAULT = frozenset(
    {LibraryCode.PROTOCOL_ERROR, LibraryCode.INVALID_DATA, LibraryCode.MESSAGE_TOO_BIG}
)


class Listener(Protocol):
    """Receives the events of a connection."""

    def pause(self) -> None:
        """The socket is full."""
        ...

    def resume(self) -> None:
        """The socket has room again."""
        ...

    def control(self) -> None:
        """A ping or a pong came."""
        ...

    def lost(self) -> None:
        """The connection is closing or closed, by either side."""
        ...


class _Protocol(ServerProtocol):
    failed: Callable[[], None]
    _fragments = 0

    def recv_frame(self, frame: Frame) -> None:
        """A complete frame."""
        if frame.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
            self._fragments = 1 if frame.opcode is not Opcode.CONT else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                raise ProtocolError("too many fragments")
        super().recv_frame(frame)

    def fail(self, code: LibraryCode | int, reason: str = "") -> None:
        """Close because of the received data."""
        if code in _CLIENTS_FAULT:
            code, reason = int(CloseCode.MALFORMED), CloseCode.MALFORMED.name.lower()
        super().fail(code, reason)
        self.failed()


class ReaderConnection(StalledWrites, ServerConnection):
    """The connection of one client. `conversation_id` and `token_in_query` come from its URL.

    `stalled_seconds`: how long the client may read nothing while output waits.
    """

    stalled_seconds: ClassVar[float]
    listener: Listener | None = None
    conversation_id = ""
    token_in_query = False

    def __init__(self, _protocol: ServerProtocol, server: Server, **options: Any) -> None:
        # The library creates the protocol itself, and has no option for another class.
        own = _Protocol(max_size=MAX_CLIENT_FRAME_BYTES, logger=server.logger)
        super().__init__(own, server, **options)
        own.failed = self._notice_the_end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stalled = Stalled(self.transport, self.stalled_seconds, self._cut)

    @property
    def is_open(self) -> bool:
        """Whether frames may be written."""
        return self.protocol.state is State.OPEN

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._notice_the_end()

    def eof_received(self) -> None:
        super().eof_received()
        self._notice_the_end()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._notice_the_end()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.listener is not None:
            self.listener.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.listener is not None:
            self.listener.resume()

    def process_event(self, event: Event) -> None:
        super().process_event(event)
        if (
            self.listener is not None
            and isinstance(event, Frame)
            and event.opcode in {Opcode.PING, Opcode.PONG}
        ):
            self.listener.control()

    def _cut(self) -> None:
        log_line.info(
            "a client that does not read is cut",
            conversation_id=self.conversation_id,
            unsent=self.transport.get_write_buffer_size(),
        )
        self.transport.abort()

    def _notice_the_end(self) -> None:
        if self.listener is not None and not self.is_open:
            self.listener.lost()
