"""web.http.streaming: how an answer that goes on comes to its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Message

from tokenwire.web.http.streaming import Cut, EventStream, Places


async def test_an_answer_that_is_cut_does_not_wait_for_its_client() -> None:
    """Whoever serves it breaks the connection then; a client that waits for more would wait for ever, and keep its place."""
    places, sent = Places(1), list[Message]()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        raise Cut

    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        yield body()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(10):
        await EventStream(places, opened)({"type": "http"}, receive, send)
    assert [message.get("body") for message in sent] == [None, b"one"]
    assert places.taken == 0
