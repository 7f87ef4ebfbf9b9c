"""streams.hub: every viewer sees each seq once and in order, whatever the feed loses."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import hub as hub_module
from streams import keys
from streams.events import Chunk, Complete, Reset, Start, Title
from streams.hub import RING_BYTES, RING_EVENTS, Hub, Tail
from streams.memory import MemoryFeed, MemoryLog
from streams.ports import PAGE_BYTES, Claim, Gone, Limits, Page, Unavailable
from streams.positions import Position

LEASE = 60.0


class LossyFeed(MemoryFeed):
    """Loses, doubles or holds back what it is told to."""

    losing = 0
    doubling = 0

    def _flush(self) -> None:
        kept = []
        for message in self._arrived:
            if self.losing:
                self.losing -= 1
                continue
            kept.append(message)
            if self.doubling:
                self.doubling -= 1
                kept.append(message)
        self._arrived = kept
        super()._flush()


class CountingLog(MemoryLog):
    """Counts reads."""

    reads = 0

    async def read(self, conversation_id: str, epoch: str | None, after: int, limit: int, max_bytes: int = PAGE_BYTES) -> Page:
        self.reads += 1
        await asyncio.sleep(0)  # as long as any network takes: others act meanwhile
        page = await super().read(conversation_id, epoch, after, limit, max_bytes)
        await asyncio.sleep(0)
        return page


class Rig:
    """A log, a writer on it, a feed and a hub."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.log = CountingLog(limits)
        self.feed = LossyFeed(self.log)
        self.hub = Hub(self.log, self.feed)
        self.claim = Claim("c", "m", "", 0)
        self.index = 0

    async def start(self) -> None:
        await self.hub.start()
        self.claim = await self.log.claim("c", "m", 0, LEASE)

    async def write(self, count: int = 1, content: str = "x") -> int:
        appended = await self.log.append(self.claim, self.index, 10**9, [Chunk("m", 1, 0, content)] * count)
        self.index += 1
        return appended.last_seq

    async def new_epoch(self) -> None:
        self.log.restart(lose_data=True)
        page = await self.log.read("c", None, 0, 0)
        self.claim, _ = await self.log.adopt(self.claim, page.position, [Reset("m", 1, 0, 0)], LEASE)
        self.index = 0

    async def fork(self) -> None:
        self.log.restart()
        self.claim = await self.log.rejoin(self.claim, self.index, LEASE)


@pytest.fixture
async def rig() -> Rig:
    made = Rig()
    await made.start()
    return made


class Viewer:
    """Holds a cursor, takes from the ring, reads when it lags; starts again with a new epoch."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.epoch = tail.epoch
        self.first = self.cursor = tail.top
        self.seen: list[int] = []
        self.reading: asyncio.Task[None] | None = None
        self.stop = tail.listen(self.wake)

    def wake(self) -> None:
        if self.reading is not None:
            return
        if self.epoch != self.tail.epoch:
            self.epoch, self.first, self.cursor, self.seen = self.tail.epoch, self.tail.top, self.tail.top, []
            return
        entries = self.tail.since(self.cursor)
        if entries is None:
            self.reading = asyncio.create_task(self.catch_up())
        else:
            self.take([entry.seq for entry in entries])

    async def catch_up(self) -> None:
        page = await self.tail.read(Position(self.epoch, self.cursor), 50, PAGE_BYTES)
        if page.epoch == self.epoch:
            self.take([entry.seq for entry in page.entries])
        self.reading = None
        if self.cursor < self.tail.top or self.epoch != self.tail.epoch:
            self.wake()

    def take(self, seqs: list[int]) -> None:
        self.seen += seqs
        self.cursor = self.seen[-1] if self.seen else self.cursor


async def turn(times: int = 12) -> None:
    """Let everything that is ready happen."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until something is so; the test's own timeout bounds it."""
    while not condition():
        await asyncio.sleep(0)


