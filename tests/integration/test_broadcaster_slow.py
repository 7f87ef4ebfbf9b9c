"""Slow readers and lost events: bounded memory, no disconnect, no hole."""

import asyncio
import json
import random
import socket as sockets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.broadcasting import Stage, Writer, memory_stage, redis_stage, stage_of
from tests.valkey import Valkey
from tests.waiting import until
from tokenwire.broadcaster import server
from tokenwire.broadcaster.readers import SocketReader
from tokenwire.broadcaster.server import WRITE_LIMIT_BYTES
from tokenwire.broadcaster.session import BATCH_BYTES
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log import keys
from tokenwire.streams.log.memory import MemoryPubSub
from tokenwire.streams.log.ports import Limits

KERNEL_BYTES = 8 * 1024


@pytest.fixture(params=["memory", "valkey"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    async with stage_of(request) as stage:
        small_buffers(stage)
        yield stage


def small_buffers(stage: Stage) -> None:
    """Accepted sockets inherit this; otherwise the kernel takes megabytes before a reader counts as
    slow.
    """
    listener = stage.server._listener
    assert listener is not None
    for listening in listener.sockets:
        listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, KERNEL_BYTES)


async def slow_socket(stage: Stage) -> dict[str, Any]:
    """Options of a client that reads only one frame ahead."""
    raw = sockets.socket()
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, KERNEL_BYTES)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", stage.port))
    return {"sock": raw, "max_queue": 1}


def only(stage: Stage) -> SocketReader:
    [reader] = stage.readers.all
    return reader


async def fall_behind(stage: Stage, writer: Writer) -> None:
    """Write until the only reader's socket is full."""
    async with asyncio.timeout(20):
        while not only(stage).session.slow:
            await writer.say("x" * 200)
            await asyncio.sleep(0)


async def test_a_pausing_reader_gets_all_of_it_merged(stage: Stage) -> None:
    """It stays connected, costs a bounded buffer, and gets exactly the text in far fewer frames;
    later events come singly again.
    """
    writer = await Writer(stage.log, "c").begin()
    async with stage.reader("c", f"{writer.epoch}:0", **await slow_socket(stage)) as reader:
        await reader.until("live")
        served = only(stage)
        for number in range(3000):  # past the ring, past the buffers
            await writer.say(f"{number} 👋 {'x' * 80} ")
        await until(lambda: served.session.slow)
        assert (
            served._connection.transport.get_write_buffer_size() <= WRITE_LIMIT_BYTES + BATCH_BYTES
        )
        assert served.session.seq < writer.seq
        await reader.until_seq(writer.seq)
        merged = [frame for frame in reader.frames if "from_seq" in frame]
        assert reader.text == writer.text
        assert merged
        assert len(reader.frames) < 2000
        assert (
            max(len(json.dumps(frame, ensure_ascii=False).encode()) for frame in merged)
            <= 64 * 1024 + 200
        )
        await until(lambda: not served.session.behind)
        await writer.say("tail")
        assert "from_seq" not in await reader.until("chunk")
        assert len(stage.readers.all) == 1


async def test_one_slow_reader_delays_nobody(stage: Stage) -> None:
    """Others receive everything while it pauses."""
    writer = await Writer(stage.log, "c").begin()
    async with stage.reader("c", **await slow_socket(stage)) as slow, stage.reader("c") as quick:
        await slow.until("live")
        await quick.until("live")
        for _ in range(1500):
            await writer.say("x" * 100)
        await quick.until_seq(writer.seq)
        assert quick.text == writer.text
        assert any(reader.session.slow for reader in stage.readers.all)
        await slow.until_seq(writer.seq)
        assert slow.text == writer.text


