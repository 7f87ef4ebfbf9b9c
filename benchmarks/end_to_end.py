"""The delay that Tokenwire adds between a provider and a reader, and the CPU cost of a token.

The real processes (web, two workers, broadcaster, embedded Valkey, SQLite with checkpoints) against
a paced provider in this process, which also holds the readers, so that one clock stamps and reads
every token. Each stream is a conversation with one reader. CPU is the processes' time between two
moments of steady streaming, web included.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import websockets

from tests.servers.service import free_port

ROOT = Path(__file__).resolve().parent.parent
TOKENS_PER_SECOND = 50
WARM_SECONDS = 2.0
MEASURED_SECONDS = 6.0
STREAMS = (1, 50, 200)
_STAMP = re.compile(r"<(\d+)>")
_TICKS = os.sysconf("SC_CLK_TCK")


# --- the provider ---


async def serve_tokens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One answer: a stamped token every 20 ms, offset by the time of the request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    await reader.readexactly(int(length[1]) if length else 0)
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )

    def send(data: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    begun, count = (
        time.monotonic(),
        int((WARM_SECONDS + MEASURED_SECONDS + 1.5) * TOKENS_PER_SECOND),
    )
    with contextlib.suppress(ConnectionError):
        for number in range(count):
            await asyncio.sleep(max(0.0, begun + number / TOKENS_PER_SECOND - time.monotonic()))
            if writer.is_closing():  # cancelled
                return
            token = {"choices": [{"index": 0, "delta": {"content": f"<{time.monotonic_ns()}>"}}]}
            send(b"data: " + json.dumps(token).encode() + b"\n\n")
        send(
            b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        )
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    writer.close()


# --- the stack ---


@dataclass
class Stack:
    """A running Tokenwire."""

    base: str
    pid: int

    def cpu_seconds(self) -> dict[str, float]:
        """CPU so far, by kind of process."""
        spent: dict[str, float] = {}
        for pid in descendants(self.pid):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                kind = kind_of(line)
                spent[kind] = spent.get(kind, 0.0) + (int(fields[11]) + int(fields[12])) / _TICKS
        return spent


def kind_of(command: str) -> str:
    """The process of Tokenwire that a command line starts."""
    for name, word in (
        ("worker", "tokenwire.worker"),
        ("broadcaster", "-m tokenwire.broadcaster"),
        ("redis", "valkey"),
        ("web", "-m tokenwire.web"),
    ):
        if word in command:
            return name
    return "launcher"


def descendants(root: int) -> list[int]:
    """All processes below `root`."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def write_models(folder: str, provider_port: int) -> Path:
    """A catalogue with only the paced provider."""
    models = Path(folder, "models.yml")
    models.write_text(
        "default: paced\nmodels:\n  paced:\n    provider: openai_compatible\n    model: paced\n"
        f"    base_url: http://127.0.0.1:{provider_port}/v1\n    api_key: none\n"
    )
    return models


@contextlib.asynccontextmanager
async def running_stack(provider_port: int) -> AsyncIterator[Stack]:
    """`python -m tokenwire.launcher` in its own directory until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(folder, provider_port)
        port = free_port()
        environ = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PORT": str(port),
            "BROADCASTER_PORT": str(free_port()),
            "REDIS_PORT": str(free_port()),
            "MODELS_FILE": str(models),
            "WORKER_THREADS": "128",
            "MAX_UNFINISHED_PER_USER": "0",  # one user stands for many
            "MAX_STORED_BYTES_PER_USER": "0",
            "MAX_OPEN_PER_USER": "0",
            "POSTS_PER_MINUTE_PER_USER": "0",
            "READS_PER_MINUTE_PER_USER": "0",
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tokenwire.launcher",
            cwd=folder,
            env=environ,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            base = f"http://127.0.0.1:{port}"
            await ready(base)
            yield Stack(base, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def ready(base: str) -> None:
    """Wait until the stack answers. Raises TimeoutError after 30 s."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                if (await call(base + "/readyz", method="GET"))[0] == 200:
                    return
            await asyncio.sleep(0.1)


