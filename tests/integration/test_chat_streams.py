"""Chat streams over real connections, with a worker played by the test: cursors, new epochs, all
kinds of ends, bad input.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.answers import held as held_of
from tests.integration.serving import Web, serving
from tests.pens import Pen
from tests.unit.web.aisdk.client import Client
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import Claim, Limits, LogUnavailable
from tokenwire.web import watching
from tokenwire.web.aisdk import UIChunk
from tokenwire.worker import closing
from tokenwire.worker.resume.takeover import Known, restore

PATIENCE_SECONDS = 60.0


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with serving(tmp_path) as running:
        yield running


class Stream:
    """A chat stream: `chunks`, the last `id:`, and whether `[DONE]` has come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.chunks: list[UIChunk] = []
        self.id: str | None = None
        self.done = False
        self._lines = response.aiter_lines()

    async def until(self, kind: str, times: int = 1) -> list[UIChunk]:
        """Read until that many chunks of this type have come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(chunk["type"] == kind for chunk in self.chunks) < times:
                self._take(await anext(self._lines))
        return self.chunks

    async def rest(self) -> list[UIChunk]:
        """Read to the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for line in self._lines:
                self._take(line)
        return self.chunks

    def _take(self, line: str) -> None:
        if line.startswith("id: "):
            self.id = line[4:]
        elif line == "data: [DONE]":
            self.done = True
        elif line.startswith("data: "):
            self.chunks.append(json.loads(line[6:]))


class Worker:
    """Writes the answer of a chat."""

    def __init__(self, web: Web, row: Message, claim: Claim) -> None:
        self.web, self.row, self.claim = web, row, claim
        self.index, self.seq, self.pen = 0, 0, Pen(row.id, claim.attempt)

    @property
    def text(self) -> str:
        return self.pen.answer.content

    async def log(self, *logged: Any, covered: int = 0) -> None:
        for event in logged:
            self.pen.take(event)
        appended = await self.web.log.append(self.claim, self.index, covered, list(logged))
        self.index, self.seq = self.index + 1, appended.last_seq

    async def say(self, text: str, *, saved: bool = False) -> None:
        """`saved`: the row holds all before it, so the log may drop that."""
        if saved:
            await self.save()
        await self.log(self.pen.text(text), covered=self.seq if saved else 0)

    async def think(self, text: str) -> None:
        await self.log(self.pen.reasoning(text))

    async def save(self) -> None:
        await self.web.store.checkpoint([self.pen.checkpoint(self.claim.epoch, self.seq)])

    async def finish(self) -> None:
        ending = self.pen.ending(self.claim.epoch, self.seq)
        assert await self.web.store.finish(ending)
        await closing.append_end(self.web.store, self.web.log, self.claim, self.index, ending)


