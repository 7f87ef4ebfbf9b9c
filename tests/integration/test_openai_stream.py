"""Streams of /v1 over real sockets, with the log in memory and on Valkey: live reading, and all
kinds of ends.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import pens
from tests.integration.serving import Web, serving
from tokenwire.models.errors import StoreUnavailable
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent
from tokenwire.streams.hub.hub import RedisPubSub
from tokenwire.streams.log.ports import Claim
from tokenwire.streams.log.redis import RedisLog
from tokenwire.worker import closing

R = "/v1/responses"


@pytest.fixture(params=["memory", "valkey"])
async def web(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Web]:
    """The app over each kind of log."""
    url = request.getfixturevalue("valkey_url") if request.param == "valkey" else None
    log, pubsub = (RedisLog(url), RedisPubSub(url)) if url else (None, None)
    async with serving(
        tmp_path,
        log,
        pubsub,
        heartbeat_idle_seconds=0.1,
        heartbeat_running_seconds=0.1,
        max_streams=3,
    ) as running:
        yield running


class Pen:
    """Writes an answer like a worker."""

    def __init__(self, web: Web, claim: Claim) -> None:
        self._web, self._claim, self._index = web, claim, 0
        self._written = pens.Pen(claim.message_id, claim.attempt)
        self._covered, self._seq = 0, 0

    @property
    def text(self) -> str:
        """Of the answer, so far."""
        return self._written.answer.content

    @classmethod
    async def take(cls, web: Web, response_id: str) -> "Pen":
        row = await web.store.message(response_id.removeprefix("resp_"))
        claim = await web.log.claim(row.conversation_id, row.id, row.attempt, 30)
        await web.store.begin_attempt(row.id, claim.attempt, "demo")
        return cls(web, claim)

    @property
    def message_id(self) -> str:
        return self._claim.message_id

    async def append(self, *events: AnyEvent) -> None:
        for event in events:
            self._written.take(event)
        self._seq = (
            await self._web.log.append(self._claim, self._index, self._covered, events)
        ).last_seq
        self._index += 1

    async def save(self) -> None:
        saved = self._written.checkpoint(self._claim.epoch, self._seq)
        await self._web.store.checkpoint([saved])
        self._covered = self._seq

    async def rejoin(self) -> None:
        self._claim = await self._web.log.rejoin(self._claim, self._index, 30)

    async def say(self, piece: str) -> None:
        await self.append(self._written.text(piece))

    def keep(self, piece: str) -> None:
        """More text, of which the log does not tell."""
        self._written.take(self._written.text(piece))

    async def think(self, piece: str) -> None:
        await self.append(self._written.reasoning(piece))

    @property
    def cursor(self) -> Cursor:
        """Of the last event."""
        return Cursor(self._claim.epoch, self._seq)

    async def withdraw(self) -> None:
        await self.append(self._written.reset())

    async def end(self) -> None:
        ending = self._written.ending(self._claim.epoch, self._seq)
        await self._web.store.finish(ending)
        await closing.append_end(self._web.store, self._web.log, self._claim, self._index, ending)


async def asked(web: Web) -> str:
    answer = await web.client.post(R, json={"model": "demo", "input": "hi", "background": True})
    return str(answer.json()["id"])


class Source:
    """Events of a stream, and its comments as None."""

    def __init__(self, answer: httpx.Response) -> None:
        self.lines = answer.aiter_lines()
        self.events: list[dict[str, Any]] = []
        self.comments = 0

    async def until(self, kind: str) -> list[dict[str, Any]]:
        async for line in self.lines:
            self.comments += line.startswith(":")
            if line.startswith("data: "):
                self.events.append(json.loads(line.removeprefix("data: ")))
                if self.events[-1]["type"] == kind:
                    break
        return self.events


async def replay(web: Web, response_id: str, after: int = -1) -> list[dict[str, Any]]:
    async with web.client.stream(
        "GET", f"{R}/{response_id}?stream=true&starting_after={after}"
    ) as answer:
        return await Source(answer).until("")


def told(events: list[dict[str, Any]]) -> str:
    return "".join(
        event["delta"] for event in events if event["type"] == "response.output_text.delta"
    )


async def test_all_readers_see_the_same(web: Web) -> None:
    """From the start, later, and after the end: the same events with the same numbers; comments
    during silence.
    """
    response_id = await asked(web)
    pen = await Pen.take(web, response_id)
    async with web.client.stream("GET", f"{R}/{response_id}?stream=true") as answer:
        source = Source(answer)
        for word in ("Hello ", "there, ", "👋 ", "you"):
            await pen.say(word)
        await source.until("response.output_text.delta")
        await asyncio.sleep(0.3)
        late = asyncio.create_task(replay(web, response_id))
        later = asyncio.create_task(replay(web, response_id, 6))
        await asyncio.sleep(0.1)
        await pen.say(" all.")
        await pen.end()
        events = await source.until("")
    assert told(events) == pen.text == "Hello there, 👋 you all."
    assert source.comments > 0
    assert await late == events == await replay(web, response_id)
    assert await later == events[7:] == await replay(web, response_id, 6)


async def test_withdrawn_text(web: Web) -> None:
    """Another item; readers of the log and readers after the end agree."""
    response_id = await asked(web)
    pen = await Pen.take(web, response_id)
    await pen.say("The answer is 41")
    await pen.withdraw()
    await pen.say("It is 42, no: 43")
    async with web.client.stream("GET", f"{R}/{response_id}?stream=true") as answer:
        source = Source(answer)
        await source.until("response.output_item.done")
        await pen.end()
        events = await source.until("")
    done = [
        event["item"]["status"] for event in events if event["type"] == "response.output_item.done"
    ]
    assert done == ["incomplete", "completed"]
    assert [item["content"][0]["text"] for item in events[-1]["response"]["output"]] == [
        "It is 42, no: 43"
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_a_stopping_process_breaks_its_streams(web: Web) -> None:
    """An orderly end would look like the end of the answer."""
    response_id = await asked(web)
    pen = await Pen.take(web, response_id)
    await pen.say("Hello")
    async with web.client.stream("GET", f"{R}/{response_id}?stream=true") as answer:
        source = Source(answer)
        await source.until("response.output_text.delta")
        leaving = asyncio.create_task(web.leave())
        with pytest.raises(httpx.RemoteProtocolError):
            await source.until("")
        await leaving


async def test_an_outage_at_the_end_breaks_the_stream(
    web: Web, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a stopping process does, and as no bug: it can be resumed."""

    async def away(_: str) -> None:
        raise StoreUnavailable("away")

    response_id = await asked(web)
    pen = await Pen.take(web, response_id)
    await pen.say("Hello")
    async with web.client.stream("GET", f"{R}/{response_id}?stream=true") as answer:
        source = Source(answer)
        await source.until("response.output_text.delta")
        with monkeypatch.context() as outage, caplog.at_level("ERROR", "uvicorn.error"):
            outage.setattr(web.store, "message", away)
            await pen.end()
            with pytest.raises(httpx.RemoteProtocolError):
                await source.until("")
    assert [record for record in caplog.records if record.exc_info] == []
    rest = await replay(web, response_id, len(source.events) - 1)
    assert [event["type"] for event in rest][-1] == "response.completed"