async def test_viewers_share_one_tail_and_one_read(rig: Rig) -> None:
    """A thousand opens at once cost one subscription and one read."""
    tails = await asyncio.gather(*(rig.hub.open("c") for _ in range(1000)))
    assert len(set(map(id, tails))) == 1
    assert rig.log.reads == 1


async def test_events_reach_listeners_as_they_come(rig: Rig) -> None:
    """The ring holds the stamped events byte for byte, with room for their encoded form."""
    tail = await rig.hub.open("c")
    viewers = [Viewer(tail) for _ in range(3)]
    await rig.write(3)
    await turn()
    assert [viewer.seen for viewer in viewers] == [[1, 2, 3]] * 3
    entries = tail.since(1)
    assert entries is not None
    page = await rig.log.read("c", None, 1, 9)
    assert [(entry.seq, entry.data) for entry in entries] == page.entries
    assert entries[0].frame is None
    assert rig.log.reads == 2


async def test_one_wake_for_what_comes_together(rig: Rig) -> None:
    """A batch wakes a viewer once."""
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


async def test_a_listener_that_fails_harms_nobody(rig: Rig) -> None:
    """The others are woken, the tail goes on."""

    def fail() -> None:
        raise RuntimeError("broken viewer")

    tail = await rig.hub.open("c")
    tail.listen(fail)
    viewer = Viewer(tail)
    for _ in range(2):
        await rig.write(1)
        await turn()
    assert viewer.seen == [1, 2]


async def test_since_says_what_it_does_not_hold(rig: Rig) -> None:
    """[] at the tip, None before the ring begins and beyond the top."""
    await rig.write(4)
    tail = await rig.hub.open("c")
    await rig.write(2)
    await turn()
    assert tail.since(6) == []
    assert [entry.seq for entry in tail.since(4) or []] == [5, 6]
    assert tail.since(3) is None
    assert tail.since(7) is None
    assert [entry.seq for entry in (await tail.read(Position(tail.epoch, 3), 2, PAGE_BYTES)).entries] == [4, 5]


async def test_a_gap_is_filled_from_the_log(rig: Rig) -> None:
    """What the feed lost is read before anything after it is shown."""
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)
    rig.feed.losing = 3
    await rig.write(2)
    await rig.write(2)
    await until(lambda: tail.top == 4)
    assert viewer.seen == [1, 2, 3, 4]


async def test_a_refresh_finds_a_lost_last_event(rig: Rig) -> None:
    """When the last event is the one that was lost, the heartbeat's read delivers it."""
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)
    rig.feed.losing = 1
    await rig.log.append(rig.claim, 0, 0, [Complete("m", 1, "stop", None, 0, 0, [])])
    await turn()
    assert viewer.seen == []
    page = await tail.refresh()
    assert (page.top, page.running, tail.running) == (1, False, False)
    assert viewer.seen == [1]


async def test_refreshes_at_the_same_time_share_a_read(rig: Rig) -> None:
    """A thousand heartbeats do not make a thousand reads."""
    tail = await rig.hub.open("c")
    before = rig.log.reads
    await asyncio.gather(*(tail.refresh() for _ in range(1000)))
    assert rig.log.reads == before + 1


async def test_a_reconnected_feed_makes_every_tail_read_on(rig: Rig) -> None:
    """Nothing that was published meanwhile stays unseen."""
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)
    rig.feed.cut()
    await rig.write(3)
    await turn()
    assert viewer.seen == []
    rig.feed.mend()
    await until(lambda: tail.top == 3)
    assert viewer.seen == [1, 2, 3]


async def test_a_reconnected_feed_tells_lists_that_anything_may_have_changed(rig: Rig) -> None:
    """What was published meanwhile is known to nobody."""
    heard: list[str | None] = []
    await rig.hub.watch_changes(heard.append)
    await rig.log.touch("c")
    await turn()
    rig.feed.cut()
    rig.feed.mend()
    await rig.log.touch("d")
    await turn()
    assert heard == ["c", None, "d"]


