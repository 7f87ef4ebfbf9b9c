"""Whoever keeps a log answers alike: in this process, fakeredis behind TCP, a real Valkey server."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Protocol

import pytest
import redis
from fakeredis import TcpFakeServer

from streams import keys
from streams.events import AnyEvent, Chunk, Complete, Start, Title
from streams.feed import RedisFeed
from streams.log import RedisLog
from streams.memory import MemoryFeed, MemoryLog
from streams.ports import (
    HEARD_SECONDS,
    UNHEARD_SECONDS,
    Busy,
    CancelRequested,
    Claim,
    Feed,
    Fenced,
    Gone,
    Limits,
    Log,
    Lost,
    Page,
    Refused,
    Sealed,
)
from streams.positions import Position
from tests.valkey import Valkey

KINDS = ("memory", "fakeredis", "valkey")
RESTARTABLE = ("memory", "valkey")
"""fakeredis does not tell who it is: that it started again with its data cannot be noticed."""
NEW_EPOCHS = [*((kind, "lose") for kind in KINDS), *((kind, "restart") for kind in RESTARTABLE)]
LEASE = 30.0
SHORT_LEASE = 0.3


class Rig(Protocol):
    """A kind of log, and what happens around it."""

    def log(self, limits: Limits | None = None) -> Log: ...
    async def wait(self, seconds: float) -> None: ...
    async def set_clock_back(self, seconds: float) -> None: ...
    async def restart(self) -> None: ...
    async def lose(self) -> None: ...
    async def published(self, channel: str, act: Callable[[], Awaitable[object]]) -> list[bytes]: ...
    def feed(self) -> Feed: ...
    async def aclose(self) -> None: ...


class MemoryRig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.only: MemoryLog | None = None

    def log(self, limits: Limits | None = None) -> Log:
        self.only = MemoryLog(limits, lambda: self.now)
        return self.only

    async def wait(self, seconds: float) -> None:
        self.now += seconds

    async def set_clock_back(self, seconds: float) -> None:
        self.now -= seconds

    async def restart(self) -> None:
        assert self.only is not None
        self.only.restart()

    async def lose(self) -> None:
        assert self.only is not None
        self.only.restart(lose_data=True)

    async def published(self, channel: str, act: Callable[[], Awaitable[object]]) -> list[bytes]:
        assert self.only is not None
        heard: list[bytes] = []
        stop = self.only.listen(lambda where, payload: heard.append(payload) if where == channel else None)
        with suppress(Refused):
            await act()
        stop()
        return heard

    def feed(self) -> Feed:
        assert self.only is not None
        return MemoryFeed(self.only)

    async def aclose(self) -> None:
        pass


class RedisRig:
    def __init__(self, port: int, server: Valkey | None) -> None:
        self.port = port
        self.server = server
        self.logs: list[RedisLog] = []
        self.client().flushall()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, driver_info=None)

    def feed(self) -> Feed:
        return RedisFeed(f"redis://127.0.0.1:{self.port}/0")

    def log(self, limits: Limits | None = None) -> Log:
        self.logs.append(RedisLog(f"redis://127.0.0.1:{self.port}/0", limits))
        return self.logs[-1]

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds + 0.1)

    async def set_clock_back(self, seconds: float) -> None:
        """The server's clock cannot be set: every time that it noted is moved ahead instead."""
        with self.client() as client:
            for state in client.keys("*:state"):
                for name, value in client.hgetall(state).items():
                    client.hset(state, name, _ahead(name, value, int(seconds * 1000)))

    async def restart(self) -> None:
        assert self.server is not None
        self.server.restart()
        await asyncio.sleep(0.05)  # until the client has seen its connection end

    async def lose(self) -> None:
        with self.client() as client:
            client.flushall()

    async def published(self, channel: str, act: Callable[[], Awaitable[object]]) -> list[bytes]:
        with self.client() as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(channel, "end")
            await asyncio.to_thread(pubsub.get_message, timeout=5)
            await asyncio.to_thread(pubsub.get_message, timeout=5)
            with suppress(Refused):
                await act()
            await asyncio.to_thread(client.publish, "end", "")
            return await asyncio.to_thread(_until_end, pubsub)

    async def aclose(self) -> None:
        for log in self.logs:
            await log.aclose()


def _ahead(name: bytes, value: bytes, milliseconds: int) -> bytes:
    place = {b"g:": 5, b"c:": 0}.get(name[:2])
    if place is None:
        return value
    words = value.split(b" ")
    words[place] = b"%d" % (int(words[place]) + milliseconds)
    return b" ".join(words)


def _until_end(pubsub: "redis.client.PubSub") -> list[bytes]:
    heard: list[bytes] = []
    while True:
        message = pubsub.get_message(timeout=5)
        if message is None or message["channel"] == b"end":
            return heard
        heard.append(message["data"])


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[Valkey]:
    server = Valkey()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def fake_port() -> Iterator[int]:
    server = TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    made: Rig
    if request.param == "memory":
        made = MemoryRig()
    elif request.param == "fakeredis":
        made = RedisRig(request.getfixturevalue("fake_port"), None)
    else:
        server = request.getfixturevalue("own_valkey")
        made = RedisRig(server.port, server)
    yield made
    await made.aclose()


def chunk(offset: int, content: str = "x", message_id: str = "m", attempt: int = 1) -> AnyEvent:
    return Chunk(message_id, attempt, offset, content)


def complete(length: int = 0, message_id: str = "m", attempt: int = 1) -> AnyEvent:
    return Complete(message_id, attempt, "stop", None, length, 0, [])


def numbers(page: Page) -> list[int]:
    return [entry.seq for entry in page.entries]


# --- append: fence, order, repeats ---


