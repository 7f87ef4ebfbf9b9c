"""The recent end of one log: what pub/sub brings, what is read instead, and the contents of its
ring.
"""

import asyncio

import pytest

from tests.unit.streams.hub.rig import LEASE, Reader, Rig, turn, until
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Cancelled, Complete, Error, Start, Title
from tokenwire.streams.hub import hub as hub_module
from tokenwire.streams.hub.hub import RING_BYTES, RING_EVENTS
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import PAGE_BYTES, LogUnavailable, Page


async def test_events_reach_listeners_as_they_come(rig: Rig) -> None:
    """The ring holds the stamped events byte for byte, with room for their encoded form."""
    tail = await rig.hub.open("c")
    readers = [Reader(tail) for _ in range(3)]
    await rig.write(3)
    await turn()
    assert [reader.seen for reader in readers] == [[1, 2, 3]] * 3
    entries = tail.since(1)
    assert entries is not None
    page = await rig.log.read("c", None, 1, 9)
    assert [(entry.seq, entry.data) for entry in entries] == page.entries
    assert entries[0].frame is None
    assert rig.log.reads == 2


async def test_events_that_come_together_wake_once(rig: Rig) -> None:
    """A batch wakes a reader once."""
    tail = await rig.hub.open("c")
    woken: list[int] = []
    remove = tail.listen(lambda: woken.append(tail.top))
    await rig.write(5)
    await turn()
    assert woken == [5]
    remove()
    remove()
    await rig.write(1)
    await turn()
    assert woken == [5]


async def test_a_failing_listener_affects_no_other(rig: Rig) -> None:
    """The others are woken, and the tail continues."""

    def fail() -> None:
        raise RuntimeError("broken reader")

    tail = await rig.hub.open("c")
    tail.listen(fail)
    reader = Reader(tail)
    for _ in range(2):
        await rig.write(1)
        await turn()
    assert reader.seen == [1, 2]


async def test_since_reports_what_it_does_not_hold(rig: Rig) -> None:
    """[] at the tip, None before the ring and beyond the top."""
    await rig.write(4)
    tail = await rig.hub.open("c")
    await rig.write(2)
    await turn()
    assert tail.since(6) == []
    assert [entry.seq for entry in tail.since(4) or []] == [5, 6]
    assert tail.since(3) is None
    assert tail.since(7) is None
    assert [
        entry.seq for entry in (await tail.read(Cursor(tail.epoch, 3), 2, PAGE_BYTES)).entries
    ] == [4, 5]


async def test_a_gap_is_filled_from_the_log(rig: Rig) -> None:
    """Lost events are read before any later one is shown."""
    tail = await rig.hub.open("c")
    reader = Reader(tail)
    rig.pubsub.losing = 3
    await rig.write(2)
    await rig.write(2)
    await until(lambda: tail.top == 4)
    assert reader.seen == [1, 2, 3, 4]


async def test_a_refresh_finds_a_lost_last_event(rig: Rig) -> None:
    """The read of a heartbeat delivers it."""
    tail = await rig.hub.open("c")
    reader = Reader(tail)
    rig.pubsub.losing = 1
    await rig.log.append(rig.claim, 0, 0, [Complete("m", 1, "stop", None, 0, 0, [], 0, 0)])
    await turn()
    assert reader.seen == []
    page = await tail.refresh()
    assert (page.top, page.running, tail.running) == (1, False, False)
    assert reader.seen == [1]


async def test_refreshes_at_the_same_time_share_a_read(rig: Rig) -> None:
    """A thousand heartbeats do not cause a thousand reads."""
    tail = await rig.hub.open("c")
    before = rig.log.reads
    await asyncio.gather(*(tail.refresh() for _ in range(1000)))
    assert rig.log.reads == before + 1


