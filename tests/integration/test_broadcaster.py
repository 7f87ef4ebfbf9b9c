"""The broadcaster over real sockets, with the log in memory and on Valkey."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.integration.broadcasting import Stage, Watching, Writer, stage_of, token
from tests.waiting import until
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.ports import Limits

SMALL = Limits(max_events=100, max_bytes=1024 * 1024, max_seconds=3600)


@pytest.fixture(params=["memory", "valkey"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A broadcaster with a short log and quick heartbeats."""
    async with stage_of(
        request, SMALL, pace=HeartbeatPace(running_seconds=0.05, idle_seconds=0.2)
    ) as stage:
        yield stage


def kinds(reader: Watching) -> list[str]:
    return [frame["type"] for frame in reader.frames if frame["type"] != "heartbeat"]


async def test_from_a_cursor_then_live(stage: Stage) -> None:
    """subscribed, the events after the cursor, live, then new events, byte for byte."""
    writer = await Writer(stage.log, "c").begin()
    await writer.say("Hello ", "👋 ", "world")
    async with stage.reader("c", f"{writer.epoch}:1") as reader:
        await reader.until("live")
        assert kinds(reader) == ["subscribed", "chunk", "chunk", "chunk", "live"]
        assert reader.frames[0] == {
            "type": "subscribed",
            "epoch": writer.epoch,
            "seq": 4,
            "heartbeat_seconds": 1,
            "version": 1,
        }
        await writer.say("!")
        await writer.end()
        last = await reader.until("complete")
        assert (reader.text, reader.seq) == (writer.text, writer.seq)
        assert last["length"] == 15


async def test_relayed_byte_for_byte(stage: Stage) -> None:
    """The socket sends what the log holds."""
    writer = await Writer(stage.log, "c").begin()
    await writer.say("é\n\"'\u2028", "x")
    held = [entry.data.decode() for entry in (await stage.log.read("c", None, 0, 10)).entries]
    async with stage.socket("c") as socket:
        await socket.send(
            json.dumps({"type": "subscribe", "token": token("c"), "after": f"{writer.epoch}:0"})
        )
        got = [await socket.recv() for _ in range(5)]
    assert got[1:4] == held


async def test_from_now_on(stage: Stage) -> None:
    """Without a cursor nothing is replayed."""
    writer = await Writer(stage.log, "c").begin()
    await writer.say("before")
    async with stage.reader("c") as reader:
        await reader.until("live")
        await writer.say(" after")
        await reader.until("chunk")
        assert kinds(reader) == ["subscribed", "live", "chunk"]
        assert reader.text == " after"
    await until(lambda: not stage.server._connections and not stage.readers.all)


async def test_a_conversation_without_events(stage: Stage) -> None:
    """It has an epoch and a cursor at 0; the first event arrives."""
    async with stage.reader("c") as reader:
        live = await reader.until("live")
        assert live["seq"] == 0
        await Writer(stage.log, "c").begin()
        assert (await reader.until("start"))["seq"] == 1


async def test_resuming_every_few_events(stage: Stage) -> None:
    """A reader whose socket breaks after every three frames has the whole text, in order, without
    repetition.
    """
    writer = await Writer(stage.log, "c").begin()
    cursor, text, seqs = f"{writer.epoch}:0", "", list[int]()

    async def write() -> None:
        for number in range(60):
            await writer.say(f"{number} ")
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    while len(seqs) < 61:
        async with stage.reader("c", cursor) as reader:
            with contextlib.suppress(TimeoutError):
                for _ in range(4):
                    frame = await asyncio.wait_for(reader.next(), 1)
                    if "attempt" in frame:
                        seqs.append(frame["seq"])
                        text += frame.get("content", "")
                        cursor = f"{reader.epoch}:{reader.seq}"
    await writing
    assert text == writer.text
    assert seqs == list(range(1, 62))


