"""A scripted HTTP server on a raw socket: exact bytes, exact cuts, and it notices when the client
leaves.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.listening import listening


@dataclass
class Call:
    """A request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """One request that the script answers."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(
        self, status: int = 200, content_type: str = "text/event-stream", **headers: str
    ) -> None:
        """Begin a chunked answer."""
        lines = [
            f"HTTP/1.1 {status} X",
            f"content-type: {content_type}",
            "transfer-encoding: chunked",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """One chunk."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def end(self) -> None:
        """The last chunk of the body."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def whole(
        self,
        data: bytes,
        status: int = 200,
        content_type: str = "text/event-stream",
        **headers: str,
    ) -> None:
        """A whole answer."""
        await self.head(status, content_type, **headers)
        await self.send(data)
        await self.end()

    def cut(self) -> None:
        """Reset the connection."""
        self.writer.transport.abort()

    async def left(self, within: float = 5.0) -> bool:
        """Whether the client closes the connection in time."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Server:
    """`script` answers each request; `calls` are the requests so far."""

    script: Script
    calls: list[Call] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the client leaves."""
        while True:
            call = await _read_call(reader)
            self.calls.append(call)
            await self.script(Exchange(call, reader, writer))


@contextlib.asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    """Run the server while the context is open."""
    server = Server(script)
    async with listening(server.answer) as listener:
        server.port = listener.port
        yield server


async def _read_call(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    method, path, _ = head.split("\r\n", 1)[0].split(" ")
    headers = {name.lower(): value for name, value in re.findall(r"(?m)^([\w-]+): (.*?)\r?$", head)}
    return Call(
        method, path, headers, await reader.readexactly(int(headers.get("content-length", 0)))
    )
