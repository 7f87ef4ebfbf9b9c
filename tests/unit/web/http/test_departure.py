"""web.http.departure: work for a client ends when the client leaves, and only then."""

import asyncio

import pytest
from starlette.types import Message

from tests.waiting import until
from tokenwire.web.http.departure import ClientGone, until_gone


class Client:
    """Sends the rest of a body, then nothing until it leaves."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self._messages = [{"type": "http.request", "body": b"rest"}]

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_results_and_exceptions_are_passed_on() -> None:
    """Whatever else the client sends meanwhile."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("a bug")

    async with asyncio.timeout(10):
        assert await until_gone(Client().receive, asyncio.sleep(0, "done")) == "done"
        with pytest.raises(ValueError, match="a bug"):
            await until_gone(Client().receive, fails())


async def test_work_ends_with_its_client() -> None:
    """The work is cancelled and has cleaned up before this returns."""
    client, put_away = Client(), asyncio.Event()
    began = asyncio.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            put_away.set()

    waiting = asyncio.create_task(until_gone(client.receive, work()))
    await began.wait()
    client.left.set()
    with pytest.raises(ClientGone):
        await waiting
    assert put_away.is_set()


async def test_a_cancellation_ends_both() -> None:
    """Neither the work nor the wait for the client is left behind."""
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(until_gone(Client().receive, asyncio.sleep(3600)))
    await until(lambda: len(asyncio.all_tasks()) == len(before) + 3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == before
