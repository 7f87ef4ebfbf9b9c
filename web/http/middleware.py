"""The outer layers of every request: known names, protective headers, counts, and the last error
handler.

Written on bare ASGI, so that streamed answers pass unbuffered.
"""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.frames import CloseCode

from tokenwire.web.admission.costs import PROBES
from tokenwire.web.http.hosts import Hosts
from tokenwire.web.http.refusals import refusal
from tokenwire.web.http.sending import TrackedSend
from tokenwire.web.metrics import Metrics
from tokenwire.web.problems import ApiProblem

log_line = structlog.get_logger(__name__)

_CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "connect-src 'self'",  # and the broadcaster, which has its own port or host
    )
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CLIENT_GONE = 499


class Surroundings:
    """The outermost layer of all: protective headers, and counts. What CORS answers by itself
    (preflights) is counted and protected too.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        hosts: Hosts,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = self._clock()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._protect(scope, message)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            self._count(scope, status, self._clock() - begun)

    def _protect(self, scope: Scope, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        broadcaster = self._hosts.broadcaster_origin(
            scope["scheme"], Headers(scope=scope).get("host", "")
        )
        headers.setdefault(
            "Content-Security-Policy",
            " ".join(filter(None, (_CONTENT_SECURITY_POLICY, broadcaster))),
        )
        if not scope["path"].startswith("/static/"):
            headers.setdefault("Cache-Control", "no-store")

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_name(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status or _CLIENT_GONE)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


class LastErrorHandler:
    """Answers a request whose handler raised before its response began. It is within CORS, so that
    pages of allowed origins can read the refusal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = TrackedSend(send)
        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            # The server stops, and the time of this request is over. The caller does not know what
            # it has done.
            if answer.begun:
                raise
            problem = ApiProblem("unavailable", "The server is restarting.")
            await refusal(scope["path"], problem)(scope, receive, send)
        except Exception as error:  # logged in full, answered without details
            if answer.begun:
                raise
            log_line.exception(
                "request failed", method=scope["method"], path=scope["path"], exc_info=error
            )
            problem = ApiProblem("internal", "The server failed. It is not your request's fault.")
            await refusal(scope["path"], problem)(scope, receive, send)


_DETAIL = "This server has another name: ALLOWED_HOSTS lists its names."


class KnownHosts:
    """Refuses requests and sockets that name another host (421)."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "lifespan"
            or scope["path"] in PROBES
            or self._hosts.answers_to(Headers(scope=scope).get("host", ""))
        ):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send(
                {
                    "type": "websocket.close",
                    "code": CloseCode.POLICY_VIOLATION,
                    "reason": HTTPStatus.MISDIRECTED_REQUEST.phrase,
                }
            )
        else:
            await refusal(scope["path"], ApiProblem("unknown_host", _DETAIL))(scope, receive, send)


def _route_name(scope: Scope) -> str:
    """The template of the route: addresses would create endless series."""
    path = getattr(scope.get("route"), "path", None)
    if path is not None:
        return str(path)
    return "/static" if scope["path"].startswith("/static/") else "none"
