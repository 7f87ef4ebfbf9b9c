"""A chat with a scripted model and four tools, over real connections, with the real worker."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import httpx

from tests.integration.attempt.test_calls import TERMS, Turns
from tests.integration.serving import Web
from tests.integration.test_chat_streams import Stream
from tests.integration.worker_rig import NoJobs, services_over
from tests.unit.web.aisdk.client import Client
from tokenwire.models.tables import CallRow, Message
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.tools import tool
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models
from tokenwire.worker.tools.definition import declared
from tokenwire.worker.tools.toolbox import Toolbox

CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
PICK = {"pick": {"description": "Pick a city", "parameters": CITY}}
PAY, ADD, CHOOSE = ("pay", '{"euros": 5}'), ("add", "{}"), ("pick", '{"city": "Oslo"}')
WORK = ("work", "{}")


class Chat:
    """The chat `c` with a model that plays `turns`, and the tools `pay` (a person allows it),
    `add`, and `work`, which ends when `may_end` is set; `pick` comes with a request. `ran`: what
    the server has executed.
    """

    def __init__(self, web: Web) -> None:
        self.web, self.profile = web, "v7"
        self.ran, self.problem = list[str](), dict[str, Any]()
        self.chunks: list[dict[str, Any]] = []
        self.works, self.may_end = threading.Event(), threading.Event()
        self.box = Toolbox({each.name: each for each in self._tools()}, TERMS)
        self._tasks = set[asyncio.Task[None]]()
        web.app.state.services.jobs.generate = self._enqueue

    def _tools(self) -> list[Any]:
        @tool(approve=True)
        def pay(euros: int) -> str:
            """Pay."""
            self.ran.append(f"pay {euros}")
            return "paid"

        @tool
        def add() -> int:
            """Add."""
            self.ran.append("add")
            return 3

        @tool
        def work() -> str:
            """Work."""
            self.works.set()
            assert self.may_end.wait(20)
            return "worked"

        return [declared(each) for each in (pay, add, work)]

    def plays(self, *turns: Any) -> "Chat":
        model = ModelSpec(name="demo", provider="scripted", model="m")
        offered = Catalogue(default="demo", title_model="demo", models={"demo": model}, missing={})
        services = services_over(self.web.store, self.web.log, NoJobs())  # type: ignore[arg-type]
        services, self.turns = replace(services, toolbox=self.box), Turns(*turns)
        self.runner = Runner(services, Models(offered, lambda _spec: self.turns))
        return self

    async def _enqueue(self, message_id: str, delay_ms: int | None = None) -> None:
        assert delay_ms is None
        task = asyncio.create_task(self.runner.generate(message_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        await asyncio.gather(*self._tasks)
        await self.box.aclose()

    async def asks(self, **more: Any) -> Client:
        """A user's message; the stream up to its end."""
        sent = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
        return await self.posts(sent, **more)

    async def posts(
        self, message: dict[str, Any], client: Client | None = None, **more: Any
    ) -> Client:
        """`client`: it holds what its message says, and goes on."""
        sent = {"id": "c", "trigger": "submit-message", "messages": [message], **more}
        async with self.web.client.stream(
            "POST", "/api/chat", json=sent, params={"profile": self.profile}
        ) as response:
            return await self._read(response, client or Client())

    async def resumes(self) -> Client:
        async with self.web.client.stream(
            "GET", "/api/chat/c/stream", params={"profile": self.profile}
        ) as response:
            return await self._read(response, Client())

    async def _read(self, response: httpx.Response, client: Client) -> Client:
        self.problem = {}
        if response.status_code != 200:
            await response.aread()
            self.problem = response.json()
            return client
        stream = Stream(response)
        self.chunks = await stream.rest()
        assert stream.done
        client.over = None
        return client.read(self.chunks)

    async def answers(self, client: Client, *parts: dict[str, Any], **more: Any) -> Client:
        """The client continues the message with these parts in place of those of the same calls."""
        changed = {part["toolCallId"]: part for part in parts}
        held = [
            changed.get(part["id"], as_sent(part)) if part["type"] == "tool" else part
            for part in client.parts
        ]
        for part in client.parts:
            if part["type"] == "tool" and part["id"] in changed:
                part["state"] = changed[part["id"]]["state"]
        sent = {"id": (await self.row()).id, "role": "assistant", "parts": held}
        return await self.posts(sent, client, **more)

    async def row(self) -> Message:
        found = await self.web.store.find_chat("local", "c")
        assert found is not None
        page = await self.web.store.snapshot(found.id, "local", 50, None)
        return [row for row in page.messages if row.role == "assistant"][-1]

    async def calls(self) -> list[CallRow]:
        return await self.web.store.calls_of((await self.row()).id)

    async def states(self) -> list[str]:
        return [call.state for call in await self.calls()]

    @property
    def kinds(self) -> list[str]:
        return [chunk["type"] for chunk in self.chunks]


def as_sent(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a call as a client sends it back."""
    sent = {"type": "tool-any", "toolCallId": part["id"], "state": part["state"]}
    names = ("input", "output", "providerExecuted")
    return sent | {name: part[name] for name in names if name in part}


def allowed(call_id: str = "call_0", *, approved: bool = True, **more: Any) -> dict[str, Any]:
    approval = {"id": call_id, "approved": approved, **more.pop("approval", {})}
    part = {"type": "tool-pay", "toolCallId": call_id, "state": "approval-responded"}
    return part | {"approval": approval, "input": {"euros": 5}, **more}


def given(output: Any, call_id: str = "call_0", **more: Any) -> dict[str, Any]:
    part = {"type": "tool-pick", "toolCallId": call_id, "state": "output-available"}
    return part | {"input": {"city": "Oslo"}, "output": output, **more}
