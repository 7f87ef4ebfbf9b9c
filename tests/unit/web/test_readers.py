"""web.readers: a reader gets the log in order and without holes, whatever pub/sub, log and reader
do.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.integration.broadcasting import Writer
from tests.waiting import until
from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.protocol.cursors import Cursor, parse
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import PAGE_BYTES, Limits, LogUnavailable, Page
from tokenwire.web import readers as module
from tokenwire.web.problems import ApiProblem
from tokenwire.web.readers import (
    Beat,
    Ended,
    Entries,
    HttpReader,
    Live,
    Permission,
    ReaderItem,
    Readers,
    still_allowed,
)

PATIENCE_SECONDS = 20
QUICK = HeartbeatPace(0.01, 0.01)
NEVER = HeartbeatPace(3600, 3600)


class CountingLog(MemoryLog):
    """Counts reads for each conversation."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.reads: Counter[str] = Counter()

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        self.reads[conversation_id] += 1
        await asyncio.sleep(0)
        return await super().read(conversation_id, epoch, after, limit, max_bytes)


class Rig:
    """A log, a hub over it, and readers."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.log = CountingLog(limits)
        self.pubsub = MemoryPubSub(self.log)
        self.hub = Hub(self.log, self.pubsub)

    def readers(self, pace: HeartbeatPace = NEVER) -> Readers:
        return Readers(self.hub, pace)

    async def writer(self, conversation: str = "c") -> Writer:
        return await Writer(self.log, conversation).begin()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.hub.start()
    yield made
    await made.hub.aclose()


async def next_item(reader: HttpReader) -> ReaderItem:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(reader)


async def until_live(reader: HttpReader) -> list[int]:
    """Seqs up to `live`."""
    seqs: list[int] = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not isinstance(found := await next_item(reader), Live):
            assert isinstance(found, Entries)
            seqs += [entry.seq for entry in found.entries]
    assert found.cursor == reader.cursor
    return seqs


async def until_ended(reader: HttpReader) -> Ended:
    """The last item; nothing follows it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not isinstance(found := await next_item(reader), Ended):
            pass
    with pytest.raises(StopAsyncIteration):
        await next_item(reader)
    assert reader.ended == found
    return found


async def test_events_after_a_cursor_then_live_then_new_ones(rig: Rig) -> None:
    """Each once and in order."""
    writer = await rig.writer()
    await writer.say(*"abc")
    async with rig.readers().follow("c", Cursor(writer.epoch, 1)) as reader:
        assert await until_live(reader) == [2, 3, 4]
        await writer.say("d")
        found = await next_item(reader)
        assert isinstance(found, Entries)
        assert [entry.seq for entry in found.entries] == [5]
        assert str(reader.cursor) == f"{writer.epoch}:5"


async def test_without_a_cursor_it_starts_now(rig: Rig) -> None:
    """The cursor is known before the first event."""
    writer = await rig.writer()
    async with rig.readers().follow("c") as reader:
        assert reader.cursor == Cursor(writer.epoch, 1)
        assert await until_live(reader) == []


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [("{epoch}:1", "trimmed"), ("other:3", "epoch"), ("{epoch}:999", "ahead")],
)
async def test_a_position_that_cannot_be_served_is_known_at_once(cursor: str, reason: str) -> None:
    """Before the first item is asked for, and it is the first item."""
    rig = Rig(Limits(max_events=4))
    await rig.hub.start()
    writer = await rig.writer()
    await writer.end()
    for number in range(40):
        other = await Writer(rig.log, "c", f"m{number}").begin()
        await other.end()
    async with rig.readers().follow("c", parse(cursor.format(epoch=writer.epoch))) as reader:
        assert reader.ended is not None
        assert reader.ended.resync == reason
        # One of the reasons.
        assert await until_ended(reader) == Ended(reason)  # type: ignore[arg-type]
    await rig.hub.aclose()


async def test_the_heartbeat_finds_what_the_feed_lost(rig: Rig) -> None:
    """Even the very last event, which no later one reveals."""
    writer = await rig.writer()
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        rig.pubsub.cut()
        await writer.end()
        while not isinstance(found := await next_item(reader), Entries):
            assert isinstance(found, Beat)
            assert found.cursor == Cursor(writer.epoch, 1)
        assert [entry.seq for entry in found.entries] == [2]
        while not isinstance(beat := await next_item(reader), Beat):
            pass
        assert beat.cursor == Cursor(writer.epoch, 2)


async def test_the_heartbeat_makes_the_reader_read(rig: Rig) -> None:
    """The log holds more than the tail: the reader reads at once, not at the next event."""
    writer = await rig.writer()
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        rig.pubsub.cut()
        await writer.say("unheard")
        waiting = asyncio.create_task(next_item(reader))
        await asyncio.sleep(0)
        reader.beat(await rig.log.read("c", None, 0, 0))
        found = await waiting
        assert isinstance(found, Entries)
        assert [entry.seq for entry in found.entries] == [2]


