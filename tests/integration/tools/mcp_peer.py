"""A scripted MCP server over HTTP, which may lie in every word."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.integration.providers.wire import Exchange, Server, serving
from tests.waiting import until
from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.context import ToolContext
from tokenwire.worker.tools.mcp.server import McpServer

Answer = Callable[[Exchange, Mapping[str, Any]], Awaitable[None]]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
CONTEXT = ToolContext("0e3c-key", "ann", "conversation", "message", 2)


def listed(*names: str, **more: Any) -> list[dict[str, Any]]:
    """Entries of a list of tools."""
    return [
        {"name": name, "description": "Do it.", "inputSchema": SCHEMA, **more} for name in names
    ]


def told(value: Any) -> Answer:
    """An answer with this result."""

    async def answer(exchange: Exchange, message: Mapping[str, Any]) -> None:
        await reply(exchange, {"jsonrpc": "2.0", "id": message["id"], "result": value})

    return answer


def text(words: str) -> Answer:
    """A result of a call."""
    return told({"content": [{"type": "text", "text": words}]})


def failed(code: int, words: str, status: int = 200) -> Answer:
    """An answer with this error."""

    async def answer(exchange: Exchange, message: Mapping[str, Any]) -> None:
        error = {"code": code, "message": words}
        await reply(exchange, {"jsonrpc": "2.0", "id": message["id"], "error": error}, status)

    return answer


def raw(data: bytes, status: int = 200, kind: str = "application/json", **more: str) -> Answer:
    """An answer with these bytes."""

    async def answer(exchange: Exchange, _message: Mapping[str, Any]) -> None:
        await exchange.head(status, kind, **more)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), 1 << 20):
                await exchange.send(data[start : start + (1 << 20)])
            await exchange.end()

    return answer


async def cut(exchange: Exchange, _message: Mapping[str, Any]) -> None:
    """Reset the connection behind the request."""
    exchange.cut()


async def hang(exchange: Exchange, _message: Mapping[str, Any]) -> None:
    """Say nothing until the client leaves."""
    await exchange.left(60)


async def reply(exchange: Exchange, message: Any, status: int = 200) -> None:
    """One JSON answer."""
    await exchange.whole(json.dumps(message).encode(), status, "application/json")


@dataclass
class Peer:
    """What it answers, by method; and what it got."""

    tools: Any = field(default_factory=lambda: listed("a", "b"))
    answers: dict[str, Answer] = field(default_factory=dict)
    got: list[dict[str, Any]] = field(default_factory=list)
    sessions: int = 0

    def of(self, method: str) -> list[dict[str, Any]]:
        """The messages of this method so far."""
        return [each for each in self.got if each.get("method") == method]

    async def script(self, exchange: Exchange) -> None:
        """Answer one request."""
        if exchange.call.method != "POST":
            return await exchange.whole(b"-", 405, "text/plain")
        message = json.loads(exchange.call.body)
        self.got.append({**message, "headers": exchange.call.headers})
        if (answer := self.answers.get(message.get("method", ""))) is not None:
            return await answer(exchange, message)
        match message.get("method"):
            case "initialize":
                self.sessions += 1
                await told(
                    {
                        "protocolVersion": "2025-11-25",
                        "capabilities": {"tools": {"listChanged": True}},
                        "serverInfo": {"name": "peer", "version": "1"},
                    }
                )(exchange, message)
            case "tools/list":
                await told({"tools": self.tools})(exchange, message)
            case "tools/call":
                await text("done")(exchange, message)
            case _:
                await exchange.whole(b"-", 202, "text/plain")
        return None


@asynccontextmanager
async def kept(
    peer: Peer, path: str = "/mcp", secrets: Sequence[str] = (), **more: Any
) -> AsyncIterator[tuple[McpServer, Server]]:
    """The source of the peer's tools, once it has been tried."""
    async with (
        serving(peer.script) as http,
        running(McpSpec(name="x", url=f"{http.url}{path}", **more), secrets) as server,
    ):
        yield server, http


@asynccontextmanager
async def running(spec: McpSpec, secrets: Sequence[str] = ()) -> AsyncIterator[McpServer]:
    """The source, once it has been tried."""
    server = McpServer(spec, secrets)
    task = asyncio.create_task(server.run())
    try:
        await until(lambda: server.tried)
        yield server
    finally:
        while not task.done():  # a session that breaks at this moment may take the cancellation
            task.cancel()
            await asyncio.wait({task}, timeout=0.5)


async def call(server: McpServer, name: str = "x_a", **arguments: Any) -> Any:
    """One call, in a task of its own, as the executor makes it. Raises ToolError and
    UnknownEffect.
    """
    tool = server.tools[name]
    given = tool.reader.read(json.dumps(arguments))
    return await asyncio.create_task(tool.function(context=CONTEXT, **given))
