"""A TCP proxy that delays, narrows, slices, swallows, cuts and refuses connections."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.listening import Listener, closing

_READ_BYTES = 65536


@dataclass
class Faults:
    """Faults of the server's output; they may change while connections are open. Zero, None and
    False: none.

    latency_seconds: wait before each piece. bytes_per_second: the maximum rate. slice_bytes: the
    maximum size of pieces. blackhole: keep the connection and pass nothing on in either direction.
    refuse: reset new connections. cut_after_bytes: end each connection after that many bytes of the
    server; cut_by `rst` (reset) or `fin` (a clean end).
    """

    latency_seconds: float = 0
    bytes_per_second: float = 0
    slice_bytes: int = 0
    blackhole: bool = False
    refuse: bool = False
    cut_after_bytes: int | None = None
    cut_by: str = "rst"


class FaultProxy:
    """One listening port in front of one server. `faults` applies to every piece; `connections`
    counts all so far.
    """

    def __init__(self, host: str, port: int) -> None:
        self.faults = Faults()
        self.connections = 0
        self._target = (host, port)
        self._listener: Listener | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """The port for clients."""
        if self._listener is None:
            raise RuntimeError("the proxy is not running")
        return self._listener.port

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1."""
        self._listener = Listener(self._connected, port)

    async def aclose(self) -> None:
        """Stop listening and reset open connections."""
        self.cut()
        if self._listener is not None:
            await self._listener.aclose()

    def lead_to(self, port: int) -> None:
        """Connect new clients to another local server; open connections stay with the old one, as
        after a failover.
        """
        self._target = (self._target[0], port)

    def cut(self, by: str = "rst") -> None:
        """End all open connections now."""
        for writer in list(self._open):
            _end(writer, by)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            if self.faults.refuse:
                _end(writer, "rst")
                return
            with contextlib.suppress(OSError):
                await self._relay(reader, writer)
        finally:
            self._open.discard(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        async with closing(server_writer):
            upward = asyncio.create_task(self._upward(reader, server_writer))
            try:
                await self._downward(server_reader, writer)
            finally:
                upward.cancel()
                await asyncio.wait({upward})

    async def _upward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if not self.faults.blackhole:
                    writer.write(data)
                    await writer.drain()
        writer.close()  # a client that left has left the server, too

    async def _downward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await reader.read(self.faults.slice_bytes or _READ_BYTES):
            faults = self.faults
            if faults.blackhole:
                continue
            await asyncio.sleep(
                faults.latency_seconds
                + (len(data) / faults.bytes_per_second if faults.bytes_per_second else 0)
            )
            allowed = (
                len(data) if faults.cut_after_bytes is None else faults.cut_after_bytes - passed
            )
            writer.write(data[: max(allowed, 0)])
            await writer.drain()
            passed += len(data)
            if allowed <= len(data) and faults.cut_after_bytes is not None:
                _end(writer, faults.cut_by)
                return


def _end(writer: asyncio.StreamWriter, by: str) -> None:
    """FIN after the written bytes, or RST at once."""
    if by == "fin":
        writer.close()
        return
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """A running proxy in front of `host:port`."""
    proxy = FaultProxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()
