"""broadcaster.readers: the shell around a session. What it writes to a socket and when, and what it
releases at the end.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from tests.unit.broadcaster.test_session import KEY, parse
from tests.unit.streams.hub.test_room import Timers
from tokenwire.broadcaster import readers as module
from tokenwire.broadcaster.connection import ReaderConnection
from tokenwire.broadcaster.readers import SocketReader, SocketReaders
from tokenwire.broadcaster.session import SUBSCRIBE_SECONDS
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Chunk, Entry, encode, stamp
from tokenwire.protocol.frames import CONTROLS_PER_MINUTE, CloseCode, text_frame
from tokenwire.protocol.tokens import LEEWAY_SECONDS, mint
from tokenwire.streams.hub import room as room_module
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.hub.log_cursor import BATCH_BYTES
from tokenwire.streams.hub.room import HeartbeatPace, Room
from tokenwire.streams.log.ports import LogUnavailable, Page


def entry(seq: int, content: str = "x") -> Entry:
    return Entry(seq, stamp(seq, encode(Chunk("m", 1, 0, content, 0))))


class StillTail:
    """A tail of the epoch `e` that holds `ring` up to `top`; the log holds `log`. Reads wait for
    `readable`.
    """

    conversation_id, running, gone = "c", False, False
    revoked: frozenset[str] = frozenset()
    version = 0
    forks: Mapping[str, int] = {}

    def __init__(self, log: Sequence[Entry] = (), ring: int = 512) -> None:
        self.epoch, self.log, self.ring = "e", list(log), ring
        self.readable = asyncio.Event()
        self.readable.set()
        self.reading = self.most_reading = 0
        self.outage: Exception | None = None
        self.wake: Callable[[], None] = lambda: None

    @property
    def top(self) -> int:
        return len(self.log)

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wake = wake
        return lambda: None

    def since(self, after: int) -> list[Any] | None:
        return self.log[after:] if self.top - after <= self.ring else None

    @property
    def known(self) -> Page:
        return Page(self.epoch, 0, self.top, None, [])

    async def read(self, after: Cursor, limit: int, max_bytes: int) -> Page:
        self.reading += 1
        self.most_reading = max(self.most_reading, self.reading)
        try:
            await asyncio.sleep(0)
            await self.readable.wait()
        finally:
            self.reading -= 1
        return Page(self.epoch, 1, self.top, None, self.log[after.seq : after.seq + limit])

    async def refresh(self) -> Page:
        if self.outage is not None:
            raise self.outage
        return Page(self.epoch, 1, self.top, None, [])

    def say(self, *contents: str) -> None:
        """Deliver events together."""
        self.log += [
            entry(self.top + number, content) for number, content in enumerate(contents, 1)
        ]
        self.wake()


class OneTail:
    """A hub whose only tail opens when the test says so."""

    def __init__(self, tail: StillTail) -> None:
        self.tail, self.opened = tail, 0
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def open(self, conversation_id: str) -> StillTail:
        await self.may_open.wait()
        self.opened += 1
        return self.tail

    def release(self, tail: StillTail) -> None:
        self.opened -= 1


class Socket:
    """A connection with its transport: records the pieces written. `room`: bytes until it is
    full.
    """

    conversation_id, is_open, paused, listener = "c", True, False, None

    def __init__(self, room: int = 1 << 30) -> None:
        self.transport = self
        self.room = room
        self.written: list[bytes] = []
        self.closed_as: int | None = None
        self.closed_because = ""
        self.is_read = True

    def write(self, data: bytes) -> None:
        self.written.append(data)
        self.room -= len(data)
        if self.room < 0:
            cast("SocketReader", self.listener).pause()

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.is_open = False

    def pause_reading(self) -> None:
        self.is_read = False

    async def close(self, code: int, reason: str) -> None:
        self.closed_as, self.closed_because = code, reason

    @property
    def frames(self) -> list[dict[str, Any]]:
        return parse(b"".join(self.written))

    @property
    def seqs(self) -> list[int]:
        return [frame["seq"] for frame in self.frames if frame["type"] == "chunk"]


class Rig:
    """Readers of one conversation."""

    def __init__(self, tail: StillTail) -> None:
        self.tail, self.hub = tail, OneTail(tail)
        self.readers = SocketReaders(cast("Hub", self.hub), KEY, HeartbeatPace(3600, 3600))

    def connect(self, room: int = 1 << 30) -> tuple[SocketReader, Socket]:
        socket = Socket(room)
        return SocketReader(self.readers, cast("ReaderConnection", socket)), socket

    async def watch(
        self, after: int, room: int = 1 << 30, epoch: str = "e"
    ) -> tuple[SocketReader, Socket]:
        """A reader that subscribes at that cursor."""
        reader, socket = self.connect(room)
        await reader.receive(self.subscription(f"{epoch}:{after}"))
        return reader, socket

    @staticmethod
    def subscription(after: str, seconds: int = 600, now: float | None = None) -> str:
        """With a token that is valid for this long."""
        return json.dumps({"type": "subscribe", "token": _token(seconds, now), "after": after})

    @staticmethod
    def refresh(seconds: int, now: float) -> str:
        return json.dumps({"type": "refresh", "token": _token(seconds, now)})


def _token(seconds: int, now: float | None) -> str:
    return mint(KEY, "c", "u", seconds, time.time() if now is None else now)


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
async def timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """The due calls, in place of the loop's own timers."""
    made = Timers()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", made.call_later)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The readers' time of day."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


