"""The web app on a free port of this process, for tests."""

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from tests.databases import create_tables
from tests.integration.broadcasting import Writer
from tokenwire.config.settings import Settings
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import parse
from tokenwire.streams.limits.rates import Counting
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import Log, PubSub
from tokenwire.web.app import create_app, end_streams
from tokenwire.web.http.connections import configured

KEY = "0123456789abcdef0123456789abcdef"
PATIENCE_SECONDS = 30.0


@functools.cache
def _tls() -> ssl.SSLContext:
    """Unused, but a client wants it, and each new one reads the certificates of the system."""
    return httpx.create_ssl_context()


class NoJobs:
    """Stands in for worker.enqueue.Jobs."""

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Nothing runs here."""


class _Uvicorn(uvicorn.Server):
    """Leaves the signals of the test process alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Web:
    """The app of a web process over `log`."""

    def __init__(
        self,
        store: Store,
        log: Log,
        pubsub: PubSub,
        jobs: object | None = None,
        counting: Counting | None = None,
        **settings: object,
    ) -> None:
        # One local user plays many.
        free = {
            "max_open_per_user": 0,
            "posts_per_minute_per_user": 0,
            "reads_per_minute_per_user": 0,
        }
        values = (
            {"mode": "development", "token_key": KEY, "database_url": "sqlite:///unused.db"}
            | free
            | settings
        )
        # Pydantic checks them.
        self.settings = Settings(_env_file=None, **values)  # type: ignore[arg-type,call-arg]
        self.store, self.log, self.pubsub = store, log, pubsub
        catalogue = parse({"default": "demo", "models": {"demo": {"provider": "demo"}}}, {})
        self.app: FastAPI = create_app(
            self.settings, store, log, pubsub, jobs or NoJobs(), catalogue, counting
        )  # type: ignore[arg-type]
        self.port = 0

    async def start(self) -> None:
        config = configured(
            self.app, self.settings, self.app.state.gate, port=0, timeout_graceful_shutdown=1
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._server = _Uvicorn(config)
        self._running = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.client = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_SECONDS, verify=_tls())

    async def leave(self) -> None:
        """Stop serving, as the process does on SIGTERM."""
        end_streams(self.app)
        self._server.should_exit = True
        await self._running

    async def stop(self) -> None:
        await self.client.aclose()
        await self.leave()
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

    @property
    def listening(self) -> list[socket.socket]:
        """The listening socket; accepted sockets inherit its options."""
        return list(self._server.servers[0].sockets)

    def unsent(self) -> list[int]:
        """Bytes that each connection holds for its client."""
        return [
            connection.transport.get_write_buffer_size()
            for connection in self._server.server_state.connections
        ]

    async def conversation(self) -> str:
        """A new conversation of the local user."""
        made: str = (await self.client.post("/api/conversations")).json()["id"]
        return made

    async def writing(self) -> tuple[str, Writer]:
        """A conversation in which an answer has begun."""
        conversation = await self.conversation()
        return conversation, await Writer(self.log, conversation).begin()


@contextlib.asynccontextmanager
async def serving(
    folder: Path,
    log: Log | None = None,
    pubsub: PubSub | None = None,
    counting: Counting | None = None,
    **settings: object,
) -> AsyncIterator[Web]:
    """The app on a new SQLite database and the given log, or one in memory."""
    url = f"sqlite:///{folder}/web.db"
    create_tables(url)
    if log is None or pubsub is None:
        log = MemoryLog()
        pubsub = MemoryPubSub(log)
    web = Web(Store.open(url), log, pubsub, counting=counting, **settings)
    await web.start()
    try:
        yield web
    finally:
        await web.stop()
