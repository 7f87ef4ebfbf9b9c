"""The feed over real sockets: a user's list of conversations, with the log in memory and on
Valkey.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.eventsource import PATIENCE_SECONDS, EventSource
from tests.integration.broadcasting import Writer
from tests.integration.serving import Web, serving
from tokenwire.models.answers import Ending
from tokenwire.streams.hub.hub import RedisPubSub
from tokenwire.streams.log.redis import RedisLog


class Sidebar:
    """A page that applies the events of a feed."""

    def __init__(self, source: EventSource) -> None:
        self._events = aiter(source)
        self.shown: dict[str, dict[str, Any]] = {}
        self.heard: list[dict[str, Any]] = []

    async def until(self, kind: str) -> dict[str, Any]:
        """Apply events up to the next one of this type."""
        while (event := await self.next())["type"] != kind:
            pass
        return event

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            event = (await anext(self._events)).json
        self.heard.append(event)
        self._apply(event)
        return event

    def _apply(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "snapshot":
                self.shown = {row["id"]: row for row in event["conversations"]}
            case "created":
                self.shown[event["conversation"]["id"]] = event["conversation"]
            case "deleted" | "archived":
                del self.shown[event["conversation_id"]]
            case "titled":
                self.shown[event["conversation_id"]] |= {
                    name: event[name] for name in ("title", "rev")
                }
            case "running":
                self.shown[event["conversation_id"]] |= {
                    "running": True,
                    "message_id": event["message_id"],
                }
            case "ended":
                self.shown[event["conversation_id"]] |= {
                    "running": False,
                    "status": event["status"],
                }


@pytest.fixture(params=["memory", "valkey"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    """The app over each kind of log."""
    url = request.getfixturevalue("valkey_url") if request.param == "valkey" else None
    log, feed = (RedisLog(url), RedisPubSub(url)) if url else (None, None)
    async with serving(tmp_path, log, feed) as running:
        yield running


async def test_a_sidebar_follows_the_life_of_a_conversation(web: Web) -> None:
    """Creation, running, title, end and deletion arrive by themselves, in that order."""
    old = await web.conversation()
    sidebar = Sidebar(EventSource(web.client, "/api/feed"))
    assert [row["id"] for row in (await sidebar.next())["conversations"]] == [old]

    new = (await web.client.post("/api/conversations", json={"title": "First"})).json()["id"]
    assert (await sidebar.next())["conversation"]["title"] == "First"
    answer = (
        await web.client.post(f"/api/conversations/{new}/messages", json={"content": "hi"})
    ).json()["assistant_message"]["id"]
    running = await sidebar.next()
    times = running.pop("updated_at"), running.pop("last_message_at")
    assert times[0] == times[1]
    assert running == {
        "type": "running",
        "conversation_id": new,
        "message_id": answer,
        "message_count": 2,
    }
    await web.client.patch(f"/api/conversations/{new}", json={"title": "Second"})
    assert (await sidebar.next())["title"] == "Second"
    await end(web, new, answer)
    ended = await sidebar.next()
    assert (ended["type"], ended["conversation_id"], ended["message_id"], ended["status"]) == (
        "ended",
        new,
        answer,
        "complete",
    )
    await web.client.delete(f"/api/conversations/{new}")
    assert await sidebar.next() == {"type": "deleted", "conversation_id": new}
    assert set(sidebar.shown) == {old}


async def test_an_archived_conversation_leaves_the_list(web: Web) -> None:
    """At once, for the user who archives it, and comes back when they take it out."""
    name = await web.conversation()
    sidebar = Sidebar(EventSource(web.client, "/api/feed"))
    await sidebar.next()
    path = f"/api/conversations/{name}"
    assert (await web.client.patch(path, json={"archived": True})).json()["archived"] is True
    assert await sidebar.next() == {"type": "archived", "conversation_id": name}
    assert (await web.client.get(path)).json()["conversation"]["archived"] is True
    assert (await web.client.patch(path, json={"archived": False})).json()["archived"] is False
    assert (await sidebar.next())["conversation"]["id"] == name


async def end(web: Web, conversation: str, answer: str) -> None:
    """End an answer like a worker: SQL, then the terminal event."""
    writer = await Writer(web.log, conversation, answer).begin()
    await web.store.begin_attempt(answer, 1, "demo")
    await writer.say("hello")
    assert await web.store.finish(
        Ending(answer, 1, "complete", "hello", "", writer.epoch, writer.seq, "stop")
    )
    await writer.end()
