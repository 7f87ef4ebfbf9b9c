"""Liveness, readiness, metrics."""

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.databases import sql
from tests.unit.web.conftest import MakeClient
from tests.unit.web.test_bad_input import AwayStore, check
from tokenwire.models import migrations
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.web import readiness
from tokenwire.web.http.middleware import Surroundings


@pytest.fixture(autouse=True)
def _asked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 0.0)


async def test_alive_and_ready(client: httpx.AsyncClient) -> None:
    """200 when every part is there."""
    for path in ("/healthz", "/readyz"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_probes_may_use_head(client: httpx.AsyncClient, log: MemoryLog) -> None:
    """Many load balancers do; the status is enough."""
    assert (await client.head("/healthz")).status_code == 200
    log.go_down()
    assert (await client.head("/readyz")).status_code == 503


async def test_no_login_is_needed(make_client: MakeClient) -> None:
    """Probes have none. Internals are on another port (METRICS_PORT)."""
    production = {
        "mode": "production",
        "redis_url": "redis://127.0.0.1:1",
        "host_jwt_key": "k" * 32,
    }
    async with make_client(**production) as client:
        for path in ("/healthz", "/readyz", "/"):
            assert (await client.get(path)).status_code == 200
        for path in ("/metrics", "/openapi.json"):
            assert (await client.get(path)).status_code == 404


async def test_not_ready_without_redis(client: httpx.AsyncClient, log: MemoryLog) -> None:
    """503 that names what is missing; liveness is not affected."""
    log.go_down()
    document = check(await client.get("/readyz"), 503, "not_ready")
    assert document["checks"] == {"database": "ok", "redis": "does not answer"}
    assert (await client.get("/healthz")).status_code == 200


async def test_not_ready_with_a_redis_that_evicts(
    client: httpx.AsyncClient, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's report about its server is passed on."""

    async def evicts() -> str:
        return "maxmemory-policy is allkeys-lru, must be noeviction"

    monkeypatch.setattr(log, "check", evicts)
    assert "allkeys-lru" in check(await client.get("/readyz"), 503, "not_ready")["checks"]["redis"]


async def test_not_ready_without_a_database_or_its_migrations(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older revision is named, with the command that upgrades it."""
    monkeypatch.setattr(migrations, "HEAD", "9999")
    here = await store.revision()
    assert (
        f"at revision {here}, needs 9999"
        in check(await client.get("/readyz"), 503, "not_ready")["checks"]["database"]
    )
    store.__class__ = AwayStore
    assert (
        check(await client.get("/readyz"), 503, "not_ready")["checks"]["database"]
        == "does not answer"
    )
    store.__class__ = Store


async def test_a_newer_database_is_served(client: httpx.AsyncClient, store: Store) -> None:
    """Migrations run before the new processes start: the running ones must stay ready, and work."""
    async with store.writing() as session:
        await session.execute(sql("UPDATE tokenwire_version SET version_num = '9999'"))
    assert (await client.get("/readyz")).status_code == 200
    assert (await client.post("/api/conversations")).status_code == 201


async def test_not_ready_without_writes(
    client: httpx.AsyncClient, store: Store, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads may still be answered; posts are not."""

    async def refuses() -> str:
        return "OOM: it cannot write"

    async def full() -> None:
        raise StoreUnavailable("disk full")

    monkeypatch.setattr(log, "check_write", refuses)
    monkeypatch.setattr(store, "check_write", full)
    document = check(await client.get("/readyz"), 503, "not_ready")
    assert document["checks"] == {"database": "cannot write", "redis": "OOM: it cannot write"}


async def test_a_hanging_check_is_answered_in_time_and_shared(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it cannot be cancelled; later probes share it."""
    monkeypatch.setattr(readiness, "CHECK_TIMEOUT_SECONDS", 0.05)
    begun, thawed = 0, asyncio.Event()

    async def hangs() -> None:
        nonlocal begun
        begun += 1
        while not thawed.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await thawed.wait()

    monkeypatch.setattr(store, "check_write", hangs)
    for _ in range(3):
        assert (
            check(await client.get("/readyz"), 503, "not_ready")["checks"]["database"]
            == "does not answer"
        )
        while not begun:
            await asyncio.sleep(0)
    assert begun == 1
    thawed.set()
    monkeypatch.setattr(readiness, "CHECK_TIMEOUT_SECONDS", 60.0)
    assert (await client.get("/readyz")).status_code == 200


async def test_many_probes_cost_few_writes(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may probe: a service that was ready a moment ago is not written to again."""
    monkeypatch.setattr(readiness, "FRESH_SECONDS", 60.0)
    written = 0
    write = store.check_write

    async def counted() -> None:
        nonlocal written
        written += 1
        await write()

    monkeypatch.setattr(store, "check_write", counted)
    for _ in range(5):
        assert (await client.get("/readyz")).status_code == 200
    assert written == 1


async def test_a_service_that_was_not_ready_is_checked_again(
    client: httpx.AsyncClient, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only success is remembered: the second probe in a row fails like the first."""

    async def evicts() -> str:
        return "maxmemory-policy is allkeys-lru, must be noeviction"

    monkeypatch.setattr(readiness, "FRESH_SECONDS", 60.0)
    monkeypatch.setattr(log, "check", evicts)
    for _ in range(3):
        check(await client.get("/readyz"), 503, "not_ready")


async def test_a_client_that_left_early_is_counted() -> None:
    """By a status of its own: 0 is no status, and sums of errors would miss it."""
    counted: list[tuple[str, ...]] = []
    series = SimpleNamespace(inc=lambda: None, observe=lambda _seconds: None)
    metrics: Any = SimpleNamespace(
        requests=SimpleNamespace(labels=lambda *names: counted.append(names) or series),
        seconds=SimpleNamespace(labels=lambda _route: series),
    )

    async def says_nothing(*_: object) -> None:
        return

    # This request reads no setting.
    no_settings: Any = SimpleNamespace()
    surroundings: Any = Surroundings(says_nothing, metrics, no_settings)
    await surroundings({"type": "http", "method": "GET", "path": "/x"}, None, None)
    assert counted == [("GET", "none", "499")]


async def test_requests_are_counted_by_route(client: httpx.AsyncClient) -> None:
    """By template, never by address: the number of series is bounded."""
    for path in (
        "/api/conversations/a",
        "/api/conversations/b",
        "/nope/1",
        "/nope/2",
        "/static/a.js",
    ):
        await client.get(path)
    await client.request("BREW", "/healthz")
    text = (await client.get("/metrics")).text
    assert (
        'tokenwire_http_requests_total{method="GET",'
        'route="/api/conversations/{conversation_id}",status="404"} 2.0' in text
    )
    assert 'tokenwire_http_requests_total{method="GET",route="none",status="404"} 2.0' in text
    assert 'method="other"' in text
    assert "nope" not in text
    assert "BREW" not in text
