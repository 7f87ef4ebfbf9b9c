"""The web app over SQLite and a log in memory, with a recorder in place of the job queue."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.databases import create_tables
from tokenwire.config.settings import Settings
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue, parse
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web.app import create_app
from tokenwire.worker.enqueue import JobsUnavailable

TOKEN_KEY = "token-key-of-tests-0123456789abcdef"
CATALOGUE = {
    "default": "demo",
    "models": {
        "demo": {"provider": "demo"},
        "second": {"provider": "demo"},
        "keyless": {"provider": "openai"},
        "nearby": {"provider": "llamacpp", "base_url": "http://127.0.0.1:9/v1"},
    },
}


class RecordedJobs:
    """Stands in for worker.enqueue.Jobs and records calls; `away` makes them fail as without
    Redis.
    """

    def __init__(self) -> None:
        self.enqueued: list[str] = []
        self.away = False

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        if self.away:
            raise JobsUnavailable("no Redis")
        self.enqueued.append(message_id)


def settings(**changes: object) -> Settings:
    """Settings of a development server; nothing is read from the environment or a file."""
    values = {"mode": "development", "token_key": TOKEN_KEY, "database_url": "sqlite:///unused.db"}
    values |= {
        "allowed_hosts": "chat.example, testserver",
        "posts_per_minute_per_user": 0,
        "reads_per_minute_per_user": 0,
    } | changes
    # Pydantic checks them.
    return Settings(_env_file=None, **values)  # type: ignore[arg-type,call-arg]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    url = f"sqlite:///{tmp_path}/web.db"
    create_tables(url)
    opened = Store.open(url)
    yield opened
    await opened.aclose()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


@pytest.fixture
def jobs() -> RecordedJobs:
    return RecordedJobs()


@pytest.fixture
def catalogue() -> Catalogue:
    return parse(CATALOGUE, {})


MakeApp = Callable[..., FastAPI]


@pytest.fixture
def make_app(store: Store, log: MemoryLog, jobs: RecordedJobs, catalogue: Catalogue) -> MakeApp:
    """An app with changed settings."""
    return lambda **changes: create_app(
        settings(**changes), store, log, MemoryPubSub(log), jobs, catalogue
    )  # type: ignore[arg-type]  # the recorder stands in


MakeClient = Callable[..., httpx.AsyncClient]


@pytest.fixture
def make_client(make_app: MakeApp) -> MakeClient:
    """A client of an app with changed settings."""

    def make(headers: dict[str, str] | None = None, **changes: object) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(make_app(**changes), raise_app_exceptions=True)
        return httpx.AsyncClient(
            transport=transport, base_url="http://chat.example:8000", headers=headers
        )

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a development server: the local user."""
    async with make_client() as made:
        yield made