async def test_seq_has_no_holes_and_stands_in_the_data(rig: Rig) -> None:
    """Events of one batch and of the next are numbered 1, 2, 3 ..., and each carries its own number."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    first = await log.append(claim, 0, 0, [Start("m", 1, "demo"), chunk(0, "Hé😀")])
    second = await log.append(claim, 1, 0, [chunk(4, 'a"\\b')])
    assert (first.first_seq, first.last_seq) == (1, 2)
    assert (second.first_seq, second.last_seq) == (3, 3)
    page = await log.read("c", claim.epoch, 0, 10)
    assert [json.loads(entry.data) for entry in page.entries] == [
        {"seq": 1, "type": "start", "message_id": "m", "attempt": 1, "model": "demo"},
        {"seq": 2, "type": "chunk", "message_id": "m", "attempt": 1, "offset": 0, "content": "Hé😀"},
        {"seq": 3, "type": "chunk", "message_id": "m", "attempt": 1, "offset": 4, "content": 'a"\\b'},
    ]
    assert numbers(page) == [1, 2, 3]


async def test_a_repeated_batch_lands_once_and_gives_its_old_result(rig: Rig) -> None:
    """A batch of unknown outcome may be sent again."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    result = await log.append(claim, 1, 0, [chunk(1), chunk(2)])
    assert await log.append(claim, 1, 0, [chunk(1), chunk(2)]) == result
    assert (await log.read("c", None, 0, 10)).top == 3


async def test_an_index_beyond_the_next_or_long_past_is_lost(rig: Rig) -> None:
    """Batches come one after the other; what is not the next or the last one finds no claim that fits."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.append(claim, 1, 0, [chunk(1)])
    for index in (0, 3):
        with pytest.raises(Lost):
            await log.append(claim, index, 0, [chunk(9)])
    assert (await log.read("c", None, 0, 10)).top == 2


async def test_an_older_attempt_is_fenced_and_a_newer_one_is_lost(rig: Rig) -> None:
    """Only the attempt on record may append."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.append(old, 0, 0, [chunk(0)])
    await log.release(old)
    new = await log.claim("c", "m", 1, LEASE)
    assert new.attempt == 2
    for index in (0, 1):  # also a repeat of what it once wrote
        with pytest.raises(Fenced):
            await log.append(old, index, 0, [chunk(0)])
    with pytest.raises(Fenced):
        await log.renew(old, LEASE)
    unheard_of = Claim("c", "m", new.epoch, 3)
    with pytest.raises(Lost):
        await log.append(unheard_of, 0, 0, [chunk(0)])
    with pytest.raises(Lost):
        await log.renew(unheard_of, LEASE)
    assert (await log.append(new, 0, 0, [chunk(1, attempt=2)])).first_seq == 2


async def test_without_a_claim_an_append_is_lost(rig: Rig) -> None:
    """Nobody writes without having claimed."""
    log = rig.log()
    page = await log.read("c", None, 0, 0)
    with pytest.raises(Lost):
        await log.append(Claim("c", "m", page.epoch, 1), 0, 0, [chunk(0)])


async def test_a_terminal_event_seals_once(rig: Rig) -> None:
    """After the terminal event nothing is taken; its repeat gives its old result."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    assert (await log.read("c", None, 0, 0)).running
    await log.append(claim, 0, 0, [chunk(0)])
    result = await log.append(claim, 1, 1, [complete(1)])
    assert await log.append(claim, 1, 1, [complete(1)]) == result
    for events in ([chunk(1)], [complete(1)]):
        with pytest.raises(Sealed):
            await log.append(claim, 2, 0, events)
    with pytest.raises(Sealed):
        await log.renew(claim, LEASE)
    with pytest.raises(Sealed):
        await log.claim("c", "m", 5, LEASE)
    with pytest.raises(Sealed):
        await log.adopt(claim, Position(claim.epoch, 2), [chunk(1)], LEASE)
    assert await log.request_cancel("c", "m", "u") is False
    page = await log.read("c", None, 0, 10)
    assert (page.top, page.running, page.floor) == (2, False, None)


async def test_a_batch_is_neither_empty_nor_a_terminal_event_in_company(rig: Rig) -> None:
    """What no log may take is refused before it is sent."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    for events in ([], [chunk(0), complete(1)]):
        with pytest.raises(ValueError, match=r"batch|terminal"):
            await log.append(claim, 0, 0, events)


async def test_conversations_do_not_meet(rig: Rig) -> None:
    """Each conversation has its own seq and epoch."""
    log = rig.log()
    one, two = await asyncio.gather(log.claim("c1", "m", 0, LEASE), log.claim("c2", "m", 0, LEASE))
    await asyncio.gather(*(log.append(claim, 0, 0, [chunk(0)]) for claim in (one, two)))
    assert one.epoch != two.epoch
    assert [(await log.read(c, None, 0, 9)).top for c in ("c1", "c2", "c3")] == [1, 1, 0]


# --- claims and leases ---


