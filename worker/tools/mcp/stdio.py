"""An MCP server that this process starts, and that speaks over its stdin and stdout.

Guarantees: of a line at most MESSAGE_BYTES are read, then the server is ended. It gets the path and
the like from our environment, and no secret that the catalogue does not name. What it writes to
stderr is logged, the first MAX_LINES lines of it. It ends with its group: it is asked, then killed.

Rejected: `stdio_client` of the package `mcp`, which collects a line of any length.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.streams.memory import MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from tokenwire.config.logs import redact
from tokenwire.protocol.text import storable
from tokenwire.providers.spec import McpSpec
from tokenwire.worker.tools.mcp.gate import MESSAGE_BYTES, Streams, throttle

log_line = structlog.get_logger(__name__)

END_SECONDS = 0.3
"""How long it may take to end by itself, and after SIGTERM."""
CHECK_SECONDS = 0.01
UNREAD_BYTES = 1024 * 1024
"""What waits for a server that does not read. With more, it counts as dead."""
MAX_LINES = 50
_LINE_CHARS = 500
_Inbound = SessionMessage | Exception


@asynccontextmanager
async def started(spec: McpSpec) -> AsyncIterator[Streams]:
    """The streams of a session with a new process of this server."""
    process = await asyncio.create_subprocess_exec(
        str(spec.command),
        *spec.args,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=get_default_environment() | dict(spec.env),
        start_new_session=True,
        limit=MESSAGE_BYTES,
    )
    send, receive = anyio.create_memory_object_stream[_Inbound](0)
    reading = [
        asyncio.create_task(_read(process, send)),
        asyncio.create_task(_log(process, spec.name)),
    ]
    try:
        yield receive, _Stdin(process)
    finally:
        await _end(process)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        send.close()
        receive.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 -- as below


async def _read(
    process: asyncio.subprocess.Process, send: MemoryObjectSendStream[_Inbound]
) -> None:
    """Pass on each line until the process ends, or writes too long a line."""
    stdout = process.stdout
    with contextlib.suppress(anyio.BrokenResourceError, ValueError, OSError):
        while stdout is not None and (line := await stdout.readline()):
            await send.send(_parsed(line))
            await throttle(len(line))
    send.close()


def _parsed(line: bytes) -> _Inbound:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _log(process: asyncio.subprocess.Process, name: str) -> None:
    stderr, lines = process.stderr, 0
    with contextlib.suppress(ValueError, OSError):
        while stderr is not None and (line := await stderr.readline()):
            lines += 1
            if lines <= MAX_LINES:
                text = redact(storable(line.decode(errors="replace")))[:_LINE_CHARS].rstrip()
                log_line.info("an MCP server wrote", server=name, text=text)
            await throttle(len(line))


class _Stdin:
    """Writes messages to the process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def send(self, item: SessionMessage, /) -> None:
        """Write one line. Raises anyio.BrokenResourceError."""
        stdin = self._process.stdin
        if (
            stdin is None
            or stdin.is_closing()
            or self._process.returncode is not None
            or stdin.transport.get_write_buffer_size() > UNREAD_BYTES
        ):
            raise anyio.BrokenResourceError
        text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
        stdin.write(text.encode() + b"\n")
        # A pipe that breaks from here on may have brought the line.
        with contextlib.suppress(OSError):
            await stdin.drain()

    async def aclose(self) -> None:
        """The process is asked to end when the session ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process and its group."""
    if process.stdin is not None:
        process.stdin.close()
    for number in (None, signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number is not None:
                os.killpg(process.pid, number)
        if await _has_ended(process):
            return


async def _has_ended(process: asyncio.subprocess.Process) -> bool:
    """Whether it ends soon. `process.wait()` would also wait for whoever inherited its pipes."""
    for _ in range(int(END_SECONDS / CHECK_SECONDS)):
        if process.returncode is not None:
            return True
        await asyncio.sleep(CHECK_SECONDS)
    return process.returncode is not None
