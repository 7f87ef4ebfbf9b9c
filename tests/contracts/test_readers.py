"""The rules that readers over WebSockets and HTTP share: one set of tests, two shells.

Intended differences stand with their tests: without the log, a WebSocket reader is closed and
returns with its cursor, while an HTTP reader waits; an HTTP reader asks SQL whether its user was
removed.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol, cast

import pytest

from tests.integration.broadcasting import KEY, Writer, token
from tests.unit.broadcaster.test_readers import Socket
from tests.unit.streams.hub.rig import LossyPubSub
from tests.waiting import until
from tokenwire.broadcaster.connection import ReaderConnection
from tokenwire.broadcaster.readers import SocketReader, SocketReaders
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import CloseCode
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace, RoomReader, Rooms
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Limits, Page
from tokenwire.web import readers as http
from tokenwire.web.readers import (
    Beat,
    Ended,
    Entries,
    HttpReader,
    Live,
    Permission,
    ReaderItem,
    Readers,
)

NEVER = HeartbeatPace(3600, 3600)
"""Tests call the heartbeat themselves."""
_CLOSED = {
    CloseCode.DELETED: "deleted",
    CloseCode.FORBIDDEN: "removed",
    CloseCode.OVER_CAPACITY: "unavailable",
}


class Reader(Protocol):
    """One reader over either transport."""

    seen: list[Any]
    """Events as their `seq`; `live`; heartbeats as ("beat", cursor); the end as ("ended",
    reason).
    """

    @property
    def cursor(self) -> Cursor: ...
    @property
    def room_reader(self) -> RoomReader: ...
    def stop_reading(self) -> None:
        """The client takes nothing for a while."""
        ...

    def read_again(self) -> None: ...
    async def aclose(self) -> None: ...


class OverWebSocket:
    """The broadcaster's shell with a fake socket."""

    def __init__(self, readers: SocketReaders) -> None:
        self._socket = Socket()
        self._reader = SocketReader(readers, cast("ReaderConnection", self._socket))

    async def subscribe(self, after: Cursor | None) -> None:
        said = {
            "type": "subscribe",
            "token": token("c", user="ada"),
            "after": after and str(after),
        }
        await self._reader.receive(json.dumps(said))

    @property
    def seen(self) -> list[Any]:
        found: list[Any] = []
        for frame in self._socket.frames:
            match frame["type"]:
                case "subscribed":
                    pass
                case "live":
                    found.append("live")
                case "heartbeat":
                    found.append(("beat", Cursor(frame["epoch"], frame["seq"])))
                case "resync":
                    found.append(("ended", frame["reason"]))
                case _:
                    found += range(frame.get("from_seq", frame["seq"]), frame["seq"] + 1)
        code = self._socket.closed_as
        if code is not None and code != CloseCode.RESYNC:
            found.append(("ended", _CLOSED[CloseCode(code)]))
        elif not self._socket.is_open:
            found.append(("ended", "cut"))
        return found

    @property
    def cursor(self) -> Cursor:
        return self._reader.session.cursor

    @property
    def room_reader(self) -> RoomReader:
        return self._reader

    def stop_reading(self) -> None:
        self._reader.pause()

    def read_again(self) -> None:
        self._reader.resume()

    async def aclose(self) -> None:
        self._reader.gone()


