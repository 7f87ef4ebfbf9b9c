"""The readers of one conversation in this process: one heartbeat, one encoding of an event for all.

What it guarantees
1. A room has at most one heartbeat under way: one read of the log for all its readers. Heartbeats
   are more frequent while an answer runs. They continue after an outage and after a bug.
2. A reader's bug harms that reader alone (`RoomReader.fail`). All others are served.
3. Readers may enter and leave while others are served.
4. A process reads at most PAGES_AT_A_TIME pages of logs at a time, however many readers lag.

Why it works this way: with thousands of conversations, an event finds nothing of its conversation
in the processor's cache. So each further object on its way costs more than the instructions do.
Hence the slots, the copy of the readers that is kept from event to event, and one call per reader
and event. Each reader decides by its `LogCursor` what it sends.

Rejected: a task for each reader (an event would wake as many tasks as there are readers).
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tokenwire.config.background import supervise
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.hub.log_cursor import BATCH_BYTES, LogCursor
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page

log_line = logging.getLogger(__name__)

OPEN_SECONDS = 5.0
"""Longest time to open a conversation and read its log's state."""
PAGE_EVENTS = 256
READER_PAGE_BYTES = 64 * 1024
"""About the size of a socket's buffer. Whatever is read beyond it must be read again."""
PAGES_AT_A_TIME = 32

Encode = Callable[[bytes], bytes]
"""Turns an event's JSON into the bytes that every reader of the process gets."""


@dataclass(frozen=True, slots=True)
class HeartbeatPace:
    """Seconds between heartbeats.

    While an answer runs they are short, because a missed event would be seen.
    """

    running_seconds: float
    idle_seconds: float

    def delay(self, running: bool) -> float:
        """Seconds to the next heartbeat; never more than when idle."""
        return min(self.running_seconds, self.idle_seconds) if running else self.idle_seconds

    @property
    def silence_seconds(self) -> int:
        """The silence after which a client may consider the connection dead.

        A heartbeat and a fifth (30 s for 25 s), or one second more.
        """
        return max(int(self.idle_seconds * 1.2), int(self.idle_seconds) + 1)


class RoomReader(Protocol):
    """A reader in a room. None of these methods may wait; `fail` gets their exceptions."""

    def news(self, before: int, data: bytes | None, last: int, /) -> None:
        """The tail changed.

        `data`: the events after seq `before`, up to `last`, as `Encode` gives them. None if the
        reader must check the tail itself.
        """
        ...

    def beat(self, seen: Page | LogUnavailable, /) -> None:
        """The log was read in this state, or cannot be read."""
        ...

    def revoked(self, users: frozenset[str], /) -> None:
        """These users may no longer read the conversation."""
        ...

    def fail(self, error: Exception, /) -> None:
        """This reader raised an exception. It must end, so that its client reconnects."""
        ...


class Rooms:
    """All rooms of this process. `encode`: None if readers share no encoded events."""

    def __init__(self, hub: Hub, pace: HeartbeatPace, encode: Encode | None = None) -> None:
        self.pace = pace
        self._hub, self._encode = hub, encode
        self._pages = asyncio.Semaphore(PAGES_AT_A_TIME)
        self._rooms: dict[Tail, Room] = {}

    async def enter(self, conversation_id: str, reader: RoomReader) -> "Room":
        """The conversation's room, with this reader in it. Each `enter` needs a `leave`.

        Raises LogUnavailable, also if the log does not answer in time.
        """
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                tail = await self._hub.open(conversation_id)
        except TimeoutError as error:
            raise LogUnavailable("the conversation could not be opened in time") from error
        room = self._rooms.get(tail)
        if room is None:
            room = self._rooms[tail] = Room(tail, self.pace, self._encode)
        room.enter(reader)
        return room

    def leave(self, room: "Room", reader: RoomReader) -> None:
        """Take a reader out; an empty room is closed."""
        if room.leave(reader) and self._rooms.get(room.tail) is room:
            del self._rooms[room.tail]
            room.close()
        self._hub.release(room.tail)

    async def read(self, tail: Tail, cursor: LogCursor) -> Page:
        """A page after the reader's cursor, for `fetched`. Raises Gone, LogUnavailable."""
        async with self._pages:
            return await tail.read(cursor.cursor, PAGE_EVENTS, READER_PAGE_BYTES)


