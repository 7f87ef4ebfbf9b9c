"""Web and broadcaster behind a real nginx with the settings of docs/proxies.md."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.eventsource import PATIENCE_SECONDS, EventSource
from tests.integration.broadcasting import Stage, Watching, Writer
from tests.integration.serving import Web, serving
from tests.servers.service import free_port
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import Settings
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "proxies.md"

_AROUND = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


class Nginx:
    """A running nginx in front of two ports."""

    def __init__(self, folder: Path, web: int, broadcaster: int, port: int) -> None:
        self._folder, self.port = folder, port
        site = re.search(r"```nginx\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
        assert site is not None
        text = (
            site[1]
            .replace("127.0.0.1:8000", f"127.0.0.1:{web}")
            .replace("127.0.0.1:8001", f"127.0.0.1:{broadcaster}")
        )
        text = re.sub(r"listen 80;", f"listen 127.0.0.1:{port};", text)
        (folder / "nginx.conf").write_text(
            _AROUND.format(user="user root;" if os.geteuid() == 0 else "", folder=folder, site=text)
        )

    async def start(self) -> None:
        if NGINX is None:
            pytest.skip("no nginx on this machine (Debian: apt-get install nginx-light)")
        self._run(NGINX)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._answers():
                assert self._process.poll() is None, (self._folder / "error.log").read_text()
                await asyncio.sleep(0.05)

    def _run(self, program: str) -> None:
        command = [
            program,
            "-p",
            str(self._folder),
            "-c",
            str(self._folder / "nginx.conf"),
            "-e",
            str(self._folder / "error.log"),
        ]
        # SIGTERM: it ends its workers, which would outlive it.
        self._process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, preexec_fn=dying_with_us(signal.SIGTERM)
        )

    def stop(self) -> None:
        """At once: every connection is closed."""
        self._process.terminate()
        self._process.wait(PATIENCE_SECONDS)

    async def _answers(self) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (
                    await client.get(f"http://127.0.0.1:{self.port}/healthz")
                ).status_code == 200
        except httpx.TransportError:
            return False


class Behind:
    """All processes, and a client that connects only to nginx."""

    def __init__(self, web: Web, nginx: Nginx, client: httpx.AsyncClient) -> None:
        self.web, self.nginx, self.client = web, nginx, client


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    """Web and broadcaster over one log, nginx in front."""
    async with _behind(tmp_path) as made:
        yield made


@asynccontextmanager
async def _behind(folder: Path) -> AsyncIterator[Behind]:
    log, port = MemoryLog(), free_port()
    stage = Stage(log, MemoryPubSub(log))
    await stage.start()
    public = f"ws://127.0.0.1:{port}/stream"
    pace = {"heartbeat_idle_seconds": 0.5, "heartbeat_running_seconds": 0.5}
    async with serving(folder, log, MemoryPubSub(log), broadcaster_url=public, **pace) as web:
        nginx = Nginx(folder, web.port, stage.port, port)
        await nginx.start()
        try:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS
            ) as client:
                yield Behind(web, nginx, client)
        finally:
            nginx.stop()
            await stage.stop()


async def test_every_event_passes_at_once(behind: Behind) -> None:
    """Each event is written only after the last one has arrived: nothing buffers."""
    conversation, writer = await behind.web.writing()
    source = EventSource(
        behind.client, f"/api/conversations/{conversation}/events?after={writer.epoch}:1"
    )
    events = aiter(source)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in range(20):
            waiting = asyncio.create_task(anext(events))
            await writer.say(f"{number} ")
            assert (await waiting).json["content"] == f"{number} "
    assert source.connections == 1


async def test_the_feed_passes(behind: Behind) -> None:
    """As every event stream does."""
    events = aiter(EventSource(behind.client, "/api/feed"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert (await anext(events)).json == {"type": "snapshot", "conversations": []}
        made = (await behind.client.post("/api/conversations")).json()["id"]
        assert (await anext(events)).json["conversation"]["id"] == made


async def test_a_websocket_passes_with_its_close_code(behind: Behind) -> None:
    """The address of the API's answer works: replay, live, events, heartbeat, and the close of a
    deleted conversation.
    """
    conversation, writer = await behind.web.writing()
    given = (await behind.client.post(f"/api/conversations/{conversation}/subscription")).json()
    assert given["url"].startswith(f"ws://127.0.0.1:{behind.nginx.port}/stream/")
    async with connect(given["url"], proxy=None) as socket:
        await socket.send(
            json.dumps({"type": "subscribe", "token": given["token"], "after": f"{writer.epoch}:0"})
        )
        watching = Watching(socket)
        await watching.until("live")
        await writer.say("hello")
        assert (await watching.until("chunk"))["content"] == "hello"
        await behind.client.delete(f"/api/conversations/{conversation}")
        with pytest.raises(ConnectionClosed) as closed:
            await watching.until("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4404


async def test_the_socket_of_the_ai_sdk_passes(behind: Behind) -> None:
    """`WebSocketChatTransport` behind the proxy."""
    async with (
        connect(f"ws://127.0.0.1:{behind.nginx.port}/api/chat/ws", proxy=None) as socket,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        await socket.send(json.dumps({"type": "resume", "requestId": "1", "id": "none"}))
        assert json.loads(await socket.recv())["type"] == "no-active"


async def test_a_proxy_that_restarts_costs_nothing(behind: Behind) -> None:
    """It closes every connection; an EventSource reconnects and has each event once."""
    conversation, writer = await behind.web.writing()
    source = EventSource(
        behind.client, f"/api/conversations/{conversation}/events?after={writer.epoch}:0"
    )
    seqs: list[int] = []

    async def listen() -> None:
        async for event in source:
            seqs.append(event.json["seq"])
            if event.json["type"] == "complete":
                return

    listening = asyncio.create_task(listen())
    for _ in range(2):
        await _say_all(writer, 20)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not seqs or seqs[-1] < writer.seq:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(behind.nginx.stop)
        await _say_all(writer, 20)
        await behind.nginx.start()
    await writer.end()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await listening
    assert seqs == list(range(1, writer.seq + 1))


async def _say_all(writer: Writer, count: int) -> None:
    for number in range(count):
        await writer.say(f"{number} ")


async def test_a_body_of_the_maximum_length_passes(behind: Behind) -> None:
    """AI SDK and OpenAI clients send their whole history: the API answers, not nginx."""
    longest = Settings.model_fields["max_chat_body_bytes"].default
    message = {"role": "user", "content": "x" * (longest - 4096)}
    answer = await behind.client.post(
        "/v1/chat/completions", json={"model": "none", "messages": [message]}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