class OverHttp:
    """The web process's shell with a client that iterates."""

    def __init__(self, readers: Readers, permission: Permission) -> None:
        self._readers, self._permission = readers, permission
        self._may_read = asyncio.Event()
        self._may_read.set()
        self.seen: list[Any] = []

    async def subscribe(self, after: Cursor | None) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._reader = await self._stack.enter_async_context(
            self._readers.follow("c", after, self._permission)
        )
        self._task = asyncio.create_task(self._iterate(self._reader))

    async def _iterate(self, reader: HttpReader) -> None:
        try:
            async for item in reader:
                self._take(item)
                await self._may_read.wait()
        except ValueError:
            self.seen.append(("ended", "cut"))

    def _take(self, item: ReaderItem) -> None:
        match item:
            case Entries(entries, _):
                self.seen += [entry.seq for entry in entries]
            case Live():
                self.seen.append("live")
            case Beat(cursor):
                self.seen.append(("beat", cursor))
            case Ended(reason):
                self.seen.append(("ended", reason))

    @property
    def cursor(self) -> Cursor:
        return self._reader.cursor

    @property
    def room_reader(self) -> RoomReader:
        return self._reader

    def stop_reading(self) -> None:
        self._may_read.clear()

    def read_again(self) -> None:
        self._may_read.set()

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._stack.aclose()


class Rig:
    """A log, a hub over it, and readers of one kind."""

    def __init__(self, kind: str, limits: Limits | None = None) -> None:
        self.log = MemoryLog(limits)
        self.pubsub = LossyPubSub(self.log)
        self.hub = Hub(self.log, self.pubsub)
        self.kind = kind
        self._sockets = SocketReaders(self.hub, KEY, NEVER)
        self._http = Readers(self.hub, NEVER)
        self._opened: list[Reader] = []
        self.may_read = True

    @property
    def rooms(self) -> Rooms:
        return self._http.rooms if self.kind == "http" else self._sockets.rooms

    async def check(self) -> bool:
        return self.may_read

    async def follow(self, after: Cursor | None = None) -> Reader:
        permission = Permission(check=self.check, user_id="ada")
        over_http = self.kind == "http"
        made: Any = OverHttp(self._http, permission) if over_http else OverWebSocket(self._sockets)
        await made.subscribe(after)
        self._opened.append(made)
        await ready()
        reader: Reader = made
        return reader

    async def beat(self) -> None:
        for room in tuple(self.rooms._rooms.values()):
            await room._beat_all()
        await ready()

    async def writer(self, message: str = "m") -> Writer:
        return await Writer(self.log, "c", message).begin()

    async def aclose(self) -> None:
        for reader in self._opened:
            await reader.aclose()
        await self.hub.aclose()


async def ready() -> None:
    """Run the tasks until they wait."""
    for _ in range(40):
        await asyncio.sleep(0)


Make = Callable[[Limits | None], Any]