async def test_a_full_server_stores_nothing(web: Web) -> None:
    """503 before any row; requests without a slot are still served."""
    streaming = {"input": "hi", "stream": True}
    async with contextlib.AsyncExitStack() as open_streams:
        for _ in range(3):
            body = {"model": "demo"} | streaming
            await open_streams.enter_async_context(web.client.stream("POST", R, json=body))
        for path, asks in (
            (R, {"input": "hi"}),
            (R, streaming),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ):
            refused = await web.client.post(path, json={"model": "demo"} | asks)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "over_capacity")
            assert "retry-after" in refused.headers
        assert await asked(web)
    refused = await web.client.get(f"{R}/resp_nope?stream=true")
    assert refused.status_code == 404


async def test_an_answer_behind_others_of_its_conversation(web: Web) -> None:
    """Its stream holds only its own events."""
    conversation = await web.conversation()
    names = []
    for text in ("one", "two"):
        posted = (
            await web.client.post(
                f"/api/conversations/{conversation}/messages", json={"content": text}
            )
        ).json()
        names.append(f"resp_{posted['assistant_message']['id']}")
    pens = [await Pen.take(web, name) for name in names]
    for pen, word in itertools.product(pens, ("first ", "second ")):
        await pen.say(word)
    for pen in pens:
        await pen.end()
    streams = [await replay(web, name) for name in names]
    assert [told(events) for events in streams] == ["first second ", "first second "]
    assert len(streams[0]) == len(streams[1])
