"""uvicorn's WebSockets with limits on messages and on memory.

    before a login      one short message in one frame, within seconds; the oldest silent
                         socket makes room for a new one
    after it            a number of messages, fragments and pings per minute; a message that
                         has begun must keep coming
    always              no compression; nothing is written to a client that does not read

Limits apply while frames are parsed: one read may hold thousands, and nothing after a refusal is
parsed. The app reports the login (`Socket`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ProtocolError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from tokenwire.protocol.frames import CONTROLS_PER_MINUTE
from tokenwire.streams.limits.occupancy import Full
from tokenwire.streams.limits.per_minute import PerMinute
from tokenwire.streams.limits.stalled import StalledWrites
from tokenwire.web.http.receiving import BufferedBody
from tokenwire.web.http.terms import ConnectionTerms

LOGIN_FRAME_BYTES = 64 * 1024
"""Longest message before a login."""
LOGIN_SECONDS = 5.0
"""Longest time before a login, if HEAD_SECONDS is not shorter."""
MESSAGES_PER_MINUTE = 120
MAX_FRAGMENTS = 1024
"""Frames of one message; also fragments per minute. Bytes are limited elsewhere: empty frames cost
as much.
"""


class Incoming(ServerProtocol):
    """Frames as they are parsed. `longest`: of messages, after a login."""

    def __init__(self, longest: int, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(max_size=LOGIN_FRAME_BYTES, **options)
        self._longest = longest
        self._clock, now = clock, clock()
        self._messages, self._controls = (
            PerMinute(MESSAGES_PER_MINUTE, now),
            PerMinute(CONTROLS_PER_MINUTE, now),
        )
        self._continuations = PerMinute(MAX_FRAGMENTS, now)
        self._judged_first = False
        self._refusal: str | None = None

    def trust(self) -> None:
        """A login has succeeded, or is being checked: the next messages may be long."""
        self._judged_first = True
        self.max_message_size = self._longest

    def recv_frame(self, frame: Frame) -> None:
        """A complete frame. Raises ProtocolError, which ends the parsing."""
        if self.state is State.CONNECTING:
            self._refuse("nothing is taken before the handshake")
        if not self._budget(frame).spend(self._clock()):
            self._refuse("too many frames")
        if not self._judged_first and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            if frame.opcode is not Opcode.TEXT or not frame.fin:
                self._refuse("a login is one text frame")
            # later bytes of this read are held, and parsed once the app has checked this frame
            self.trust()
        super().recv_frame(frame)

    def fail(self, code: CloseCode | int, reason: str = "") -> None:
        """Close because of the received data."""
        if self._refusal is not None:
            code, reason = CloseCode.POLICY_VIOLATION, self._refusal
        super().fail(code, reason)

    def _budget(self, frame: Frame) -> PerMinute:
        if frame.opcode is Opcode.CONT:
            return self._continuations
        return self._messages if frame.opcode in (Opcode.TEXT, Opcode.BINARY) else self._controls

    def _refuse(self, reason: str) -> None:
        self._refusal = reason
        raise ProtocolError(reason)


class SocketConnection(StalledWrites, WebSocketsSansIOProtocol):
    """One WebSocket. `connections.configured` sets `terms`. It is the `Socket` of `admission`."""

    terms: ClassVar[ConnectionTerms]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: Incoming = Incoming(self.config.ws_max_size, self.loop.time, logger=self.logger)
        self._address: str | None = None
        self._known = False
        self._held = BufferedBody(self.terms.memory, None)
        self._waiting: deque[int] = deque()
        self._read = 0
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stalled = self.terms.watch(self.transport)
        name = self.terms.name(self.client)
        try:
            self.terms.open.take(name)
        except Full:
            self.transport.abort()
            return
        self._address = name
        self._arm(min(self.terms.head_seconds, LOGIN_SECONDS), "no login in time")

    def handle_connect(self, event: Any) -> None:
        """The handshake; its scope lets the app report a login."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"]["socket"] = self

    def logged_in(self, user: str) -> None:
        """The owner of this socket is known."""
        self._known = True
        self.conn.trust()
        self._held.release()
        self._held = BufferedBody(self.terms.memory, user)
        self._account()

    def refuse(self, code: int, reason: str) -> None:
        """Close it at once, whatever the client does."""
        if self.transport.is_closing():
            return
        if not self.handshake_complete or not self.writable.is_set():
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._account()

    def handle_text(self, event: Frame) -> None:
        """The first frame of a message."""
        super().handle_text(event)
        event.data = b""  # the parser keeps the frame until the next one

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message."""
        super().handle_cont(event)
        event.data = b""

    def handle_ping(self) -> None:
        """A ping of the client: answered, unless the pong would wait behind unread output."""
        pong = b"".join(self.conn.data_to_send())
        if self.writable.is_set():
            self.transport.write(pong)

    def handle_parser_exception(self) -> None:
        """Refuse the received data."""
        if self.conn.close_sent is None or not self.writable.is_set():
            self.transport.abort()
        else:
            super().handle_parser_exception()

    def send_receive_event_to_app(self) -> None:
        """A message is complete. It counts until the app asks for the next one, since it is parsed
        until then.
        """
        if not self.close_sent:
            self._waiting.append(sum(map(len, self.frames)))
        super().send_receive_event_to_app()

    async def receive(self) -> Any:
        self._read = 0
        self._account()
        message = await super().receive()
        if message["type"] == "websocket.receive":
            self._read = self._waiting.popleft()
        return message

    async def send(self, message: Any) -> None:
        """Send an ASGI message. A client without a login is not waited for."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # a refusal: uvicorn logs it as an error of ours
        if message["type"] == "websocket.close" and not self._known:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.terms.open.release(self._address)
        self._held.release()
        self._address = None
        super().connection_lost(exc)

    def _account(self) -> None:
        """Count the bytes of an incomplete message, and of messages that the app has not parsed."""
        if self.disconnected:
            return
        unfinished = len(self.conn.reader.buffer) + (self.conn.current_size or 0)
        try:
            self._held.be(unfinished + sum(self._waiting) + self._read)
        except Full:
            self.refuse(CloseCode.TRY_AGAIN_LATER, "no room")
            return
        if self._known:
            self._watch(unfinished)

    def _watch(self, unfinished: int) -> None:
        """A message that has begun must keep coming, like bodies."""
        self._disarm()
        if not unfinished or self.read_paused:  # not the client's fault
            self._began = None
            return
        now = self.loop.time()
        self._began = now if self._began is None else self._began
        self._arm(
            self.terms.pace.left(now - self._began, unfinished), "the message comes too slowly"
        )

    def _arm(self, seconds: float, reason: str) -> None:
        self._timer = self.loop.call_later(seconds, self.refuse, CloseCode.POLICY_VIOLATION, reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
