"""Connections as uvicorn makes them, with limits on what a client may hold open by saying little, slowly, or more than it is asked for.

uvicorn closes an idle connection only between two requests, and the first byte of the next one ends that: a silent socket, a head that
drips in and a refused body that goes on and on are its to wait for. Here a head has its time; a body that nobody reads is taken for a
while, so that the client can read the refusal, and then the connection is cut; so is a client that does not read (`streams.stalled`); an
address has so many connections. Until somebody has logged in on a WebSocket its messages are short and its time is, too. A message has so
many frames, a minute so many pings.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, ClassVar

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from config.settings import Settings
from streams.addresses import Addresses
from streams.frames import CONTROLS_PER_MINUTE
from streams.occupancy import Full, Occupancy
from streams.stalled import Stalled
from web.admission import Gate
from web.receiving import Memory
from web.strict import HeadLimits, StrictProtocol

log_line = structlog.get_logger(__name__)

LINGER_SECONDS = 5.0
"""How long the rest of a body is taken after the answer to it, and how much of it."""
LINGER_BYTES = 4 * 1024 * 1024
LOGIN_FRAME_BYTES = 64 * 1024
"""Longest message before a login."""
MAX_FRAGMENTS = 1024
"""Frames of one message. Bytes are bounded elsewhere: empty frames would be collected without end."""
TRY_AGAIN_LATER = 1013
POLICY = 1008


@dataclass(frozen=True)
class Terms:
    """Of all connections of a process."""

    head_seconds: float
    stalled_seconds: float
    addresses: Addresses
    memory: Memory
    open: Occupancy = field(default_factory=lambda: Occupancy(None))

    def name(self, client: tuple[str, int] | None) -> str | None:
        """What a connection is counted under."""
        return self.addresses.name(client[0] if client else None)

    def watch(self, transport: asyncio.Transport) -> Stalled:
        """Cut the connection once its client takes nothing of what waits for it."""

        def cut() -> None:
            log_line.info("a client that does not read is cut", unsent=transport.get_write_buffer_size())
            transport.abort()

        return Stalled(transport, self.stalled_seconds, cut)


class Connection(StrictProtocol):
    """One connection for requests. `terms` are set by `configured`."""

    terms: ClassVar[Terms]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_awaited = True
        self._body_awaited = False
        self._lingering: int | None = None
        self._over = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._stalled = self.terms.watch(transport)
        name = self.terms.name(self.client)
        try:
            self.terms.open.take(name)
        except Full:
            transport.abort()
            return
        self._address = name
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._leave()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stalled.paused()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stalled.over()

    def handle_websocket_upgrade(self) -> None:
        """From here on the connection is another protocol's."""
        self._leave()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._lingering is not None:
            self._lingering += len(data)
            if self._lingering > LINGER_BYTES:
                self.transport.abort()
                return
        super().data_received(data)
        if not self._over and not self.transport.is_closing():
            self._watch()

    def on_headers_complete(self) -> None:
        """The head of a request is read."""
        super().on_headers_complete()
        self._head_awaited, self._body_awaited = False, True

    def on_message_complete(self) -> None:
        """A request has ended."""
        super().on_message_complete()
        self._head_awaited, self._body_awaited = True, False
        if self._lingering is not None:
            self._lingering = None
            self._disarm()

    def on_response_complete(self) -> None:
        """A request was answered, perhaps before all of it was read."""
        super().on_response_complete()
        if self._body_awaited and not self.transport.is_closing():
            self._lingering = 0
            self._arm(LINGER_SECONDS)

    def _watch(self) -> None:
        """A head that has begun has its time; so has a client that has said nothing yet."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if self._lingering is not None:
            return
        if answering or not self._head_awaited:
            self._disarm()
        elif self._timer is None:
            self._arm(self.terms.head_seconds)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        self._over = True
        self._disarm()
        self._stalled.over()
        self.terms.open.release(self._address)
        self._address = None


class SocketConnection(WebSocketsSansIOProtocol):
    """One WebSocket. `terms` are set by `configured`."""

    terms: ClassVar[Terms]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn.max_message_size = LOGIN_FRAME_BYTES
        self._address: str | None = None
        self._user: str | None = None
        self._held = 0
        self._controls, self._minute = 0, self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._stalled = self.terms.watch(self.transport)
        name = self.terms.name(self.client)
        try:
            self.terms.open.take(name)
        except Full:
            self.transport.abort()
            return
        self._address = name
        self._timer = self.loop.call_later(self.terms.head_seconds, self._refuse, POLICY, "no login in time")

    def handle_connect(self, event: Any) -> None:
        """The handshake; its scope tells the app how to let longer messages in."""
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["state"]["logged_in"] = self.logged_in

    def handle_cont(self, event: Frame) -> None:
        """A further frame of a message."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self._refuse(POLICY, "too many fragments")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """A ping of the client."""
        self._count_control()
        super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """A pong of the client."""
        self._count_control()
        super().handle_pong(event)

    def logged_in(self, user: str) -> None:
        """It is known whose socket this is."""
        self.terms.memory.release(self._user, self._held)
        self._user, self._held = user, 0
        self.conn.max_message_size = self.config.ws_max_size
        self._disarm()
        self._account()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        super().data_received(data)
        self._account()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        super().pause_writing()
        self._stalled.paused()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        super().resume_writing()
        self._stalled.over()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._disarm()
        self._stalled.over()
        self.terms.open.release(self._address)
        self.terms.memory.release(self._user, self._held)
        self._address, self._held = None, 0
        super().connection_lost(exc)

    def _count_control(self) -> None:
        if self.loop.time() - self._minute > 60:
            self._controls, self._minute = 0, self.loop.time()
        self._controls += 1
        if self._controls > CONTROLS_PER_MINUTE:
            self._refuse(POLICY, "too many control frames")

    def _account(self) -> None:
        """What has come of a message that is not complete yet is counted."""
        held = len(self.conn.reader.buffer) + sum(len(frame) for frame in self.frames)
        self.terms.memory.release(self._user, self._held)
        self._held = 0
        try:
            self.terms.memory.take(self._user, held)
        except Full:
            self._refuse(TRY_AGAIN_LATER, "no room")
            return
        self._held = held

    def _refuse(self, code: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        if not self.handshake_complete:
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def configured(app: FastAPI, settings: Settings, gate: Gate, **changes: Any) -> uvicorn.Config:
    """How the app is served: by these connections, and with the client's address from trusted proxies."""
    open_ = Occupancy(settings.max_open_per_address or None)
    terms = Terms(settings.head_seconds, settings.stalled_seconds, gate.addresses, gate.memory, open_)
    head = HeadLimits(settings.max_head_bytes, settings.max_headers)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,  # as config.logs has set it up
        "access_log": False,
        "server_header": False,
        "http": type("Connection", (Connection,), {"terms": terms, "head": head}),
        "ws": type("SocketConnection", (SocketConnection,), {"terms": terms}),  # chat sockets of AI SDK clients
        "ws_max_size": settings.max_chat_body_bytes,
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "lifespan": "on",
    }
    return uvicorn.Config(app, **options | changes)