async def test_a_live_lease_keeps_others_out_until_it_ends(rig: Rig) -> None:
    """BUSY while the lease lives, whoever asks; free once it is over, and the attempt counts on."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 7, SHORT_LEASE)
    await rig.wait(SHORT_LEASE)
    assert (await log.claim("c", "m", claim.attempt, SHORT_LEASE)).attempt == 2


async def test_renewal_prolongs_a_lease(rig: Rig) -> None:
    """A renewed lease outlives its first span."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    assert await log.renew(claim, LEASE) is None
    await rig.wait(SHORT_LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


async def test_release_frees_only_ones_own_lease(rig: Rig) -> None:
    """A successor need not wait; a predecessor cannot take the lease from it."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.release(old)
    await log.claim("c", "m", 1, LEASE)
    await log.release(old)
    with pytest.raises(Busy):
        await log.claim("c", "m", 2, LEASE)


async def test_the_attempt_is_beyond_what_sql_and_the_log_know(rig: Rig) -> None:
    """attempt = max(both) + 1."""
    log = rig.log()
    claim = await log.claim("c", "m", 4, LEASE)
    assert claim.attempt == 5
    await log.release(claim)
    assert (await log.claim("c", "m", 2, LEASE)).attempt == 6


# --- floors and positions ---


async def test_a_floor_starts_at_the_top_and_rises_with_checkpoints(rig: Rig) -> None:
    """A reader of SQL starts at the lowest floor of what runs, and at the top when nothing does."""
    log = rig.log()
    await log.announce("c", "r", 1, Title("t", 1))
    claim = await log.claim("c", "m", 0, LEASE)
    assert (await log.read("c", None, 0, 0)).floor == 1
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await log.append(claim, 1, 2, [chunk(2)])
    page = await log.read("c", None, 0, 0)
    assert (page.floor, page.position.seq) == (2, 2)
    await log.append(claim, 2, 1, [chunk(3)])  # a checkpoint never takes anything back
    assert (await log.read("c", None, 0, 0)).floor == 2
    await log.append(claim, 3, 4, [complete(4)])
    page = await log.read("c", None, 0, 0)
    assert (page.floor, page.position.seq) == (None, 6)


async def test_a_takeover_keeps_the_floor(rig: Rig) -> None:
    """What the first attempt wrote and SQL does not hold yet stays above the floor of the second."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1), chunk(2)])
    await log.append(claim, 1, 2, [chunk(3)])
    await log.release(claim)
    await log.claim("c", "m", 1, LEASE)
    assert (await log.read("c", None, 0, 0)).floor == 2


async def test_a_floor_is_never_beyond_the_top(rig: Rig) -> None:
    """`covered` of another epoch, or a mistake, cannot hide events."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 999, [chunk(0)])
    assert (await log.read("c", None, 0, 0)).floor == 1


async def test_the_lowest_floor_counts(rig: Rig) -> None:
    """Two generations at once: readers start where both are whole."""
    log = rig.log()
    first = await log.claim("c", "m1", 0, LEASE)
    await log.append(first, 0, 0, [chunk(0, message_id="m1")])
    second = await log.claim("c", "m2", 0, LEASE)
    await log.append(second, 0, 0, [chunk(0, message_id="m2")])
    assert (await log.read("c", None, 0, 0)).floor == 0
    await log.append(first, 1, 2, [complete(1, "m1")])
    assert (await log.read("c", None, 0, 0)).floor == 1


# --- the window ---


async def test_the_window_counts_events_and_is_cut_in_steps(rig: Rig) -> None:
    """At least `max_events` and at most a sixteenth more are held; what is held has no hole."""
    log = rig.log(Limits(max_events=32))
    claim = await log.claim("c", "m", 0, LEASE)
    for index in range(20):
        await log.append(claim, index, index * 5, [chunk(i) for i in range(5)])
        page = await log.read("c", None, 0, 0)
        held = page.top - page.oldest + 1
        assert min(page.top, 32) <= held <= 34
        assert numbers(await log.read("c", None, page.oldest - 1, 1000)) == list(range(page.oldest, page.top + 1))


async def test_the_window_counts_bytes(rig: Rig) -> None:
    """`max_bytes` holds whatever the events' sizes."""
    log = rig.log(Limits(max_bytes=10_000))
    claim = await log.claim("c", "m", 0, LEASE)
    covered = 0
    for index in range(40):
        covered = (await log.append(claim, index, covered, [chunk(0, "y" * (index * 40))])).last_seq
    page = await log.read("c", None, (await log.read("c", None, 0, 0)).oldest - 1, 1000)
    assert sum(len(entry.data) for entry in page.entries) <= 10_000 * 17 / 16
    assert page.oldest > 1
    assert page.entries[-1].seq == page.top == 40


async def test_the_window_counts_time(rig: Rig) -> None:
    """Events older than `max_seconds` go when something is written."""
    log = rig.log(Limits(max_seconds=3))
    for number in range(3):
        await log.announce("c", f"r{number}", 1, Title("t", 1))
        if number < 2:
            await rig.wait(1.7)
    assert (await log.read("c", None, 0, 0)).oldest == 2


async def test_nothing_above_a_floor_is_cut(rig: Rig) -> None:
    """What SQL does not hold stays, however much it is; once it is covered, it goes."""
    log = rig.log(Limits(max_events=16))
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(60)])
    assert (await log.read("c", None, 0, 0)).oldest == 1
    await log.append(claim, 1, 20, [chunk(60)])
    assert (await log.read("c", None, 0, 0)).oldest == 21
    await log.append(claim, 2, 61, [complete(61)])
    page = await log.read("c", None, 0, 0)
    assert (page.oldest, page.top) == (47, 62)


async def test_a_forgotten_log_is_a_new_epoch(rig: Rig) -> None:
    """All keys of a log expire together, `max_seconds` after the last write; a read does not prolong it."""
    log = rig.log(Limits(max_seconds=1))
    before = await log.announce("c", "r", 1, Title("t", 1))
    await rig.wait(1.2)
    page = await log.read("c", before.epoch, 1, 10)
    assert (page.epoch == before.epoch, page.top, page.oldest) == (False, 0, 1)


# --- reading ---


async def test_pages_follow_each_other(rig: Rig) -> None:
    """A page holds at most `limit` events after the asked seq; pages join without a hole."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(10)])
    seen: list[int] = []
    while page := numbers(await log.read("c", claim.epoch, seen[-1] if seen else 0, 4)):
        assert len(page) <= 4
        seen += page
    assert seen == list(range(1, 11))


async def test_a_page_is_bounded_in_bytes(rig: Rig) -> None:
    """Whatever the number of events that was asked for; one event is given even if it is larger. Pages still join."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    for index in range(7):
        await log.append(claim, index, 0, [chunk(0, "y" * 1000) for _ in range(10)])
    await log.append(claim, 7, 0, [chunk(0, "z" * 9000)])
    size = len((await log.read("c", None, 0, 1)).entries[0].data)
    assert numbers(await log.read("c", None, 0, 100, size)) == [1]
    assert numbers(await log.read("c", None, 70, 100, 1)) == [71]
    assert len(numbers(await log.read("c", None, 0, 100))) == 71
    seen: list[int] = []
    while page := await log.read("c", claim.epoch, len(seen), 100, 5000):
        if not page.entries:
            break
        assert sum(len(entry.data) for entry in page.entries) <= 5000 or len(page.entries) == 1
        seen += numbers(page)
    assert seen == list(range(1, 72))


