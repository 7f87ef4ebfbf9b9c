"""Forking epochs on real servers: a restart with all data, an append-only file that lost its end, a
failover and back.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.answers import held as held_of
from tests.valkey import Valkey
from tokenwire.protocol.events import AnyEvent, Chunk, Start
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.log.ports import Claim, Lost
from tokenwire.streams.log.redis import RedisLog
from tokenwire.worker.resume.takeover import Known, restore

LEASE = 60.0
TEXT = "".join(f"{number:03}" for number in range(60))


def piece(number: int) -> AnyEvent:
    return Chunk("m", 1, 3 * number, f"{number:03}", 0)


@pytest.fixture
async def log(valkey: Valkey) -> AsyncIterator[RedisLog]:
    made = RedisLog(valkey.url)
    yield made
    await made.aclose()


async def write(log: RedisLog, count: int) -> Claim:
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [Start("m", 1, "model")])
    for number in range(count):
        await log.append(claim, number + 1, 0, [piece(number)])
    return claim


async def text(log: RedisLog) -> str:
    entries = (await log.read("c", None, 0, 1000)).entries
    held = ""
    for entry in entries:
        found = entry.data.partition(b'"content":"')[2].partition(b'"')[0].decode()
        offset = int(entry.data.partition(b'"offset":')[2].partition(b",")[0] or 0)
        assert offset == len(held) or not found, entry
        held += found
    return held


async def test_a_restart_with_all_data_disturbs_nobody(log: RedisLog, valkey: Valkey) -> None:
    """A reader's tail keeps its ring, cursors stay valid, and the worker's next batch is the next
    event.
    """
    claim = await write(log, 5)
    pubsub = RedisPubSub(valkey.url)
    hub = Hub(log, pubsub)
    await hub.start()
    try:
        tail = await hub.open("c")
        await asyncio.to_thread(valkey.restart)
        async with asyncio.timeout(20):
            while tail.epoch == claim.epoch:
                await asyncio.sleep(0.02)
        assert (tail.top, tail.forks) == (6, {claim.epoch: 6})
        again = await log.rejoin(claim, 6, LEASE)
        assert (await log.append(again, 6, 0, [piece(5)])).first_seq == 7
        async with asyncio.timeout(20):
            while tail.top < 7:
                await asyncio.sleep(0.02)
        ring = tail.since(6)
        assert ring is not None
        assert [entry.seq for entry in ring] == [7]
    finally:
        await hub.aclose()


@pytest.mark.parametrize("lost", [1, 60, 300, 700, 1500, 4000])
async def test_a_file_that_lost_its_end(log: RedisLog, valkey: Valkey, lost: int) -> None:
    """Of any length: the rest is intact, and the lost part of the answer follows it once."""
    claim = await write(log, 20)
    await asyncio.to_thread(valkey.cut_file, lost)
    page = await log.read("c", claim.epoch, 0, 100)
    survived = page.forks[claim.epoch]
    assert [entry.seq for entry in page.entries] == list(range(1, survived + 1))
    assert survived < 21
    with pytest.raises(Lost):
        await log.append(claim, 21, 0, [piece(20)])
    with pytest.raises(Lost):
        await log.rejoin(claim, 21, LEASE)
    adopted, held = await restore(log, claim, Known(held_of(TEXT[:60], seq=21), claim.epoch), LEASE)
    await log.append(adopted, 0, 0, [piece(20)])
    assert held.seq == survived + 1
    assert await text(log) == TEXT[:63]
    beyond = await log.read("c", claim.epoch, survived + 1, 100)
    assert beyond.entries == []


async def test_several_lost_ends_in_a_row(log: RedisLog, valkey: Valkey) -> None:
    """Each earlier name keeps what it shares with all later logs."""
    claim = await write(log, 20)
    names, known = {claim.epoch: 21}, Known(held_of(TEXT[:60], seq=21), claim.epoch)
    for lost in (900, 200, 2500):
        await asyncio.to_thread(valkey.cut_file, lost)
        claim, held = await restore(log, claim, known, LEASE)
        page = await log.read("c", None, 0, 0)
        for name, seq in names.items():
            assert page.forks.get(name, 0) <= seq
            names[name] = page.forks.get(name, 0)
        names[claim.epoch], known = page.top, Known(held, claim.epoch)
        assert await text(log) == TEXT[:60]


@pytest.fixture
def replicas(valkey: Valkey) -> Iterator[tuple[Valkey, Valkey]]:
    other = Valkey()
    other.start()
    yield valkey, other
    other.remove()


def follow(follower: Valkey, leader: Valkey) -> None:
    with follower.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", leader.port)
        deadline = time.monotonic() + 20
        while client.info("replication").get("master_link_status") != "up":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def promote(server: Valkey) -> None:
    with server.client() as client:
        client.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_failover_and_back_to_the_same_process_forks(
    replicas: tuple[Valkey, Valkey],
) -> None:
    """The process is the same, but its data are another's: no seq of an epoch may have two
    events.
    """
    one, two = replicas
    first, second = RedisLog(one.url), RedisLog(two.url)
    try:
        noted = await first.new_server()
        assert noted is not None
        await first.note_server(noted)
        await asyncio.to_thread(follow, two, one)
        claim = await write(first, 2)
        with one.client() as client:
            assert await asyncio.to_thread(client.wait, 1, 10_000) == 1
        await asyncio.to_thread(promote, two)
        unseen = await first.append(claim, 3, 0, [piece(2)])
        await asyncio.to_thread(follow, one, two)
        await asyncio.to_thread(promote, one)
        page = await first.read("c", claim.epoch, 0, 100)
        assert page.epoch != claim.epoch
        assert page.forks[claim.epoch] == page.top == unseen.last_seq - 1
        with pytest.raises(Lost):
            await first.append(claim, 4, 0, [piece(3)])
        assert await first.new_server() is not None
    finally:
        await first.aclose()
        await second.aclose()


async def test_a_server_is_new_until_it_is_noted(log: RedisLog, valkey: Valkey) -> None:
    """And again after every restart."""
    for _ in range(2):
        identity = await log.new_server()
        assert identity is not None
        await log.note_server(identity)
        assert await log.new_server() is None
        await asyncio.to_thread(valkey.restart)
        await asyncio.sleep(0.05)
