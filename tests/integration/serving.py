"""The web app on a free port for tests, and an EventSource written from the HTML standard alone (section 9.2)."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from config.catalogue import parse
from config.settings import Settings
from models.migrate import migrate
from models.store import Store
from streams.memory import MemoryFeed, MemoryLog
from streams.ports import Feed, Log
from tests.integration.broadcasting import Writer
from web.app import create_app, end_streams

KEY = "0123456789abcdef0123456789abcdef"
PATIENCE_SECONDS = 30.0


class NoJobs:
    """In place of worker.enqueue.Jobs."""

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Nothing runs here."""


class _Uvicorn(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Web:
    """A running web process' worth of app, over `log`."""

    def __init__(self, store: Store, log: Log, feed: Feed, **settings: object) -> None:
        values = {"mode": "development", "token_key": KEY, "database_url": "sqlite:///unused.db"} | settings
        self.settings = Settings(_env_file=None, **values)  # type: ignore[arg-type,call-arg]  # pydantic checks them
        self.store, self.log, self.feed = store, log, feed
        catalogue = parse({"default": "demo", "models": {"demo": {"provider": "demo"}}}, {})
        self.app: FastAPI = create_app(self.settings, store, log, feed, NoJobs(), catalogue)  # type: ignore[arg-type]
        self.port = 0

    async def start(self) -> None:
        config = uvicorn.Config(
            self.app, host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none", timeout_graceful_shutdown=1
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = _Uvicorn(config)
        self._running = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_SECONDS)

    async def stop(self) -> None:
        await self.client.aclose()
        end_streams(self.app)
        self._server.should_exit = True
        await self._running
        await self.log.aclose()
        await self.store.aclose()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def streams(self) -> int:
        """Streamed answers that are open now."""
        taken: int = self.app.state.services.places.taken
        return taken

    async def conversation(self) -> str:
        """A new conversation of the local user."""
        made: str = (await self.client.post("/api/conversations")).json()["id"]
        return made

    async def writing(self) -> tuple[str, Writer]:
        """A conversation in which an answer has begun."""
        conversation = await self.conversation()
        return conversation, await Writer(self.log, conversation).begin()


@contextlib.asynccontextmanager
async def serving(folder: Path, log: Log | None = None, feed: Feed | None = None, **settings: object) -> AsyncIterator[Web]:
    """The app over a new SQLite database, on the log given or one in memory."""
    url = f"sqlite:///{folder}/web.db"
    migrate(url)
    if log is None or feed is None:
        log = MemoryLog()
        feed = MemoryFeed(log)
    web = Web(Store.open(url), log, feed, **settings)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()


@dataclass(frozen=True, slots=True)
class Event:
    """What a MessageEvent says."""

    type: str
    data: str
    last_event_id: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.data)
        return value


class Parser:
    """9.2.6: interpreting an event stream."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self.comments: list[str] = []
        self._id, self._data, self._type = last_event_id, "", ""
        self._rest = b""

    def push(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. This server ends lines with LF alone, which is asserted."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        assert not any(b"\r" in line for line in lines)
        return [event for line in lines if (event := self._line(line.decode())) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, kind = self._data, self._type
        self._data = self._type = ""
        return Event(kind or "message", data.removesuffix("\n"), self.last_event_id) if data else None


class Failed(Exception):
    """The EventSource is closed for good (an answer that is no event stream)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


class EventSource:
    """9.2.3: connects, comes back by itself with Last-Event-ID, gives up on anything but 200 and text/event-stream."""

    def __init__(self, client: httpx.AsyncClient, address: str, headers: dict[str, str] | None = None) -> None:
        self._client, self._address, self._headers = client, address, headers or {}
        self.last_event_id = ""
        self.connections = 0
        self.comments: list[str] = []
        self.headers: httpx.Headers | None = None
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """The network fails now."""
        self._cut.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            async for event in self._connection():
                yield event
            await asyncio.sleep(0.01)

    async def _connection(self) -> AsyncIterator[Event]:
        self.connections += 1
        self._cut.clear()
        headers = self._headers | {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        async with self._client.stream("GET", self._address, headers=headers, timeout=PATIENCE_SECONDS) as answer:
            if answer.status_code != 200 or not answer.headers["content-type"].startswith("text/event-stream"):
                raise Failed(answer.status_code)
            self.headers = answer.headers
            parser = Parser(self.last_event_id)
            parser.comments = self.comments
            async for data in answer.aiter_raw():
                for event in parser.push(data):
                    self.last_event_id = parser.last_event_id
                    yield event
                    if self._cut.is_set():
                        return
                self.last_event_id = parser.last_event_id
