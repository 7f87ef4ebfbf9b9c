"""An answer with everything through all processes, PostgreSQL and a real log: to readers of each
dialect live, from the log and from the row, and back to its provider. Workers are killed meanwhile.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import redis
import yaml
from aiohttp import web
from openai import AsyncOpenAI

from tests.databases import Postgres
from tests.e2e.reader import acall
from tests.e2e.stack import Stack, running_stack
from tests.everything import IMAGE, ITEMS, KINDS, WORDS, Player, turn
from tests.servers.service import free_port
from tests.unit.providers.bodies import ANTHROPIC, RESPONSES
from tests.unit.web.aisdk.client import Client as UIClient
from tests.unit.web.openai.client import Client as ResponsesClient
from tests.unit.web.openai.client import blocks
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer

PACE_SECONDS = 0.02
HOLDS = {ANTHROPIC: (2, 19, 27), RESPONSES: (2, 8, 15)}
"""Frames before which workers are killed: of the reasoning, of the cited text, behind the image."""
PORT = free_port()
CATALOGUE = {
    "default": ANTHROPIC,
    "models": {
        ANTHROPIC: {
            "provider": "anthropic",
            "base_url": f"http://127.0.0.1:{PORT}/v1",
            "api_key": "k",
            "model": "c",
            "continuation": "restart",
        },
        RESPONSES: {
            "provider": "openai_responses",
            "base_url": f"http://127.0.0.1:{PORT}/v1",
            "api_key": "k",
            "model": "c",
            "continuation": "attach",
            "options": {"background": True},
        },
    },
}


@dataclass
class Provider:
    """Both providers. The answer waits at the frames `holds` until `go`, each time once."""

    players: dict[str, Player] = field(default_factory=lambda: {api: Player(api) for api in ITEMS})
    holds: list[int] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """The frames of the answer, slowly."""
        player = self.players[ANTHROPIC if request.path.endswith("messages") else RESPONSES]
        frames = player.answer(request.method, str(request.url), await request.read())
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number, data in enumerate(frames, player.length - len(frames)):
            if number in self.holds:
                self.holds.remove(number)
                self.held.set()
                await self.go.wait()
            await response.write(data)
            await asyncio.sleep(PACE_SECONDS)
        return response

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Provider"]:
        """On PORT."""
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/v1/{rest:.*}", self.answer)
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", PORT).start()
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_server: Postgres) -> Iterator[Stack]:
    """On PostgreSQL, with both models."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(yaml.safe_dump(CATALOGUE))
    postgres_server.execute("CREATE DATABASE whole_answer")
    url = postgres_server.database("whole_answer")
    with running_stack(folder, DATABASE_URL=url, MODELS_FILE=str(folder / "models.yml")) as running:
        yield running


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider().serving() as running:
        yield running


@dataclass
class Told:
    """What one reader of each dialect got of an answer."""

    message: UIClient
    responses: list[dict[str, Any]]

    @property
    def final(self) -> dict[str, Any]:
        """The last Response, without the ids of its items: withdrawn ones have used some."""
        found = ResponsesClient().read(self.responses).final
        assert found is not None
        return found | {"output": [{**item, "id": ""} for item in found["output"]]}

    @property
    def shown(self) -> list[Any]:
        """The parts of the UI message; a call that was withdrawn stays where it was."""
        parts = [part for part in self.message.counted() if part["type"] != "step-start"]
        calls = [part for part in parts if part["type"] == "tool"]
        return [part for part in parts if part["type"] not in ("tool", "data-reset")] + calls