async def call(
    url: str, body: object = None, method: str = "POST"
) -> tuple[int, dict[str, object]]:
    """One API call: status and JSON."""

    def request() -> tuple[int, dict[str, object]]:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            url, data, {"content-type": "application/json"}, method=method
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status, json.loads(answer.read() or b"{}")

    return await asyncio.to_thread(request)


# --- the readers ---


@dataclass
class Seen:
    """The measurements of one run's readers."""

    counting: bool = False
    latencies_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    completed: int = 0
    wrong: int = 0


async def view(base: str, seen: Seen) -> None:
    """Post to a new conversation and follow the answer to its end."""
    _, conversation = await call(f"{base}/api/conversations", {"model": "paced"})
    posted_at = time.monotonic_ns()
    _, posted = await call(
        f"{base}/api/conversations/{conversation['id']}/messages", {"content": "go"}
    )
    subscription = posted["subscription"]
    async with websockets.connect(subscription["url"], compression=None, max_queue=None) as socket_:
        await socket_.send(
            json.dumps(
                {"type": "subscribe", "token": subscription["token"], "after": posted["cursor"]}
            )
        )
        length, expected = 0, 0
        async for frame in socket_:
            now = time.monotonic_ns()
            event = json.loads(frame)
            if event["type"] == "chunk":
                stamps = [int(stamp) for stamp in _STAMP.findall(event["content"])]
                if not length:
                    seen.first_ms.append((stamps[0] - posted_at) / 1e6)
                seen.wrong += event["offset"] != length or event["seq"] <= expected
                length, expected = length + len(event["content"]), event["seq"]
                if seen.counting:
                    seen.latencies_ms += [(now - stamp) / 1e6 for stamp in stamps]
            elif event["type"] == "complete":
                seen.wrong += event["length"] != length
                seen.completed += 1
                return


async def measure(stack: Stack, streams: int) -> str:
    """One row of the table."""
    seen = Seen()
    readers = [asyncio.create_task(view(stack.base, seen)) for _ in range(streams)]
    while len(seen.first_ms) < streams:
        await asyncio.sleep(0.05)
        for reader in readers:
            if reader.done():
                reader.result()
    await asyncio.sleep(WARM_SECONDS / 2)
    before, begun, seen.counting = stack.cpu_seconds(), time.monotonic(), True
    await asyncio.sleep(MEASURED_SECONDS)
    after, seconds, seen.counting = stack.cpu_seconds(), time.monotonic() - begun, False
    tokens = len(seen.latencies_ms)
    await asyncio.gather(*readers)
    if seen.wrong or seen.completed != streams:
        raise SystemExit(
            f"{seen.wrong} events out of place, {seen.completed} of {streams} answers complete"
        )
    spent = {
        kind: after.get(kind, 0.0) - before.get(kind, 0.0)
        for kind in ("worker", "broadcaster", "redis", "web")
    }
    cuts = statistics.quantiles(seen.latencies_ms, n=100)
    parts = " | ".join(f"{value * 1e6 / tokens:.0f}" for value in spent.values())
    total = sum(spent.values()) * 1000 / tokens
    return (
        f"| {streams} | {tokens / seconds:.0f} | {cuts[49]:.2f} | {cuts[98]:.2f} | "
        f"{total * 1000:.0f} | {parts} "
        f"| {statistics.median(seen.first_ms):.0f} |"
    )


async def run() -> None:
    """Print the table."""
    provider = await asyncio.start_server(serve_tokens, "127.0.0.1", 0)
    print(
        f"{TOKENS_PER_SECOND} tokens/s a stream, {MEASURED_SECONDS:g} s measured; CPU in ms per "
        f"1,000 tokens (= us per token)"
    )
    print(
        "| streams | tokens/s | p50 ms | p99 ms | CPU ms/1,000 | worker | broadcaster | redis | "
        "web | POST to provider's first token ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    async with provider, running_stack(provider.sockets[0].getsockname()[1]) as stack:
        for streams in STREAMS:
            print(await measure(stack, streams), flush=True)


def main() -> None:
    """Entry of `python -m benchmarks`."""
    asyncio.run(run())


if __name__ == "__main__":
    main()
