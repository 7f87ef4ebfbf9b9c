"""The HTTP readers of this process: each follows a conversation after a cursor, without a hole.

A reader is as fast as its caller. Events wait in the hub's ring or in the log: a slow reader costs
no memory. `LogCursor` decides what comes next, and the room sends heartbeats; this module waits,
reads pages, and ends readers whose permission expires or whose process stops. Without the log a
reader waits (a WebSocket reader is closed instead: its client knows how to come back).

    async with readers.follow(conversation_id, after) as reader:
        async for item in reader:
            match item: Entries(...) | Live(...) | Beat(...) | Ended(...)
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Sendable
from tokenwire.protocol.frames import ResyncReason
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.hub.log_cursor import (
    AT_TIP,
    END,
    FORKED,
    NEED_PAGE,
    CursorEnd,
    LogCursor,
    fitting,
)
from tokenwire.streams.hub.room import READER_PAGE_BYTES, HeartbeatPace, Room, Rooms
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page
from tokenwire.web.problems import ApiProblem

log_line = structlog.get_logger(__name__)

ITEM_BYTES = READER_PAGE_BYTES
"""Maximum size of an item's events (bytes of their data), except for a single longer event."""
LOG_RETRY_SECONDS = 1.0
RECHECK_SECONDS = 30.0
"""A permission is checked again at the first heartbeat after this time."""

Reason = CursorEnd | Literal["expired", "removed", "stopped"]


@dataclass(frozen=True, slots=True)
class Entries:
    """Events in order; the reader's cursor is now after the last of them.

    `late`: the caller was busy when they came.
    """

    entries: Sequence[Sendable]
    late: bool


@dataclass(frozen=True, slots=True)
class Live:
    """The replay is over: nothing before `cursor` is missing. Comes once."""

    cursor: Cursor


