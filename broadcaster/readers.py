"""The WebSocket readers of this process: a session each (session.py decides), and their room.

Decides nothing about the content; moves bytes between the room, the log and the socket. Everything
for a reader, except closing handshakes and pongs, goes through `write`, or through `news` if an
event is encoded once for a whole room. Neither is reached after the session's end, and the session
ends together with its connection. A reader costs a cursor: what its socket does not take stays in
the ring or in the log.
"""

import asyncio
import time

import structlog

from tokenwire.broadcaster.connection import ReaderConnection
from tokenwire.broadcaster.session import Phase, SocketClose, SocketSession
from tokenwire.config.background import failed
from tokenwire.protocol.frames import CloseCode, text_frame
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace, Room, Rooms
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page

CLOSE_SECONDS = 5.0
"""Longest time of a closing handshake; then the reader is cut off."""
FLOOD_CLOSE_SECONDS = 0.5

log_line = structlog.get_logger("tokenwire.broadcaster")


class SocketReaders:
    """All WebSocket readers of this process, in rooms. `key` verifies tokens."""

    def __init__(
        self, hub: Hub, key: str, pace: HeartbeatPace, max_per_user: int | None = None
    ) -> None:
        self.rooms = Rooms(hub, pace, text_frame)
        self.key = key
        self.users = Occupancy(max_per_user)
        self.all: set[SocketReader] = set()