async def test_what_cannot_be_served_gives_no_events_but_says_why(rig: Rig) -> None:
    """Trimmed, ahead, or of another epoch: no entries, and epoch, oldest and top tell which."""
    log = rig.log(Limits(max_events=16))
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(i) for i in range(40)])
    await log.append(claim, 1, 40, [chunk(40)])
    for epoch, after in ((claim.epoch, 3), (claim.epoch, 42), ("other", 40), (claim.epoch, 41)):
        page = await log.read("c", epoch, after, 10)
        assert (page.epoch, page.oldest, page.top, page.entries) == (claim.epoch, 26, 41, [])
    assert numbers(await log.read("c", claim.epoch, 25, 3)) == [26, 27, 28]


async def test_an_empty_log_has_an_epoch(rig: Rig) -> None:
    """A conversation that nobody wrote to has a position, and keeps it."""
    log = rig.log()
    page = await log.read("c", None, 0, 10)
    assert (page.oldest, page.top, page.floor, page.entries) == (1, 0, None, [])
    assert (await log.read("c", None, 0, 10)).epoch == page.epoch
    assert str(page.position) == f"{page.epoch}:0"


# --- new epochs ---


async def test_a_log_that_is_lost_begins_again(rig: Rig) -> None:
    """Nothing of the old one is known any more: no fork, and no claim."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await rig.lose()
    page = await log.read("c", claim.epoch, 2, 10)
    assert page.epoch != claim.epoch
    assert (page.oldest, page.top, page.floor, page.entries, page.forks) == (1, 0, None, [], {})
    for call in (log.append(claim, 1, 0, [chunk(2)]), log.renew(claim, LEASE), log.rejoin(claim, 1, LEASE)):
        with pytest.raises(Lost):
            await call


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_restart_forks(rig: Rig) -> None:
    """The log goes on under another name: seq, entries and floor stay, and positions of the old name are good up to the fork."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0), chunk(1)])
    await log.append(claim, 1, 1, [chunk(2)])
    before = await log.read("c", None, 0, 10)
    await rig.restart()
    page = await log.read("c", claim.epoch, 0, 10)
    assert (page.epoch == claim.epoch, page.forks) == (False, {claim.epoch: 3})
    assert (page.oldest, page.top, page.floor, page.entries) == (1, 3, 1, before.entries)
    assert await log.read("c", page.epoch, 0, 10) == page
    assert numbers(await log.read("c", claim.epoch, 2, 10)) == [3]
    await log.announce("c", "r", 1, Title("t", 1))
    assert numbers(await log.read("c", claim.epoch, 3, 10)) == [4]
    assert numbers(await log.read("c", claim.epoch, 4, 10)) == []  # it is not the 4 that the old name had, or would have had
    await log.announce("c", "r", 2, Title("t", 2))
    assert numbers(await log.read("c", claim.epoch, 4, 10)) == []


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_forks_are_remembered_for_a_while(rig: Rig) -> None:
    """Several in a row: each earlier name keeps its own seq; of many, the newest sixteen are known."""
    log = rig.log()
    first = (await log.announce("c", "r", 1, Title("t", 1))).epoch
    names = [first]
    for count in range(2, 6 if isinstance(rig, RedisRig) else 20):
        await rig.restart()
        names.append((await log.announce("c", "r", count, Title("t", count))).epoch)
    page = await log.read("c", None, 0, 10)
    assert page.epoch == names.pop()
    assert page.forks == {name: seq for seq, name in list(enumerate(names, 1))[-16:]}


@pytest.mark.parametrize(("rig", "how"), NEW_EPOCHS, indirect=["rig"])
async def test_every_claim_of_an_older_epoch_is_lost(rig: Rig, how: str) -> None:
    """Also where all is still there: a later claim may have been lost, so SQL is asked who is the current one."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await getattr(rig, how)()
    for call in (log.append(claim, 1, 0, [chunk(1)]), log.append(claim, 0, 0, [chunk(0)]), log.renew(claim, LEASE)):
        with pytest.raises(Lost):
            await call


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_an_attempt_of_which_nothing_was_lost_goes_on(rig: Rig) -> None:
    """Nothing is written, batches count on, and one whose answer was lost is recognised."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    landed = await log.append(claim, 1, 0, [chunk(1)])
    await rig.restart()
    for beyond in (0, 3):
        with pytest.raises(Lost):
            await log.rejoin(claim, beyond, LEASE)
    for index in (1, 2, 1):  # the last: its own repeat
        again = await log.rejoin(claim, index, LEASE)
    assert (again.attempt, again.epoch == claim.epoch) == (1, False)
    repeated = await log.append(again, 1, 0, [chunk(1)])
    assert (repeated.first_seq, repeated.last_seq) == (landed.first_seq, landed.last_seq)
    assert (await log.append(again, 2, 2, [chunk(2)])).first_seq == 3
    assert (await log.read("c", None, 0, 0)).floor == 2
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_an_end_whose_answer_was_lost_is_recognised_after_a_fork(rig: Rig) -> None:
    """Its batch is the last one: it may be repeated, and nothing else."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [complete(0)])
    await rig.restart()
    again = await log.rejoin(claim, 0, LEASE)
    assert (await log.append(again, 0, 0, [complete(0)])).first_seq == 1
    with pytest.raises(Sealed):
        await log.rejoin(Claim("c", "m", claim.epoch, 2), 0, LEASE)
    assert await log.leased("c", "m") is False


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_only_the_newest_attempt_rejoins(rig: Rig) -> None:
    """An older one is fenced, one that the log does not know is lost."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await log.release(old)
    new = await log.claim("c", "m", 1, LEASE)
    await rig.restart()
    with pytest.raises(Fenced):
        await log.rejoin(old, 0, LEASE)
    with pytest.raises(Lost):
        await log.rejoin(Claim("c", "m", new.epoch, 3), 0, LEASE)
    assert (await log.rejoin(new, 0, LEASE)).attempt == 2