async def test_a_new_epoch_is_told(rig: Rig) -> None:
    """Listeners are woken, the ring holds nothing of the old life, and what follows comes."""
    await rig.write(3)
    tail = await rig.hub.open("c")
    old = tail.epoch
    woken: list[str] = []
    tail.listen(lambda: woken.append(tail.epoch))
    await rig.new_epoch()
    await until(lambda: tail.epoch != old)
    assert woken
    assert tail.since(3) is None
    viewer = Viewer(tail)
    await rig.write(2)
    await turn()
    assert viewer.seen == [tail.top - 1, tail.top]


async def test_an_event_between_subscription_and_read_is_not_lost(rig: Rig) -> None:
    """A tail that is still opening reads again for what arrived before it knew where it stands."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    written = [await rig.write(1)]
    while not opening.done():
        written.append(await rig.write(1))
        await asyncio.sleep(0)
    tail = await opening
    await turn()
    assert tail.top == written[-1]


async def test_a_page_that_overlaps_the_feed_adds_nothing_twice(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed brings events while a read that holds them too is on its way back."""
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)

    async def slow_read(conversation_id: str, epoch: str | None, after: int, limit: int, max_bytes: int = PAGE_BYTES) -> Page:
        await rig.write(2)
        await turn()
        assert tail.top == 2
        rig.feed.cut()
        await rig.write(1)
        return await MemoryLog.read(rig.log, conversation_id, epoch, after, limit)

    monkeypatch.setattr(rig.log, "read", slow_read)
    await tail.refresh()
    assert viewer.seen == [1, 2, 3]
    assert [entry.seq for entry in tail._ring] == [1, 2, 3]


async def test_far_behind_the_tail_jumps_and_viewers_read(rig: Rig) -> None:
    """More than a ring was missed: the tail goes to the top, viewers fetch the rest by themselves."""
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)
    rig.feed.cut()
    for _ in range(3):
        await rig.write(RING_EVENTS)
    rig.feed.mend()
    await until(lambda: len(viewer.seen) == 3 * RING_EVENTS)
    assert viewer.seen == list(range(1, 3 * RING_EVENTS + 1))


async def test_the_ring_is_bounded(rig: Rig) -> None:
    """By events and by bytes, whatever arrives."""
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
    """An attempt's event says that a generation runs; announcements do not."""
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


async def test_a_deleted_conversation_is_told_and_stays_gone(rig: Rig) -> None:
    """Viewers are woken; whoever opens it later learns it too."""
    tail = await rig.hub.open("c")
    woken: list[bool] = []
    tail.listen(lambda: woken.append(tail.gone))
    await rig.log.delete("c", 60)
    await turn()
    assert woken == [True]
    with pytest.raises(Gone):
        await tail.refresh()
    assert woken == [True]
    rig.hub.release(tail)
    await until(lambda: not rig.hub._held)
    assert (await rig.hub.open("c")).gone


