"""The viewers of this process: a session each (session.py decides), and a room for those who watch the same conversation.

Decides nothing about what is sent; moves bytes between the hub's tail, the log and the sockets. Everything a viewer is sent, closing
handshakes and pongs aside, goes through `Viewer.write`, or `Viewer.pass_on` where an event is encoded once for a whole room; neither is
reached once the session has ended, and the session ends in the same breath as the connection's being open.
A viewer costs a cursor: what its socket does not take stays in the ring or in the log.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from tokenwire.broadcaster.connection import ReaderConnection
from tokenwire.broadcaster.session import BATCH_BYTES, Closing, Phase, SocketSession
from tokenwire.config.background import failed, keep
from tokenwire.protocol.frames import CloseCode, text_frame
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.hub.log_cursor import heartbeat_delay
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page

OPEN_SECONDS = 5.0
CLOSE_SECONDS = 5.0
"""How long a closing handshake may take; a viewer that does not read is cut off then."""
FLOOD_CLOSE_SECONDS = 0.5
PAGE_EVENTS = 256
PAGE_BYTES = 64 * 1024
"""About what a socket takes before it is full: what is read beyond that is read again."""
PAGES_AT_A_TIME = 32
"""Pages of the log being read or written in this process, whatever the number of viewers that lag."""

log = structlog.get_logger("tokenwire.broadcaster")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between heartbeats."""

    running_seconds: float
    idle_seconds: float

    @property
    def silence_seconds(self) -> int:
        """After how much silence a client may call the connection dead: a heartbeat and a fifth (30 s for 25 s), or one second more."""
        return max(int(self.idle_seconds * 1.2), int(self.idle_seconds) + 1)


class SocketReaders:
    """All viewers of this process, in rooms. `key` verifies tokens."""

    def __init__(self, hub: Hub, key: str, pace: Pace, max_per_user: int | None = None) -> None:
        self.hub, self.key, self.pace = hub, key, pace
        self.users = Occupancy(max_per_user)
        self.all: set[SocketReader] = set()
        self.pages = asyncio.Semaphore(PAGES_AT_A_TIME)
        self._rooms: dict[Tail, Room] = {}

    def room(self, tail: Tail) -> "Room":
        """The room of whoever watches `tail`."""
        room = self._rooms.get(tail)
        if room is None:
            room = self._rooms[tail] = Room(tail, self.pace)
        return room

    def leave(self, viewer: "SocketReader", room: "Room") -> None:
        """Take a viewer out; an empty room is closed."""
        if room.leave(viewer) and self._rooms.get(room.tail) is room:
            del self._rooms[room.tail]
            room.close()
        self.hub.release(room.tail)


