"""CPU per delivery of the broadcaster, beside `websockets.broadcast` and a bare asyncio server.

Two shapes: many conversations with one reader each (as in a chat service), and one conversation
with many readers. All three servers take the same messages from one Valkey through the same
subscription client, so that only the serving differs: this project's (authorised, with cursors,
bounded), the library's `broadcast`, and a server that only writes a prepared frame to a socket. The
messages are published without being logged. The run fails if a reader misses a byte. Compare ratios
within a run; microseconds depend on the machine. Readers and publisher share this process.
"""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import redis.asyncio
from websockets.asyncio.server import ServerConnection, broadcast, serve

from tests.servers.service import free_port
from tokenwire.protocol.events import Chunk, encode, stamp
from tokenwire.protocol.frames import text_frame
from tokenwire.protocol.tokens import mint
from tokenwire.streams.embedded import arguments, find_server
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.log import keys
from tokenwire.streams.log.redis import RedisLog

ROOT = Path(__file__).resolve().parent.parent
KEY = secrets.token_hex(32)
CONVERSATIONS, READERS = 2000, 1000
ROUNDS, ROUNDS_PER_SECOND = 30, 20
"""Each round is one event per conversation: 40,000 deliveries a second in the chat shape."""
MEASUREMENTS = 3
PATIENCE_SECONDS = 30.0
SERVERS = ("tokenwire", "broadcast", "bare")
NAMES = {
    "tokenwire": "Tokenwire's broadcaster",
    "broadcast": "`websockets.broadcast`",
    "bare": "bare asyncio server",
}
_READY = b'{"type":"live"}'


# --- the servers to compare with, each in a process of its own ---


class Channels:
    """One subscription client; `receive(conversation, event)` for each message."""

    def __init__(self, url: str, receive: Callable[[str, bytes], None]) -> None:
        self._feed = RedisPubSub(url)
        self._receive = receive
        self._conversations: dict[bytes, str] = {}

    async def start(self) -> None:
        await self._feed.start(self._take, lambda _: None)

    async def subscribe(self, conversation: str) -> None:
        channel = keys.channel(conversation)
        self._conversations[channel.encode()] = conversation
        await self._feed.subscribe(channel)

    def _take(self, messages: list[tuple[bytes, bytes]]) -> None:
        for channel, payload in messages:
            self._receive(self._conversations[channel], payload.split(b":", 2)[2])


async def serve_broadcast(url: str, port: int) -> None:
    """As in the library's documentation."""
    rooms: dict[str, set[ServerConnection]] = {}
    channels = Channels(
        url, lambda conversation, event: broadcast(rooms.get(conversation, ()), event, text=True)
    )
    await channels.start()

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        if connection.request is None:
            return
        conversation = connection.request.path.rpartition("/")[2]
        await channels.subscribe(conversation)
        rooms.setdefault(conversation, set()).add(connection)
        await connection.send(_READY, text=True)
        await connection.wait_closed()

    await serve(handle, "127.0.0.1", port, compression=None, backlog=1024)
    await asyncio.Event().wait()