async def test_a_long_replay_to_a_slow_reader(stage: Stage) -> None:
    """`live` comes after all of it, however long the socket takes."""
    writer = await Writer(stage.log, "c").begin()
    for _ in range(40):
        await writer.say(*["y" * 100] * 50)
    await writer.end()
    async with stage.reader("c", f"{writer.epoch}:0", **await slow_socket(stage)) as reader:
        live = await reader.until("live")
        assert live["seq"] == writer.seq
        assert reader.text == writer.text


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("pieces", "size"), [(6000, 4), (600, 1000)])
async def test_a_slow_reader_costs_redis_little_more_than_it_receives(
    valkey: Valkey, packed: bool, pieces: int, size: int
) -> None:
    """What a full socket does not take is read again: pages and packed blocks are no larger than
    that. The text does not compress.
    """
    async with redis_stage(valkey.url, Limits(max_bytes=64 * 1024 * 1024)) as stage:
        small_buffers(stage)
        writer = await Writer(stage.log, "c").begin()
        chance = random.Random(1)
        for _ in range(0, pieces, 20):
            await writer.say(*(chance.randbytes(size // 2).hex() for _ in range(20)))
        await writer.end()
        page = await stage.log.read("c", None, 0, 10_000, 64 * 1024 * 1024)
        delivered = sum(len(entry.data) for entry in page.entries)
        if packed:
            await stage.log.pack("c")
        with valkey.client() as client:
            before = client.info("stats")["total_net_output_bytes"]
            async with stage.reader("c", f"{writer.epoch}:0", **await slow_socket(stage)) as reader:
                served = only(stage)
                await until(lambda: served.session.slow)
                await reader.until("live")
                assert reader.text == writer.text
            read = client.info("stats")["total_net_output_bytes"] - before
        assert read < 1.5 * delivered


async def test_events_trimmed_during_a_pause() -> None:
    """The next event is gone: resync, not a hole."""
    async with memory_stage(
        Limits(max_events=100, max_bytes=64 * 1024 * 1024, max_seconds=3600)
    ) as stage:
        small_buffers(stage)
        writer = await Writer(stage.log, "c").begin()
        async with stage.reader("c", **await slow_socket(stage)) as reader:
            await reader.until("live")
            await fall_behind(stage, writer)
            for _ in range(1000):  # more than the ring holds
                await writer.say("x" * 200)
            await writer.end()
            other = await Writer(stage.log, "c", "n").begin()
            await other.say("y")
            await other.end()
            assert await reader.close_code() == 4410
            assert reader.frames[-1] == {"type": "resync", "reason": "trimmed"}
            assert writer.text.startswith(reader.text)


async def test_a_reader_that_never_reads_does_not_delay_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is done within three seconds, and does not wait for the closing handshake."""
    monkeypatch.setattr(server, "CLOSE_SECONDS", 60.0)
    async with memory_stage() as stage:
        small_buffers(stage)
        writer = await Writer(stage.log, "c").begin()
        async with stage.reader("c", **await slow_socket(stage)) as reader:
            await reader.until("live")
            await fall_behind(stage, writer)
            async with asyncio.timeout(20):
                await stage.server.stop()
            await until(lambda: not stage.readers.all)
            reader.socket.transport.abort()


async def test_a_heartbeat_finds_what_the_feed_lost() -> None:
    """Events published while the subscription was down arrive with the next read of Redis, in
    order.
    """
    async with memory_stage(pace=HeartbeatPace(0.1, 0.1)) as stage:
        writer = await Writer(stage.log, "c").begin()
        async with stage.reader("c") as reader:
            await reader.until("live")
            assert isinstance(stage.pubsub, MemoryPubSub)
            stage.pubsub.cut()
            await writer.say("lost ", "and ")
            await reader.until_seq(writer.seq)
            stage.pubsub._connected = True
            await writer.say("found")
            await reader.until_seq(writer.seq)
            assert reader.text == writer.text


async def test_a_damaged_block_of_the_log_is_a_resync(
    valkey: Valkey,
) -> None:
    """Only for readers that need it."""
    async with redis_stage(valkey.url) as stage:
        writer = await Writer(stage.log, "c").begin()
        await writer.say("before")
        await writer.end()
        await stage.log.pack("c")
        packed = keys.keys("c")[4]
        with valkey.client() as client:
            [[name, fields]] = client.xrange(packed)
            client.delete(packed)
            client.xadd(packed, fields | {b"z": fields[b"z"][:-2]}, id=name)
        async with stage.reader("c") as present:
            await present.until("live")
            async with stage.reader("c", f"{writer.epoch}:0") as reader:
                assert await reader.close_code() == 4410
                assert reader.frames[-1] == {"type": "resync", "reason": "trimmed"}
            async with stage.reader("c") as again:
                assert (await again.until("live"))["epoch"] == writer.epoch
            other = await Writer(stage.log, "c", "n").begin()
            await other.say("after")
            await present.until_seq(other.seq)


async def test_a_redis_that_lost_its_data_is_another_epoch(valkey: Valkey) -> None:
    """Every reader gets a resync and is served afterwards."""
    async with redis_stage(valkey.url, pace=HeartbeatPace(0.2, 0.2)) as stage:
        writer = await Writer(stage.log, "c").begin()
        await writer.say("before")
        async with stage.reader("c", f"{writer.epoch}:0") as reader:
            await reader.until("live")
            await asyncio.to_thread(valkey.restart, lose_data=True)
            assert await reader.close_code() == 4410
            assert reader.frames[-1] == {"type": "resync", "reason": "epoch"}
        async with stage.reader("c") as again:
            live = await again.until("live")
            assert live["epoch"] != writer.epoch


async def test_a_restarted_redis_with_its_data_disturbs_nobody(valkey: Valkey) -> None:
    """A reader stays connected, gets the new name of its cursor, and is live again without a
    resync.
    """
    async with redis_stage(valkey.url, pace=HeartbeatPace(0.2, 0.2)) as stage:
        writer = await Writer(stage.log, "c").begin()
        await writer.say("before")
        async with stage.reader("c", f"{writer.epoch}:0") as reader:
            await reader.until("live")
            await asyncio.to_thread(valkey.restart, lose_data=False)
            assert (await reader.until("subscribed"))["epoch"] != writer.epoch
            live = await reader.until("live")
            assert live == {"type": "live", "epoch": reader.epoch, "seq": writer.seq}