async def test_readers_of_one_conversation_share_reads(rig: Rig) -> None:
    """Twenty heartbeats cost one read."""
    readers = rig.readers(QUICK)
    async with asyncio.TaskGroup() as group:
        entering = [readers.follow("c") for _ in range(20)]
        opened = [await reader.__aenter__() for reader in entering]
        before = rig.log.reads["c"]
        for reader in opened:
            group.create_task(_one_beat(reader))
    assert rig.log.reads["c"] - before < 10
    for reader in entering:
        await reader.__aexit__(None, None, None)


async def _one_beat(reader: HttpReader) -> None:
    while not isinstance(await next_item(reader), Beat):
        pass


async def test_a_restarted_log_ends_the_reader(rig: Rig) -> None:
    """No event of the new log is sent."""
    writer = await rig.writer()
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        rig.log.restart(lose_data=True)
        await rig.log.read("c", None, 0, 0)
        assert (await until_ended(reader)).resync == "epoch"


async def test_a_forked_log_is_read_on(rig: Rig) -> None:
    """From the same offset under its new name; a cursor of the old name stays valid for later
    readers.
    """
    writer = await rig.writer()
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        rig.log.restart()
        page = await rig.log.read("c", None, 0, 0)
        forked = Cursor(page.epoch, page.top)
        while reader.cursor != forked:
            assert not isinstance(await next_item(reader), Ended)
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, forked.seq)) as reader:
        await until_live(reader)
        assert reader.cursor == forked


async def test_a_deleted_conversation_ends_the_reader(rig: Rig) -> None:
    """At once, and for later readers."""
    readers = rig.readers()
    async with readers.follow("c") as reader:
        await rig.log.delete("c")
        ended = await until_ended(reader)
        assert (ended.reason, ended.resync) == ("deleted", None)
    async with readers.follow("c") as late:
        assert late.ended == Ended("deleted")


async def test_without_redis_nothing_is_opened(rig: Rig) -> None:
    """The caller gets the error, and no slot stays taken."""
    rig.log.go_down()
    with pytest.raises(LogUnavailable):
        async with rig.readers().follow("c"):
            pass
    rig.log.come_back()
    async with rig.readers().follow("c") as reader:
        assert reader.ended is None


async def test_an_outage_during_the_stream_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heartbeats have no cursor meanwhile; afterwards nothing is missing."""
    monkeypatch.setattr(module, "LOG_RETRY_SECONDS", 0.01)
    writer = await rig.writer()
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        rig.log.go_down()
        while (await next_item(reader)) != Beat(None):
            pass
        rig.log.come_back()
        await writer.say("a", "b")
        while not isinstance(found := await next_item(reader), Entries):
            pass
        assert [entry.seq for entry in found.entries] == [2, 3]


async def test_an_outage_during_pages_is_waited_for(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader beyond the ring continues where it was."""
    monkeypatch.setattr(module, "LOG_RETRY_SECONDS", 0.01)
    writer = await rig.writer()
    await writer.say(*["x"] * 600)
    async with rig.readers(QUICK).follow("c", Cursor(writer.epoch, 0)) as reader:
        first = await next_item(reader)
        assert isinstance(first, Entries)
        rig.log.go_down()
        while (await next_item(reader)) != Beat(None):
            pass
        rig.log.come_back()
        while not isinstance(found := await next_item(reader), Entries):
            pass
        assert found.entries[0].seq == first.entries[-1].seq + 1


