"""Tools of an MCP server in an answer: a person is asked first, and a call is sent once."""

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.attempt.test_calls import TERMS, Turns, World, calls, says
from tests.integration.worker_rig import runner_over, services_over
from tests.waiting import until
from tokenwire.config.settings import ROOT
from tokenwire.models.call_states import Decision
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.mcp.server import McpServer
from tokenwire.worker.tools.toolbox import Toolbox


class Shopping(World):
    """An answer whose tools are those of a real server."""

    runs: Path
    box: Toolbox

    async def opens(self, folder: Path, **more: Any) -> None:
        self.runs = folder / "runs"
        args = ["-m", "tests.servers.mcp_tools", str(self.runs)]
        env = {"PYTHONPATH": str(ROOT)}
        spec = McpSpec(name="shop", command=sys.executable, args=args, env=env, **more)
        self.box = Toolbox({}, TERMS, [McpServer(spec)])
        self.boxes.append(self.box)
        await self.box.open()
        await until(lambda: self.box.tools)

    async def asks(self, provider: Turns, row: Message) -> Message:
        services = replace(services_over(self.store, self.log, self.jobs), toolbox=self.box)
        await runner_over(services, provider).generate(row.id)
        return await self.row(row)

    @property
    def ran(self) -> list[str]:
        """The tools that ran, in order."""
        lines = self.runs.read_text().splitlines() if self.runs.exists() else []
        return [json.loads(line)[0] for line in lines]


@pytest.fixture
async def shop(sqlite_store: Store) -> AsyncIterator[Shopping]:
    world = Shopping(sqlite_store)
    yield world
    for box in world.boxes:
        await box.aclose()


async def test_a_person_allows_its_calls(shop: Shopping, tmp_path: Path) -> None:
    """Although the server says of this tool that it only reads."""
    await shop.opens(tmp_path)
    row = await shop.posts()
    provider = Turns(calls(("shop_order", '{"item": "tea"}')), says("Ordered."))
    waiting = await shop.asks(provider, row)
    assert (waiting.status, shop.ran) == ("waiting", [])
    [call] = await shop.calls(row)
    assert (call.state, call.repeatable) == ("awaiting_approval", False)
    await shop.store.decide(row.id, call.number, "me", Decision("approve"))
    ended = await shop.asks(provider, row)
    assert (ended.status, ended.content, shop.ran) == ("complete", "Ordered.", ["order"])
    [call] = await shop.calls(row)
    assert (call.state, call.result) == ("done", {"item": "tea", "status": "sent"})


async def test_a_server_that_is_killed_in_a_call(shop: Shopping, tmp_path: Path) -> None:
    """A person is asked. Only a tool that the catalogue declares safe to repeat runs again."""
    await shop.opens(tmp_path, approve=False)
    row = await shop.posts()
    provider = Turns(calls(("shop_die", "{}")), says("Nobody knows."))
    waiting = await shop.asks(provider, row)
    [call] = await shop.calls(row)
    assert (waiting.status, call.state, shop.ran) == ("waiting", "awaiting_outcome", ["die"])
    await shop.store.decide(row.id, call.number, "me", Decision("go_on"))
    ended = await shop.asks(provider, row)
    assert (ended.status, shop.ran) == ("complete", ["die"])
