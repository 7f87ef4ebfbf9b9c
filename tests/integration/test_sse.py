"""A conversation as server-sent events, over real sockets: the log in memory and on Valkey."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.hub import RedisFeed
from streams.log import RedisLog
from tests.eventsource import EventSource
from tests.integration.serving import Web, serving


@pytest.fixture(params=["memory", "valkey"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    """The app over each kind of log."""
    url = request.getfixturevalue("valkey_url") if request.param == "valkey" else None
    log, feed = (RedisLog(url), RedisFeed(url)) if url else (None, None)
    async with serving(tmp_path, log, feed) as running:
        yield running


async def test_three_cuts_cost_nothing(web: Web) -> None:
    """A bare EventSource that is cut three times ends with exactly the text, each event once and in order."""
    conversation, writer = await web.writing()
    source = EventSource(web.client, f"/api/conversations/{conversation}/events?after={writer.epoch}:0")

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