class Room:
    """Those who watch one conversation: one event is encoded once, one heartbeat is one look at Redis."""

    __slots__ = (
        "_armed_running",
        "_beating",
        "_closed",
        "_life",
        "_pace",
        "_present",
        "_seq",
        "_stop_listening",
        "_timer",
        "_viewers",
        "tail",
    )

    def __init__(self, tail: Tail, pace: Pace) -> None:
        self.tail = tail
        self._viewers: set[SocketReader] = set()
        self._present: tuple[SocketReader, ...] | None = ()
        self._pace = pace
        self._seq, self._life = tail.top, tail.life
        self._stop_listening = tail.listen(self._wake)
        self._beating: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._arm()

    def enter(self, viewer: "SocketReader") -> None:
        """One more."""
        self._viewers.add(viewer)
        self._present = None

    def leave(self, viewer: "SocketReader") -> bool:
        """One less; whether nobody is left."""
        self._viewers.discard(viewer)
        self._present = None
        return not self._viewers

    def close(self) -> None:
        """Stop listening and beating."""
        self._closed = True
        self._stop_listening()
        if self._timer is not None:
            self._timer.cancel()
        if self._beating is not None:
            self._beating.cancel()

    def _wake(self) -> None:
        tail, before = self.tail, self._seq
        data = self._news(before)
        self._seq, self._life = last, _ = tail.top, tail.life
        if tail.revoked:
            self._each(SocketReader.revoke)
        for viewer in self._everybody():  # not by `_each`: this is the path of every event
            try:
                if data is None:
                    viewer.stir()
                else:
                    viewer.pass_on(before, data, last)
            except Exception as error:  # noqa: BLE001 -- a bug harms one viewer
                viewer.drop(error)
        if tail.running and not self._armed_running:
            self._arm()

    def _each(self, serve: Callable[["SocketReader"], None]) -> None:
        for viewer in self._everybody():
            try:
                serve(viewer)
            except Exception as error:  # noqa: BLE001 -- a bug harms one viewer
                viewer.drop(error)

    def _everybody(self) -> tuple["SocketReader", ...]:
        """A copy, since viewers leave while they are served; kept, since most events find the same viewers as the one before."""
        if self._present is None:
            self._present = tuple(self._viewers)
        return self._present

    def _news(self, before: int) -> bytes | None:
        """What follows `before`, as frames; None if that cannot simply be written to everybody."""
        tail = self.tail
        if tail.gone or tail.life != self._life:
            return None
        entries = tail.since(before)
        if not entries:
            return None
        if len(entries) == 1:
            return text_frame(entries[0].data)
        if sum(len(entry.data) for entry in entries) > BATCH_BYTES:
            return None
        return b"".join(text_frame(entry.data) for entry in entries)

    # Heartbeats

    def _arm(self) -> None:
        """The next heartbeat, instead of the one that was due: a room never has two on their way."""
        self._armed_running = self.tail.running
        if self._timer is not None:
            self._timer.cancel()
        if self._closed:
            return
        delay = heartbeat_delay(
            self._armed_running, self._pace.running_seconds, self._pace.idle_seconds
        )
        self._timer = asyncio.get_running_loop().call_later(delay, self._beat)

    def _beat(self) -> None:
        self._beating = asyncio.create_task(keep("heartbeat", self._beat_all))

    async def _beat_all(self) -> None:
        try:
            page = await self.tail.refresh()
        except LogUnavailable as error:
            # No heartbeat without Redis: clients notice, reconnect, and are told to wait.
            log.warning("no heartbeat", conversation_id=self.tail.conversation_id, error=str(error))
        except Gone:
            self._wake()
        else:
            self._each(lambda viewer: viewer.beat(page))
        self._arm()


