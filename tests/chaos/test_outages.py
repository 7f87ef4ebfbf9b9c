"""One outage at a time, on real processes: readers, log and row agree at the end, which comes soon.

Limits in seconds leave room for a busy machine; docs/chaos.md has the figures of a quiet one.
"""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

import pytest
import pytest_asyncio

from tests.chaos.account import Account
from tests.chaos.cluster import ports_of
from tests.chaos.load import Load, Stream, judge, resets
from tests.chaos.script import script
from tests.chaos.site import Site, running

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
RATE = 50
SLOW = 0.5
"""Pieces per second: a worker dies before there is progress."""
SOON_SECONDS = 50.0
"""Ten times the promise (docs/chaos.md has the figures), for a busy machine. A lost job that
nothing else finds is found after a minute.
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """Two workers on SQLite."""
    async with running(tmp_path_factory.mktemp("outages"), "sqlite", 2, RATE, 900.0) as site:
        yield site


class Streams:
    """Streams of one test, judged when it is over."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.load: Load = site.load(seed, 3, (0, 0))
        self.load.manners = ("steady", "dropping", "events")
        self.following: list[asyncio.Task[None]] = []
        """Of each stream: ends when all its readers have."""

    def begin(
        self, model: str = "prefix", pieces: int = 250, *, cancel_after: float | None = None
    ) -> tuple[Stream, "asyncio.Task[None]"]:
        """Post, and follow to the end in the background."""
        number = self.load.seed * 100_000 + len(self.load.streams)
        stream = Stream(script(number, pieces), model, cancel_after=cancel_after)
        self.load.streams.append(stream)
        self.following.append(asyncio.create_task(self.load.one(stream)))
        return stream, self.following[-1]

    async def posted(self, stream: Stream) -> None:
        """Wait until the row stands."""
        await self._soon(lambda: bool(stream.message_id))

    async def said(self, stream: Stream, characters: int = 200) -> None:
        """Wait until somebody has seen so much."""
        await self._soon(
            lambda: any(len(watcher.text) >= characters for watcher in stream.watchers)
        )

    async def asked(self, stream: Stream, times: int = 1) -> None:
        """Wait until the provider was asked so often."""
        await self._soon(
            lambda: (
                sum(asked.number == stream.script.number for asked in self.site.provider.asked)
                >= times
            )
        )

    async def _soon(self, condition: Callable[[], bool]) -> None:
        """Raises TimeoutError, and what ended a stream before its time."""
        async with asyncio.timeout(SOON_SECONDS):
            while not condition():
                for task in self.following:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.02)

    async def judged(self) -> list[str]:
        """Everything that is wrong."""
        await self.site.look(self.load)
        wrong = list(self.site.provider.wrong)
        for stream in self.load.streams:
            lost, repeated, faults = judge(stream, continues=False)
            wrong += [*faults, *([f"{lost} lost, {repeated} repeated"] if lost or repeated else [])]
        return wrong


@pytest_asyncio.fixture(loop_scope="module")
async def streams(site: Site, request: pytest.FixtureRequest) -> AsyncIterator[Streams]:
    """Numbered apart from other tests. Events are printed: pytest shows them if the test fails."""
    account = Account(site)
    streams = Streams(site, zlib.crc32(request.node.name.encode()) % 1_000_000)
    yield streams
    sys.stdout.write(await account.told(streams.load, streams.following))
    for task in streams.following:
        task.cancel()
    await asyncio.gather(*streams.following, return_exceptions=True)


def the_worker_of(site: Site, stream: Stream) -> int:
    """The process that asks the provider for this text now."""
    ports = {
        asked.peer_port for asked in site.provider.running() if asked.number == stream.script.number
    }
    return next(pid for pid in site.cluster.workers() if ports & ports_of(pid, site.provider.port))


async def all_workers(site: Site, count: int = 2) -> None:
    """Wait until so many worker processes are there again."""
    async with asyncio.timeout(60):
        while len(site.cluster.workers()) < count:
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)