class SocketReader:
    """One connection and its session."""

    # Slots, and one call per event: see `streams.hub.room`.
    __slots__ = (
        "_closing",
        "_connection",
        "_counted_user",
        "_cut_off",
        "_page_task",
        "_paused",
        "_readers",
        "_room",
        "_timer",
        "_transport",
        "session",
    )

    def __init__(self, readers: SocketReaders, connection: ReaderConnection) -> None:
        self._readers = readers
        self._connection = connection
        connection.listener = self
        self._transport = connection.transport
        self._paused = connection.paused
        silence = readers.rooms.pace.silence_seconds
        self.session = SocketSession(connection.conversation_id, readers.key, silence, time.time())
        self._room: Room | None = None
        self._counted_user: str | None = None
        self._page_task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        readers.all.add(self)
        self._arm()

    # Calls of the connection

    async def receive(self, message: str | bytes) -> None:
        """The client sent a message."""
        answer = self.session.receive(message, time.time())
        if answer is not None:
            self.write(answer)
        self._settle()
        if self.session.phase is Phase.OPENING:
            self._arm()
            if self._count():
                await self._open()
            self._settle()

    def _count(self) -> bool:
        """Count the connection for its user. Returns False at the limit."""
        try:
            self._readers.users.take(self.session.user_id)
        except Full:
            self.session.end(CloseCode.OVER_CAPACITY, "too many connections of this user")
            return False
        self._counted_user = self.session.user_id
        return True

    def control(self) -> None:
        """The client sent a ping or a pong."""
        self.session.control(time.time())
        if self.session.ending is not None and not self._transport.is_closing():
            # Otherwise a flood would be answered until the end of the closing handshake.
            self._transport.pause_reading()
            self._cut_off_later(FLOOD_CLOSE_SECONDS)
        self._settle()

    def pause(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume(self) -> None:
        """The socket has room again."""
        self._paused = False
        self.send_more()

    def lost(self) -> None:
        """The connection is closing or closed: nothing may be written any more."""
        self.session.end(CloseCode.GOING_AWAY, "the client left")
        self._cut_off_later()
        self.leave()

    def closed_with(self, code: int) -> None:
        """Log the close code if the library closed the connection."""
        if self._closing is None:
            self._report(code, "broken or oversized frame")

    def leave(self) -> None:
        """Release everything. Safe to call again."""
        self._readers.all.discard(self)
        self._readers.users.release(self._counted_user)
        self._counted_user = None
        if self._room is not None:
            room, self._room = self._room, None
            self._readers.rooms.leave(room, self)
        if self._page_task is not None:
            self._page_task.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def gone(self) -> None:
        """The connection is closed for good."""
        self.leave()
        if self._cut_off is not None:
            self._cut_off.cancel()

    # Calls of the room (RoomReader)

    def news(self, before: int, data: bytes | None, last: int) -> None:
        """Events as frames are written at once to a reader at the tip whose socket has room."""
        if data is not None and not self._paused and self.session.takes(before, last):
            self._transport.write(data)
        else:
            self.send_more()

    def revoked(self, users: frozenset[str]) -> None:
        """End the session of a removed participant."""
        self.session.revoke(users)
        self._settle()

    def beat(self, seen: Page | LogUnavailable) -> None:
        """Send a heartbeat, or first the events that are missing.

        Without Redis there is no heartbeat. Clients notice this, reconnect, and must wait.
        """
        if self._paused or isinstance(seen, LogUnavailable):
            return
        frame = self.session.heartbeat(seen)
        if frame is None:
            self.send_more()
        else:
            self.write(frame)

    def fail(self, error: Exception) -> None:
        """Close this connection after a bug, so that its client reconnects."""
        failed("reader", error)
        self._transport.abort()
        self.leave()

    def send_more(self) -> None:
        """Send this reader as much as its socket takes."""
        if self._page_task is not None or self._room is None:
            return
        if self._paused:
            self.session.stall()
        elif self.session.advance(self._room.tail, self.write):
            self._page_task = asyncio.create_task(self._read(self._room))
        self._settle()

    def write(self, data: bytes) -> bool:
        """Write whole frames; False once the socket takes no more for now."""
        self._transport.write(data)
        return not self._paused

    # From the log

    async def _open(self) -> None:
        """Leave OPENING: read the log's state, and begin or end."""
        session, rooms = self.session, self._readers.rooms
        try:
            room = await rooms.enter(self._connection.conversation_id, self)
        except LogUnavailable as error:
            session.end(CloseCode.OVER_CAPACITY, f"cannot open the conversation: {error}")
            return
        if session.ending is not None:  # the client left meanwhile
            rooms.leave(room, self)
            return
        self._room = room
        try:
            first = await self._begin(room)
        except Gone:
            session.end(CloseCode.DELETED, "conversation deleted")
        except LogUnavailable as error:
            session.end(CloseCode.OVER_CAPACITY, f"cannot judge the cursor: {error}")
        else:
            if first is not None:
                self.write(first)
                self.send_more()

    async def _begin(self, room: Room) -> bytes | None:
        self.session.revoke(room.tail.revoked)
        return self.session.open(await room.log_for(self.session), room.tail.version)

    async def _read(self, room: Room) -> None:
        """Write one page from the log for a reader that is behind the ring."""
        try:
            page = await self._readers.rooms.read(room.tail, self.session)
            if not self._paused:
                self.session.write_page(page, self.write)
        except Gone:
            self.session.end(CloseCode.DELETED, "conversation deleted")
        except LogUnavailable as error:
            self.session.end(CloseCode.OVER_CAPACITY, f"cannot read the log: {error}")
        except Exception as error:  # noqa: BLE001 -- a bug: the client comes back
            failed("reader", error)
            self.session.end(CloseCode.OVER_CAPACITY, "cannot read the log")
        finally:
            self._page_task = None
        self._settle()
        self.send_more()

    # Time and the end

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, self.session.deadline - time.time())
        self._timer = asyncio.get_running_loop().call_later(delay, self._expire)

    def _expire(self) -> None:
        self.session.expire(time.time())
        self._settle()
        if self.session.ending is None:
            self._arm()

    def end(self, code: CloseCode, detail: str) -> None:
        """Close for a reason of the server."""
        self.session.end(code, detail)
        self._settle()

    def _settle(self) -> None:
        """Close the connection if the session has ended."""
        ending = self.session.ending
        if ending is None or self._closing is not None or not self._connection.is_open:
            return
        if ending.last is not None:
            self.write(ending.last)
        if ending.code is not CloseCode.RESTART:
            self._report(ending.code, ending.detail)
        self._closing = asyncio.create_task(self._connection.close(ending.code, _public(ending)))
        self._cut_off_later()
        self.leave()

    def _cut_off_later(self, seconds: float = CLOSE_SECONDS) -> None:
        if self._cut_off is None:
            self._cut_off = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def _report(self, code: int, detail: str) -> None:
        log_line.info(
            "closed",
            code=int(code),
            reason=detail,
            conversation_id=self._connection.conversation_id,
            user_id=self.session.user_id,
        )


def _public(ending: SocketClose) -> str:
    # Details may name internals; a client needs only the code.
    return ending.code.name.lower()