async def turn(times: int = 30) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def log_of(count: int, content: str = "x") -> list[Entry]:
    return [entry(seq, content) for seq in range(1, count + 1)]


async def test_writes_are_bounded_even_for_a_large_batch() -> None:
    """A reader at the tip whose socket fills up gets one batch: the rest stays in the ring, not in
    its buffer.
    """
    rig = Rig(StillTail())
    reader, socket = await rig.watch(0, room=4000)
    rig.tail.say(*["x" * 1000] * 100)
    assert max(map(len, socket.written)) < BATCH_BYTES + 2000
    assert len(socket.seqs) < 100
    socket.room = 1 << 30
    reader.resume()
    assert socket.seqs[-1] == 100
    reader.gone()


async def test_a_reader_that_left_during_the_opening_keeps_nothing() -> None:
    """What was opened for it is released once."""
    rig = Rig(StillTail())
    rig.hub.may_open.clear()
    reader, socket = rig.connect()
    subscribing = asyncio.create_task(reader.receive(Rig.subscription("e:0")))
    await turn()
    reader.lost()
    rig.hub.may_open.set()
    await subscribing
    assert (rig.hub.opened, socket.written) == (0, [])
    reader.gone()
    assert rig.hub.opened == 0


async def test_every_reader_releases_its_tail_and_slot_once(timers: Timers) -> None:
    """However often it ends; the last one leaves neither a room nor a heartbeat."""
    rig = Rig(StillTail())
    (first, _), (second, _) = await rig.watch(0), await rig.watch(0)
    user = first.session.user_id
    assert user is not None
    assert (rig.hub.opened, rig.readers.users.taken(user)) == (2, 2)
    for reader, left in ((first, 1), (second, 0)):
        reader.leave()
        reader.gone()
        assert (rig.hub.opened, rig.readers.users.taken(user)) == (left, left)
    assert not rig.readers.rooms._rooms
    assert not rig.readers.all
    assert not timers.waiting


async def test_a_full_socket_gets_nothing_until_it_has_room() -> None:
    """Not even the next event of a reader at the tip."""
    rig = Rig(StillTail(log_of(1)))
    reader, socket = await rig.watch(1)
    reader.pause()
    rig.tail.say("2")
    assert socket.seqs == []
    reader.resume()
    assert socket.seqs == [2]
    reader.gone()