async def test_after_an_outage_the_reader_reads_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon and by itself, without an event or heartbeat."""
    monkeypatch.setattr(module, "LOG_RETRY_SECONDS", 0.01)
    writer = await rig.writer()
    await writer.say(*["x"] * 600)
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        first = await next_item(reader)
        assert isinstance(first, Entries)
        rig.log.go_down()
        waiting = asyncio.create_task(next_item(reader))
        asked = rig.log.reads["c"] + 3
        await until(lambda: rig.log.reads["c"] >= asked)
        rig.log.come_back()
        found = await waiting
        assert isinstance(found, Entries)
        assert found.entries[0].seq == first.entries[-1].seq + 1


async def test_a_reader_is_late_only_while_its_socket_is_full(rig: Rig) -> None:
    """Until it has caught up."""
    writer = await rig.writer()
    await writer.say(
        *["x"] * 600
    )  # more than a page: the reader itself waits for the log between items
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        while isinstance(found := await next_item(reader), Entries):
            assert not found.late
        await writer.say("a")
        await next_item(reader)
        await writer.say("b", "c")
        await until_ready()  # as a full socket makes it wait
        late = await next_item(reader)
        assert isinstance(late, Entries)
        assert late.late
        await writer.say("d")
        await until_ready()
        assert isinstance(late := await next_item(reader), Entries)
        assert late.late
        waiting = asyncio.create_task(next_item(reader))
        await until_ready()
        await writer.say("e")
        assert isinstance(caught_up := await waiting, Entries)
        assert not caught_up.late


async def test_the_size_of_a_part_is_bounded(rig: Rig) -> None:
    """What a slow client costs a process does not depend on the conversation."""
    writer = await rig.writer()
    await writer.say(*["x" * 1000] * 200)
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        sizes = []
        while isinstance(found := await next_item(reader), Entries):
            sizes.append(sum(len(entry.data) for entry in found.entries))
        assert max(sizes) <= module.ITEM_BYTES
        assert len(sizes) > 3


async def test_the_size_of_a_part_from_the_ring_is_bounded(rig: Rig) -> None:
    """The ring may hold more than an item."""
    writer = await rig.writer()
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        await until_live(reader)
        before = rig.log.reads["c"]
        await writer.say(*["x" * 1000] * 200)
        while reader.cursor.seq < writer.seq:
            found = await next_item(reader)
            assert isinstance(found, Entries)
            assert sum(len(entry.data) for entry in found.entries) <= module.ITEM_BYTES
        assert rig.log.reads["c"] == before


async def test_the_end_of_the_process_ends_all_readers(rig: Rig) -> None:
    """Both waiting and late ones."""
    readers = rig.readers()
    async with readers.follow("c") as reader, readers.follow("d") as other:
        waiting = [asyncio.create_task(until_ended(one)) for one in (reader, other)]
        await until_ready()
        readers.stop()
        assert [ended.reason for ended in await asyncio.gather(*waiting)] == ["stopped", "stopped"]
    async with readers.follow("c") as late:
        assert (await until_ended(late)).reason == "stopped"


async def test_the_first_reason_counts(rig: Rig) -> None:
    """If the process stops while a reader is told that its time is over, that reason stays."""
    readers = rig.readers()
    async with readers.follow("c") as reader:
        reader.end("expired")
        readers.stop()
        assert (await until_ended(reader)).reason == "expired"


async def until_ready() -> None:
    """Run the tasks until they wait."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_permission_expires(rig: Rig) -> None:
    """Without any event or heartbeat."""
    async with rig.readers().follow("c", permission=Permission(until=time.time() + 0.05)) as reader:
        assert (await until_ended(reader)).reason == "expired"


async def test_a_revoked_permission_ends_the_reader(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noticed at a heartbeat."""
    monkeypatch.setattr(module, "RECHECK_SECONDS", 0.0)
    answers = [True, True, False]

    async def check() -> bool:
        return answers.pop(0)

    async with rig.readers(QUICK).follow("c", permission=Permission(check=check)) as reader:
        assert (await until_ended(reader)).reason == "expired"
    assert answers == []


@pytest.mark.parametrize(
    ("raised", "allowed"),
    [
        (None, True),
        (NotFound("conversation"), False),
        (ApiProblem("unauthenticated", "Who is it?"), False),
        (StoreUnavailable("away"), True),
    ],
)
async def test_only_a_refusal_ends_the_reader(raised: Exception | None, allowed: bool) -> None:
    """An absent database does not."""

    async def ask() -> None:
        if raised is not None:
            raise raised

    assert await still_allowed(ask) is allowed


@pytest.mark.parametrize("may", [False, True])
async def test_a_removal_is_checked_at_once(rig: Rig, may: bool) -> None:
    """A person who has come back meanwhile reads on."""

    async def check() -> bool:
        return may

    writer = await rig.writer()
    await rig.log.revoke("c", "ada")
    async with rig.readers().follow(
        "c", permission=Permission(user_id="ada", check=check)
    ) as reader:
        if may:
            assert await until_live(reader) == []
            await writer.say("a")
            assert isinstance(await next_item(reader), Entries)
        else:
            assert (await until_ended(reader)).reason == "removed"


async def test_nothing_is_left_when_the_last_reader_leaves(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No room and no subscription."""
    monkeypatch.setattr("tokenwire.streams.hub.hub.GRACE_SECONDS", 0.0)
    readers = rig.readers(QUICK)
    async with readers.follow("c"), readers.follow("c"):
        assert await rig.log.has_readers("c")
    await until_ready()
    assert not await rig.log.has_readers("c")
    assert readers.rooms._rooms == {}


async def test_a_conversation_without_readers_is_not_read(rig: Rig) -> None:
    """The heartbeat ends with the last reader, before the tail does; another conversation shows
    that time passes.
    """
    readers = rig.readers(QUICK)
    async with readers.follow("c") as reader:
        await _one_beat(reader)
    await until_ready()
    before = rig.log.reads["c"]
    async with readers.follow("d") as other:
        for _ in range(10):
            await _one_beat(other)
    assert rig.log.reads["c"] == before


async def test_an_outage_is_reported_once_per_read(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that cannot continue waits for the next read of the log: it does not repeat the
    report.
    """
    monkeypatch.setattr(module, "LOG_RETRY_SECONDS", 0.01)
    writer = await rig.writer()
    await writer.say(*["x"] * 600)
    async with rig.readers().follow("c", Cursor(writer.epoch, 0)) as reader:
        await next_item(reader)
        rig.log.go_down()
        for _ in range(2):
            reader.beat(LogUnavailable("away"))
            assert await next_item(reader) == Beat(None)
        waiting = asyncio.create_task(next_item(reader))
        asked = rig.log.reads["c"] + 3
        await until(lambda: rig.log.reads["c"] >= asked or waiting.done())
        assert not waiting.done()
        waiting.cancel()