async def working(web: Web, chat: str) -> Worker:
    """Claims the waiting answer of the chat."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = await web.store.find_chat("local", chat)
            rows = await web.store.unfinished(found.id) if found is not None else []
            if rows:
                break
            await asyncio.sleep(0.01)
    claim = await web.log.claim(rows[0].conversation_id, rows[0].id, rows[0].attempt, 60.0)
    row = await web.store.begin_attempt(rows[0].id, claim.attempt, "demo")
    assert row is not None
    worker = Worker(web, row, claim)
    await worker.log(events.Start(row.id, claim.attempt, "demo"))
    return worker


def body(chat: str, text: str = "hi", **changes: Any) -> dict[str, Any]:
    message = {"id": f"m-{text}", "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": chat, "trigger": "submit-message", "messages": [message]} | changes


@contextlib.asynccontextmanager
async def posted(web: Web, sent: dict[str, Any], profile: str = "v5") -> AsyncIterator[Stream]:
    async with web.client.stream(
        "POST", "/api/chat", json=sent, params={"profile": profile}
    ) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


@contextlib.asynccontextmanager
async def resumed(
    web: Web, chat: str, after: str | None = None, profile: str = "v5", **query: str
) -> AsyncIterator[Stream]:
    headers = {} if after is None else {"Last-Event-ID": after}
    params = {"profile": profile, **query}
    async with web.client.stream(
        "GET", f"/api/chat/{chat}/stream", headers=headers, params=params
    ) as response:
        assert response.status_code == 200, await response.aread()
        yield Stream(response)


async def test_a_post_is_answered_and_can_be_resumed_anywhere(web: Web) -> None:
    """From the id of every chunk, while streaming, after a save and just after the end: the same
    message.
    """
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await worker.think("hm")
        await worker.say("Hel")
        await worker.save()
        await worker.log(worker.pen.part("source", url="https://example.com", title="E", at=3))
        await worker.say("lo 🦉")
        await stream.until("text-delta", 2)
        seen, places = stream.chunks[:], [stream.id]
        async with resumed(web, "c", after=stream.id) as tail:
            await worker.say("!")
            await worker.finish()
            assert Client().read(seen + await tail.rest()).text() == "Hello 🦉!"
            assert tail.done
        await stream.rest()
    assert Client().read(stream.chunks).text() == "Hello 🦉!"
    assert stream.done
    places.append(stream.id)
    async with resumed(web, "c", after=places[0]) as late:
        assert [chunk["type"] for chunk in await late.rest()] == [
            "text-delta",
            "text-end",
            "finish-step",
            "finish",
        ]
    async with resumed(web, "c", after=places[1]) as over:
        assert (await over.rest(), over.done) == ([], True)
    assert (await web.client.get("/api/chat/c/stream")).status_code == 204


async def test_a_client_says_what_it_shows(web: Web) -> None:
    """The answer ended between its request for the messages and its resuming: it is sent whole, to
    a client that shows only what stands before it.
    """
    async with posted(web, body("c", "first")) as stream:
        worker = await working(web, "c")
        await worker.say("One.")
        await worker.finish()
        await stream.rest()
    async with posted(web, body("c", "second")) as stream:
        worker = await working(web, "c")
        async with resumed(web, "c", lastMessageId="m-second") as running:
            await worker.say("Two.")
            await worker.finish()
            assert Client().read(await running.rest()).text() == "Two."
        await stream.rest()
    answers = (await web.client.get("/api/chat/c/messages")).json()["messages"][1::2]
    for shown in ("m-second", answers[0]["id"], "m-first", ""):
        async with resumed(web, "c", lastMessageId=shown) as again:
            chunks = await again.rest()
        assert chunks[0]["messageId"] == answers[1]["id"], shown
        assert Client().read(chunks).text() == "Two."
    for shown in (answers[1]["id"], "nobody's", None):
        asked = {} if shown is None else {"lastMessageId": shown}
        assert (await web.client.get("/api/chat/c/stream", params=asked)).status_code == 204
    refused = await web.client.get("/api/chat/c/stream", params={"lastMessageId": "x" * 256})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")


async def test_impossible_cursors(tmp_path: Path) -> None:
    """Of another epoch, beyond the end, trimmed, of no answer: 409, and the whole answer can still
    be read.
    """
    log = MemoryLog(Limits(max_events=100, max_bytes=10**9, max_seconds=3600))
    async with serving(tmp_path, log, MemoryPubSub(log)) as web, posted(web, body("c")):
        worker = await working(web, "c")
        await worker.say("a")
        early = f"{worker.claim.epoch}:{worker.seq}"
        for place in (
            "zzzz:1",
            f"{worker.claim.epoch}:9999",
            f"{worker.claim.epoch}:0",
            f"{worker.claim.epoch}:1",
        ):
            answer = await web.client.get("/api/chat/c/stream", headers={"Last-Event-ID": place})
            assert (answer.status_code, answer.json()["code"]) == (409, "cursor_lost"), place
        for number in range(500):
            await worker.say("b", saved=number > 250)
        page = await web.log.read(worker.claim.conversation_id, None, 0, 0)
        assert page.oldest > int(early.partition(":")[2])
        assert (
            await web.client.get("/api/chat/c/stream", headers={"Last-Event-ID": early})
        ).status_code == 409
        async with resumed(web, "c") as whole:
            await worker.finish()
            assert Client().read(await whole.rest()).text() == worker.text


async def lose_log(web: Web, worker: Worker) -> None:
    """The log begins again, and the worker restores its answer there."""
    assert isinstance(web.log, MemoryLog)
    web.log.restart(lose_data=True)
    known = Known(held_of(worker.text, message_id=worker.row.id), worker.claim.epoch)
    worker.claim, held = await restore(web.log, worker.claim, known, 60.0)
    worker.index, worker.seq = 0, held.seq


async def test_a_new_epoch_while_streaming(web: Web) -> None:
    """The log begins again: the visible text stays, and the rest follows."""
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await worker.say("Hello")
        await worker.save()
        await stream.until("text-delta")
        await lose_log(web, worker)
        await worker.say(" world")
        await worker.finish()
        client = Client().read(await stream.rest())
    assert client.text() == "Hello world"
    assert stream.done


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), LogUnavailable("away")], ids=["database", "Redis"]
)
async def test_an_outage_during_a_second_read_is_waited_for(
    web: Web, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A failover of Redis makes streams read their rows: the database is retried, and the stream
    continues.
    """
    monkeypatch.setattr(watching, "WATCH_RETRY_SECONDS", 0.05)
    failures, message = [error] * 3, web.store.message
    asked: list[float] = []

    async def failing(message_id: str) -> Message | None:
        if failures:
            asked.append(asyncio.get_running_loop().time())
            raise failures.pop()
        return await message(message_id)

    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await worker.say("Hello")
        await stream.until("text-delta")
        monkeypatch.setattr(web.store, "message", failing)
        await lose_log(web, worker)
        await worker.say(" world")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while failures:
                await asyncio.sleep(0.01)
        await worker.finish()
        client = Client().read(await stream.rest())
    assert (client.text(), stream.done) == ("Hello world", True)
    assert all(later - earlier > 0.04 for earlier, later in pairwise(asked))