async def test_pages_are_read_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many readers lag: each gets everything in the end."""
    monkeypatch.setattr(room_module, "PAGES_AT_A_TIME", 2)
    rig = Rig(StillTail(log_of(20), ring=1))
    watching = [await rig.watch(1) for _ in range(8)]
    while any(socket.seqs[-1:] != [20] for _, socket in watching):
        await asyncio.sleep(0)
    assert rig.tail.most_reading == 2
    assert all(socket.seqs == list(range(2, 21)) for _, socket in watching)
    for reader, _ in watching:
        reader.gone()


async def test_a_reader_reads_one_page_at_a_time() -> None:
    """Events that come meanwhile follow in the next one."""
    rig = Rig(StillTail(log_of(5), ring=1))
    rig.tail.readable.clear()
    reader, socket = await rig.watch(1)
    await turn()
    rig.tail.say("6")
    await turn()
    rig.tail.readable.set()
    while socket.seqs[-1:] != [6]:
        await asyncio.sleep(0)
    assert rig.tail.most_reading == 1
    assert socket.seqs == [2, 3, 4, 5, 6]
    reader.gone()


async def test_a_page_for_a_full_socket_is_not_written() -> None:
    """It is read again later: nothing is held for a reader that does not read."""
    rig = Rig(StillTail(log_of(20), ring=1))
    rig.tail.readable.clear()
    reader, socket = await rig.watch(1)
    await turn()
    reader.pause()
    rig.tail.readable.set()
    await turn()
    assert socket.seqs == []
    reader.resume()
    await turn()
    assert socket.frames[-2]["seq"] == 20
    assert socket.frames[-1]["type"] == "live"
    reader.gone()


@pytest.mark.parametrize(("epoch", "after", "reason"), [("other", 1, "epoch"), ("e", 9, "ahead")])
async def test_an_impossible_cursor_is_reported_before_the_close(
    epoch: str, after: int, reason: str
) -> None:
    """As a frame, then as a close code whose reason names no internals."""
    rig = Rig(StillTail(log_of(3)))
    _, socket = await rig.watch(after, epoch=epoch)
    await turn()
    assert socket.frames == [{"type": "resync", "reason": reason}]
    assert (socket.closed_as, socket.closed_because) == (CloseCode.RESYNC, "resync")
    assert rig.hub.opened == 0


async def test_a_silent_client_is_disconnected(timers: Timers, clock: Clock) -> None:
    """After the time for subscribing."""
    _, socket = Rig(StillTail()).connect()
    assert _delays(timers) == [SUBSCRIBE_SECONDS]
    clock.now += SUBSCRIBE_SECONDS
    timers.fire()
    await turn()
    assert socket.closed_as == CloseCode.LATE


async def test_a_short_token_ends_the_reader_soon(timers: Timers, clock: Clock) -> None:
    """The time for subscribing no longer counts: the token is valid for less."""
    rig = Rig(StillTail())
    reader, socket = rig.connect()
    await reader.receive(Rig.subscription("e:0", int(3 - LEEWAY_SECONDS), clock.now))
    assert 3 in _delays(timers)
    clock.now += 3
    timers.fire()
    await turn()
    assert socket.closed_as == CloseCode.UNAUTHORIZED


async def test_a_refreshed_token_keeps_the_reader_until_its_own_end(
    timers: Timers, clock: Clock
) -> None:
    """Nothing happens when the first one expires."""
    rig = Rig(StillTail())
    reader, socket = rig.connect()
    await reader.receive(Rig.subscription("e:0", 600, clock.now))
    await reader.receive(Rig.refresh(900, clock.now))
    clock.now += 600 + LEEWAY_SECONDS
    timers.fire()
    await turn()
    assert socket.closed_as is None
    assert 300 in _delays(timers)
    clock.now += 300
    timers.fire()  # the heartbeat, which was scheduled first
    timers.fire()
    await turn()
    assert socket.closed_as == CloseCode.UNAUTHORIZED


async def test_an_unanswered_close_is_cut_off(timers: Timers) -> None:
    """The closing handshake has a time limit."""
    reader, socket = await Rig(StillTail()).watch(0)
    reader.end(CloseCode.GOING_AWAY, "the server stops")
    await turn()
    assert (socket.closed_as, socket.is_open) == (CloseCode.GOING_AWAY, True)
    assert _delays(timers) == [module.CLOSE_SECONDS]
    timers.fire()
    assert not socket.is_open


async def test_a_flood_of_pings_is_not_read_on(timers: Timers) -> None:
    """Nothing is answered during the close, and the connection is cut soon."""
    reader, socket = await Rig(StillTail()).watch(0)
    for _ in range(CONTROLS_PER_MINUTE):
        reader.control()
    assert socket.is_read
    reader.control()
    await turn()
    assert (socket.closed_as, socket.is_read) == (CloseCode.TOO_MANY, False)
    assert _delays(timers) == [module.FLOOD_CLOSE_SECONDS]


def _delays(timers: Timers) -> list[float]:
    return [round(delay, 3) for delay, _ in timers.waiting]


class Guest:
    """A reader as its room sees it."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def news(self, before: int, data: bytes | None, last: int) -> None:
        self.seen.append((before, None if data is None else parse(data)[0]["seq"], last))

    def beat(self, seen: Page | LogUnavailable) -> None:
        self.seen.append(seen.top if isinstance(seen, Page) else "away")

    def revoked(self, users: frozenset[str]) -> None:
        self.seen.append(users)

    def fail(self, error: Exception) -> None:
        self.seen.append(error)