@contextlib.contextmanager
def refused(site: Site) -> Iterator[None]:
    """Redis' port answers nobody, and whoever was connected is cut off."""
    site.cluster.redis_proxy.faults.refuse = True
    site.cluster.redis_proxy.cut()
    try:
        yield
    finally:
        site.cluster.redis_proxy.faults.refuse = False


@contextlib.contextmanager
def paused(pids: Sequence[int]) -> Iterator[None]:
    """These processes stand still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def refuse(site: Site, seconds: float = 5) -> None:
    """For longer than a lease."""
    with refused(site):
        await asyncio.sleep(seconds)


async def refuse_for_long(site: Site) -> None:
    """Longer than the rest of every answer: providers are read to their end meanwhile."""
    await refuse(site, 30)


async def blackhole(site: Site) -> None:
    """Connections to Redis stay, and nothing comes through."""
    site.cluster.redis_proxy.faults.blackhole = True
    await asyncio.sleep(4)
    site.cluster.redis_proxy.faults.blackhole = False
    site.cluster.redis_proxy.cut()


async def freeze(site: Site) -> None:
    """Redis itself stands still."""
    site.cluster.valkey.freeze()
    await asyncio.sleep(5)
    site.cluster.valkey.thaw()


async def lock(site: Site) -> None:
    """Another process holds SQLite's write lock."""
    await asyncio.to_thread(_hold_lock, site.cluster.database_url.removeprefix("sqlite:///"), 4.0)


def _hold_lock(path: str, seconds: float) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "outage",
    [
        refuse,
        lock,
        *(
            pytest.param(outage, marks=pytest.mark.long)
            for outage in (blackhole, freeze, refuse_for_long)
        ),
    ],
)
async def test_a_service_is_away_while_answers_stream(
    site: Site, streams: Streams, outage: Callable[[Site], Awaitable[None]]
) -> None:
    """Redis unreachable, silent or frozen for longer than a lease, the database locked: the same
    answers, by any attempt, nothing lost, repeated or withdrawn.
    """
    begun = [streams.begin(), streams.begin("turn", 150)]
    await streams.said(begun[0][0])
    await outage(site)
    await asyncio.gather(*(task for _, task in begun))
    assert await streams.judged() == []
    assert [resets(stream) for stream, _ in begun] == [0, 0]


