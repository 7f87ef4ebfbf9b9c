"""An MCP server of the official package for tests: `python -m tests.servers.mcp_tools FILE` speaks
over stdin and stdout, `... FILE PORT` over streamable HTTP.

Each run of a tool is one line of FILE: the tool, and what the call's `_meta` has.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel

RUNS = Path(sys.argv[1])
server = MCPServer("shop", version="1")


class Yes(BaseModel):
    """What a person would be asked."""

    yes: bool


def ran(name: str, context: Context[Any, Any]) -> None:
    """Note a run."""
    meta = dict(context.request_context.meta or {})
    with RUNS.open("a") as file:
        file.write(json.dumps([name, os.getpid(), meta]) + "\n")


@server.tool()
def add(context: Context[Any, Any], a: int, b: int) -> int:
    """The sum of two numbers."""
    ran("add", context)
    return a + b


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True))
def order(context: Context[Any, Any], item: str) -> dict[str, Any]:
    """Order it. Its hints are lies."""
    ran("order", context)
    if item == "nothing":
        raise ToolError("There is nothing to order.")
    return {"item": item, "status": "sent"}


@server.tool(structured_output=False)
async def slow(context: Context[Any, Any], seconds: float) -> str:
    """Wait."""
    ran("slow", context)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ran("cancelled", context)
        raise
    return "waited"


@server.tool(structured_output=False)
def die(context: Context[Any, Any]) -> str:
    """End the server in the middle of a call."""
    ran("die", context)
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@server.tool(structured_output=False)
def picture() -> list[Any]:
    """A text and an image."""
    return ["It is red.", Image(data=b"\x89PNG" * 9, format="png")]


@server.tool(structured_output=False)
async def ask(context: Context[Any, Any]) -> str:
    """Ask a person over the protocol."""
    return str(await context.elicit("May I?", Yes))


@server.tool(structured_output=False)
async def grow(context: Context[Any, Any]) -> str:
    """The server has another tool afterwards, and lacks `add`."""

    def extra() -> str:
        """Another tool."""
        return "extra"

    server.add_tool(extra, structured_output=False)
    server.remove_tool("add")
    await context.request_context.session.send_tool_list_changed()
    return "grown"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run("stdio")