class Room:
    """The readers of one conversation."""

    __slots__ = (
        "_armed_running",
        "_beating",
        "_closed",
        "_encode",
        "_pace",
        "_present",
        "_readers",
        "_seq",
        "_stop_listening",
        "_timer",
        "_version",
        "tail",
    )

    def __init__(self, tail: Tail, pace: HeartbeatPace, encode: Encode | None = None) -> None:
        self.tail = tail
        self._readers: set[RoomReader] = set()
        self._present: tuple[RoomReader, ...] | None = ()
        self._pace, self._encode = pace, encode
        self._seq, self._version = tail.top, tail.version
        self._stop_listening = tail.listen(self._wake)
        self._beating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._arm()

    def enter(self, reader: RoomReader) -> None:
        """Add a reader."""
        self._readers.add(reader)
        self._present = None

    def leave(self, reader: RoomReader) -> bool:
        """Remove a reader; whether nobody is left."""
        self._readers.discard(reader)
        self._present = None
        return not self._readers

    def close(self) -> None:
        """Stop listening and sending heartbeats."""
        self._closed = True
        self._stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()

    async def log_for(self, cursor: LogCursor) -> Page:
        """The log's state, to check a cursor against: the tail's, if that is enough.

        Raises Gone, LogUnavailable, also if the log does not answer in time.
        """
        tail = self.tail
        if tail.gone:
            raise Gone
        if cursor.confirmed_by(tail):
            return tail.known
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await tail.refresh()
        except TimeoutError as error:
            raise LogUnavailable("the log does not answer in time") from error

    def _wake(self) -> None:
        # The path of every event, with as few calls as possible.
        tail, encode, before = self.tail, self._encode, self._seq
        data = None if encode is None else self._encoded(before, encode)
        self._seq = last = tail.top
        self._version = tail.version
        if tail.revoked:
            self._each(lambda reader: reader.revoked(tail.revoked))
        readers = self._present
        for reader in self._everybody() if readers is None else readers:
            try:
                reader.news(before, data, last)
            except Exception as error:  # noqa: BLE001 -- a bug harms one reader
                reader.fail(error)
        if tail.running and not self._armed_running:
            self._arm()

    def _each(self, serve: Callable[[RoomReader], None]) -> None:
        for reader in self._everybody():
            try:
                serve(reader)
            except Exception as error:  # noqa: BLE001 -- a bug harms one reader
                reader.fail(error)

    def _everybody(self) -> tuple[RoomReader, ...]:
        """A copy, since readers leave during the loop.

        It is cached: most events find the same readers as the one before.
        """
        if self._present is None:
            self._present = tuple(self._readers)
        return self._present

    def _encoded(self, before: int, encode: Encode) -> bytes | None:
        """The entries after `before`, encoded for all. None: each reader must check the tail."""
        tail = self.tail
        if tail.gone or tail.version != self._version:
            return None
        entries = tail.since(before)
        if not entries:
            return None
        if len(entries) == 1:
            return encode(entries[0].data)
        if sum(len(entry.data) for entry in entries) > BATCH_BYTES:
            return None
        return b"".join(encode(entry.data) for entry in entries)

    # Heartbeats

    def _arm(self) -> None:
        """Schedule the next heartbeat, and cancel the pending one: there are never two."""
        self._armed_running = self.tail.running
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            return
        delay = self._pace.delay(self._armed_running)
        self._timer = asyncio.get_running_loop().call_later(delay, self._beat)

    def _beat(self) -> None:
        self._beating = asyncio.create_task(supervise("heartbeat", self._beat_all))

    async def _beat_all(self) -> None:
        try:
            seen = await self._refreshed()
        except Gone:
            self._wake()
        else:
            self._each(lambda reader: reader.beat(seen))
        self._arm()

    async def _refreshed(self) -> Page | LogUnavailable:
        try:
            return await self.tail.refresh()
        except LogUnavailable as error:
            log_line.warning("no heartbeat of %s: %s", self.tail.conversation_id, error)
            return error