@pytest.mark.parametrize("lose_data", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_redis_starts_again(site: Site, streams: Streams, lose_data: bool) -> None:
    """Empty or with its data: readers are told to resync, the text goes on, the end comes."""
    stream, task = streams.begin()
    await streams.said(stream)
    await asyncio.to_thread(site.cluster.valkey.restart, lose_data=lose_data)
    await task
    assert await streams.judged() == []
    assert sum(watcher.resyncs for watcher in stream.watchers) >= 1


@pytest.mark.long
async def test_a_worker_dies(site: Site, streams: Streams) -> None:
    """SIGKILL of the process that runs it: a pause and then more text, from where it stopped."""
    stream, task = streams.begin()
    await streams.said(stream)
    os.kill(the_worker_of(site, stream), signal.SIGKILL)
    stream.killed.append(time.monotonic())
    await task
    assert await streams.judged() == []
    assert resets(stream) == 0
    assert stream.row["attempt"] == 2
    assert stream.takeovers()[0][1] < SOON_SECONDS
    await all_workers(site)


@pytest.mark.long
async def test_a_worker_that_wakes_up_late(site: Site, streams: Streams) -> None:
    """Paused past its lease, it is replaced; awake again, it writes neither to the log nor to the
    row.
    """
    stream, task = streams.begin(pieces=400)
    await streams.said(stream)
    with paused([the_worker_of(site, stream)]):
        await streams.asked(stream, 2)
    await task
    assert await streams.judged() == []
    assert resets(stream) == 0
    assert stream.row["attempt"] == 2


async def test_a_post_while_redis_is_away(site: Site, streams: Streams) -> None:
    """The row stands, and is found as soon as Redis is back."""
    with refused(site):
        stream, task = streams.begin(pieces=50)
        await streams.posted(stream)
        await asyncio.sleep(4)
        assert not [asked for asked in site.provider.asked if asked.number == stream.script.number]
    await streams.asked(stream)
    await task
    assert await streams.judged() == []


@pytest.mark.long
async def test_the_queue_is_lost(site: Site, streams: Streams) -> None:
    """A job that nobody had begun goes with Redis' memory: SQL knows of it."""
    with paused(site.cluster.workers()), site.cluster.valkey.client() as client:
        stream, task = streams.begin(pieces=50)
        await streams.posted(stream)
        client.flushall()
    await streams.asked(stream)
    await task
    assert await streams.judged() == []


@pytest.mark.long
@pytest.mark.parametrize("model", ["prefix", "down", "mute"])
async def test_cancelled_while_it_streams_or_waits(
    site: Site, streams: Streams, model: str
) -> None:
    """While streaming, waiting for its next try, or waiting for a silent provider: it ends soon as
    cancelled, with the visible text.
    """
    stream, task = streams.begin(model, 400, cancel_after=1.2)
    began = time.monotonic()
    await task
    assert time.monotonic() - began < SOON_SECONDS
    assert await streams.judged() == []
    assert stream.row["status"] == "cancelled"


@pytest.mark.long
async def test_cancelled_while_queued(site: Site, streams: Streams) -> None:
    """No worker has begun it: it ends at once, and no worker begins it later."""
    with paused(site.cluster.workers()):
        stream, task = streams.begin(pieces=50, cancel_after=0.2)
        async with asyncio.timeout(SOON_SECONDS):
            await task
    assert await streams.judged() == []
    assert (stream.row["status"], stream.row["content"]) == ("cancelled", "")
    assert not [asked for asked in site.provider.asked if asked.number == stream.script.number]


@pytest.mark.long
async def test_cancelled_when_its_worker_has_just_died(site: Site, streams: Streams) -> None:
    """Nobody is there to stop: it ends after the lease, with the visible text."""
    stream, task = streams.begin(pieces=400)
    await streams.said(stream)
    os.kill(the_worker_of(site, stream), signal.SIGKILL)
    stream.cancel_called = time.monotonic()
    await site.api.call("POST", f"/api/messages/{stream.message_id}/cancel")
    await task
    assert time.monotonic() - stream.cancel_called < SOON_SECONDS
    assert await streams.judged() == []
    assert stream.row["status"] == "cancelled"
    assert stream.row["content"]
    await all_workers(site)


@pytest.mark.long
async def test_an_end_whose_event_was_swallowed(site: Site, streams: Streams) -> None:
    """The row says complete and the log does not, as after a kill between commit and append:
    readers soon learn it.
    """
    stream, task = streams.begin("mute", 50)
    await streams.asked(stream)
    os.kill(the_worker_of(site, stream), signal.SIGKILL)
    with sqlite3.connect(
        site.cluster.database_url.removeprefix("sqlite:///"), timeout=10
    ) as connection:
        connection.execute(
            "UPDATE messages SET status = 'complete', finish_reason = 'stop' WHERE id = ?",
            (stream.message_id,),
        )
    connection.close()
    began = time.monotonic()
    await task
    assert time.monotonic() - began < SOON_SECONDS
    assert {watcher.ended for watcher in stream.watchers} == {"complete"}
    await all_workers(site)


@pytest.mark.long
async def test_three_deaths_without_progress(site: Site, streams: Streams) -> None:
    """As many as an answer has tries, each within the first words: the fourth worker writes it, and
    no try is used up.
    """
    stream, task = streams.begin()
    site.provider.pieces_per_second = SLOW
    try:
        for times in (1, 2, 3):
            await streams.asked(stream, times)
            os.kill(the_worker_of(site, stream), signal.SIGKILL)
            await all_workers(site)
        await streams.asked(stream, 4)
    finally:
        site.provider.pieces_per_second = RATE
    await task
    assert await streams.judged() == []
    assert [stream.row[name] for name in ("status", "attempt", "tries", "deaths")] == [
        "complete",
        4,
        0,
        3,
    ]
