"""Following a conversation from this process: ordered, without a hole, from a position on, as fast as the caller pulls.

All readers share one hub (one subscription connection). A reader is a cursor: what it has not pulled stays in the hub's ring or in the
log, so that a slow one costs no memory. What comes next is decided by `LogCursor`; this module waits, reads pages, beats once per
conversation for all its readers, and ends readers when their permission runs out or the process stops.

    async with followers.follow(conversation_id, after) as reader:
        async for part in reader:
            match part: Entries(...) | Live(...) | Beat(...) | Ended(...)
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from tokenwire.config.background import keep
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import ResyncReason, Sendable
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.hub.log_cursor import CursorEnd, LogCursor, heartbeat_delay, portion
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page

log_line = structlog.get_logger(__name__)

OPEN_SECONDS = 5.0
PAGE_EVENTS = 256
PAGES_AT_A_TIME = 32
"""Pages of the log being read in this process, whatever the number of readers that lag."""
PART_BYTES = 64 * 1024
"""No part carries more events than this (bytes of their data), but for one event that is longer by itself."""
OUTAGE_PAUSE_SECONDS = 1.0
RECHECK_SECONDS = 30.0
"""A permission is looked at again at the first heartbeat after so long."""

Reason = CursorEnd | Literal["expired", "removed", "stopped"]


@dataclass(frozen=True, slots=True)
class Entries:
    """Events in order; the reader's position is now behind the last of them. `late`: the caller had no time while they came."""

    entries: Sequence[Sendable]
    late: bool


@dataclass(frozen=True, slots=True)
class Live:
    """Comes once: nothing before `position` is missing, events now come as they happen."""

    position: Cursor