@pytest.mark.parametrize(("rig", "how"), NEW_EPOCHS, indirect=["rig"])
async def test_a_worker_adopts_its_generation_in_the_new_epoch(rig: Rig, how: str) -> None:
    """After LOST: what viewers lack, and batches from index 0, under the same attempt."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, "Hel")])
    await getattr(rig, how)()
    page = await log.read("c", None, 0, 0)
    adopted, appended = await log.adopt(claim, Position(page.epoch, page.top), [chunk(3, "lo"), chunk(5, "!")], LEASE)
    assert (adopted.attempt, adopted.epoch) == (1, page.epoch)
    assert (appended.first_seq, appended.last_seq) == (page.top + 1, page.top + 2)
    assert numbers(await log.read("c", adopted.epoch, page.top, 10)) == [page.top + 1, page.top + 2]
    assert (await log.read("c", None, 0, 0)).floor == 0
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)
    await log.append(adopted, 0, 0, [chunk(6)])
    await log.append(adopted, 1, 4, [complete(7)])


async def test_an_adoption_may_have_nothing_to_say(rig: Rig) -> None:
    """Then its reply tells where the log stands."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    adopted, nothing = await log.adopt(claim, Position(claim.epoch, 1), [], LEASE)
    assert (nothing.first_seq, nothing.last_seq) == (2, 1)
    assert (await log.append(adopted, 0, 0, [chunk(1)])).first_seq == 2


async def test_an_adoption_follows_what_was_read(rig: Rig) -> None:
    """If the generation was written to since, by this attempt or one before it, or the log is another one: it must be read again."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.announce("c", "r", 1, Title("t", 1))  # others do not matter
    await log.release(claim)
    new = await log.claim("c", "m", 1, LEASE)
    for seen in (Position(new.epoch, 0), Position("other", 2)):
        with pytest.raises(Lost):
            await log.adopt(new, seen, [chunk(1, attempt=2)], LEASE)
    _, appended = await log.adopt(new, Position(new.epoch, 1), [chunk(1, attempt=2)], LEASE)
    assert appended.first_seq == 3
    with pytest.raises(Lost):  # a late copy
        await log.adopt(new, Position(new.epoch, 1), [chunk(1, attempt=2)], LEASE)


async def test_adoption_is_refused_to_an_older_attempt(rig: Rig) -> None:
    """A worker that was taken over in the new epoch stays out."""
    log = rig.log()
    old = await log.claim("c", "m", 0, LEASE)
    await rig.lose()
    new = await log.claim("c", "m", 1, LEASE)
    with pytest.raises(Fenced):
        await log.adopt(old, Position(new.epoch, 0), [chunk(0)], LEASE)
    assert (await log.append(new, 0, 0, [chunk(0, attempt=2)])).first_seq == 1


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_seal_and_a_fence_outlive_a_restart_with_data(rig: Rig) -> None:
    """What is known of generations can only make the fence stricter."""
    log = rig.log()
    ended = await log.claim("c", "m1", 0, LEASE)
    await log.append(ended, 0, 0, [complete(0, "m1")])
    running = await log.claim("c", "m2", 6, LEASE)
    await rig.restart()
    with pytest.raises(Sealed):
        await log.claim("c", "m1", 1, LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m2", 0, LEASE)
    await log.release(running)
    assert (await log.claim("c", "m2", 0, LEASE)).attempt == 8


# --- announcements ---


async def test_a_row_is_announced_once_per_rev(rig: Rig) -> None:
    """A repeat or a lower rev appends nothing and gives the top."""
    log = rig.log()
    first = await log.announce("c", "r", 1, Title("a", 1))
    assert await log.announce("c", "r", 1, Title("a", 1)) == first
    second = await log.announce("c", "r", 3, Title("c", 3))
    assert second.seq == 2
    assert await log.announce("c", "r", 2, Title("b", 2)) == second
    assert (await log.announce("c", "other", 1, Title("a", 1))).seq == 3


async def test_announcements_need_no_attempt(rig: Rig) -> None:
    """They go between the batches of a running generation, also when it is cancelled or sealed."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    assert (await log.announce("c", "m", 1, Title("t", 1))).seq == 2
    assert (await log.append(claim, 1, 0, [chunk(1)])).first_seq == 3


async def test_what_is_long_over_is_forgotten(rig: Rig) -> None:
    """Announced rows and sealed generations do not pile up; running ones are never forgotten."""
    log = rig.log()
    running = await log.claim("c", "running", 0, LEASE)
    sealed = await log.claim("c", "sealed", 0, LEASE)
    await log.append(sealed, 0, 0, [complete(0, "sealed")])
    for start in range(0, 600, 100):
        await asyncio.gather(*(log.announce("c", f"r{n}", 1, Title("t", 1)) for n in range(start, start + 100)))
    assert (await log.claim("c", "sealed", 3, LEASE)).attempt == 4
    await log.append(running, 0, 0, [chunk(0, message_id="running")])
    top = (await log.read("c", None, 0, 0)).top
    assert (await log.announce("c", "r599", 1, Title("t", 1))).seq == top
    if isinstance(rig, RedisRig):
        with rig.client() as client:
            assert client.hlen(keys.keys("c")[1]) < 520


# --- cancel ---


