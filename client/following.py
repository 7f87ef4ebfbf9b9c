"""Following a conversation: sockets come and go, the transcript stays.

`transcript` knows what events mean; this module moves frames. Nothing happens in the background:
the program that iterates drives it, and the server waits for a program that takes its time. Every
wait ends by itself: with the next frame, when a missing event counts as lost, when the silence is
too long, or when the token must be renewed.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tokenwire.client.errors import FollowingStopped, RequestFailed
from tokenwire.client.transcript import (
    EventObject,
    LiveMessage,
    Order,
    PostResult,
    Transcript,
    after_close,
)
from tokenwire.config.clock import clock
from tokenwire.protocol.cursors import parse

HELLO_SECONDS = 15.0
"""The longest time from dialling to `subscribed`."""
HOLE_SECONDS = 1.0
"""How long a missing event may be under way before it counts as lost."""
STEADY_SECONDS = 5.0
"""A connection that was live for so long is no failure."""
RENEW_AGAIN_SECONDS = 10.0
REFUSED_TOKENS = 4
"""After so many refused tokens in a row, keys or clocks of the servers must differ."""
_GRACE_SECONDS = 0.1
"""The time by which a frame may be overdue before the connection counts as dead."""
MAX_FRAME_BYTES = 32 * 1024 * 1024

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]
"""Asks the server, and returns the JSON object of its answer."""


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """How the connection is.

    `connecting` before the first one, `replaying` while missed events arrive, `live`, and
    `reconnecting` in `delay_seconds` after a close with `code` (0: without one).
    """

    name: Literal["connecting", "replaying", "live", "reconnecting"]
    code: int = 0
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Change:
    """`event` has changed `message`, or the conversation if there is no `message`.

    Without an event the connection has another `state`, or the conversation was read (again), so
    that anything may have changed.
    """

    message: LiveMessage | None = None
    event: EventObject | None = None


@dataclass(slots=True)
class _DatedGrant:
    url: str
    token: str
    until: float


@dataclass(frozen=True, slots=True)
class _LinkContext:
    """The state that a link changes, and the functions that it calls."""

    order: Order
    transcript: Transcript
    reached: Callable[[int], None]
    set_state: Callable[[ConnectionState], None]
    renew: Callable[[], Awaitable[_DatedGrant]]


class Following:
    """A conversation that is followed. Iterate for changes; `messages` are those after the last.

    Iteration raises FollowingStopped if it cannot continue.
    """

    def __init__(
        self, load: Fetch, grant: Fetch, jitter: Callable[[], float] = random.random
    ) -> None:
        self.state = ConnectionState("connecting")
        self.transcript = Transcript()
        self._load, self._ask_grant, self._jitter = load, grant, jitter
        self._order: Order | None = None  # None: the conversation must be read (again)
        self._grant: _DatedGrant | None = None
        self._failures = self._applied = self._refused = 0
        self._changes = self._run()
        self._step: asyncio.Future[Change] | None = None

    @property
    def messages(self) -> list[LiveMessage]:
        """All that are held, in order."""
        return self.transcript.messages

    @property
    def cursor(self) -> str | None:
        """Everything up to here is in `messages`; None before the conversation was read."""
        return None if self._order is None else f"{self._order.epoch}:{self._applied}"

    def get(self, message_id: str) -> LiveMessage | None:
        """The message of this id."""
        return self.transcript.get(message_id)

    def answer_to(self, post: PostResult) -> LiveMessage | None:
        """The answer to a post: its own, or the answer that took its message in at a step."""
        taken = self.transcript.brought(post.user_message.id)
        return taken or self.get(post.assistant_message.id)

    async def until_answered(self, post: PostResult) -> LiveMessage:
        """The answer to a post when it is final."""
        while True:
            held = self.answer_to(post)
            if held is not None and held.ended:
                return held
            await anext(self)

    async def until_ended(self, message_id: str) -> LiveMessage:
        """The message when it is final."""
        while True:
            held = self.get(message_id)
            if held is not None and held.ended:
                return held
            await anext(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        await self._changes.aclose()

    def __aiter__(self) -> "Following":
        return self

    async def __anext__(self) -> Change:
        if self._step is None:
            self._step = asyncio.ensure_future(self._next())
        # A wait that is given up (by a timeout, say) neither ends the connection nor loses the
        # change: the next wait gets it.
        step = self._step
        await asyncio.wait({step})
        self._step = None
        return step.result()

    async def _next(self) -> Change:
        return await anext(self._changes)

    # --- one connection after the other ---

    async def _run(self) -> AsyncGenerator[Change]:
        while True:
            code, wait = 0, 0.0
            try:
                if self._order is None:
                    await self._read()
                    yield Change()
                async with contextlib.aclosing(self._connection()) as changes:
                    async for change in changes:
                        yield change
                code = self.state.code
            except RequestFailed as error:
                code, wait = error.status, error.retry_after
            step = after_close(code, self._failures, self._jitter)
            self._failures += 1
            if step.then == "stop":
                raise FollowingStopped(code)
            if step.then == "token":
                self._grant = None
                self._refused += 1
                if self._refused >= REFUSED_TOKENS:
                    raise FollowingStopped(code)
            if step.then == "resync":
                self._order = None
            self.state = ConnectionState("reconnecting", code, max(step.delay_seconds, wait))
            yield Change()
            await asyncio.sleep(self.state.delay_seconds)

    async def _read(self) -> None:
        snapshot = await self._load()
        self.transcript.load(snapshot)
        if snapshot["cursor"] is None:
            raise RequestFailed(0, "unavailable", "the log cannot be read now")
        self._order = Order(parse(snapshot["cursor"]))
        self._applied = self._order.seq

    async def _renew(self, now: float, *, ahead_seconds: float = 0.0) -> _DatedGrant:
        if self._grant is None or self._grant.until - ahead_seconds <= now:
            given = await self._ask_grant()
            self._grant = _DatedGrant(given["url"], given["token"], now + given["expires_in"] - 30)
        return self._grant

    def _link_context(self, order: Order) -> _LinkContext:
        def reached(seq: int) -> None:
            self._applied, self._failures = seq, 0

        def set_state(state: ConnectionState) -> None:
            self.state, self._refused = state, 0  # it speaks to us, so it has taken the token

        return _LinkContext(
            order,
            self.transcript,
            reached,
            set_state,
            lambda: self._renew(clock(), ahead_seconds=float("inf")),
        )

    async def _connection(self) -> AsyncGenerator[Change]:
        """Changes until it ends; then `state.code` says how."""
        code, order = 0, self._order
        if order is None:
            raise ValueError("the conversation was not read")
        try:
            grant = await self._renew(clock())
            async with connect(
                grant.url,
                compression=None,
                ping_interval=None,
                open_timeout=HELLO_SECONDS,
                close_timeout=1,
                max_size=MAX_FRAME_BYTES,
            ) as socket:
                link = _Link(socket, grant, self._link_context(order))
                async with contextlib.aclosing(link.changes()) as changes:
                    async for change in changes:
                        yield change
                code = link.code
                if link.live_since is not None and clock() - link.live_since > STEADY_SECONDS:
                    self._failures = 0
        except (OSError, TimeoutError, WebSocketException):
            code = 0
        self.state = ConnectionState("reconnecting", code)


class _Link:
    """One socket: frames in, changes out. `code` is set at the end, by the server or by us."""

    def __init__(self, socket: ClientConnection, grant: _DatedGrant, context: _LinkContext) -> None:
        self.code = 0
        self.live_since: float | None = None
        self._socket, self._token, self._context, self._order = (
            socket,
            grant.token,
            context,
            context.order,
        )
        self._silence = HELLO_SECONDS
        self._over = False
        self._hole: float | None = None
        self._renew_at = clock() + (grant.until - clock()) * 0.8

    async def changes(self) -> AsyncGenerator[Change]:
        """The changes, until the end."""
        try:
            async with contextlib.aclosing(self._talk()) as changes:
                async for change in changes:
                    yield change
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 0

    async def _talk(self) -> AsyncGenerator[Change]:
        await self._send(
            {"type": "subscribe", "token": self._token, "after": str(self._order.cursor)}
        )
        heard = clock()
        while not self._over:
            text = await self._receive(heard)
            if text is None:
                await self._on_time(heard)
                continue
            heard = clock()
            for change in self._frame(text):
                yield change

    async def _receive(self, heard: float) -> str | bytes | None:
        """The next frame; None: it is time for something else."""
        due = min(
            heard + self._silence,
            self._renew_at,
            self._hole if self._hole is not None else float("inf"),
        )
        # What has arrived already counts, however long the consumer took to come for it.
        text = await self._within(max(due - clock(), 0.01))
        if text is None and due != self._renew_at:
            # After a standstill of the whole program, the time is over before the socket is read.
            text = await self._within(_GRACE_SECONDS)
        return text

    async def _within(self, seconds: float) -> str | bytes | None:
        try:
            async with asyncio.timeout(seconds):
                return await self._socket.recv()
        except TimeoutError:
            return None

    async def _on_time(self, heard: float) -> None:
        now = clock()
        if (self._hole is not None and now >= self._hole) or now >= heard + self._silence:
            self._end(0)
        elif now >= self._renew_at:
            await self._refresh(now)

    async def _refresh(self, now: float) -> None:
        self._renew_at = now + RENEW_AGAIN_SECONDS
        try:
            grant = await self._context.renew()
        except RequestFailed:
            return
        await self._send({"type": "refresh", "token": grant.token})

    def _frame(self, text: str | bytes) -> Iterable[Change]:
        try:
            frame = json.loads(text)
            kind = frame["type"]
        except (ValueError, KeyError, TypeError):
            self._end(0)
            return []
        match kind:
            case "subscribed":
                return self._subscribed(frame)
            case "live":
                return self._live(frame)
            case "heartbeat":
                self._agrees(frame)
            case "resync":
                self._end(4410)
            case "refreshed":
                self._renew_at = clock() + frame["expires_in"] * 0.8
            case _ if isinstance(frame.get("seq"), int):
                return self._event(frame)
        return []

    def _subscribed(self, frame: EventObject) -> list[Change]:
        self._silence = float(frame["heartbeat_seconds"])
        if (
            frame["epoch"] != self._order.epoch
        ):  # the log forked, and the cursor is good: it has another name from now on
            self._order.fork(frame["epoch"])
            self._context.transcript.forked(self._order.seq)
        self._context.set_state(ConnectionState("replaying"))
        return [Change()]

    def _live(self, frame: EventObject) -> list[Change]:
        if not self._agrees(frame):
            return []
        self.live_since = clock()
        self._context.transcript.release()
        self._context.set_state(ConnectionState("live"))
        return [Change()]

    def _agrees(self, frame: EventObject) -> bool:
        """Whether everything that the server says it sent is here. If not, the link ends."""
        if (frame["epoch"], frame["seq"]) == self._order.cursor:
            return True
        self._end(0)
        return False

    def _event(self, frame: EventObject) -> Iterator[Change]:
        # Each event is applied when its change is asked for: `messages` are those right after it.
        for event in self._order.push(frame):
            if not self._context.transcript.apply(event):
                self._end(4410)
                return
            self._context.reached(event["seq"])
            yield Change(
                self._context.transcript.get(
                    event.get("message_id") or (event.get("message") or {}).get("id", "")
                ),
                event,
            )
        if self._order.overfull:
            self._end(0)
        self._hole = (self._hole or clock() + HOLE_SECONDS) if self._order.waiting else None

    async def _send(self, frame: Mapping[str, Any]) -> None:
        await self._socket.send(json.dumps(frame))

    def _end(self, code: int) -> None:
        if not self._over:
            self._over, self.code = True, code