def room_of(tail: StillTail) -> tuple[Room, Guest]:
    room, guest = Room(cast("Tail", tail), HeartbeatPace(5.0, 25.0), text_frame), Guest()
    room.enter(guest)
    return room, guest


async def test_news_of_another_epoch_is_not_passed_on() -> None:
    """The numbers may match by chance: each reader decides what the new epoch means for it."""
    tail = StillTail(log_of(3))
    room, guest = room_of(tail)
    tail.say("4")
    tail.epoch, tail.version = "f", 1
    tail.say("5")
    tail.say("6")
    assert guest.seen == [(3, 4, 4), (4, None, 5), (5, 6, 6)]
    room.close()


async def test_a_reader_that_left_gets_nothing_more() -> None:
    """The room copies its readers again whenever one comes or goes."""
    tail = StillTail(log_of(3))
    room, guest = room_of(tail)
    other = Guest()
    tail.say("4")
    room.enter(other)
    tail.say("5")
    assert not room.leave(guest)
    tail.say("6")
    assert (guest.seen, other.seen) == ([(3, 4, 4), (4, 5, 5)], [(4, 5, 5), (5, 6, 6)])
    room.close()


async def test_a_room_without_redis_is_silent_and_recovers(timers: Timers) -> None:
    """A heartbeat proves a read of the log: without a read there is none, and the next read still
    comes.
    """
    tail = StillTail(log_of(3))
    room, guest = room_of(tail)
    tail.outage = LogUnavailable("away")
    timers.fire()
    await turn()
    assert guest.seen == ["away"]
    tail.outage = None
    timers.fire()
    await turn()
    assert guest.seen == ["away", 3]
    room.close()


class Broken(Socket):
    """A bug in a reader: writing raises an unexpected error."""

    def write(self, data: bytes) -> None:
        if len(self.written) == 2:  # "subscribed" and "live"
            raise ValueError("a bug")
        super().write(data)


@pytest.mark.parametrize("beats", [False, True], ids=["event", "heartbeat"])
async def test_a_bug_of_one_reader_affects_no_other(beats: bool, timers: Timers) -> None:
    """It is closed, so that its client reconnects; all others are served, and the heartbeat
    continues.
    """
    rig = Rig(StillTail(log_of(3)))
    sockets = [Broken() if number == 1 else Socket() for number in range(3)]
    for socket in sockets:
        await SocketReader(rig.readers, cast("ReaderConnection", socket)).receive(
            rig.subscription("e:3")
        )
        await turn()
    if beats:
        (room,) = rig.readers.rooms._rooms.values()
        await room._beat_all()
    else:
        rig.tail.say("4")
    assert [socket.is_open for socket in sockets] == [True, False, True]
    for socket in (sockets[0], sockets[2]):
        assert socket.frames[-1]["type"] == ("heartbeat" if beats else "chunk")
    assert len(rig.readers.all) == 2
