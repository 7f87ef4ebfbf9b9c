"""web.http.streaming: how an open stream ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message

from tokenwire.web import aisdk
from tokenwire.web.http.streaming import TURN_BYTES, Cut, EventStream, Places, event_headers


def stream(body: AsyncIterator[bytes], places: Places | None = None) -> EventStream:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        yield body

    return EventStream(places or Places(1), opened)


async def receive_nothing() -> Message:
    """The client stays and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_cut_answer_does_not_wait_for_its_client() -> None:
    """The server then closes the connection; a client that expects more would keep its slot for
    ever.
    """
    places, sent = Places(1), list[Message]()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise Cut

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await stream(body(), places)({"type": "http"}, receive_nothing, send)
    assert [message.get("body") for message in sent] == [None, b"one"]
    assert places.taken == 0


async def test_a_long_answer_leaves_others_their_turn() -> None:
    """A client that reads at once never makes `send` wait. Others run in between all the same."""
    rounds, turns, ended = 50, 0, asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(rounds):
            yield b"x" * (TURN_BYTES // 2)
        ended.set()

    async def send(message: Message) -> None:
        del message

    async def other() -> None:
        nonlocal turns
        while not ended.is_set():
            await asyncio.sleep(0)
            turns += 1

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(other())
        group.create_task(stream(body())({"type": "http"}, receive_nothing, send))
    assert turns >= rounds // 2


def test_all_streams_have_the_same_headers() -> None:
    """Nothing on the way may cache, compress or buffer them. The AI SDK's writer sets them as
    well.
    """
    plain = event_headers(Content_Type="text/plain; charset=utf-8", X_More="1")
    assert plain["Content-Type"] == "text/plain; charset=utf-8"
    assert plain["X-More"] == "1"
    assert event_headers()["Content-Type"] == "text/event-stream; charset=utf-8"
    for headers in (plain, event_headers(), aisdk.HEADERS):
        assert headers["X-Accel-Buffering"] == "no"
        assert "no-transform" in headers["Cache-Control"]
