"""MCP servers of the official package, as processes: over stdin and stdout, and over HTTP."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.servers.service import free_port
from tests.waiting import until
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT
from tokenwire.config.terms import ToolTerms
from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools import toolbox
from tokenwire.worker.tools.callback import LOST
from tokenwire.worker.tools.context import ToolContext
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.executor import (
    LATE,
    CallDone,
    CallFailed,
    CallOutcome,
    CallUnknown,
)
from tokenwire.worker.tools.mcp import server as mcp_server
from tokenwire.worker.tools.mcp.server import McpServer
from tokenwire.worker.tools.toolbox import Toolbox

PROGRAM = ("-m", "tests.servers.mcp_tools")


@dataclass
class Shop:
    """The server, and a worker's tools."""

    spec: McpSpec
    runs_file: Path
    port: int = 0
    box: Toolbox = field(init=False)
    popen: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.box = Toolbox({}, ToolTerms(), [McpServer(self.spec)])

    @property
    def runs(self) -> list[Any]:
        """Which tools ran, in which process, with which `_meta`."""
        if not self.runs_file.exists():
            return []
        return [json.loads(line) for line in self.runs_file.read_text().splitlines()]

    async def start(self) -> None:
        """Start the server over HTTP, and wait until it listens."""
        self.popen = subprocess.Popen(  # noqa: ASYNC220 -- it does not block for long
            [sys.executable, *PROGRAM, str(self.runs_file), str(self.port)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=dying_with_us(),
        )
        await until(lambda: _listens(self.port))

    def kill(self) -> None:
        """Kill the server over HTTP."""
        if self.popen is not None:
            self.popen.kill()
            self.popen.wait()

    def tool(self, name: str) -> ServerTool:
        """A tool of the server."""
        found = self.box.tools[f"shop_{name}"]
        assert isinstance(found, ServerTool)
        return found

    async def call(self, tool: str, **arguments: Any) -> CallOutcome:
        """One call, as a worker makes it."""
        found = self.tool(tool)
        given = found.reader.read(json.dumps(arguments))
        async with self.box.executor.reserve(found, "me") as place:
            return await place.run(given, ToolContext("0e3c-key", "ann"), lambda: True)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@asynccontextmanager
async def over_stdio(folder: Path, **more: Any) -> AsyncIterator[Shop]:
    """A server that the worker starts."""
    runs = folder / "runs"
    spec = McpSpec(
        name="shop",
        command=sys.executable,
        args=[*PROGRAM, str(runs)],
        env={"PYTHONPATH": str(ROOT)},
        **more,
    )
    shop = Shop(spec, runs)
    try:
        await shop.box.open()
        await until(lambda: shop.box.tools)
        yield shop
    finally:
        await shop.box.aclose()


@asynccontextmanager
async def over_http(folder: Path, **more: Any) -> AsyncIterator[Shop]:
    """A server that has an address."""
    port = free_port()
    spec = McpSpec(name="shop", url=f"http://127.0.0.1:{port}/mcp", **more)
    shop = Shop(spec, folder / "runs", port)
    try:
        await shop.start()
        await shop.box.open()
        await until(lambda: shop.box.tools)
        yield shop
    finally:
        await shop.box.aclose()
        shop.kill()


BOTH = pytest.mark.parametrize("kind", [over_stdio, over_http])


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp_server, "CALM_SECONDS", 0.05)


@BOTH
async def test_its_tools_and_their_results(tmp_path: Path, kind: Any) -> None:
    async with kind(tmp_path) as shop:
        assert list(shop.box.tools) == [
            f"shop_{name}" for name in ("add", "order", "slow", "die", "picture", "ask", "grow")
        ]
        add = shop.tool("add")
        assert add.description == "The sum of two numbers."
        assert list(add.parameters["properties"]) == ["a", "b"]
        order = shop.tool("order")  # of which the server says: read-only, and idempotent
        assert (order.approve, order.repeatable) == (True, False)
        assert await shop.call("add", a=1, b=2) == CallDone({"result": 3})
        assert await shop.call("order", item="x") == CallDone({"item": "x", "status": "sent"})
        words = "Error executing tool order: There is nothing to order."
        assert await shop.call("order", item="nothing") == CallFailed(words)
        image = {"type": "image", "mime_type": "image/png", "bytes": 36}
        omitted = {"omitted": "Binary content is not shown."}
        assert await shop.call("picture") == CallDone(
            [{"type": "text", "text": "It is red."}, {**image, **omitted}]
        )
        assert await shop.call("ask") == CallFailed("Elicitation not supported")
        [name, _, meta] = shop.runs[0]
        assert (name, meta) == ("add", {"tokenwire/key": "0e3c-key", "tokenwire/run": 1})