@pytest.mark.parametrize("reason", ["epoch", "ahead", "trimmed"])
async def test_an_impossible_cursor(stage: Stage, reason: str) -> None:
    """One `resync` frame, then 4410."""
    writer = await Writer(stage.log, "c").begin()
    if reason == "trimmed":
        for _ in range(20):
            await writer.say(*["x"] * 10)
        await writer.end()  # the floor is gone: the log is trimmed to its window
        await (await Writer(stage.log, "c", "n").begin()).say("y")
    after = {"epoch": "zzzz:1", "ahead": f"{writer.epoch}:9999", "trimmed": f"{writer.epoch}:1"}[
        reason
    ]
    async with stage.reader("c", after) as reader:
        assert await reader.close_code() == 4410
        assert reader.frames == [{"type": "resync", "reason": reason}]


async def test_a_deletion_ends_every_reader(stage: Stage) -> None:
    """4404, for open and for later readers."""
    await Writer(stage.log, "c").begin()
    async with stage.reader("c") as reader:
        await reader.until("live")
        await stage.log.delete("c")
        assert await reader.close_code() == 4404
    async with stage.reader("c") as late:
        assert await late.close_code() == 4404
        assert late.frames == []


async def test_heartbeats_carry_the_cursor(stage: Stage) -> None:
    """They come by themselves, more often while an answer runs, each with the reader's seq."""
    async with stage.reader("c") as reader:
        await reader.until("live")
        assert (await reader.until("heartbeat"))["seq"] == 0
        writer = await Writer(stage.log, "c").begin()
        for _ in range(3):
            await writer.say("x")
            await reader.until("heartbeat")
        await reader.until_seq(writer.seq)
        await reader.until("heartbeat")
        assert reader.seq == writer.seq


async def test_two_hundred_readers_of_one_conversation(stage: Stage) -> None:
    """Some from the start, some late, some from now on: all end with the same text."""
    writer = await Writer(stage.log, "c").begin()
    start = f"{writer.epoch}:0"
    first, rest = asyncio.Event(), asyncio.Event()

    async def watch(number: int) -> str:
        if number % 4 == 3:
            await first.wait()
        async with stage.reader("c", start) as reader:
            if number % 4 != 3:
                await reader.until("live")
                ready.append(number)
            if len(ready) == 150:
                rest.set()
            await reader.until("complete")
            return reader.text

    ready = list[int]()
    watching = [asyncio.create_task(watch(number)) for number in range(200)]
    await rest.wait()
    for number in range(40):
        await writer.say(f"{number}, ")
        if number == 20:
            first.set()
    await writer.end()
    assert set(await asyncio.gather(*watching)) == {writer.text}
    assert len(stage.readers.all) <= 200


async def test_a_refresh_without_a_reconnect(stage: Stage) -> None:
    """A refresh is answered, and the socket outlives its first token."""
    async with stage.reader("c", left=2.0) as reader:
        await reader.until("live")
        await reader.socket.send(json.dumps({"type": "refresh", "token": token("c", 600)}))
        assert 568 <= (await reader.until("refreshed"))["expires_in"] <= 570
        await asyncio.sleep(2.1)
        await Writer(stage.log, "c").begin()
        assert await reader.until("start")


async def test_an_expired_token_closes_the_socket(stage: Stage) -> None:
    """With 4401, half a minute after its expiry."""
    async with stage.reader("c", left=2.0) as reader:
        await reader.until("live")
        assert await reader.close_code() == 4401


async def test_stopping_closes_all_sockets(stage: Stage) -> None:
    """1012 for each, within about a second; new ones are refused."""
    async with stage.reader("c") as one, stage.reader("d") as two:
        await one.until("live")
        await two.until("live")
        async with asyncio.timeout(10):
            await stage.server.stop()
        assert [await one.close_code(), await two.close_code()] == [1012, 1012]
        with pytest.raises(OSError):
            await stage.socket("c")