async def test_a_reconnected_feed_makes_every_tail_read_on(rig: Rig) -> None:
    """Nothing published meanwhile is missed."""
    tail = await rig.hub.open("c")
    reader = Reader(tail)
    rig.pubsub.cut()
    await rig.write(3)
    await turn()
    assert reader.seen == []
    rig.pubsub.mend()
    await until(lambda: tail.top == 3)
    assert reader.seen == [1, 2, 3]


async def test_a_new_epoch_is_reported(rig: Rig) -> None:
    """Listeners are woken, the ring is emptied, and new events follow."""
    await rig.write(3)
    tail = await rig.hub.open("c")
    old = tail.epoch
    woken: list[str] = []
    tail.listen(lambda: woken.append(tail.epoch))
    await rig.new_epoch()
    await until(lambda: tail.epoch != old)
    assert woken
    assert tail.since(3) is None
    reader = Reader(tail)
    await rig.write(2)
    await turn()
    assert reader.seen == [tail.top - 1, tail.top]


async def test_a_page_that_overlaps_the_feed_doubles_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pub/sub brings events that a running read also holds."""
    tail = await rig.hub.open("c")
    reader = Reader(tail)

    async def slow_read(
        conversation_id: str, epoch: str | None, after: int, limit: int, max_bytes: int = PAGE_BYTES
    ) -> Page:
        await rig.write(2)
        await turn()
        assert tail.top == 2
        rig.pubsub.cut()
        await rig.write(1)
        return await MemoryLog.read(rig.log, conversation_id, epoch, after, limit)

    monkeypatch.setattr(rig.log, "read", slow_read)
    await tail.refresh()
    assert reader.seen == [1, 2, 3]
    assert [entry.seq for entry in tail._ring] == [1, 2, 3]


async def test_far_behind_the_tail_jumps_and_readers_read(rig: Rig) -> None:
    """More than a ring was lost: the tail jumps to the top, and readers read the rest
    themselves.
    """
    tail = await rig.hub.open("c")
    await rig.write(10)
    await turn()
    reader = Reader(tail)
    rig.pubsub.cut()
    for _ in range(3):
        await rig.write(RING_EVENTS)
    rig.pubsub.mend()
    await until(lambda: len(reader.seen) == 3 * RING_EVENTS)
    assert reader.seen == list(range(11, 3 * RING_EVENTS + 11))
    assert tail._ring_bytes == sum(len(entry.data) for entry in tail._ring)


async def test_the_ring_is_bounded(rig: Rig) -> None:
    """In events and in bytes."""
    tail = await rig.hub.open("c")
    for _ in range(10):
        await rig.write(100)
    await turn()
    assert RING_EVENTS <= len(tail._ring) <= RING_EVENTS + 64
    for _ in range(12):
        await rig.write(1, "y" * 60_000)
    await turn()
    held = sum(len(entry.data) for entry in tail._ring)
    assert held == tail._ring_bytes <= RING_BYTES
    await rig.write(1, "z" * (RING_BYTES + 1))
    await turn()
    assert tail.since(tail.top) == []
    assert tail.since(tail.top - 1) is None


async def test_running_is_known_without_a_read(rig: Rig) -> None:
    """An attempt's event says that an answer runs; announcements do not."""
    log = rig.log
    tail = await rig.hub.open("other")
    assert tail.running is False
    await log.announce("other", "r", 1, Title("t", 1))
    await turn()
    assert tail.running is False
    claim = await log.claim("other", "m2", 0, LEASE)
    await log.append(claim, 0, 0, [Start("m2", 1, "demo")])
    await turn()
    assert tail.running is True
    assert (await rig.hub.open("c")).running is True


@pytest.mark.parametrize(
    "end",
    [
        Complete("m2", 1, "stop", None, 0, 0, [], 0, 0),
        Error(
            "m2",
            1,
            "unavailable",
            "Not there.",
            retryable=True,
            usage=None,
            length=0,
            crc32=0,
            parts=0,
            parts_crc32=0,
        ),
        Cancelled("m2", 1, "you", None, 0, 0, 0, 0),
    ],
)
async def test_an_end_does_not_mean_running(rig: Rig, end: AnyEvent) -> None:
    """An answer that was stopped before it began has no other event."""
    tail = await rig.hub.open("other")
    claim = await rig.log.claim("other", "m2", 0, LEASE)
    await rig.log.append(claim, 0, 0, [end])
    await turn()
    assert (tail.top, tail.running) == (1, False)


