"""A conversation as server-sent events, over real sockets: the log in memory and on Valkey."""

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventsource import PATIENCE_SECONDS, EventSource, Failed, Parser
from tests.integration.broadcasting import Writer
from tests.integration.serving import Web, serving
from tests.listening import closing
from tests.waiting import until
from tokenwire.streams.hub.hub import RedisPubSub
from tokenwire.streams.log.redis import RedisLog


@pytest.fixture(params=["memory", "valkey"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    """The app over each kind of log."""
    url = request.getfixturevalue("valkey_url") if request.param == "valkey" else None
    log, pubsub = (RedisLog(url), RedisPubSub(url)) if url else (None, None)
    async with serving(
        tmp_path, log, pubsub, heartbeat_idle_seconds=0.2, heartbeat_running_seconds=0.2
    ) as running:
        yield running


async def test_three_cuts_cost_nothing(web: Web) -> None:
    """A bare EventSource that is cut three times has exactly the text, each event once and in
    order.
    """
    conversation, writer = await web.writing()
    source = EventSource(
        web.client, f"/api/conversations/{conversation}/events?after={writer.epoch}:0"
    )

    async def write() -> None:
        for number in range(60):
            await writer.say(f"{number} ")
            await asyncio.sleep(0.005)
        await writer.end()

    writing = asyncio.create_task(write())
    seqs, text = [], ""
    async for event in source:
        assert event.type == "message"
        assert event.last_event_id == f"{writer.epoch}:{event.json['seq']}"
        seqs.append(event.json["seq"])
        text += event.json.get("content", "")
        if event.json["seq"] in (15, 30, 45):
            source.cut()
        if event.json["type"] == "complete":
            break
    await writing
    assert (source.connections, seqs, text) == (4, list(range(1, writer.seq + 1)), writer.text)


async def test_the_answer_passes_proxies(web: Web) -> None:
    """Content type, no caching, no buffering by nginx; the first bytes come at once, without any
    event.
    """
    conversation = await web.conversation()
    async with web.client.stream("GET", f"/api/conversations/{conversation}/events") as answer:
        assert answer.status_code == 200
        assert {
            name: answer.headers[name]
            for name in ("content-type", "cache-control", "x-accel-buffering")
        } == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
        }
        assert (await anext(answer.aiter_raw())).startswith(b": tokenwire\nretry: ")


async def test_a_stream_without_a_cursor_begins_now_and_keeps_its_cursor(web: Web) -> None:
    """A cut before the first event loses nothing."""
    conversation, writer = await web.writing()
    source = EventSource(web.client, f"/api/conversations/{conversation}/events")
    events = aiter(source)
    waiting = asyncio.create_task(anext(events))
    await until(lambda: source.last_event_id == f"{writer.epoch}:1")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await writer.say("missed")
    again = EventSource(web.client, source.address, {"Last-Event-ID": source.last_event_id})
    async for event in again:
        assert event.json["content"] == "missed"
        break


async def test_the_last_event_id_wins(web: Web) -> None:
    """A bare EventSource reconnects to its address, `after` included."""
    conversation, writer = await web.writing()
    await writer.say("a", "b")
    address = f"/api/conversations/{conversation}/events?after={writer.epoch}:0"
    async for event in EventSource(web.client, address, {"Last-Event-ID": f"{writer.epoch}:2"}):
        assert event.json["seq"] == 3
        break


@pytest.mark.parametrize(("cursor", "reason"), [("other:1", "epoch"), ("{epoch}:99", "ahead")])
async def test_an_impossible_cursor_is_answered_in_the_stream(
    web: Web, cursor: str, reason: str
) -> None:
    """`resync` is the first event, has no id, and only comments follow."""
    conversation, writer = await web.writing()
    source = EventSource(
        web.client,
        f"/api/conversations/{conversation}/events?after={cursor.format(epoch=writer.epoch)}",
    )
    events = aiter(source)
    first = await anext(events)
    assert (first.json, first.last_event_id) == ({"type": "resync", "reason": reason}, "")
    waiting = asyncio.create_task(anext(events))
    await writer.say("not for you")
    await until(lambda: "heartbeat" in source.comments)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert source.connections == 1


async def test_a_deleted_conversation_ends_the_stream(web: Web) -> None:
    """A bare EventSource reconnects, gets 404 and gives up."""
    conversation, _ = await web.writing()
    source = EventSource(web.client, f"/api/conversations/{conversation}/events")
    heard = []

    async def listen() -> None:
        async for event in source:
            heard[:] = [event.json]

    listening = asyncio.create_task(listen())
    await until(lambda: web.streams == 1)
    await web.client.delete(f"/api/conversations/{conversation}")
    with pytest.raises(Failed) as failed:
        await listening
    assert (failed.value.status, heard, source.connections) == (404, [{"type": "deleted"}], 2)


async def test_one_message_of_a_conversation(web: Web) -> None:
    """Its row and its answer; seqs have holes, and a heartbeat moves the cursor past other
    events.
    """
    conversation = await web.conversation()
    posted = (
        await web.client.post(f"/api/conversations/{conversation}/messages", json={"content": "hi"})
    ).json()
    answer, cursor = posted["assistant_message"]["id"], posted["cursor"]
    writer = await Writer(web.log, conversation, answer).begin()
    await writer.say("a")
    other = await Writer(web.log, conversation, "another").begin()
    await other.say("x")
    await writer.say("b")
    await writer.end()
    await other.say("y")
    source = EventSource(web.client, f"/api/messages/{answer}/events?after={cursor}")
    events = aiter(source)
    heard = [(await anext(events)).json for _ in range(5)]
    assert [(event["type"], event["seq"]) for event in heard] == [
        ("message", 2),
        ("start", 3),
        ("chunk", 4),
        ("chunk", 7),
        ("complete", 8),
    ]
    waiting = asyncio.create_task(anext(events))
    await until(lambda: source.last_event_id == f"{writer.epoch}:9")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_reader_that_pauses_costs_no_memory_and_misses_nothing(web: Web) -> None:
    """Megabytes are written meanwhile, and others get them at once; then it gets all of them,
    merged and exact.
    """
    conversation, writer = await web.writing()
    address = f"/api/conversations/{conversation}/events?after={writer.epoch}:0"
    reader, sender = await raw(web, address)
    async with closing(sender):
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(20):  # 10 MB: more than the kernel's buffers of one connection
            await writer.say(*["0123456789" * 1280] * 40)
        async for event in EventSource(web.client, address):
            if event.json["seq"] == writer.seq:
                break
        assert max(web.unsent()) < 256 * 1024
        parser, heard = Parser(), list[dict[str, Any]]()
        while not heard or heard[-1]["seq"] < writer.seq:
            heard += [event.json for event in parser.push(await one_chunk(reader))]
    seqs = [(event.get("from_seq", event["seq"]), event["seq"]) for event in heard]
    assert all(first == last + 1 for (_, last), (first, _) in itertools.pairwise(seqs))
    assert "".join(event.get("content", "") for event in heard) == writer.text
    assert len(heard) < writer.seq


async def test_slots_are_released(web: Web) -> None:
    """When the client leaves, the stream ends, whether anything happens or not."""
    conversation = await web.conversation()
    async with web.client.stream("GET", f"/api/conversations/{conversation}/events"):
        await until(lambda: web.streams == 1)
    await until(lambda: web.streams == 0)
    async with web.client.stream("GET", "/api/feed"):
        await until(lambda: web.streams == 1)
    await until(lambda: web.streams == 0)


async def raw(web: Web, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose client reads only what the test asks for."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", web.port))
    reader, writer = await asyncio.open_connection(sock=client)
    writer.write(f"GET {address} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return reader, writer


async def one_chunk(reader: asyncio.StreamReader) -> bytes:
    """The next chunk of a chunked body."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        size = int(await reader.readline(), 16)
        data = await reader.readexactly(size + 2)
    return data[:-2]