async def test_the_last_release_ends_the_subscription_after_a_grace(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer who comes back within it finds the same tail; later, nothing is left."""
    tail, same = await rig.hub.open("c"), await rig.hub.open("c")
    rig.hub.release(tail)
    rig.hub.release(same)
    assert await rig.hub.open("c") is tail
    await turn()
    monkeypatch.setattr(hub_module, "GRACE_SECONDS", 0)
    await rig.hub.open("c")
    rig.hub.release(tail)
    await turn()
    assert rig.hub._held, "another viewer is there"
    rig.hub.release(tail)
    await rig.hub.open("c")
    await turn()
    assert rig.hub._held, "somebody came back within the grace"
    rig.hub.release(tail)
    rig.hub.release(tail)  # once too often does no harm
    await until(lambda: not rig.hub._held)
    assert rig.feed._channels == set()
    assert await rig.hub.open("c") is not tail


async def test_opening_without_a_feed_fails_and_leaves_nothing(rig: Rig) -> None:
    """Whoever waits is told; the next one may succeed."""
    rig.feed.cut()
    results = await asyncio.gather(rig.hub.open("c"), rig.hub.open("c"), return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable, Unavailable]
    assert not rig.hub._held
    rig.feed.mend()
    assert (await rig.hub.open("c")).top == 0


async def test_an_opening_that_is_given_up_harms_no_other(rig: Rig) -> None:
    """One of two waiting viewers goes away."""
    first, second = asyncio.create_task(rig.hub.open("c")), asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    first.cancel()
    tail = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    rig.hub.release(tail)
    assert rig.hub._held["c"].users == 0


async def test_an_opening_that_everybody_gives_up_leaves_nothing(rig: Rig) -> None:
    """Neither a tail nor a subscription that nobody would ever release."""
    opening = asyncio.create_task(rig.hub.open("c"))
    await asyncio.sleep(0)
    assert rig.hub._held
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await turn()
    assert not rig.hub._held
    assert rig.feed._channels == set()


async def test_what_happens_just_before_the_subscription_is_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is read when the subscription stands: what was published before it is in the log, what comes after it is heard."""
    subscribe = rig.feed.subscribe

    async def just_too_late(channel: str) -> None:
        await rig.write(1)
        await subscribe(channel)

    monkeypatch.setattr(rig.feed, "subscribe", just_too_late)
    tail = await rig.hub.open("c")
    assert tail.top == 1


async def test_a_log_that_was_set_back_is_begun_with_again(rig: Rig) -> None:
    """The same epoch with a lower top: a server that lost its end and says nothing of it. What comes now under old numbers is new."""
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


async def test_a_log_that_forked_behind_a_tail_leaves_it_as_it_is(rig: Rig) -> None:
    """Ring and top stay; only the name, and what follows, are new. Beyond the fork it begins again."""
    tail = await rig.hub.open("c")
    await rig.write(3)
    await turn()
    life, held = tail.life, tail.since(0)
    old = tail.epoch
    await rig.fork()
    await rig.write(1)
    await tail.refresh()
    assert (tail.top, tail.forks, tail.life) == (4, {old: 3}, life + 1)
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


async def test_a_tail_outlives_any_error_of_the_log(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told that it is away, and the next look is another one."""
    tail = await rig.hub.open("c")
    with monkeypatch.context() as broken:

        async def fail(*_: object) -> Page:
            raise RuntimeError("ERR of a kind that nobody thought of")

        broken.setattr(rig.log, "read", fail)
        with pytest.raises(Unavailable):
            await tail.refresh()
    await rig.write(1)
    assert (await tail.refresh()).top == 1


async def test_a_log_that_is_away_is_read_when_it_is_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail that knows it misses something tries until it has it; a heartbeat meanwhile says Unavailable."""
    monkeypatch.setattr(hub_module, "FIRST_PAUSE_SECONDS", 0.0)
    tail = await rig.hub.open("c")
    viewer = Viewer(tail)
    rig.feed.losing = 1
    await rig.write(2)
    rig.log.go_down()
    await turn()
    with pytest.raises(Unavailable):
        await tail.refresh()
    rig.log.come_back()
    await until(lambda: tail.top == 2)
    assert viewer.seen == [1, 2]


async def test_what_is_no_event_is_ignored(rig: Rig) -> None:
    """Anybody can publish on a channel; a tail believes only what it can read."""
    tail = await rig.hub.open("c")
    for payload in (b"", b"hello", b"a:b:c", b"1:2"):
        rig.log._publish("tw:{c}", payload)
    await rig.write(1)
    await turn()
    assert tail.top == 1


async def test_closing_the_hub_ends_everything(rig: Rig) -> None:
    """No task and no subscription is left."""
    tail = await rig.hub.open("c")
    tail.catch_up()
    await rig.hub.aclose()
    await turn()
    assert not rig.hub._held
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


step = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 9)),
    st.tuples(st.just("lose"), st.integers(1, 6)),
    st.tuples(st.just("double"), st.integers(1, 6)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("mend"), st.just(0)),
    st.tuples(st.just("flood"), st.just(0)),
    st.tuples(st.just("epoch"), st.just(0)),
    st.tuples(st.just("join"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
    st.tuples(st.just("refresh"), st.just(0)),
    st.tuples(st.just("suspect"), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 6)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
)


class Schedule:
    """Carries out a drawn list of steps."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.viewers: list[Viewer] = []
        self.connected = True

    async def run(self, steps: list[tuple[str, int]]) -> None:
        await self.rig.start()
        await self.join(0)
        for name, number in steps:
            act: Callable[[int], Awaitable[None]] = getattr(self, name)
            await act(number)
        await self.mend(0)
        self.rig.feed.losing = 0
        tail = await self.rig.hub.open("c")
        page = await tail.refresh()
        await until(lambda: all(viewer.reading is None and viewer.cursor == page.top for viewer in self.viewers))
        await turn()
        for viewer in self.viewers:
            assert viewer.epoch == page.epoch
            assert viewer.seen == list(range(viewer.first + 1, page.top + 1))
        await self.rig.hub.aclose()

    async def write(self, number: int) -> None:
        await self.rig.write(number)

    async def lose(self, number: int) -> None:
        self.rig.feed.losing = number

    async def double(self, number: int) -> None:
        self.rig.feed.doubling = number

    async def cut(self, _: int) -> None:
        self.rig.feed.cut()
        self.connected = False

    async def mend(self, _: int) -> None:
        if not self.connected:
            self.rig.feed.mend()
            self.connected = True

    async def flood(self, _: int) -> None:
        await self.rig.write(RING_EVENTS + 10)

    async def epoch(self, _: int) -> None:
        await self.rig.new_epoch()

    async def join(self, _: int) -> None:
        if self.connected or self.viewers:
            self.viewers.append(Viewer(await self.rig.hub.open("c")))

    async def leave(self, _: int) -> None:
        if len(self.viewers) > 1:
            viewer = self.viewers.pop()
            viewer.stop()
            self.rig.hub.release(viewer.tail)

    async def refresh(self, _: int) -> None:
        if self.viewers:
            await self.viewers[0].tail.refresh()

    async def suspect(self, _: int) -> None:
        if self.viewers:
            self.viewers[0].tail.catch_up()

    async def turn(self, number: int) -> None:
        await turn(number)


@settings(max_examples=400, deadline=None)
@given(st.lists(step, max_size=40))
def test_every_viewer_sees_each_seq_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Whatever is lost, doubled, cut off or begun anew: from where a viewer started to the top, without a hole or a repetition."""
    asyncio.run(Schedule().run(steps))


async def test_who_may_not_follow_is_known_even_if_the_word_was_lost(rig: Rig) -> None:
    """At the opening, at a word on the channel, and after a break in which that word was missed."""
    await rig.log.revoke("c", "ada", 60)
    tail = await rig.hub.open("c")
    assert tail.revoked == {"ada"}
    woken: list[frozenset[str]] = []
    tail.listen(lambda: woken.append(tail.revoked))
    await rig.log.revoke("c", "bob", 60)
    await turn()
    assert woken == [{"ada", "bob"}]
    rig.feed.cut()
    await rig.log.restore("c", "ada")
    await turn()
    assert tail.revoked == {"ada", "bob"}
    rig.feed.mend()
    await turn()
    assert tail.revoked == {"bob"}
    assert woken[-1] == {"bob"}


async def test_an_outage_while_it_is_asked_who_may_follow(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again until there is an answer."""
    tail = await rig.hub.open("c")
    monkeypatch.setattr(hub_module, "FIRST_PAUSE_SECONDS", 0.001)
    rig.log.go_down()
    tail.take(keys.ACCESS)
    await turn()
    rig.log.come_back()
    await rig.log.revoke("c", "bob", 60)
    async with asyncio.timeout(5):
        while tail.revoked != {"bob"}:
            await asyncio.sleep(0.001)