class SocketReader:
    """One connection and its session."""

    # Slots here and in Room and Session: an event of one of thousands of conversations finds nothing of it in the processor's cache,
    # so that each further object on its way costs more than the instructions do.
    __slots__ = (
        "_closing",
        "_connection",
        "_cut_off",
        "_paused",
        "_place",
        "_reading",
        "_room",
        "_timer",
        "_transport",
        "_viewers",
        "session",
    )

    def __init__(self, viewers: SocketReaders, connection: ReaderConnection) -> None:
        self._viewers = viewers
        self._connection = connection
        connection.listener = self
        self._transport = connection.transport
        self._paused = connection.paused
        self.session = SocketSession(
            connection.conversation_id, viewers.key, viewers.pace.silence_seconds, time.time()
        )
        self._room: Room | None = None
        self._place: str | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        viewers.all.add(self)
        self._arm()

    # What the connection tells

    async def receive(self, message: str | bytes) -> None:
        """A message of the client."""
        answer = self.session.receive(message, time.time())
        if answer is not None:
            self.write(answer)
        self._settle()
        if self.session.phase is Phase.OPENING:
            self._arm()
            if self._take_place():
                await self._open()
            self._settle()

    def _take_place(self) -> bool:
        """One of those that its user may have."""
        try:
            self._viewers.users.take(self.session.user_id)
        except Full:
            self.session.end(CloseCode.OVER_CAPACITY, "too many connections of this user")
            return False
        self._place = self.session.user_id
        return True

    def control(self) -> None:
        """A ping or pong of the client."""
        self.session.control(time.time())
        if self.session.ending is not None and not self._transport.is_closing():
            self._transport.pause_reading()  # or the flood would be answered for as long as the closing handshake takes
            self._cut_off_later(FLOOD_CLOSE_SECONDS)
        self._settle()

    def pause(self) -> None:
        """The socket is full."""
        self._paused = True

    def resume(self) -> None:
        """The socket has room again."""
        self._paused = False
        self.stir()

    def lost(self) -> None:
        """The connection is closing or closed, whoever began it: nothing may be written any more."""
        self.session.end(CloseCode.GOING_AWAY, "the client left")
        self._cut_off_later()
        self.leave()

    def closed_with(self, code: int) -> None:
        """This side closed the connection with `code`: tell the log, if it was the library that did it."""
        if self._closing is None:
            self._report(code, "broken or oversized frame")

    def leave(self) -> None:
        """Give everything back. Safe to call again."""
        self._viewers.all.discard(self)
        self._viewers.users.release(self._place)
        self._place = None
        if self._room is not None:
            room, self._room = self._room, None
            self._viewers.leave(self, room)
        if self._reading is not None:
            self._reading.cancel()
        if self._timer is not None:
            self._timer.cancel()

    def drop(self, error: Exception) -> None:
        """A bug: this connection is cut, so that its client comes back by position; nobody else notices."""
        failed("viewer", error)
        self._transport.abort()
        self.leave()

    def gone(self) -> None:
        """The connection is closed for good."""
        self.leave()
        if self._cut_off is not None:
            self._cut_off.cancel()

    # What the room tells

    def pass_on(self, before: int, data: bytes, last: int) -> None:
        """Events after `before`, up to `last`, as frames: written at once to a viewer at the tip whose socket has room."""
        if not self._paused and self.session.takes(before, last):
            self._transport.write(data)
        else:
            self.stir()

    def stir(self) -> None:
        """Bring this viewer forward as far as its socket takes it: something happened, or there is room again."""
        if self._reading is not None or self._room is None:
            return
        if self._paused:
            self.session.stall()
        elif self.session.advance(self._room.tail, self.write):
            self._reading = asyncio.create_task(self._read())
        self._settle()

    def revoke(self) -> None:
        """Some of those who hold tokens may not follow any more."""
        if self._room is not None:
            self.session.revoke(self._room.tail.revoked)
            self._settle()

    def beat(self, log: Page) -> None:
        """The log was seen to stand like this."""
        if self._paused:
            return
        frame = self.session.heartbeat(log)
        if frame is None:
            self.stir()
            self._settle()
        else:
            self.write(frame)

    def write(self, data: bytes) -> bool:
        """Write whole frames; False once the socket takes no more for now."""
        self._transport.write(data)
        return not self._paused

    # From the log

    async def _open(self) -> None:
        """From OPENING to wherever the log allows."""
        session, hub = self.session, self._viewers.hub
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                tail = await hub.open(self._connection.conversation_id)
        except (LogUnavailable, TimeoutError) as error:
            session.end(
                CloseCode.OVER_CAPACITY, f"cannot open the conversation: {error or 'timeout'}"
            )
            return
        if session.ending is not None:  # left meanwhile
            hub.release(tail)
            return
        self._room = self._viewers.room(tail)
        self._room.enter(self)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                first = await self._begin(tail)
        except Gone:
            session.end(CloseCode.DELETED, "conversation deleted")
        except (LogUnavailable, TimeoutError) as error:
            session.end(CloseCode.OVER_CAPACITY, f"cannot judge the position: {error or 'timeout'}")
        else:
            if first is not None:
                self.write(first)
                self.stir()

    async def _begin(self, tail: Tail) -> bytes | None:
        if tail.gone:
            raise Gone
        self.session.revoke(tail.revoked)
        if self.session.held_by(tail):
            return self.session.begin(tail.known, tail.life)
        page = await tail.refresh()
        return self.session.begin(page, tail.life)

    async def _read(self) -> None:
        """One page for a viewer that the ring does not reach."""
        room = self._room
        if room is None:
            return
        try:
            await self._read_page(room.tail)
        except Gone:
            self.session.end(CloseCode.DELETED, "conversation deleted")
        except LogUnavailable as error:
            self.session.end(CloseCode.OVER_CAPACITY, f"cannot read the log: {error}")
        except Exception as error:  # noqa: BLE001 -- a bug: the viewer comes back later instead of waiting for ever
            failed("viewer", error)
            self.session.end(CloseCode.OVER_CAPACITY, "cannot read the log")
        finally:
            self._reading = None
        self._settle()
        self.stir()

    async def _read_page(self, tail: Tail) -> None:
        async with self._viewers.pages:
            page = await tail.read(self.session.position, PAGE_EVENTS, PAGE_BYTES)
            if not self._paused:
                self.session.fetched(page, self.write)

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
        """Close for a reason of the server's."""
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
        log.info(
            "closed",
            code=int(code),
            reason=detail,
            conversation_id=self._connection.conversation_id,
            user_id=self.session.user_id,
        )


def _public(ending: Closing) -> str:
    # Details may name internals; a client needs the code alone.
    return ending.code.name.lower()
