"""The gate before every dialect, HTTP and WebSocket: who is calling, and whether there is room.
Nothing is read before that.

    address -> identity, from headers alone -> slots (user, address) -> rates
      -> the body, with its limits -> the answer, until it is read

Every path is guarded but the public ones (`costs`). A refusal here is a problem document, under /v1
one of OpenAI's. Storage and waiting posts of a user are counted where they are written
(`models.quotas`): there the count and the write are one.

A WebSocket may log in by a frame, since browsers cannot send `Authorization` with a handshake.
Until then it is anonymous: a limited number (`newcomers`), one short frame, a short time
(`sockets`). A socket's route holds its `Seat`.
"""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket
from websockets.frames import CloseCode

from tokenwire.config.settings import Settings
from tokenwire.streams.addresses import Addresses
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.streams.limits.rates import WINDOW_SECONDS, InBulk, RateCheck, Rates
from tokenwire.web.admission.costs import cost_of, is_public
from tokenwire.web.admission.identity import Identify, subscription_grant
from tokenwire.web.admission.newcomers import Newcomers
from tokenwire.web.http.receiving import BodyMemory, BufferedBody, LimitedBody, MinimumRate, reading
from tokenwire.web.http.refusals import refusal
from tokenwire.web.http.sending import Outgoing
from tokenwire.web.metrics import Metrics
from tokenwire.web.problems import ROOM_AFTER_SECONDS, ApiProblem

