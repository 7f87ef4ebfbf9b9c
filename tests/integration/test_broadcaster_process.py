"""`python -m tokenwire.broadcaster` as in the Procfile: settings, health, its log, and its end."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.integration.broadcasting import KEY, PATIENCE_SECONDS, Watching, Writer, token
from tests.listening import closing
from tests.servers.service import free_port
from tests.valkey import Valkey
from tokenwire.config.parent import dying_with_us
from tokenwire.streams.log.redis import RedisLog

ROOT = Path(__file__).parents[2]
IN_TIME_SECONDS = 10.0
"""Far above the promised three seconds, since this machine may be busy."""


class Process:
    """The broadcaster, and its standard error."""

    def __init__(self, redis_url: str, **environment: str) -> None:
        self.port = free_port()
        self.environment = {
            "REDIS_URL": redis_url,
            "TOKEN_KEY": KEY,
            "BROADCASTER_PORT": str(self.port),
            "MODE": "production",
        } | environment
        self.url = f"ws://127.0.0.1:{self.port}/conversations/c"

    async def start(self) -> "Process":
        keep = {
            name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tokenwire.broadcaster",
            cwd=ROOT,
            env=keep | self.environment,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=dying_with_us(),
        )
        return self

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body of a plain HTTP request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with closing(writer):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            answer = (await asyncio.wait_for(reader.read(), 10)).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]), body

    async def until(self, path: str, status: int) -> str:
        async with asyncio.timeout(20):
            while True:
                try:
                    seen, body = await self.get(path)
                    if seen == status:
                        return body
                except OSError:
                    pass
                await asyncio.sleep(0.05)

    async def end(self) -> tuple[int, str]:
        """SIGTERM repeatedly until it is gone; exit status and standard error."""
        told = asyncio.create_task(self.process.communicate())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.process.returncode is None:
                # Not `send_signal`, which looks for the end itself and takes the status away from
                # the event loop if it comes just then.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process.pid, signal.SIGTERM)
                await asyncio.sleep(0.001)
            _, stderr = await told
        return self.process.returncode or 0, stderr.decode()


@pytest.fixture
async def process(valkey_url: str) -> AsyncIterator[Process]:
    process = await Process(valkey_url).start()
    try:
        await process.until("/readyz", 200)
        yield process
    finally:
        await process.end()


async def test_it_serves_and_stops_in_time(process: Process, valkey_url: str) -> None:
    """A reader follows a conversation through Redis. SIGTERM, even repeated, closes it with 1012,
    and the process exits with 0.
    """
    async with (
        aclosing(RedisLog(valkey_url)) as log,
        connect(process.url, compression=None, proxy=None) as socket,
    ):
        writer = await Writer(log, "c").begin()
        await writer.say("one ", "two")
        await socket.send(
            json.dumps({"type": "subscribe", "token": token("c"), "after": f"{writer.epoch}:0"})
        )
        reader = Watching(socket)
        await reader.until("live")
        await writer.say(" three")
        await reader.until_seq(writer.seq)
        assert reader.text == "one two three"
        began = time.monotonic()
        process.process.send_signal(signal.SIGTERM)
        assert await reader.close_code() == 1012
    status, stderr = await process.end()
    assert status == 0
    assert time.monotonic() - began < IN_TIME_SECONDS
    assert [json.loads(line)["event"] for line in stderr.splitlines()] == ["listening", "stopping"]


async def test_the_log_has_reasons_and_no_secrets(process: Process) -> None:
    """One JSON line for an abnormal close, without token or key."""
    forged = token("other")
    async with connect(process.url, proxy=None) as socket:
        await socket.send(json.dumps({"type": "subscribe", "token": forged}))
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    _, stderr = await process.end()
    closed = [line for line in map(json.loads, stderr.splitlines()) if line["event"] == "closed"]
    assert [(line["code"], line["reason"], line["conversation_id"]) for line in closed] == [
        (4403, "token is for another conversation", "c")
    ]
    assert forged not in stderr
    assert KEY not in stderr


async def test_health_and_readiness(process: Process, valkey_url: str) -> None:
    """Alive is not ready: Redis must answer and must never evict keys."""
    assert await process.get("/healthz") == (200, "ok\n")
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert "noeviction" in await process.until("/readyz", 503)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert await process.until("/readyz", 200) == "ok\n"
    assert (await process.get("/"))[0] == 404
    assert (await process.get("/conversations/c"))[0] == 426


async def test_redis_gone_and_back(valkey: Valkey) -> None:
    """It starts and lives without Redis, is not ready, answers 1013, and recovers by itself."""
    process = await Process(valkey.url).start()
    try:
        await process.until("/readyz", 200)
        valkey.stop()
        assert await process.until("/readyz", 503) == "Redis does not answer\n"
        assert await process.get("/healthz") == (200, "ok\n")
        async with connect(process.url, proxy=None) as socket:
            await socket.send(json.dumps({"type": "subscribe", "token": token("c")}))
            assert await Watching(socket).close_code() == 1013
        await asyncio.to_thread(valkey.start)
        await process.until("/readyz", 200)
        async with connect(process.url, proxy=None) as socket:
            await socket.send(json.dumps({"type": "subscribe", "token": token("c")}))
            await Watching(socket).until("live")
    finally:
        status, stderr = await process.end()
    assert status == 0
    assert "Traceback" not in stderr


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TOKEN_KEY": "short"}, "TOKEN_KEY"),
        (
            {
                "TOKEN_KEY": "-----BEGIN PUBLIC KEY-----\nnonsense, nonsense, "
                "nonsense\n-----END PUBLIC KEY-----"
            },
            "TOKEN_KEY",
        ),
        ({"TOKEN_KEY": "", "MODE": "development"}, "TOKEN_KEY"),
        ({"REDIS_URL": ""}, "REDIS_URL"),
        ({"BROADCASTER_PORT": "70000"}, "BROADCASTER_PORT"),
    ],
)
async def test_a_wrong_setting_is_one_line(environment: dict[str, str], said: str) -> None:
    """Exit code 78 and a line that names the variable, without its value."""
    process = await Process("redis://127.0.0.1:1/0", **environment).start()
    await asyncio.wait_for(process.process.wait(), 20)
    status, stderr = await process.end()
    assert status == 78
    assert len(stderr.splitlines()) == 1
    assert said in stderr
    assert "nonsense" not in stderr


async def test_a_port_that_is_taken(process: Process, valkey_url: str) -> None:
    """Exit code 1 and one line."""
    other = await Process(valkey_url, BROADCASTER_PORT=str(process.port)).start()
    await asyncio.wait_for(other.process.wait(), 20)
    status, stderr = await other.end()
    assert status == 1
    assert [json.loads(line)["event"] for line in stderr.splitlines()] == ["cannot serve"]