async def test_a_log_set_back_is_started_over(rig: Rig) -> None:
    """The same epoch with a lower top: a server lost its end without noticing. Old numbers are new
    events.
    """
    tail = await rig.hub.open("c")
    await rig.write(3)
    await turn()
    assert tail.top == 3
    state = rig.log._states["c"]
    state.top = 1
    while len(state.kept) > 1:
        state.kept.pop()
    assert (await tail.refresh()).top == 1
    assert (tail.top, tail.since(1), tail.since(0)) == (1, [], None)
    await rig.write(1, "another")
    await turn()
    told = tail.since(1)
    assert told is not None
    assert [(entry.seq, b"another" in entry.data) for entry in told] == [(2, True)]


async def test_a_page_of_a_log_set_back_is_news_for_the_tail(rig: Rig) -> None:
    """Otherwise a reader between the new and the old top would read the same page for ever."""
    tail = await rig.hub.open("c")
    await rig.write(3)
    await turn()
    version, state = tail.version, rig.log._states["c"]
    state.top = 1
    while len(state.kept) > 1:
        state.kept.pop()
    page = await tail.read(Cursor(tail.epoch, 1), 10, 1000)
    assert (page.top, tail.top, tail.version, tail.forks) == (1, 1, version + 1, {tail.epoch: 1})


async def test_a_log_that_forked_after_the_tail_keeps_its_ring(rig: Rig) -> None:
    """Ring and top stay; only the name and later events are new. Beyond the fork it starts over."""
    tail = await rig.hub.open("c")
    await rig.write(3)
    await turn()
    version, held = tail.version, tail.since(0)
    old = tail.epoch
    await rig.fork()
    await rig.write(1)
    await tail.refresh()
    assert (tail.top, tail.forks, tail.version) == (4, {old: 3}, version + 1)
    told = tail.since(0)
    assert told is not None
    assert held is not None
    assert told[:3] == held
    state = rig.log._states["c"]
    state.top, lost = 2, [state.kept.pop(), state.kept.pop()]
    assert lost
    rig.log.restart()
    await tail.refresh()
    assert (tail.top, tail.since(2), tail.since(1)) == (2, [], None)
    assert tail.forks[old] == 2


async def test_a_tail_survives_any_error_of_the_log(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets an outage, and the next read is a new one."""
    tail = await rig.hub.open("c")
    with monkeypatch.context() as broken:

        async def fail(*_: object) -> Page:
            raise RuntimeError("ERR of a kind that nobody thought of")

        broken.setattr(rig.log, "read", fail)
        with pytest.raises(LogUnavailable):
            await tail.refresh()
    await rig.write(1)
    assert (await tail.refresh()).top == 1


async def test_a_log_that_is_away_is_read_when_it_returns(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tail that misses events retries until it has them; a heartbeat meanwhile raises
    LogUnavailable.
    """
    monkeypatch.setattr(hub_module, "FIRST_PAUSE_SECONDS", 0.0)
    tail = await rig.hub.open("c")
    reader = Reader(tail)
    rig.pubsub.losing = 1
    await rig.write(2)
    rig.log.go_down()
    await turn()
    with pytest.raises(LogUnavailable):
        await tail.refresh()
    rig.log.come_back()
    await until(lambda: tail.top == 2)
    assert reader.seen == [1, 2]


async def test_other_messages_are_ignored(rig: Rig) -> None:
    """Anybody can publish on a channel; a tail accepts only valid events."""
    tail = await rig.hub.open("c")
    for payload in (b"", b"hello", b"a:b:c", b"1:2"):
        rig.log._publish("tw2:{c}", payload)
    await rig.write(1)
    await turn()
    assert tail.top == 1
