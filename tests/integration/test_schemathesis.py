"""All requests that OpenAPI allows, and some that it does not: each call answers as documented, in
every dialect.

Schemathesis makes the requests from the document, and the server is the real one. A stand-in for
the worker ends answers, so that waiting calls return. Endless streams (`/events`, `/api/feed`) have
their own tests.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from tests.databases import create_tables
from tests.integration.serving import KEY, NoJobs, Web
from tokenwire.config.settings import Settings
from tokenwire.models.answers import Ending
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.worker import closing

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.allow_header_conformance,
]
ENDLESS = r"(/events|/feed)$"


class Answering(NoJobs):
    """Ends every answer as soon as its job is there."""

    def __init__(self, store: Store, log: MemoryLog) -> None:
        self._store, self._log = store, log
        self._tasks = set[asyncio.Task[None]]()

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Answer "Yes."."""
        task = asyncio.create_task(self._answer(message_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message_id: str) -> None:
        row = await self._store.message(message_id)
        if row is None:
            return
        claim = await self._log.claim(row.conversation_id, row.id, row.attempt, 5)
        await self._store.begin_attempt(row.id, claim.attempt, "demo")
        ending = Ending(row.id, claim.attempt, "complete", "Yes.", "", claim.epoch, 0, "stop")
        if await self._store.finish(ending):
            await closing.append_end(self._store, self._log, claim, 0, ending)


class Served:
    """A web process in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self.web: Web | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        address = f"sqlite:///{self._folder}/web.db"
        create_tables(address)
        store, log = Store.open(address), MemoryLog()
        self.web = Web(
            store, log, MemoryPubSub(log), Answering(store, log), max_chat_body_bytes=256 * 1024
        )
        await self.web.start()
        self._ready.set()
        await self._stop.wait()
        await self.web.stop()

    def start(self) -> Web:
        self._thread.start()
        assert self._ready.wait(60)
        assert self.web is not None
        return self.web

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served.start()
    served.stop()


def document() -> dict[str, Any]:
    """OpenAPI as a server serves it."""
    log = MemoryLog()
    given: dict[str, Any] = {"_env_file": None, "mode": "development", "token_key": KEY}
    found = Settings(**given)
    web = Web(Store.open("sqlite:///unused.db"), log, MemoryPubSub(log))
    assert found.mode == web.settings.mode
    return web.app.openapi()


schema = schemathesis.openapi.from_dict(document()).exclude(path_regex=ENDLESS)


@schema.parametrize()
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
def test_every_call_answers_as_documented(case: schemathesis.Case, web: Web) -> None:
    """No server error, and only documented statuses and shapes."""
    answer = case.call(base_url=web.url, timeout=20)
    case.validate_response(answer, checks=CHECKS)