@dataclass(frozen=True, slots=True)
class Beat:
    """The log was read to its end at `cursor`, and everything was sent.

    None: the log cannot be read now.
    """

    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last item.

    trimmed, epoch, ahead: the cursor cannot be served; deleted: the conversation; expired: the
    permission; removed: the user is no participant any more; stopped: this process stops.
    """

    reason: Reason

    @property
    def resync(self) -> ResyncReason | None:
        """The reason if the client should read the conversation again, else None."""
        reason = self.reason
        return reason if reason == "trimmed" or reason == "epoch" or reason == "ahead" else None


ReaderItem = Entries | Live | Beat | Ended


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Permission:
    """How long a user may read: until a time (Unix seconds), and while `check` allows it.

    `check` is called at some heartbeats.
    """

    until: float = math.inf
    check: Callable[[], Awaitable[bool]] = _always
    user_id: str | None = None


ANYTIME = Permission()


async def still_allowed(ask: Callable[[], Awaitable[object]]) -> bool:
    """Whether `ask` allows it: it identifies the user and reads the conversation.

    If the database is away, it is allowed: an outage ends no reader.
    """
    try:
        await ask()
    except (ApiProblem, NotFound):
        return False
    except StoreUnavailable:
        return True
    return True


class Readers:
    """All HTTP readers of this process."""

    def __init__(self, hub: Hub, pace: HeartbeatPace) -> None:
        self.rooms = Rooms(hub, pace)
        self.stopping = asyncio.Event()
        self._all: set[HttpReader] = set()

    @contextlib.asynccontextmanager
    async def follow(
        self, conversation_id: str, after: Cursor | None = None, permission: Permission = ANYTIME
    ) -> AsyncIterator["HttpReader"]:
        """A reader of the events after `after` (None: from now on).

        If the cursor cannot be served, `reader.ended` is set at once. The caller has checked the
        permission. Raises LogUnavailable without Redis.
        """
        reader = HttpReader(self.rooms, after, permission)
        room = await self.rooms.enter(conversation_id, reader)
        self._all.add(reader)
        if self.stopping.is_set():
            reader.end("stopped")
        try:
            await reader.begin(room)
            yield reader
        finally:
            reader.close()
            self._all.discard(reader)
            self.rooms.leave(room, reader)

    def stop(self) -> None:
        """End every reader, present and future: the process stops."""
        self.stopping.set()
        for reader in tuple(self._all):
            reader.end("stopped")


class HttpReader:
    """A reader of one conversation: an asynchronous iterator of items, the last one `Ended`."""

    def __init__(self, rooms: Rooms, after: Cursor | None, permission: Permission) -> None:
        self._rooms, self._permission = rooms, permission
        self._reading = LogCursor(after)
        self._tail: Tail | None = (
            None  # not through the room: that would cost a cache miss per event
        )
        self._woken = asyncio.Event()
        self._over: Reason | None = None
        self._bug: Exception | None = None
        self._live = self._finished = self._late = self._doubtful = False
        self._seen: Page | LogUnavailable | None = None
        self._loop = asyncio.get_running_loop()
        self._checked = self._loop.time()
        self._away: asyncio.Handle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def cursor(self) -> Cursor:
        """Everything up to this cursor was returned."""
        return self._reading.cursor

    @property
    def ended(self) -> Ended | None:
        """Why nothing follows any more; known before the first item if `after` cannot be served."""
        reason = self._reading.ended or self._over
        return Ended(reason) if reason else None

    def __aiter__(self) -> "HttpReader":
        return self

    async def __anext__(self) -> ReaderItem:
        if self._finished:
            raise StopAsyncIteration
        if self._away is not None:
            self._away.cancel()
            self._away = None
        item = await self._next()
        if isinstance(item, Entries):
            self._reading.passed(item.entries[-1].seq)
            # Runs only if the caller waits for something else before it returns.
            self._away = self._loop.call_soon(self._mark_late)
        self._finished = isinstance(item, Ended)
        return item

    # Calls of the room (RoomReader)

    def news(self, before: int, data: bytes | None, last: int) -> None:  # noqa: ARG002
        """The tail changed: wake the iteration."""
        self._woken.set()

    def beat(self, seen: Page | LogUnavailable) -> None:
        """The log was read."""
        self._seen = seen
        self._woken.set()

    def revoked(self, users: frozenset[str]) -> None:
        """Check the permission of removed users in SQL: they may be participants again."""
        self._doubtful = self._doubtful or self._permission.user_id in users
        self._woken.set()

    def fail(self, error: Exception) -> None:
        """Make the iteration raise this bug, so that the connection is cut."""
        self._bug = error
        self._woken.set()

    # Calls of the process

    def end(self, reason: Reason) -> None:
        """End the reader; the first reason counts."""
        self._over = self._over or reason
        self._woken.set()

    async def begin(self, room: Room) -> None:
        """Check the cursor. Raises LogUnavailable."""
        until = self._permission.until
        if not math.isinf(until):
            self._expiry = self._loop.call_later(max(0.0, until - time.time()), self.end, "expired")
        self.revoked(room.tail.revoked)
        try:
            self._reading.begin(await room.log_for(self._reading), room.tail.version)
        except Gone:
            self._reading.deleted()
        self._tail = room.tail

    def close(self) -> None:
        """Release the timers."""
        for handle in (self._away, self._expiry):
            if handle is not None:
                handle.cancel()

    # The next item

    async def _next(self) -> ReaderItem:
        if self._tail is None:
            raise RuntimeError("begin comes first")
        while True:
            self._woken.clear()
            if (item := await self._item(self._tail)) is not None:
                return item
            await self._woken.wait()

    async def _item(self, tail: Tail) -> ReaderItem | None:
        """The item that can be returned now. None: wait."""
        if self._bug is not None:
            raise self._bug
        if self._doubtful:
            self._doubtful = False
            if not await self._permission.check():
                self.end("removed")
        while self._over is None:
            found = self._reading.next(tail)
            if found is AT_TIP:
                self._late = False
                if self._live and self._seen is None:
                    return None
                return await self._at_tip()
            if found is NEED_PAGE:
                entries = await self._read(tail)
                if entries is None:
                    return self.ended or self._take_outage()
            elif found is FORKED:
                continue  # the cursor has the new epoch from now on
            elif found is END:
                break
            else:
                entries = found
            if entries and self._over is None:
                return Entries(fitting(entries, ITEM_BYTES), self._late)
        return self.ended

    async def _read(self, tail: Tail) -> Sequence[Sendable] | None:
        """The next events from the log. None if the log did not answer: retry in a moment."""
        try:
            return self._reading.fetched(await self._rooms.read(tail, self._reading))
        except Gone:
            self._reading.deleted()
        except LogUnavailable as error:
            log_line.warning(
                "a reader waits for the log",
                conversation_id=tail.conversation_id,
                error=str(error),
            )
            self._loop.call_later(LOG_RETRY_SECONDS, self._woken.set)
        return None

    def _take_outage(self) -> Beat | None:
        seen, self._seen = self._seen, None
        return Beat(None) if isinstance(seen, LogUnavailable) else None

    async def _at_tip(self) -> ReaderItem | None:
        if not self._live:
            self._live = True
            return Live(self.cursor)
        seen, self._seen = self._seen, None
        if seen is None:
            return None
        if not await self._still_allowed():
            self.end("expired")
            return self.ended
        if isinstance(seen, LogUnavailable):
            return Beat(None)
        if self._reading.confirm(seen):
            return Beat(self.cursor)
        self._woken.set()  # there is more, or the log has ended: check again
        return None

    async def _still_allowed(self) -> bool:
        now = self._loop.time()
        if now - self._checked < RECHECK_SECONDS:
            return True
        self._checked = now
        return await self._permission.check()

    # Lateness

    def _mark_late(self) -> None:
        self._late, self._away = True, None