@pytest.fixture(params=["websocket", "http"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    made: list[Rig] = []

    async def rig(limits: Limits | None = None) -> Rig:
        made.append(Rig(request.param, limits))
        await made[-1].hub.start()
        return made[-1]

    yield rig
    for one in made:
        await one.aclose()


@pytest.fixture
async def rig(make: Make) -> Rig:
    found: Rig = await make(None)
    return found


async def test_events_after_a_cursor_then_live_then_new_ones(rig: Rig) -> None:
    """Each event once and in order."""
    writer = await rig.writer()
    await writer.say(*"abc")
    reader = await rig.follow(Cursor(writer.epoch, 1))
    await writer.say("d")
    await writer.say("e", "f")
    await until(lambda: len(reader.seen) == 7)
    assert reader.seen == [2, 3, 4, "live", 5, 6, 7]
    assert reader.cursor == Cursor(writer.epoch, 7)


async def test_without_a_cursor_it_starts_now(rig: Rig) -> None:
    """Nothing older."""
    writer = await rig.writer()
    reader = await rig.follow()
    assert (reader.seen, reader.cursor) == (["live"], Cursor(writer.epoch, 1))


async def test_events_before_the_ring_are_read(rig: Rig) -> None:
    """More than two pages, then the ring, then live."""
    writer = await rig.writer()
    await writer.say(*["x"] * 900)
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    assert reader.seen == [*range(1, 902), "live"]


@pytest.mark.parametrize(
    ("epoch", "seq", "reason"), [(None, 1, "trimmed"), ("other", 3, "epoch"), (None, 999, "ahead")]
)
async def test_a_cursor_that_cannot_be_served(
    make: Make, epoch: str | None, seq: int, reason: str
) -> None:
    """Nothing comes before the reason."""
    rig = await make(Limits(max_events=4))
    for number in range(40):
        writer = await rig.writer(f"m{number}")
        await writer.end()
    reader = await rig.follow(Cursor(epoch or writer.epoch, seq))
    assert reader.seen == [("ended", reason)]


async def test_a_cursor_that_is_trimmed_away_while_its_reader_lags(make: Make) -> None:
    """A fragment is never sent as the whole."""
    rig = await make(Limits(max_events=4))
    writer = await rig.writer()
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    reader.stop_reading()
    await writer.end()
    for number in range(600):
        await (await rig.writer(f"m{number}")).end()
    reader.read_again()
    await until(lambda: ("ended", "trimmed") in reader.seen)
    seqs = [one for one in reader.seen if isinstance(one, int)]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_a_fork_after_the_cursor_is_followed(rig: Rig) -> None:
    """Under the new name, without repetition or hole."""
    writer = await rig.writer()
    await writer.say("a")
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    rig.log.restart()
    other = await rig.writer("m2")
    await other.say("b")
    await rig.beat()
    await until(lambda: reader.cursor == Cursor(other.epoch, other.seq))
    assert other.epoch != writer.epoch
    assert [one for one in reader.seen if isinstance(one, int)] == list(range(1, other.seq + 1))


async def test_a_fork_before_the_cursor_ends_the_reader(rig: Rig) -> None:
    """It has seen events that are lost."""
    writer = await rig.writer()
    await writer.say("a", "b")
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    state = rig.log._states["c"]
    state.top = 2
    state.kept.pop()
    rig.log.restart()
    await rig.beat()
    assert reader.seen[-1] == ("ended", "epoch")


async def test_a_heartbeat_carries_the_cursor(rig: Rig) -> None:
    """It also finds what pub/sub lost, even the very last event."""
    writer = await rig.writer()
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    await rig.beat()
    assert reader.seen[-1] == ("beat", Cursor(writer.epoch, 1))
    rig.pubsub.losing = 1
    await writer.say("lost")
    await ready()
    assert reader.seen[-1] == ("beat", Cursor(writer.epoch, 1))
    await rig.beat()
    await until(lambda: 2 in reader.seen)
    await rig.beat()
    assert reader.seen[-1] == ("beat", Cursor(writer.epoch, 2))


async def test_a_heartbeat_that_finds_a_lost_log_ends_it(rig: Rig) -> None:
    """Redis came back empty: neither an event nor a heartbeat of the new log is sent."""
    writer = await rig.writer()
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    rig.log.restart(lose_data=True)
    rig.pubsub.losing = 1000
    await rig.writer("m2")
    await rig.beat()
    assert reader.seen == [1, "live", ("ended", "epoch")]


async def test_a_heartbeat_of_the_older_epoch_is_dropped(rig: Rig) -> None:
    """Its read began before the fork: the reader continues, and the next heartbeat counts."""
    writer = await rig.writer()
    reader = await rig.follow(Cursor(writer.epoch, 0))
    await until(lambda: "live" in reader.seen)
    reader.room_reader.beat(Page("another", 1, 1, None))
    await ready()
    assert reader.seen == [1, "live"]
    await writer.say("a")
    await rig.beat()
    assert reader.seen == [1, "live", 2, ("beat", Cursor(writer.epoch, 2))]


@pytest.mark.parametrize("late", [False, True], ids=["while it reads", "before it reads"])
async def test_a_removed_user_reads_no_more(rig: Rig, late: bool) -> None:
    """At once, whatever the token or the login says."""
    rig.may_read = False
    if late:
        await rig.log.revoke("c", "ada")
    reader = await rig.follow()
    if not late:
        assert reader.seen == ["live"]
        await rig.log.revoke("c", "ada")
    await until(lambda: ("ended", "removed") in reader.seen)
    writer = await rig.writer()
    await writer.say("a")
    await ready()
    assert reader.seen[-1] == ("ended", "removed")


async def test_other_users_read_on(rig: Rig) -> None:
    """Another user was removed."""
    rig.may_read = False
    reader = await rig.follow()
    await rig.log.revoke("c", "bob")
    await ready()
    await rig.writer()
    await until(lambda: reader.seen == ["live", 1])


@pytest.mark.parametrize("late", [False, True], ids=["while it reads", "before it reads"])
async def test_a_deleted_conversation_ends_the_reader(rig: Rig, late: bool) -> None:
    """Whether the tail or the log reports it."""
    await rig.writer()
    if late:
        await rig.log.delete("c")
    reader = await rig.follow()
    if not late:
        await rig.log.delete("c")
    await until(lambda: ("ended", "deleted") in reader.seen)


async def test_an_outage_of_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No heartbeat is sent.

    Over HTTP the reader waits; a WebSocket is closed once it needs the log.
    """
    monkeypatch.setattr(http, "LOG_RETRY_SECONDS", 0.01)
    writer = await rig.writer()
    await writer.say(*["x"] * 900)
    reader = await rig.follow(Cursor(writer.epoch, writer.seq))
    lagging = await rig.follow(Cursor(writer.epoch, writer.seq))
    rig.log.go_down()
    await rig.beat()
    assert reader.seen == (["live", ("beat", None)] if rig.kind == "http" else ["live"])
    rig.log.come_back()
    lagging.stop_reading()
    await writer.say("y")
    for _ in range(600):
        await writer.say("z")
    rig.log.go_down()
    lagging.read_again()
    await ready()
    if rig.kind == "websocket":
        assert lagging.seen[-1] == ("ended", "unavailable")
    rig.log.come_back()
    if rig.kind == "http":
        await until(lambda: writer.seq in lagging.seen)
        assert [one for one in lagging.seen if isinstance(one, int)] == list(
            range(902, writer.seq + 1)
        )


@pytest.mark.parametrize("callback", ["news", "beat", "revoked"])
async def test_a_bug_of_one_reader_harms_nobody_else(rig: Rig, callback: str) -> None:
    """It is closed, so that its client comes back. All others are served, and the room's heartbeat
    continues.
    """
    writer = await rig.writer()
    readers = [await rig.follow(Cursor(writer.epoch, 0)) for _ in range(3)]
    (room,) = rig.rooms._rooms.values()

    def bug(*_: Any) -> None:
        raise ValueError("a bug")

    class Buggy:
        """Passes on the room's calls, except for the faulty one."""

        def __init__(self, reader: RoomReader) -> None:
            self.news, self.beat, self.revoked = reader.news, reader.beat, reader.revoked
            self.fail = reader.fail
            setattr(self, callback, bug)

    room.leave(readers[1].room_reader)
    room.enter(Buggy(readers[1].room_reader))
    if callback == "news":
        await writer.say("a")
    elif callback == "revoked":
        await rig.log.revoke("c", "bob")
    await rig.beat()
    await until(lambda: ("ended", "cut") in readers[1].seen)
    for other in (readers[0], readers[2]):
        assert ("beat", other.cursor) in other.seen
        assert (2 in other.seen) is (callback == "news")


async def test_readers_may_leave_while_others_are_served(rig: Rig) -> None:
    """Every remaining reader is served."""
    writer = await rig.writer()
    readers = [await rig.follow(Cursor(writer.epoch, 0)) for _ in range(3)]
    (room,) = rig.rooms._rooms.values()

    class Leaving:
        """Leaves at the first event."""

        def news(self, *_: Any) -> None:
            room.leave(cast("RoomReader", self))

    room.enter(cast("RoomReader", Leaving()))
    await writer.say("a")
    await until(lambda: all(2 in reader.seen for reader in readers))