ANONYMOUS_SOCKETS = 1000
ANONYMOUS_SOCKETS_PER_ADDRESS = 10
EXPOSED_HEADERS = ("RateLimit", "RateLimit-Policy", "Retry-After")
"""Headers that pages of other origins may read (CORS)."""
_DID = {"reads": "read", "changes": "changed things"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_EVENTS = re.compile(r"/api/.+/(events|stream)")
"""Paths that a subscription token opens."""
_LARGE = frozenset({"/api/chat", "/v1/responses", "/v1/chat/completions"})
"""Paths on which clients send their whole history."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls and from where. `user` None: not logged in; `address` None: unknown
    (`streams.addresses`).

    `login` false: identified by a subscription token, which is no login.
    """

    user: str | None
    address: str | None
    login: bool = True


class Gate:
    """Counts in this process, and admits callers."""

    def __init__(
        self, settings: Settings, identify: Identify, rates: Rates, metrics: Metrics
    ) -> None:
        self._settings, self._identify, self._rates, self.metrics = (
            settings,
            identify,
            rates,
            metrics,
        )
        self._token_key = settings.token_key.get_secret_value() if settings.token_key else ""
        self.addresses = Addresses(settings.forwarded_allow_ips)
        self.memory = BodyMemory(settings.max_bodies_bytes)
        self._users = Occupancy(settings.max_open_per_user or None)
        self._addresses = Occupancy(settings.max_open_per_address or None)
        self._in_bulk = InBulk(rates)
        self.newcomers = Newcomers(ANONYMOUS_SOCKETS, ANONYMOUS_SOCKETS_PER_ADDRESS)

    def caller(self, scope: Scope) -> Caller:
        """The sender of this request, by its headers. Raises ApiProblem (401, 403; 404 for a path
        with a control character).
        """
        if _CONTROL.search(scope["path"]):  # a route may match only a part of it
            raise ApiProblem("not_found", "There is nothing at this address.")
        address = self._address(scope)
        if is_public(scope["path"]):
            return Caller(None, address)
        request = Request(scope)
        granted = self._token_user(request)
        return (
            Caller(self._identify(request), address)
            if granted is None
            else Caller(granted, address, login=False)
        )

    def caller_of_socket(self, scope: Scope) -> Caller:
        """Who opens this socket: nobody, if the handshake carries no login. Raises ApiProblem (403:
        another origin's page).
        """
        # Frames change things, so the handshake is checked like a changing request.
        request = Request({**scope, "type": "http", "method": "POST"})
        try:
            return Caller(self._identify(request), self._address(scope))
        except ApiProblem as problem:
            if problem.code != "unauthenticated":
                raise
        return Caller(None, self._address(scope))

    def body(self, scope: Scope, receive: Receive, user: str | None) -> LimitedBody:
        """The body of the request, with its limits."""
        return LimitedBody(
            receive,
            scope,
            self._longest_body(scope["path"]),
            MinimumRate.of(self._settings),
            BufferedBody(self.memory, user),
        )

    @contextlib.contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Hold a slot of the user and of the address. Raises ApiProblem (429)."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._users.held(caller.user))
                stack.enter_context(self._addresses.held(caller.address))
            except Full as error:
                raise _too_many_open() from error
            yield

    async def count(self, scope: Scope, caller: Caller) -> dict[str, str]:
        """Count a request; returns the rate headers. Raises ApiProblem (429)."""
        match cost_of(scope["method"], scope["path"]):
            case None:
                return {}
            case "posts":
                return await self.count_post(caller)
            case cost:
                return await self._count_in_bulk(caller, cost)

    async def count_post(self, caller: Caller) -> dict[str, str]:
        """Count a post. Raises ApiProblem (429)."""
        limits = _limits(
            caller,
            self._settings.posts_per_minute_per_user,
            self._settings.posts_per_minute_per_address,
        )
        checks: dict[str, RateCheck] = {}
        for kind, (name, limit) in limits.items():
            checks[kind] = await self._rates.hit(f"{kind}:{name}", limit)
            if not checks[
                kind
            ].allowed:  # requests that are refused for a user do not count for the address
                break
        return _headers_or_refusal("too_many_posts", "posted", limits, checks)

    async def _count_in_bulk(self, caller: Caller, what: str) -> dict[str, str]:
        # They are frequent, so mostly counted without Redis. A user above the read limit can still
        # cancel: changes are counted apart.
        limits = _limits(
            caller,
            self._settings.reads_per_minute_per_user,
            self._settings.reads_per_minute_per_address,
            f"-{what}",
        )
        checks = await self._in_bulk.hit(
            {f"{kind}:{name}": limit for kind, (name, limit) in limits.items()}
        )
        return _headers_or_refusal(
            f"too_many_{what}", _DID[what], limits, dict(zip(limits, checks, strict=False))
        )

    def _token_user(self, request: Request) -> str | None:
        """The user of a subscription token, on paths where such a token is accepted."""
        if request.method not in ("GET", "HEAD") or not _EVENTS.fullmatch(request.url.path):
            return None
        grant = subscription_grant(request, self._token_key)
        return None if grant is None else grant.user_id

    def _address(self, scope: Scope) -> str | None:
        client = scope.get("client")
        return self.addresses.name(client[0] if client else None)

    def _longest_body(self, path: str) -> int:
        if path in _LARGE:
            return self._settings.max_chat_body_bytes
        # JSON may escape every character: three times the bytes at most for a text, plus the other
        # members.
        return 3 * self._settings.max_content_bytes + 64 * 1024


class Admission:
    """The ASGI layer."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as places:
            try:
                caller = self._gate.caller(scope)
                places.enter_context(self._gate.place(caller))
                headers = await self._gate.count(scope, caller)
            except ApiProblem as problem:
                self._gate.metrics.refused.labels(problem.code).inc()
                await refusal(scope["path"], problem)(scope, receive, send)
                return
            scope.setdefault("state", {})["user"] = caller.user if caller.login else None
            body = places.enter_context(reading(self._gate.body(scope, receive, caller.user)))
            unread = BufferedBody(self._gate.memory, caller.user, caller.address)
            places.callback(unread.release)

            async def admitted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    body.release()
                    MutableHeaders(scope=message).update(headers)
                await send(message)

            repeatable = cost_of(scope["method"], scope["path"]) != "posts"
            await self._app(
                scope, body, Outgoing(scope, body, admitted, unread, repeatable=repeatable)
            )

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.ExitStack() as places:
            try:
                seat = Seat(
                    self._gate,
                    self._gate.caller_of_socket(scope),
                    places,
                    scope.get("state", {}).get("socket"),
                )
            except ApiProblem as problem:
                self._gate.metrics.refused.labels(problem.code).inc()
                await WebSocket(scope, receive, send).send_denial_response(
                    refusal(scope["path"], problem)
                )
                return
            scope.setdefault("state", {})["seat"] = seat
            await self._app(scope, receive, send)


class Socket(Protocol):
    """The connection of a WebSocket."""

    def logged_in(self, user: str) -> None:
        """The owner is known."""

    def refuse(self, code: int, reason: str) -> None:
        """Close it at once."""


class Seat:
    """One WebSocket: its slot and its user. `user` None: not logged in."""

    def __init__(
        self, gate: Gate, caller: Caller, places: contextlib.ExitStack, socket: Socket | None = None
    ) -> None:
        """`places` are released when the socket closes. `socket` None: without a connection, in
        tests. Raises ApiProblem (429).
        """
        self._gate, self._address, self._places, self._socket = gate, caller.address, places, socket
        self.user: str | None = None
        self._waiting = contextlib.ExitStack()
        if caller.user is not None:
            self.login(caller.user)
        else:
            self._waiting.enter_context(gate.newcomers.held(caller.address, self._make_room))
            places.push(self._waiting)

    def login(self, user: str) -> None:
        """Set the socket's user. Raises ApiProblem (429)."""
        self._places.enter_context(self._gate.place(Caller(user, self._address)))
        self.user = user
        self._waiting.close()
        if self._socket is not None:
            self._socket.logged_in(user)

    @contextlib.contextmanager
    def following(self, user: str) -> Iterator[None]:
        """Hold a slot while this socket follows an answer. Raises ApiProblem (429)."""
        with self._gate.place(Caller(user, None)):
            yield

    async def count_post(self, user: str) -> None:
        """Count a post by a frame. Raises ApiProblem (429)."""
        await self._gate.count_post(Caller(user, self._address))

    def _make_room(self) -> None:
        if self._socket is not None:
            self._socket.refuse(CloseCode.TRY_AGAIN_LATER, "others want to log in")


def _limits(
    caller: Caller, of_user: int, of_address: int, what: str = ""
) -> dict[str, tuple[str, int]]:
    """Kind -> name and limit. Some are off (0), and user or address may be unknown."""
    given = {f"user{what}": (caller.user, of_user), f"address{what}": (caller.address, of_address)}
    return {
        kind: (name, limit) for kind, (name, limit) in given.items() if name is not None and limit
    }


def _headers_or_refusal(
    code: str, did: str, limits: Mapping[str, tuple[str, int]], checks: Mapping[str, RateCheck]
) -> dict[str, str]:
    """The rate headers of a counted request. Raises ApiProblem (429) with them above the limit."""
    headers = _rate_headers({kind: limits[kind][1] for kind in checks}, checks)
    for check in checks.values():
        if not check.allowed:
            retry = {"Retry-After": str(_seconds(check.reset_seconds))}
            raise ApiProblem(code, f"You have {did} too often within a minute.", headers | retry)
    return headers


def _too_many_open() -> ApiProblem:
    return ApiProblem(
        "too_many_open",
        "You have too many open requests, streams and sockets.",
        {"Retry-After": str(ROOM_AFTER_SECONDS)},
    )


def _rate_headers(limits: Mapping[str, int], checks: Mapping[str, RateCheck]) -> dict[str, str]:
    """Draft 10 of RateLimit header fields (draft-ietf-httpapi-ratelimit-headers)."""
    if not limits:
        return {}
    policy = ", ".join(f'"{kind}";q={limit};w={WINDOW_SECONDS}' for kind, limit in limits.items())
    state = ", ".join(
        f'"{kind}";r={check.remaining};t={_seconds(check.reset_seconds)}'
        for kind, check in checks.items()
    )
    return {"RateLimit-Policy": policy, "RateLimit": state}


def _seconds(wait: float) -> int:
    return max(1, math.ceil(wait))