async def test_a_cancel_stops_everything_but_the_terminal_event(rig: Rig) -> None:
    """The worker learns who asked, at its next append or renewal."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    assert await log.request_cancel("c", "m", "ann (1)\n") is True
    assert await log.request_cancel("c", "m", "bob") is True
    with pytest.raises(CancelRequested) as caught:
        await log.append(claim, 1, 0, [chunk(1)])
    assert caught.value.by == "ann (1)\n"
    assert await log.renew(claim, LEASE) == "ann (1)\n"
    assert (await log.append(claim, 0, 0, [chunk(0)])).last_seq == 1  # a repeat is recognised before anything is refused
    assert (await log.append(claim, 1, 0, [complete(1)])).last_seq == 2


async def test_a_cancel_before_the_claim_is_remembered(rig: Rig) -> None:
    """Also by the attempts that follow."""
    log = rig.log()
    assert await log.request_cancel("c", "m", "ann") is True
    claim = await log.claim("c", "m", 0, LEASE)
    assert claim.attempt == 1
    for _ in range(2):
        assert await log.renew(claim, LEASE) == "ann"
        await log.release(claim)
        claim = await log.claim("c", "m", 0, LEASE)


async def test_a_worker_that_does_not_hear_of_a_cancel_is_not_waited_for(rig: Rig) -> None:
    """Frozen or cut off, it holds its lease: after a moment whoever ends the answer takes it, and the fence does the rest."""
    log = rig.log()
    frozen = await log.claim("c", "m", 0, LEASE)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    assert await log.request_cancel("c", "m", "ann") is True
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    await rig.wait(UNHEARD_SECONDS)
    assert await log.request_cancel("c", "m", "ann") is True  # asking again begins no new patience
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE)
    closer = await log.claim("c", "m", 1, LEASE, True)
    assert closer.attempt == 2
    with pytest.raises(Fenced):
        await log.append(frozen, 0, 0, [chunk(0)])
    with pytest.raises(Fenced):
        await log.renew(frozen, LEASE)
    await log.append(closer, 0, 0, [complete(0)])
    with pytest.raises(Sealed):
        await log.claim("c", "m", 2, LEASE, True)


@pytest.mark.parametrize("hears", ["append", "renew"])
async def test_a_worker_that_was_told_of_a_cancel_has_time_to_end_the_answer(rig: Rig, hears: str) -> None:
    """Being told again gives it no more; nor does it live on by renewing its lease."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.request_cancel("c", "m", "ann")
    if hears == "append":
        with pytest.raises(CancelRequested):
            await log.append(claim, 0, 0, [chunk(0)])
    else:
        await log.renew(claim, LEASE)
    await rig.wait(UNHEARD_SECONDS + 0.4)
    with pytest.raises(Busy):
        await log.claim("c", "m", 1, LEASE, True)
    await log.renew(claim, LEASE)
    await rig.wait(HEARD_SECONDS - UNHEARD_SECONDS - 0.4)
    assert (await log.claim("c", "m", 1, LEASE, True)).attempt == 2


async def test_two_who_end_a_cancelled_answer_do_not_fence_each_other(rig: Rig) -> None:
    """Whoever takes it has time of its own; a worker that is frozen from the start has, too."""
    log = rig.log()
    await log.request_cancel("c", "m", "ann")
    await log.claim("c", "m", 0, LEASE)
    for attempt in (1, 2):
        await rig.wait(UNHEARD_SECONDS)
        with pytest.raises(Busy):
            await log.claim("c", "m", attempt, LEASE, True)
        await rig.wait(HEARD_SECONDS - UNHEARD_SECONDS)
        assert (await log.claim("c", "m", attempt, LEASE, True)).attempt == attempt + 1


async def test_leases_given_before_the_clock_was_set_back_have_expired(rig: Rig) -> None:
    """They would otherwise stand for an hour, and a cancel wait as long."""
    log = rig.log()
    await log.claim("c", "m", 0, LEASE)
    await log.claim("c", "n", 0, LEASE)
    await log.request_cancel("c", "n", "ann")
    await rig.set_clock_back(3600.0)
    assert not await log.leased("c", "m")
    assert (await log.claim("c", "m", 1, LEASE)).attempt == 2
    assert (await log.claim("c", "n", 1, LEASE, True)).attempt == 2


async def test_a_cancel_names_who_asks(rig: Rig) -> None:
    """Nobody is not somebody."""
    with pytest.raises(ValueError, match="who"):
        await rig.log().request_cancel("c", "m", "")


# --- deletion ---


async def test_a_deleted_conversation_is_gone_for_everyone(rig: Rig) -> None:
    """GONE comes before every other answer."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.delete("c", LEASE)
    for call in (
        log.claim("c", "m", 0, LEASE),
        log.append(claim, 0, 0, [chunk(0)]),
        log.rejoin(claim, 1, LEASE),
        log.adopt(claim, Position(claim.epoch, 0), [], LEASE),
        log.announce("c", "r", 1, Title("t", 1)),
        log.renew(claim, LEASE),
        log.request_cancel("c", "m", "u"),
        log.read("c", None, 0, 1),
    ):
        with pytest.raises(Gone):
            await call
    await log.release(claim)
    await log.delete("c", LEASE)


async def test_a_tombstone_stands_for_its_time(rig: Rig) -> None:
    """Afterwards the name is free, and nothing of the old log is left."""
    log = rig.log()
    old = await log.announce("c", "r", 1, Title("t", 1))
    await log.delete("c", 0.3)
    await rig.wait(0.3)
    page = await log.read("c", None, 0, 1)
    assert (page.epoch == old.epoch, page.top) == (False, 0)


# --- publication ---


async def test_what_is_appended_is_published(rig: Rig) -> None:
    """`<epoch>:<seq>:<json>` on the conversation's channel, once, also when the batch is sent twice."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)

    async def act() -> None:
        await log.append(claim, 0, 0, [chunk(0), chunk(1)])
        await log.append(claim, 0, 0, [chunk(0), chunk(1)])

    heard = await rig.published(keys.channel("c"), act)
    page = await log.read("c", None, 0, 10)
    assert heard == [b"%b:%d:%b" % (claim.epoch.encode(), entry.seq, entry.data) for entry in page.entries]
    assert len(heard) == 2


async def test_deletion_and_cancel_are_published(rig: Rig) -> None:
    """Viewers hear `gone`, workers hear `cancel <message id>`."""
    log = rig.log()
    assert await rig.published(keys.CONTROL, lambda: log.request_cancel("c", "m", "u")) == [b"cancel m"]
    assert await rig.published(keys.channel("c"), lambda: log.delete("c", 9)) == [b"gone"]