class BareReader(asyncio.Protocol):
    """Enough of a WebSocket to receive frames."""

    def __init__(self, joined: Callable[[str, asyncio.Transport], Awaitable[None]]) -> None:
        self._joined = joined
        self._conversation = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._conversation:
            self._task = asyncio.ensure_future(self._joined(self._conversation, self._transport))
            return
        self._conversation = data.split(b" ", 2)[1].decode().rpartition("/")[2]
        key = next(
            line.split(b": ")[1]
            for line in data.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(
            hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        )
        head = (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
            b"Upgrade\r\nSec-WebSocket-Accept: "
        )
        self._transport.write(head + accept + b"\r\n\r\n")


async def serve_bare(url: str, port: int) -> None:
    """The minimum of a Python server."""
    rooms: dict[str, list[asyncio.Transport]] = {}

    def receive(conversation: str, event: bytes) -> None:
        frame = text_frame(event)
        for transport in rooms.get(conversation, ()):
            transport.write(frame)

    channels = Channels(url, receive)
    await channels.start()

    async def joined(conversation: str, transport: asyncio.Transport) -> None:
        await channels.subscribe(conversation)
        rooms.setdefault(conversation, []).append(transport)
        transport.write(text_frame(_READY))

    await asyncio.get_running_loop().create_server(
        lambda: BareReader(joined), "127.0.0.1", port, backlog=1024
    )
    await asyncio.Event().wait()


# --- readers ---


class Reader(asyncio.Protocol):
    """Counts the bytes after the replay."""

    def __init__(self, conversation: str) -> None:
        self._conversation = conversation
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._seen = b""
        self._asked = False
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(
            f"GET /conversations/{self._conversation} HTTP/1.1\r\nHost: x\r\nUpgrade: "
            f"websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self.received += len(data)
            return
        self._seen += data
        if not self._asked and b"\r\n\r\n" in self._seen:
            self._asked = True
            token = mint(KEY, self._conversation, "u", 600, time.time())
            body = json.dumps({"type": "subscribe", "token": token}).encode()
            self.transport.write(
                b"\x81\xfe" + len(body).to_bytes(2, "big") + b"\x00\x00\x00\x00" + body
            )  # masked with zeroes
        if b'"live"' in self._seen and self._seen.endswith(b"}"):
            self.ready.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError(f"closed: {self._seen[-200:]!r}"))


async def connect(port: int, conversations: list[str]) -> list[Reader]:
    loop, readers = asyncio.get_running_loop(), list[Reader]()
    for start in range(0, len(conversations), 100):
        batch = [
            await loop.create_connection(lambda name=name: Reader(name), "127.0.0.1", port)
            for name in conversations[start : start + 100]
        ]
        await asyncio.wait_for(
            asyncio.gather(*(reader.ready for _, reader in batch)), PATIENCE_SECONDS
        )
        readers += [reader for _, reader in batch]
    return readers


# --- one measurement ---


@dataclass
class LoadShape:
    """`conversations`, each with `readers` readers."""

    title: str
    conversations: int
    readers: int

    @property
    def deliveries(self) -> int:
        return self.conversations * self.readers * ROUNDS


SHAPES = (
    LoadShape(f"{CONVERSATIONS:,} conversations with one reader each", CONVERSATIONS, 1),
    LoadShape(f"One conversation with {READERS:,} readers", 1, READERS),
)


async def publish(url: str, epochs: dict[str, str]) -> int:
    """Publish the rounds at their pace; returns the bytes that one reader of a conversation
    receives.
    """
    client, size, began = redis.asyncio.Redis.from_url(url), 0, time.monotonic()
    for number in range(ROUNDS):
        await asyncio.sleep(max(0.0, began + number / ROUNDS_PER_SECOND - time.monotonic()))
        event = stamp(
            number + 1,
            encode(Chunk("0198c0de-0000-7000-8000-000000000000", 1, number * 5, "word ", 0)),
        )
        size += len(text_frame(event))
        pipeline = client.pipeline(transaction=False)
        for conversation, epoch in epochs.items():
            pipeline.publish(
                keys.channel(conversation), b"%b:%d:%b" % (epoch.encode(), number + 1, event)
            )
        await pipeline.execute()
    await client.aclose()
    return size


def cpu_seconds(pid: int) -> float:
    """What the kernel charged to a process so far. Ticks are too coarse: one is 2 % of a run."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def measure(server: str, shape: LoadShape, url: str) -> float:
    """Microseconds of the server's CPU per delivery."""
    names = [f"{server}{secrets.token_hex(4)}-{number}" for number in range(shape.conversations)]
    log = RedisLog(url)
    epochs = {
        name: page.epoch
        for name, page in zip(
            names, await asyncio.gather(*(log.read(n, None, 0, 0) for n in names)), strict=True
        )
    }
    await log.aclose()
    port = free_port()
    process = start_server(server, url, port)
    try:
        await listening(port)
        readers = await connect(port, [name for name in names for _ in range(shape.readers)])
        before = cpu_seconds(process.pid)
        size = await publish(url, epochs)
        await all_received(readers, size)
        spent = cpu_seconds(process.pid) - before
        for reader in readers:
            reader.transport.abort()
    finally:
        process.kill()
        process.wait()
    return spent / shape.deliveries * 1e6


async def all_received(readers: list[Reader], size: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(reader.received < size for reader in readers):
        if time.monotonic() > deadline:
            raise SystemExit(
                f"lost: {sum(reader.received < size for reader in readers)} readers lack something"
            )
        await asyncio.sleep(0.02)
    if any(reader.received != size for reader in readers):
        raise SystemExit("a reader received more than was published")


def start_server(server: str, url: str, port: int) -> subprocess.Popen[bytes]:
    command = (
        ["-m", "tokenwire.broadcaster"]
        if server == "tokenwire"
        else ["-m", "benchmarks.broadcast", server, url, str(port)]
    )
    ours = {
        "REDIS_URL": url,
        "TOKEN_KEY": KEY,
        "BROADCASTER_PORT": str(port),
        "MODE": "production",
        "LOG_LEVEL": "warning",
    }
    # Heartbeats would compare the tail with a log without entries.
    quiet = {
        "HEARTBEAT_IDLE_SECONDS": "3600",
        "HEARTBEAT_RUNNING_SECONDS": "3600",
        "MAX_OPEN_PER_USER": "0",
    }
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=os.environ | ours | quiet)


async def listening(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def compare(url: str) -> None:
    for shape in SHAPES:
        found: dict[str, list[float]] = {server: [] for server in SERVERS}
        for _ in range(
            MEASUREMENTS
        ):  # in turn, so that a busy moment of the machine affects all of them
            for server in SERVERS:
                found[server].append(await measure(server, shape, url))
        medians = {server: statistics.median(values) for server, values in found.items()}
        print(f"{shape.title} ({shape.deliveries:,} deliveries, median of {MEASUREMENTS})\n")
        print(
            "| server | CPU µs per delivery | min-max | Tokenwire's share of it "
            "|\n|---|---|---|---|"
        )
        for server in SERVERS:
            values = found[server]
            ratio = medians["tokenwire"] / medians[server]
            print(
                f"| {NAMES[server]} | {medians[server]:.1f} | "
                f"{min(values):.1f}-{max(values):.1f} | {ratio:.2f} |"
            )
        print(flush=True)


def main() -> None:
    binary = find_server()
    if binary is None or not sys.platform.startswith("linux"):
        raise SystemExit("needs Linux and the embedded Valkey server")
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        valkey = subprocess.Popen(
            [binary, *arguments(port, Path(directory))], stdout=subprocess.DEVNULL
        )
        try:
            asyncio.run(_against(port))
        finally:
            valkey.kill()
            valkey.wait()


async def _against(port: int) -> None:
    await listening(port)
    await compare(f"redis://127.0.0.1:{port}/0")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import uvloop

        uvloop.run(
            {"broadcast": serve_broadcast, "bare": serve_bare}[sys.argv[1]](
                sys.argv[2], int(sys.argv[3])
            )
        )
    else:
        main()
