"""uvicorn's connections with limits on slow, silent and excessive clients.

uvicorn closes an idle connection only between two requests, and the first byte of the next one ends
that: it waits for a silent socket, a slow head and an endless refused body. Here a head has a time
limit. An unread body is taken for a while, so that the client can read the refusal; then the
connection is cut. So is a client that does not read (`stalled`), and the number of connections per
address is limited. `sockets` has the WebSockets.
"""

import asyncio
from typing import Any, ClassVar

import uvicorn
from fastapi import FastAPI

from tokenwire.config.settings import Settings
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.streams.limits.stalled import StalledWrites
from tokenwire.web.admission.layer import Gate
from tokenwire.web.http.receiving import MinimumRate
from tokenwire.web.http.sockets import SocketConnection
from tokenwire.web.http.strict import HeadLimits, StrictProtocol
from tokenwire.web.http.terms import ConnectionTerms

LINGER_SECONDS = 5.0
"""How long, and how much of, the rest of a body is taken after its answer."""
LINGER_BYTES = 4 * 1024 * 1024
PROXY_IDLE_SECONDS = 75
"""How long a proxy's connection may wait for its next request: longer than proxies keep one (nginx:
60 s). Otherwise the server closes it just when the proxy reuses it, and the proxy answers 502.
Other connections have uvicorn's five seconds.
"""


class HttpConnection(StalledWrites, StrictProtocol):
    """One connection for requests. `configured` sets `terms`."""

    terms: ClassVar[ConnectionTerms]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_awaited = True
        self._body_awaited = False
        self._lingering: int | None = None
        self._over = False

    # As uvicorn has it.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stalled = self.terms.watch(transport)
        name = self.terms.name(self.client)
        if name is None:
            self.timeout_keep_alive = PROXY_IDLE_SECONDS
        try:
            self.terms.open.take(name)
        except Full:
            transport.abort()
            return
        self._address = name
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection to the WebSocket protocol: this one stops counting it."""
        self._leave()
        super().handle_websocket_upgrade()

    def data_received(self, data: bytes) -> None:
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
        """A request was answered, perhaps before it was completely read."""
        super().on_response_complete()
        if self._body_awaited and not self.transport.is_closing():
            self._lingering = 0
            self._arm(LINGER_SECONDS)

    def _watch(self) -> None:
        """Start the time limit of a head that has begun, or of a silent client."""
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


def configured(app: FastAPI, settings: Settings, gate: Gate, **changes: Any) -> uvicorn.Config:
    """Serve the app over these connections, with the client's address from trusted proxies."""
    open_ = Occupancy(settings.max_open_per_address or None)
    terms = ConnectionTerms(
        settings.head_seconds,
        settings.stalled_seconds,
        MinimumRate.of(settings),
        gate.addresses,
        gate.memory,
        open_,
    )
    head = HeadLimits(settings.max_head_bytes, settings.max_headers)
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "log_config": None,  # config.logs has set it up
        "access_log": False,
        "server_header": False,
        "http": type("Connection", (HttpConnection,), {"terms": terms, "head": head}),
        "ws": type(
            "SocketConnection", (SocketConnection,), {"terms": terms}
        ),  # chat sockets of AI SDK clients
        "ws_max_size": settings.max_chat_body_bytes,
        "forwarded_allow_ips": settings.forwarded_allow_ips,
        "lifespan": "on",
    }
    return uvicorn.Config(app, **options | changes)
