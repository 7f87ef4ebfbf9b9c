"""The connections under httpx: aiohttp's if it is installed, else httpx's own.

aiohttp costs about a third of httpx's own per streamed chunk, so the server installs it; a light
install does without. Both report the same about a failed request: whether any of it was sent, and
over what kind of connection. Only this module knows which one it is.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx

KEEPALIVE_SECONDS = 30.0
_HEADER_BYTES = 64 * 1024
_ERRORS = (httpx.HTTPError, httpx.StreamError, OSError, EOFError)


@dataclass(slots=True)
class Sending:
    """A request that is being sent. `reused`: over a connection that has served another one."""

    reused: bool = False


class Transport(ABC):
    """A kind of connections, and the meaning of its errors."""

    @abstractmethod
    def open(self, tls: ssl.SSLContext, limit: int, *, once: bool) -> httpx.AsyncBaseTransport:
        """A pool of up to `limit` connections; `once`: each serves one request."""

    @abstractmethod
    def noting(self, sending: Sending) -> AbstractContextManager[dict[str, Any]]:
        """A context for sending one request with the returned extensions. `sending` then records
        its connection.
        """

    @abstractmethod
    def unsent(self, error: BaseException) -> bool:
        """Whether the request failed before a connection existed: no address, refused, TLS, no
        place in the pool. Otherwise a byte may have been sent.
        """

    @property
    @abstractmethod
    def errors(self) -> tuple[type[Exception], ...]:
        """What a request or its body may raise."""

    @abstractmethod
    def closed(self, error: BaseException) -> bool:
        """Whether the connection existed and was closed."""

    @abstractmethod
    def timed_out(self, error: BaseException) -> bool:
        """Whether the request timed out."""


def best() -> Transport:
    """aiohttp's if it is installed."""
    try:
        return OverAiohttp()
    except ModuleNotFoundError:
        return OverHttpx()


class OverHttpx(Transport):
    """httpx's own connections."""

    def open(self, tls: ssl.SSLContext, limit: int, *, once: bool) -> httpx.AsyncBaseTransport:
        limits = httpx.Limits(
            max_connections=limit,
            max_keepalive_connections=0 if once else None,
            keepalive_expiry=KEEPALIVE_SECONDS,
        )
        return httpx.AsyncHTTPTransport(verify=tls, limits=limits, trust_env=False)

    @contextmanager
    def noting(self, sending: Sending) -> Iterator[dict[str, Any]]:
        sending.reused = True

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            if event == "connection.connect_tcp.started":
                sending.reused = False

        yield {"trace": trace}

    def unsent(self, error: BaseException) -> bool:
        return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        return _ERRORS

    def closed(self, error: BaseException) -> bool:
        return isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)

    def timed_out(self, error: BaseException) -> bool:
        return isinstance(error, httpx.TimeoutException)


class OverAiohttp(Transport):
    """aiohttp's connections. Raises ModuleNotFoundError if it is not installed."""

    def __init__(self) -> None:
        import aiohttp
        from httpx_aiohttp import AiohttpTransport

        self._aiohttp, self._transport = aiohttp, AiohttpTransport
        self._sending: ContextVar[Sending | None] = ContextVar("sending", default=None)
        """The request that this task is sending: httpx passes nothing through to aiohttp's
        traces.
        """

    def open(self, tls: ssl.SSLContext, limit: int, *, once: bool) -> httpx.AsyncBaseTransport:
        # With its default, each would read the certificates of the system once more.
        return self._transport(verify=tls, client=partial(self._session, tls, limit, once=once))

    def _session(self, tls: ssl.SSLContext, limit: int, *, once: bool) -> Any:
        keep: dict[str, Any] = (
            {"force_close": True} if once else {"keepalive_timeout": KEEPALIVE_SECONDS}
        )
        # Cookies of one answer must not go with the next; some gateways send long headers.
        return self._aiohttp.ClientSession(
            connector=self._aiohttp.TCPConnector(limit=limit, ssl=tls, **keep),
            cookie_jar=self._aiohttp.DummyCookieJar(),
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
            trace_configs=[self._tracing()],
        )

    def _tracing(self) -> Any:
        """Records whether a connection comes from the pool."""

        async def reused(*_: object) -> None:
            self._note(reused=True)

        async def created(*_: object) -> None:
            self._note(reused=False)

        tracing = self._aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(reused)
        tracing.on_connection_create_start.append(created)
        return tracing

    def _note(self, *, reused: bool) -> None:
        if (sending := self._sending.get()) is not None:
            sending.reused = reused

    @contextmanager
    def noting(self, sending: Sending) -> Iterator[dict[str, Any]]:
        before = self._sending.set(sending)
        try:
            yield {}
        finally:
            self._sending.reset(before)

    def unsent(self, error: BaseException) -> bool:
        return isinstance(
            error.__cause__,
            self._aiohttp.ClientConnectorError | self._aiohttp.ConnectionTimeoutError,
        )

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        # httpx_aiohttp maps a part of aiohttp's. A reply that is no HTTP comes as it is
        # (ClientResponseError), and so does what the parser says about a body
        # (HttpProcessingError).
        found = self._aiohttp
        return (*_ERRORS, found.ClientError, found.http_exceptions.HttpProcessingError)

    def closed(self, error: BaseException) -> bool:
        errors = (
            self._aiohttp.ServerDisconnectedError,
            self._aiohttp.ClientOSError,
            self._aiohttp.ClientConnectionResetError,
        )
        return isinstance(error.__cause__, errors)

    def timed_out(self, error: BaseException) -> bool:
        # The transport reports a refused connection as a timeout, too; aiohttp's own error
        # distinguishes them.
        cause = error.__cause__
        return isinstance(error, httpx.TimeoutException) and (
            cause is None or isinstance(cause, TimeoutError)
        )