@dataclass(frozen=True, slots=True)
class Beat:
    """The log was seen to end at `position`, and all of it was handed on. None: the log cannot be read at the moment."""

    position: Cursor | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The last part. trimmed, epoch, ahead: the position cannot be served; deleted: the conversation; expired: the permission;
    removed: the reader takes part no more; stopped: this process goes away."""

    reason: Reason

    @property
    def resync(self) -> ResyncReason | None:
        """The reason, if it asks the client to read the conversation again."""
        reason = self.reason
        return reason if reason == "trimmed" or reason == "epoch" or reason == "ahead" else None


Part = Entries | Live | Beat | Ended


@dataclass(frozen=True, slots=True)
class HeartbeatPace:
    """Seconds between heartbeats while a generation runs, and otherwise."""

    running_seconds: float
    idle_seconds: float


async def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Permission:
    """How long one may read: until a time (Unix seconds), and while `check` says so (asked now and then, at heartbeats)."""

    until: float = math.inf
    check: Callable[[], Awaitable[bool]] = _always
    user_id: str | None = None


ANYTIME = Permission()


class Readers:
    """All readers of this process."""

    def __init__(self, hub: Hub, pace: HeartbeatPace) -> None:
        self._hub = hub
        self._pace = pace
        self._rooms: dict[Tail, _Room] = {}
        self.pages = asyncio.Semaphore(PAGES_AT_A_TIME)
        self.stopping = asyncio.Event()

    @contextlib.asynccontextmanager
    async def follow(
        self, conversation_id: str, after: Cursor | None = None, permission: Permission = ANYTIME
    ) -> AsyncIterator["HttpReader"]:
        """A reader of what follows `after` (None: from now on); whether that can be served is known at once (`reader.ended`).

        Who may read is checked before. Raises ports.Unavailable while Redis is away.
        """
        tail = await self._open(conversation_id)
        room = self._rooms.get(tail)
        if room is None:
            room = self._rooms[tail] = _Room(tail, self._pace)
        reader = HttpReader(tail, LogCursor(after), permission, self.pages)
        room.readers.add(reader)
        if self.stopping.is_set():
            reader.end("stopped")
        try:
            await reader.begin()
            yield reader
        finally:
            reader.close()
            room.readers.discard(reader)
            if not room.readers and self._rooms.get(tail) is room:
                del self._rooms[tail]
                room.close()
            self._hub.release(tail)

    def stop(self) -> None:
        """End every reader, now and from now on: the process goes away."""
        self.stopping.set()
        for room in tuple(self._rooms.values()):
            for reader in tuple(room.readers):
                reader.end("stopped")

    async def _open(self, conversation_id: str) -> Tail:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await self._hub.open(conversation_id)
        except TimeoutError as error:
            raise LogUnavailable("the conversation's log could not be opened in time") from error


class HttpReader:
    """One reading of one conversation: an asynchronous iterator of parts, the last one `Ended`."""

    def __init__(
        self, tail: Tail, cursor: LogCursor, permission: Permission, pages: asyncio.Semaphore
    ) -> None:
        self._tail, self._cursor, self._permission, self._pages = tail, cursor, permission, pages
        self._news = asyncio.Event()
        self._over: Reason | None = None
        self._live = self._finished = self._late = self._doubtful = False
        self._beat: Page | LogUnavailable | None = None
        self._loop = asyncio.get_running_loop()
        self._checked = self._loop.time()
        self._away: asyncio.Handle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def position(self) -> Cursor:
        """Where the reading stands: everything up to here was handed out."""
        return self._cursor.position

    @property
    def ended(self) -> Ended | None:
        """Why nothing follows any more; known before the first part where the position could not be served."""
        reason = self._cursor.end or self._over
        return Ended(reason) if reason else None

    def __aiter__(self) -> "HttpReader":
        return self

    async def __anext__(self) -> Part:
        if self._finished:
            raise StopAsyncIteration
        self._notice_lateness()
        part = await self._next()
        if isinstance(part, Entries):
            self._cursor.passed(part.entries[-1].seq)
            # Runs only if the caller does something that makes it wait before it comes back.
            self._away = self._loop.call_soon(self._mark_late)
        self._finished = isinstance(part, Ended)
        return part

    # What the room and the process tell

    def wake(self) -> None:
        """Something happened."""
        # Who was removed is asked for in SQL: it knows whether they take part again.
        self._doubtful = self._doubtful or self._permission.user_id in self._tail.revoked
        self._news.set()

    def beat(self, seen: Page | LogUnavailable) -> None:
        """The log was looked at."""
        self._beat = seen
        self._news.set()

    def end(self, reason: Reason) -> None:
        """End the reading; the first reason counts."""
        self._over = self._over or reason
        self._news.set()

    async def begin(self) -> None:
        """Judge the position. Raises Unavailable."""
        tail, cursor, until = self._tail, self._cursor, self._permission.until
        if not math.isinf(until):
            self._expiry = self._loop.call_later(max(0.0, until - time.time()), self.end, "expired")
        self._doubtful = self._permission.user_id in tail.revoked
        if tail.gone or cursor.held_by(tail):
            cursor.begin(tail.known, tail.life)
            cursor.next(tail)
            return
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                page = await tail.refresh()
        except Gone:
            cursor.end = "deleted"
        except TimeoutError as error:
            raise LogUnavailable("the log does not answer") from error
        else:
            cursor.begin(page, tail.life)

    def close(self) -> None:
        """Let go of timers."""
        for handle in (self._away, self._expiry):
            if handle is not None:
                handle.cancel()

    # What is next

    async def _next(self) -> Part:
        while True:
            self._news.clear()
            if (part := await self._look()) is not None:
                return part
            await self._news.wait()

    async def _look(self) -> Part | None:
        """What can be handed out now; None: wait for news."""
        if self._doubtful:
            self._doubtful = False
            if not await self._permission.check():
                self.end("removed")
        entries: Sequence[Sendable] | None = () if self.ended else self._cursor.next(self._tail)
        if entries is None:
            entries = await self._read()
        if self.ended is not None:
            return self.ended
        if entries is None:
            return self._take_outage()
        if entries:
            return Entries(portion(entries, PART_BYTES), self._late)
        self._late = False
        if not self._live:
            self._live = True
            return Live(self.position)
        return await self._take_beat()

    async def _read(self) -> Sequence[Sendable] | None:
        """What follows according to the log; None if it did not answer: then there is news in a moment."""
        try:
            async with self._pages:
                page = await self._tail.read(self._cursor.position, PAGE_EVENTS, PART_BYTES)
        except Gone:
            self._cursor.end = "deleted"
        except LogUnavailable as error:
            log_line.warning(
                "a reader waits for the log",
                conversation_id=self._tail.conversation_id,
                error=str(error),
            )
            self._loop.call_later(OUTAGE_PAUSE_SECONDS, self.wake)
            return None
        else:
            return self._cursor.fetched(page)
        return ()

    def _take_outage(self) -> Beat | None:
        told, self._beat = self._beat, None
        return Beat(None) if isinstance(told, LogUnavailable) else None

    async def _take_beat(self) -> Part | None:
        seen, self._beat = self._beat, None
        if seen is None:
            return None
        if not await self._still_allowed():
            self.end("expired")
            return self.ended
        if isinstance(seen, LogUnavailable):
            return Beat(None)
        if self._cursor.confirm(seen):
            return Beat(self.position)
        self._news.set()  # more is there, or the end: look again
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

    def _notice_lateness(self) -> None:
        if self._away is not None:
            self._away.cancel()
            self._away = None


class _Room:
    """The readers of one conversation: one look at Redis per heartbeat for all of them."""

    def __init__(self, tail: Tail, pace: HeartbeatPace) -> None:
        self.readers: set[HttpReader] = set()
        self._tail = tail
        self._pace = pace
        self._stop_listening = tail.listen(self._wake)
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._arm()

    def close(self) -> None:
        """Stop listening and beating."""
        self._closed = True
        self._stop_listening()
        self._timer.cancel()
        if self._looking is not None:
            self._looking.cancel()

    def _wake(self) -> None:
        for reader in self.readers:
            reader.wake()
        if (
            self._tail.running
            and not self._armed_running
            and (self._looking is None or self._looking.done())
        ):
            self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        self._armed_running = self._tail.running
        if self._closed:
            return
        delay = heartbeat_delay(
            self._armed_running, self._pace.running_seconds, self._pace.idle_seconds
        )
        self._timer = asyncio.get_running_loop().call_later(delay, self._beat)

    def _beat(self) -> None:
        self._looking = asyncio.create_task(keep("heartbeat", self._refresh))

    async def _refresh(self) -> None:
        seen: Page | LogUnavailable
        try:
            seen = await self._tail.refresh()
        except LogUnavailable as error:
            seen = error
        except Gone:
            return  # the tail has told everybody
        for reader in self.readers:
            reader.beat(seen)
        self._arm()