async def test_a_client_that_leaves_stops_nothing(web: Web) -> None:
    """Its slot is released, and the answer is completed."""
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await stream.until("start")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while web.streams:
            await asyncio.sleep(0.01)
    await worker.say("alone")
    await worker.finish()
    [_, answer] = (await web.client.get("/api/chat/c/messages")).json()["messages"]
    assert (answer["id"], answer["parts"][-1]["text"]) == (worker.row.id, "alone")


async def test_a_deleted_conversation_is_an_error(web: Web) -> None:
    """The client shows it."""
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await worker.say("Hel")
        await stream.until("text-delta")
        await web.client.delete(f"/api/conversations/{worker.row.conversation_id}")
        assert (await stream.rest())[-1] == {
            "type": "error",
            "errorText": "The conversation was deleted.",
        }


async def test_a_stopping_server_breaks_the_connection(web: Web) -> None:
    """An orderly end would look like the end of the answer."""
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        await worker.say("Hel")
        await stream.until("text-delta")
        leaving = asyncio.create_task(web.leave())
        with pytest.raises(httpx.RemoteProtocolError):
            await stream.rest()
        assert not stream.done
        await leaving


@pytest.mark.parametrize("profile", ["v5", "v6", "v7"])
async def test_hostile_tool_inputs(web: Web, profile: str) -> None:
    """Keys that the client's parser refuses are renamed, in the stream and in the stored
    message.
    """
    hostile = {"__proto__": {"x": 1}, "constructor": {"prototype": 1}, "deep": {"__proto__": None}}
    async with posted(web, body("c"), profile) as stream:
        worker = await working(web, "c")
        call = {"id": "call", "name": "look", "input": json.dumps(hostile)}
        await worker.log(worker.pen.part("tool_call", **call, state="done", result=[hostile]))
        chunks = await stream.until("tool-output-available")
        assert '"__proto__"' not in json.dumps(chunks)
        assert {chunk["type"]: chunk.get("input") for chunk in chunks}["tool-input-available"][
            "___proto__"
        ] == {"x": 1}
        await worker.finish()
        await stream.rest()


async def test_an_input_with_half_a_character(web: Web) -> None:
    """The stream and the stored message have the same value. The conversation stays readable."""
    async with posted(web, body("c")) as stream:
        worker = await working(web, "c")
        call = {"id": "call", "name": "look", "input": r'{"k": "a\ud800\u0000"}'}
        proven = {"state": "proposed", "runs_at": "server"}
        await worker.log(worker.pen.part("tool_call", **call, **proven))
        live = (await stream.until("tool-input-available"))[-1]["input"]
        await worker.finish()
        await stream.rest()
    shown = await web.client.get("/api/chat/c/messages")
    assert shown.status_code == 200
    part = shown.json()["messages"][-1]["parts"][-1]
    assert part["input"] == live == {"k": "a\ufffd\ufffd"}


async def test_a_long_history(web: Web) -> None:
    """10,000 messages: only the last one counts, the others come from the store, and too long
    bodies are refused.
    """
    parts = [{"type": "strange", "text": "x" * 300}]
    old = [
        {"id": f"m{number}", "role": "user" if number % 2 else "assistant", "parts": parts}
        for number in range(10_000)
    ]
    sent = body("c")
    sent["messages"] = old + sent["messages"]
    async with posted(web, sent) as stream:
        worker = await working(web, "c")
        await worker.say("short")
        await worker.finish()
        await stream.rest()
    shown = (await web.client.get("/api/chat/c/messages")).json()["messages"]
    assert [message["role"] for message in shown] == ["user", "assistant"]


async def test_a_queue_of_posts(web: Web) -> None:
    """Two tabs post: each gets its own answer, one after the other; `resume` gives the one being
    written.
    """
    async with posted(web, body("c", "one")) as one:
        first = await working(web, "c")
        async with posted(web, body("c", "two")) as two, resumed(web, "c") as running:
            await first.say("1")
            await first.finish()
            assert Client().read(await one.rest()).text() == "1"
            assert Client().read(await running.rest()).text() == "1"
            second = await working(web, "c")
            await second.say("2")
            await second.finish()
            assert Client().read(await two.rest()).text() == "2"