async def test_what_is_refused_is_not_published(rig: Rig) -> None:
    """A refusal writes nothing and tells nobody."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    assert await rig.published(keys.channel("c"), lambda: log.append(claim, 5, 0, [chunk(0)])) == []


async def test_whether_somebody_works_on_it_can_be_asked(rig: Rig) -> None:
    """A lease is seen by others while it lives, and only then."""
    log = rig.log()
    assert await log.leased("c", "m") is False
    claim = await log.claim("c", "m", 0, SHORT_LEASE)
    assert await log.leased("c", "m") is True
    await rig.wait(SHORT_LEASE)
    assert await log.leased("c", "m") is False
    await log.renew(claim, LEASE)
    assert await log.leased("c", "m") is True
    await log.append(claim, 0, 0, [complete(0)])
    assert await log.leased("c", "m") is False
    await log.delete("c", LEASE)
    with pytest.raises(Gone):
        await log.leased("c", "m")


async def test_whether_somebody_watches_can_be_asked(rig: Rig) -> None:
    """A subscription to the conversation's channel is a viewer; another conversation's is none."""
    log, feed = rig.log(), rig.feed()
    await feed.start(lambda _messages: None, lambda _channel: None)
    assert await log.watched("c") is False
    await feed.subscribe(keys.channel("c"))
    assert (await log.watched("c"), await log.watched("d")) == (True, False)
    await feed.aclose()


async def test_who_may_not_follow_is_known_and_told(rig: Rig) -> None:
    """Until a token of theirs must have expired, or they take part again; whoever relays the log is told to look."""
    log = rig.log()
    assert await log.revoked("c") == set()
    told = await rig.published(keys.channel("c"), lambda: log.revoke("c", "ada b\u00fc", 0.5))
    assert told == [keys.ACCESS]
    await log.revoke("c", "bob", 60)
    assert await log.revoked("c") == {"ada b\u00fc", "bob"}
    assert await log.revoked("d") == set()
    await rig.wait(0.6)
    assert await log.revoked("c") == {"bob"}
    assert await rig.published(keys.channel("c"), lambda: log.restore("c", "bob")) == [keys.ACCESS]
    assert await log.revoked("c") == set()


async def test_a_conversation_that_is_read_counts_as_watched_for_a_while(rig: Rig) -> None:
    """Without any subscription; another one does not."""
    log = rig.log()
    await log.want("c", 60)
    await log.want("e", 0.05)
    assert (await log.watched("c"), await log.watched("d")) == (True, False)
    await rig.wait(0.1)
    assert (await log.watched("c"), await log.watched("e")) == (True, False)


# --- packing ---


async def answered(log: Log, count: int, message_id: str = "m", conversation_id: str = "c") -> list[bytes]:
    """An answer of so many chunks has ended; gives the whole log as it is before anything of this answer is packed."""
    claim = await log.claim(conversation_id, message_id, 0, LEASE)
    for index, start in enumerate(range(0, count, 100)):
        events = [chunk(offset, "Hé😀", message_id) for offset in range(start, min(start + 100, count))]
        await log.append(claim, index, 0, events)
    await log.append(claim, -(-count // 100), 0, [complete(count, message_id)])
    return await whole_log(log, conversation_id)


async def whole_log(log: Log, conversation_id: str = "c") -> list[bytes]:
    """Everything that is held, as every reader gets it; page by page, in pages that do not fit blocks."""
    found: list[bytes] = []
    page = await log.read(conversation_id, None, 0, 0)
    after = page.oldest - 1
    while after < page.top:
        entries = (await log.read(conversation_id, page.epoch, after, 100)).entries
        assert [entry.seq for entry in entries] == list(range(after + 1, after + 1 + len(entries)))
        assert entries
        found += [entry.data for entry in entries]
        after = entries[-1].seq
    return found


async def test_a_reader_does_not_notice_that_a_log_was_packed(rig: Rig) -> None:
    """Byte for byte, from every position, with any limit; and what comes later follows."""
    log = rig.log()
    before = await answered(log, 600)
    assert await log.pack("c") == 601
    assert await log.pack("c") == 0
    assert await whole_log(log) == before
    for after in (0, 1, 255, 256, 257, 511, 512, 513, 599, 600, 601):
        for limit in (1, 2, 300, 1000):
            page = await log.read("c", None, after, limit)
            assert [entry.data for entry in page.entries] == before[after : after + limit]
            assert (page.oldest, page.top) == (1, 601)
    assert (await log.announce("c", "r", 1, Title("t", 1))).seq == 602
    assert [entry.seq for entry in (await log.read("c", None, 599, 9)).entries] == [600, 601, 602]
    assert await log.pack("c") == 1
    assert numbers(await log.read("c", None, 600, 9)) == [601, 602]


async def test_a_page_of_packed_events_is_bounded_in_bytes(rig: Rig) -> None:
    """Blocks are, too: one event that is larger travels alone."""
    log = rig.log()
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(place, "x" * 100_000) for place in range(6)])
    await log.append(claim, 1, 0, [chunk(9, "y" * 700_000)])
    await log.append(claim, 2, 0, [complete(9)])
    before = await whole_log(log)
    assert await log.pack("c") == 8
    assert numbers(await log.read("c", None, 0, 9, 250_000)) == [1, 2]
    assert numbers(await log.read("c", None, 6, 9, 250_000)) == [7]
    assert numbers(await log.read("c", None, 0, 9, 1)) == [1]
    assert await whole_log(log) == before


async def test_what_a_running_generation_may_need_is_not_packed(rig: Rig) -> None:
    """It may be read again and again; whoever takes over reads from the floor."""
    log = rig.log()
    await answered(log, 10, "m1")
    claim = await log.claim("c", "m2", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, message_id="m2")])
    await log.append(claim, 1, 12, [chunk(1, message_id="m2")])
    assert await log.pack("c") == 12
    await log.append(claim, 2, 13, [complete(2, "m2")])
    assert await log.pack("c") == 2
    assert len(await whole_log(log)) == 14


async def test_packed_blocks_are_trimmed_first_and_whole(rig: Rig) -> None:
    """No fewer events stay than the window says; what is not packed is not touched before."""
    log = rig.log(Limits(max_events=400))
    await answered(log, 300, "m1")
    await log.pack("c")
    await answered(log, 200, "m2")
    assert (await log.read("c", None, 0, 0)).oldest == 1  # 256 fewer would be too few
    await answered(log, 200, "m3")
    page = await log.read("c", None, 0, 0)
    assert (page.oldest, page.top) == (303, 703)  # both blocks, then an event as ever
    assert await log.pack("c") == 401
    await answered(log, 300, "m4")
    assert (await log.read("c", None, 0, 0)).oldest == 559
    assert len(await whole_log(log)) == 1004 - 558


async def test_packed_bytes_count_as_they_are_kept(rig: Rig) -> None:
    """So a log at rest holds more answers within the same memory."""
    kept: list[int] = []
    for name, packed in (("c1", False), ("c2", True)):
        log = rig.log(Limits(max_bytes=100_000))
        for number in range(8):
            await answered(log, 256, f"m{number}", name)
            if packed:
                await log.pack(name)
        page = await log.read(name, None, 0, 0)
        kept.append(page.top - page.oldest + 1)
    assert kept[0] < kept[1] == 8 * 257


async def test_packed_events_go_when_they_are_too_old(rig: Rig) -> None:
    """The age of a block is that of its newest event."""
    log = rig.log(Limits(max_seconds=1))
    await answered(log, 3, "m1")
    await log.pack("c")
    await rig.wait(0.6)
    await log.announce("c", "r1", 1, Title("t", 1))
    assert (await log.read("c", None, 0, 0)).oldest == 1
    await log.pack("c")
    await rig.wait(0.6)
    await log.announce("c", "r2", 1, Title("t", 1))
    assert (await log.read("c", None, 0, 0)).oldest == 5


@pytest.mark.parametrize("rig", RESTARTABLE, indirect=True)
async def test_a_packed_log_forks_like_any_other(rig: Rig) -> None:
    """Positions in packed events stay good, over as many restarts as come; later answers go on, and are packed, too."""
    log = rig.log()
    before = await answered(log, 300)
    old = await log.read("c", None, 0, 0)
    await log.pack("c")
    for _ in range(18):
        await rig.restart()
        page = await log.read("c", None, 0, 0)
        assert (page.oldest, page.top) == (1, 301)
    assert page.epoch != old.epoch
    assert await whole_log(log) == before
    claim = await log.claim("c", "m2", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0, message_id="m2")])
    await rig.restart()
    claim = await log.rejoin(claim, 1, LEASE)
    await log.append(claim, 1, 0, [complete(1, "m2")])
    assert await log.pack("c") == 2
    assert (await whole_log(log))[:301] == before
    assert numbers(await log.read("c", claim.epoch, 200, 500)) == list(range(201, 304))


async def test_a_packed_log_that_is_deleted_or_lost_leaves_nothing(rig: Rig) -> None:
    """Neither to those who come after a tombstone, nor to a log that begins again."""
    log = rig.log()
    for end in ("delete", "lose"):
        await answered(log, 300)
        await log.pack("c")
        await (log.delete("c", 0.3) if end == "delete" else rig.lose())
        if isinstance(rig, RedisRig):
            with rig.client() as client:
                assert not client.exists(keys.keys("c")[4])
        await rig.wait(0.3)
        page = await log.read("c", None, 0, 9)
        assert (page.oldest, page.top, page.entries) == (1, 0, [])
        assert len(await answered(log, 20)) == 21
        await log.delete("c", 0.1)
        await rig.wait(0.1)
    await log.delete("c", LEASE)
    with pytest.raises(Gone):
        await log.pack("c")


def redis_only(rig: Rig) -> RedisRig:
    if not isinstance(rig, RedisRig):
        pytest.skip("what only a server keeps")
    return rig


REDIS = ("fakeredis", "valkey")


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_packing_frees_memory_and_lives_no_longer_than_the_log(rig: Rig) -> None:
    """The stream is empty, the blocks are a tenth of what it held, and both expire together."""
    log = rig.log()
    before = await answered(log, 1500)
    with redis_only(rig).client() as client:
        names = keys.keys("c")
        await log.pack("c")
        assert (client.xlen(names[0]), client.xlen(names[4])) == (0, 6)
        assert sum(len(fields[b"z"]) for _, fields in client.xrange(names[4])) < sum(map(len, before)) / 8
        lives = [client.pttl(names[place]) for place in (0, 1, 4)]
        assert max(lives) - min(lives) < 100


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_blocks_that_lost_their_place_are_no_part_of_the_log(rig: Rig) -> None:
    """A process of an earlier version trims the stream alone, or the blocks are gone: then the log begins where the stream does."""
    log = rig.log()
    for broken in ("trimmed", "deleted"):
        name = f"c-{broken}"
        await answered(log, 300, "m1", name)
        await log.pack(name)
        await answered(log, 5, "m2", name)
        stream, state, _, _, packed = keys.keys(name)
        with redis_only(rig).client() as client:
            if broken == "trimmed":
                client.xtrim(stream, minid="303-0", approximate=False)
                client.hset(state, "oldest", 303)
            else:
                client.delete(packed)
        first = 303 if broken == "trimmed" else 302
        assert (await log.read(name, None, 0, 0)).oldest == first
        assert len(await whole_log(log, name)) == 308 - first
        assert await log.pack(name) == 308 - first
        assert len(await whole_log(log, name)) == 308 - first


@pytest.mark.parametrize("rig", REDIS, indirect=True)
async def test_two_who_pack_at_once_do_it_once(rig: Rig) -> None:
    """Whoever comes second is told that the log has changed, and nothing is lost or doubled."""
    one, two = rig.log(), rig.log()
    before = await answered(one, 900)
    done = await asyncio.gather(one.pack("c"), two.pack("c"), return_exceptions=True)
    assert all(isinstance(outcome, int | Lost) for outcome in done)
    await one.pack("c")
    assert await whole_log(two) == before