@pytest.mark.sampled(1)
@BOTH
async def test_the_list_changes_while_it_runs(tmp_path: Path, kind: Any) -> None:
    async with kind(tmp_path) as shop:
        assert await shop.call("grow") == CallDone("grown")
        await until(lambda: "shop_extra" in shop.box.tools)
        assert "shop_add" not in shop.box.tools
        assert await shop.call("extra") == CallDone("extra")


@pytest.mark.sampled(1)
@BOTH
async def test_a_call_that_takes_too_long_is_cancelled(tmp_path: Path, kind: Any) -> None:
    """Its outcome is unknown; the server is told."""
    async with kind(tmp_path, seconds=0.5) as shop:
        assert await shop.call("slow", seconds=60) == CallUnknown(LATE)
        await until(lambda: [run[0] for run in shop.runs] == ["slow", "cancelled"])
        assert await shop.call("slow", seconds=0) == CallDone("waited")


async def test_a_server_that_is_killed_in_a_call(tmp_path: Path) -> None:
    """Nobody knows the outcome, and nothing is sent twice. The next call finds the new process."""
    async with over_stdio(tmp_path) as shop:
        assert await shop.call("die") == CallUnknown(LOST)
        assert await shop.call("add", a=1, b=2) == CallDone({"result": 3})
        assert [run[0] for run in shop.runs] == ["die", "add"]
        assert shop.runs[0][1] != shop.runs[1][1]


async def test_a_server_with_an_address_that_is_killed_in_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that cannot be sent waits for it for a while."""
    # A new process needs more than ten seconds on a busy machine.
    monkeypatch.setattr(mcp_server, "WAIT_SECONDS", 60.0)
    async with over_http(tmp_path) as shop:
        running = asyncio.create_task(shop.call("slow", seconds=60))
        await until(lambda: shop.runs)
        shop.kill()
        assert await running == CallUnknown(LOST)
        waiting = asyncio.create_task(shop.call("add", a=1, b=2))
        await shop.start()
        assert await waiting == CallDone({"result": 3})
        assert [run[0] for run in shop.runs] == ["slow", "add"]


async def test_a_server_that_forgot_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was restarted, unnoticed: it refuses the call, and a new session follows."""
    monkeypatch.setattr(mcp_server, "CALM_SECONDS", 30)
    async with over_http(tmp_path) as shop:
        shop.kill()
        await shop.start()
        outcome = await shop.call("add", a=1, b=2)
        assert outcome in (CallFailed(mcp_server.FORGOTTEN), CallDone({"result": 3}))
        assert await shop.call("add", a=1, b=2) == CallDone({"result": 3})


async def test_a_server_that_is_down_at_the_start(tmp_path: Path) -> None:
    """The worker starts without it. Its tools appear when it does."""
    port = free_port()
    shop = Shop(McpSpec(name="shop", url=f"http://127.0.0.1:{port}/mcp"), tmp_path / "runs", port)
    try:
        began = time.monotonic()
        await shop.box.open()
        assert time.monotonic() - began < 2
        assert shop.box.tools == {}
        await shop.start()
        await until(lambda: shop.box.tools)
        assert await shop.call("add", a=1, b=2) == CallDone({"result": 3})
    finally:
        await shop.box.aclose()
        shop.kill()


async def test_a_server_that_hangs_delays_the_start_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no part in anything, and the worker goes on without it."""
    monkeypatch.setattr(toolbox, "START_SECONDS", 0.3)
    spec = McpSpec(name="x", command=sys.executable, args=["-c", "import time; time.sleep(60)"])
    box = Toolbox({}, ToolTerms(), [McpServer(spec)])
    began = time.monotonic()
    try:
        await box.open()
        assert 0.3 <= time.monotonic() - began < 5
        assert box.tools == {}
    finally:
        await box.aclose()


async def test_its_process_ends_with_the_worker(tmp_path: Path) -> None:
    """Also if it does not heed the end of its stdin."""
    program = "import signal, sys, time, os; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    program += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    box = Toolbox(
        {},
        ToolTerms(),
        [McpServer(McpSpec(name="shop", command=sys.executable, args=["-c", program]))],
    )
    opening = asyncio.create_task(box.open())
    pid_file = tmp_path / "pid"
    await until(lambda: pid_file.exists() and pid_file.read_text())
    await box.aclose()
    await opening
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


async def test_it_gets_no_secret_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    program = f"import os; open({str(tmp_path / 'env')!r}, 'w').write(repr(sorted(os.environ)))"
    spec = McpSpec(name="x", command=sys.executable, args=["-c", program], env={"OWN": "1"})
    box = Toolbox({}, ToolTerms(), [McpServer(spec)])
    try:
        await box.open()
        file = tmp_path / "env"
        await until(lambda: file.exists() and file.read_text())
        assert "'OWN'" in file.read_text()
        assert "OPENAI_API_KEY" not in file.read_text()
    finally:
        await box.aclose()
