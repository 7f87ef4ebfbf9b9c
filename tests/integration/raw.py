"""Connections that send exactly the bytes of a test, which no library would send."""

import asyncio
import base64
import contextlib
import os
from collections.abc import AsyncIterator

from tests.listening import closing


class Raw:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send all of it, or as much as the server accepts."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> str:
        """The head of the next answer."""
        async with asyncio.timeout(20):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self) -> tuple[str, bytes]:
        """Head and body of the next answer, which has a Content-Length."""
        head = await self.head()
        length = next(
            int(line.split(":")[1])
            for line in head.lower().split("\r\n")
            if line.startswith("content-length:")
        )
        async with asyncio.timeout(20):
            return head, await self.reader.readexactly(length)

    async def closed_within(self, seconds: float) -> bool:
        """Whether the server closes in time; its output meanwhile is dropped."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(65536):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


@contextlib.asynccontextmanager
async def raw(port: int) -> AsyncIterator[Raw]:
    """A new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with closing(writer):
        yield Raw(reader, writer)


def request(
    method: str, path: str, *headers: str, body: bytes = b"", length: int | None = None
) -> bytes:
    """A request; `length`: the announced length, if it differs from the real one."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body or length is not None:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def handshake(path: str, *headers: str) -> bytes:
    """Of a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    return request(
        "GET",
        path,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *headers,
    )


def fragment(data: bytes, *, first: bool, last: bool = False) -> bytes:
    """A piece of a text message, masked with zeros."""
    head = bytes([(0x80 if last else 0) | (1 if first else 0), 0x80 | 127]) + len(data).to_bytes(
        8, "big"
    )
    return head + bytes(4) + data


def ping() -> bytes:
    """A ping without a payload."""
    return b"\x89\x80" + bytes(4)
