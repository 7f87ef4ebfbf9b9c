"""A removed participant is disconnected by every broadcaster at once, whatever token they hold."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.integration.broadcasting import Stage, Writer, running
from tokenwire.streams.hub.hub import RedisPubSub
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.redis import RedisLog

SOON_SECONDS = 10.0


@pytest.fixture(params=["memory", "valkey"])
async def stages(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Stage, Stage]]:
    """Two processes on one Redis, with heartbeats too rare to notice anything."""
    if request.param == "memory":
        log = MemoryLog()
        made = [Stage(log, MemoryPubSub(log)) for _ in range(2)]
    else:
        url = request.getfixturevalue("valkey_url")
        made = [Stage(RedisLog(url), RedisPubSub(url)) for _ in range(2)]
    async with running(made[0]), running(made[1]):
        yield made[0], made[1]


async def test_open_sockets_end_on_every_process(stages: tuple[Stage, Stage]) -> None:
    """4403 within moments; other readers of the conversation continue."""
    one, other = stages
    writer = await Writer(one.log, "c").begin()
    async with (
        one.reader("c", user="ada") as ada,
        one.reader("c", user="bob") as bob,
        other.reader("c", user="bob") as tab,
    ):
        for reader in (ada, bob, tab):
            await reader.until("live")
        begun = time.monotonic()
        await one.log.revoke("c", "bob")
        assert await asyncio.gather(bob.close_code(), tab.close_code()) == [4403, 4403]
        assert time.monotonic() - begun < SOON_SECONDS
        await writer.say("Between us")
        await ada.until_seq(writer.seq)
        assert ada.text == "Between us"


async def test_an_older_token_is_refused_until_the_user_returns(
    stages: tuple[Stage, Stage],
) -> None:
    """On a process with the conversation's tail and on one without."""
    one, other = stages
    await Writer(one.log, "c").begin()
    async with one.reader("c", user="ada") as ada:
        await ada.until("live")
        await other.log.revoke("c", "bob")
        for stage in stages:
            async with stage.reader("c", user="bob") as bob:
                assert await bob.close_code() == 4403
        await other.log.readmit("c", "bob")
        async with asyncio.timeout(SOON_SECONDS):
            while one.hub._open_tails["c"].tail.revoked:
                await asyncio.sleep(0.01)
        for stage in stages:
            async with stage.reader("c", user="bob") as bob:
                await bob.until("live")


async def test_other_conversations_are_not_affected(stages: tuple[Stage, Stage]) -> None:
    """Only readers of the left one are closed."""
    one, _ = stages
    await Writer(one.log, "d").begin()
    await one.log.revoke("c", "bob")
    async with one.reader("d", user="bob") as bob:
        await bob.until("live")