class Asked:
    """A question, and everybody who reads the answer."""

    def __init__(
        self, stack: Stack, api: str, posted: dict[str, Any], client: httpx.AsyncClient
    ) -> None:
        self.stack, self.api, self.posted, self.client = stack, api, posted, client
        self.message_id = posted["assistant_message"]["id"]
        self.conversation_id = posted["user_message"]["conversation_id"]

    @classmethod
    @asynccontextmanager
    async def of(cls, stack: Stack, api: str) -> AsyncIterator["Asked"]:
        """Post the question. The conversation has a title: no model is asked for one."""
        wanted = {"model": api, "title": "A title"}
        _, conversation = await acall(stack.url, "POST", "/api/conversations", wanted)
        path = f"/api/conversations/{conversation['id']}/messages"
        _, posted = await acall(stack.url, "POST", path, {"content": "Tell me"})
        async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
            yield cls(stack, api, posted, client)

    async def row(self) -> dict[str, Any]:
        """The row of the answer."""
        path = f"/api/conversations/{self.conversation_id}"
        _, page = await acall(self.stack.url, "GET", path)
        return next(row for row in page["messages"] if row["id"] == self.message_id)

    async def native(self) -> Answer:
        """The answer as its events tell it, from the first one on."""
        path = f"/api/messages/{self.message_id}/events?after={self.posted['cursor']}"
        answer = Answer(self.message_id)
        async with self.client.stream("GET", path) as response:
            async for line in response.aiter_lines():
                if not line.startswith("data: "):
                    continue
                event = events.event_in(line.removeprefix("data: ").encode())
                if event is not None and getattr(event, "message_id", None) == self.message_id:
                    answer.apply(event)
                    if answer.ended:
                        return answer
        raise AssertionError("no end")

    async def live(self) -> Told:
        """What readers get who came while it was written."""
        chat = self.client.get(f"/api/chat/{self.conversation_id}/stream")
        return await self._told(chat)

    async def again(self) -> Told:
        """What readers get who come now."""
        parts = [{"type": "text", "text": "Tell me"}]
        message = {"id": self.posted["user_message"]["id"], "role": "user", "parts": parts}
        body = {"id": self.conversation_id, "message": message, "model": self.api}
        return await self._told(self.client.post("/api/chat", json=body))

    async def _told(self, chat: Awaitable[httpx.Response]) -> Told:
        path = f"/v1/responses/resp_{self.message_id}?stream=true"
        ours, theirs = await asyncio.gather(chat, self.client.get(path))
        assert (ours.status_code, theirs.status_code) == (200, 200)
        blocks_of_chat = [line[6:] for line in ours.text.split("\n") if line.startswith("data: {")]
        message = UIClient().read(map(json.loads, blocks_of_chat))
        assert message.over is not None
        kept = [block for block in theirs.text.split("\n\n") if not block.startswith(":")]
        return Told(message, blocks("\n\n".join(kept).encode()))

    async def check(self, live: Told, native: Answer, provider: Provider) -> None:
        """Row, log and each dialect agree; the provider gets back what it said."""
        row = await self.row()
        assert (row["status"], row["finish_reason"]) == ("complete", "tool_calls")
        assert [part["type"] for part in row["parts"]] == KINDS[self.api].split()
        assert native.layout() == row["parts"]
        assert (native.content, native.reasoning) == (row["content"], row["reasoning"])
        assert WORDS in row["content"]
        again = await self.again()
        with redis.Redis.from_url(self.stack.redis_url) as log:
            log.flushall()
        from_row = await self.again()
        assert live.final == again.final == from_row.final
        await self._check_picture(live)
        assert live.shown == again.shown == from_row.shown
        assert live.message.text() == row["content"]
        await self._ask_more()
        assert turn(provider.players[self.api].asked[-1], self.api) == ITEMS[self.api]

    async def _check_picture(self, live: Told) -> None:
        """OpenAI's client gets the bytes of the image, in the stream and of the Response."""
        name = f"resp_{self.message_id}"
        async with AsyncOpenAI(base_url=f"{self.stack.url}/v1", api_key="none") as client:
            found = await client.responses.retrieve(name)
            streamed = [event async for event in await client.responses.retrieve(name, stream=True)]
        items = [event.item for event in streamed if event.type == "response.output_item.done"]
        for output in (found.output, items):
            [image] = [item for item in output if item.type == "image_generation_call"]
            assert (image.status, image.result) == ("completed", IMAGE)
        assert [item["result"] for item in live.final["output"] if "result" in item] == [IMAGE]

    async def _ask_more(self) -> None:
        path = f"/api/conversations/{self.conversation_id}"
        await acall(self.stack.url, "POST", f"{path}/messages", {"content": "And now?"})
        async with asyncio.timeout(30):
            while True:
                _, page = await acall(self.stack.url, "GET", path)
                if page["messages"][-1]["content"] == "Yes.":
                    return
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("api", ITEMS)
async def test_an_answer_with_everything(stack: Stack, provider: Provider, api: str) -> None:
    """In order for all readers, live and later; the provider's next request holds all of it."""
    async with Asked.of(stack, api) as asked:
        native, live = await asyncio.gather(asked.native(), asked.live())
        await asked.check(live, native, provider)
        assert (await asked.again()).responses == live.responses, "byte for byte"


@pytest.mark.parametrize(
    ("api", "kills"),
    [
        pytest.param(api, kills, marks=() if (n, kills) == (0, 1) else pytest.mark.long)
        for n, api in enumerate(ITEMS)
        for kills in (1, 3)
    ],
)
async def test_workers_killed_in_the_middle_of_it(
    stack: Stack, provider: Provider, api: str, kills: int
) -> None:
    """SIGKILL behind the image, and before it in the reasoning and in the cited text: the same
    answer. `make test` kills one worker, in one dialect. (They die anywhere in
    tests/integration/test_whole_answers.py.)
    """
    provider.holds = list(HOLDS[api][-kills:])
    async with Asked.of(stack, api) as asked:
        readers = asyncio.gather(asked.native(), asked.live())
        for left in reversed(range(kills)):
            async with asyncio.timeout(30):
                await provider.held.wait()
            provider.held.clear()
            assert len(provider.holds) == left
            await asyncio.sleep(random.uniform(0, 1.5))  # before a checkpoint, or behind one
            for pid in stack.pids("worker"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        provider.go.set()
        native, live = await readers
        assert native.attempt == kills + 1
        await asked.check(live, native, provider)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_answer_that_is_not_stored_has_its_image(
    stack: Stack, provider: Provider, stream: bool
) -> None:
    """It is read before the answer is deleted, which is with the end of the request."""
    asked: Any = {"model": RESPONSES, "input": "Tell me", "store": False}
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", timeout=60) as client:
        if stream:
            told = [event async for event in await client.responses.create(**asked, stream=True)]
            output = told[-1].response.output
        else:
            output = (await client.responses.create(**asked)).output
    assert [item.result for item in output if item.type == "image_generation_call"] == [IMAGE]
