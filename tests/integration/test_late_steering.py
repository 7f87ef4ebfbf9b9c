"""A post over HTTP that steers an answer which ends at this moment, on both databases: whichever
comes first, its message is answered once.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.integration.attempt.test_calls import Turns, World, calls, says
from tests.integration.attempt.test_steering import sent
from tests.integration.worker_rig import NoJobs, runner_over, services_over
from tests.unit.web.conftest import settings
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import parse
from tokenwire.streams.log.memory import MemoryPubSub
from tokenwire.tools import tool
from tokenwire.web.app import create_app


class Jobs(NoJobs):
    """A queue whose workers begin each job at once."""

    def __init__(self) -> None:
        super().__init__()
        self.runner: Any = None
        self.tasks: list[asyncio.Task[None]] = []

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        await super().generate(message_id, delay_ms)
        self.tasks.append(asyncio.create_task(self.runner.generate(message_id)))

    async def idle(self) -> None:
        while left := [task for task in self.tasks if not task.done()]:
            await asyncio.gather(*left)


class Site(World):
    """A web process and a worker, which share the queue."""

    def open(self, provider: Turns) -> None:
        self.jobs: Any = Jobs()
        services = services_over(self.store, self.log, self.jobs)
        self.jobs.runner = runner_over(replace(services, toolbox=self.toolbox()), provider)
        catalogue = parse({"default": "m", "models": {"m": {"provider": "demo"}}}, {})
        app = create_app(
            settings(), self.store, self.log, MemoryPubSub(self.log), self.jobs, catalogue
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://chat.example:8000")

    async def asks(self, conversation_id: str, content: str) -> dict[str, Any]:
        path = f"/api/conversations/{conversation_id}/messages"
        body = {"content": content, "while_running": "steer"}
        posted = await self.client.post(path, json=body)
        assert posted.status_code == 202, posted.text
        return dict(posted.json())


@pytest.fixture
async def site(store: Store) -> AsyncIterator[Site]:
    site = Site(store)

    @tool
    def work() -> str:
        """Work."""
        return "worked"

    site.offers(work)
    yield site
    await site.client.aclose()
    for box in site.boxes:
        await box.aclose()


MOMENTS = [
    ("steering_behind", False),
    ("steering_behind", True),
    ("finish", False),
    ("finish", True),
    ("terminal_announced", False),
    ("terminal_announced", True),
    ("next_queued", False),
    ("next_queued", True),
]
"""A function of the store that an answer calls at its last step and at its end, and whether the
post comes behind it: what steers is read for the last time, the end is stored, was appended, the
next answer is looked for.
"""


@pytest.mark.sampled(5)
@pytest.mark.parametrize(("name", "behind"), MOMENTS)
async def test_a_post_that_comes_with_the_end(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, behind: bool
) -> None:
    """Before the last step the answer takes it in. After that it has an answer of its own, once."""
    provider = Turns(calls(("work", "{}")), says("Done."), says("Here."))
    site.open(provider)
    conversation = (await site.client.post("/api/conversations")).json()["id"]
    posted, real = list[dict[str, Any]](), getattr(site.store, name)

    async def meanwhile(*arguments: Any) -> Any:
        found = await real(*arguments) if behind else None
        if not posted:
            posted.append({})
            posted[0] |= await site.asks(conversation, "And?")
        return found if behind else await real(*arguments)

    monkeypatch.setattr(site.store, name, meanwhile)
    first = (await site.asks(conversation, "hi"))["assistant_message"]["id"]
    await site.jobs.idle()
    own, user = (posted[0][role]["id"] for role in ("assistant_message", "user_message"))
    shown = (await site.client.get(f"/api/conversations/{conversation}")).json()["messages"]
    answers = {row["id"]: row["content"] for row in shown if row["role"] == "assistant"}
    steps = [part for row in shown for part in row["parts"] or () if part["type"] == "step"]
    if (name, behind) == MOMENTS[0]:
        assert answers == {first: "Done."}
        assert [step["message_ids"] for step in steps] == [[user]]
        assert len(provider.asked) == 2
    else:
        assert answers == {first: "Done.", own: "Here."}
        assert not any("message_ids" in step for step in steps)
        assert [text for role, text in sent(provider.asked[2]) if role == "user"] == ["hi", "And?"]
        assert len(provider.asked) == 3
    assert {row["status"] for row in shown} == {"complete"}
