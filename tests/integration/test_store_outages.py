"""The store while a real PostgreSQL goes away and comes back."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from tests.databases import Postgres, launch
from tests.disks import Disk
from tokenwire.models import database
from tokenwire.models.conversations import Post
from tokenwire.models.database import CANCEL_SECONDS, Database
from tokenwire.models.engines import CONNECT_SECONDS
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.migrate import migrate
from tokenwire.models.store import Store


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_restart_of_postgresql(own_postgres: Postgres, how: signal.Signals) -> None:
    """Meanwhile calls raise StoreUnavailable; afterwards they work, without a stale connection."""
    migrate(own_postgres.url)
    store = Store.open(own_postgres.url)
    try:
        conversation = await store.create_conversation("me")
        await asyncio.gather(
            *(store.post(Post(conversation.id, "me", str(n), "demo")) for n in range(6))
        )
        own_postgres.stop(how)
        for call in (
            store.snapshot(conversation.id, "me", 10),
            store.post(Post(conversation.id, "me", "lost", "demo")),
            store.now_ms(),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        own_postgres.start()
        await asyncio.gather(
            *(store.post(Post(conversation.id, "me", str(n), "demo")) for n in range(6))
        )
        rows = (await store.snapshot(conversation.id, "me", 200)).messages
        assert [row.ordinal for row in rows] == list(range(1, 25))
        assert "lost" not in {row.content for row in rows}
    finally:
        await store.aclose()


async def timed(call: Coroutine[Any, Any, object]) -> float:
    """How long a call takes until it raises StoreUnavailable."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await call
    return time.monotonic() - began


async def test_calls_to_a_frozen_server_time_out(
    own_postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Idle connections, running queries and new connections; afterwards everything works."""
    migrate(own_postgres.url)
    store = Store.open(own_postgres.url, timeout_seconds=3.0)
    try:
        conversation = await store.create_conversation("me")
        sleeping = asyncio.create_task(_sleep(store))
        await asyncio.sleep(0.3)
        own_postgres.freeze()
        posts = (store.post(Post(conversation.id, "me", str(n), "demo")) for n in range(20))
        took = await asyncio.gather(
            timed(sleeping_ends(sleeping)), timed(store.now_ms()), *(timed(post) for post in posts)
        )
        assert max(took) < 3.0 + 2 * CANCEL_SECONDS + 5.0  # the last one for a busy machine
        own_postgres.thaw()
        assert await store.now_ms() > 0
        await store.check_write()
        assert [
            record.getMessage() for record in caplog.records if record.levelname == "ERROR"
        ] == []
    finally:
        await store.aclose()


async def _sleep(store: Store) -> None:
    async with store.reading() as session:
        await session.execute(text("SELECT pg_sleep(60)"))


async def sleeping_ends(task: "asyncio.Task[None]") -> None:
    await task


async def test_a_migration_on_a_frozen_server_times_out(own_postgres: Postgres) -> None:
    """A deploy reports the reason instead of hanging."""
    own_postgres.freeze()
    with pytest.raises(OperationalError):
        await asyncio.wait_for(asyncio.to_thread(migrate, own_postgres.url), 4 * CONNECT_SECONDS)


async def test_a_cancelled_query_ends_on_the_server(own_postgres: Postgres) -> None:
    """It costs nothing more, and holds no lock."""
    migrate(own_postgres.url)
    store = Store.open(own_postgres.url, timeout_seconds=20.0)
    try:
        sleeping = asyncio.create_task(_sleep(store))
        await _until(lambda: _sleeping(own_postgres) == 1)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        await _until(lambda: _sleeping(own_postgres) == 0)
        assert await store.now_ms() > 0
    finally:
        await store.aclose()


def _sleeping(server: Postgres) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
        ).fetchone()
    return int(row[0]) if row else 0


async def _until(question: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(question):
            await asyncio.sleep(0.02)


@pytest.fixture
def postgres_on_disk(postgres_server: Postgres, disk: Disk) -> Iterator[Postgres]:
    """A server with its data on a small disk."""
    folder = disk.path / "postgres"
    folder.mkdir(mode=0o755)
    server = launch(folder)
    yield server
    server.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_full_disk_is_not_ready(
    request: pytest.FixtureRequest, disk: Disk, kind: str
) -> None:
    """Reads are answered, posts are not; the write check notices. It is ready again when there is
    room.
    """
    url = (
        f"sqlite:///{disk.path}/store.db"
        if kind == "sqlite"
        else request.getfixturevalue("postgres_on_disk").url
    )
    migrate(url)
    store = Store.open(url)
    try:
        conversation = await store.create_conversation("me")
        for _ in range(3):  # any room that a write frees is used up
            await store.check_write()
        disk.fill()
        with pytest.raises(StoreUnavailable):
            await store.check_write()
        post = Post(conversation.id, "me", random.randbytes(100_000).hex(), "demo")
        with pytest.raises(StoreUnavailable):
            await store.post(post)
        assert await store.now_ms() > 0
        disk.empty()
        await store.check_write()
        await store.post(post)
    finally:
        await store.aclose()


async def test_a_server_that_only_reads_is_not_ready(own_postgres: Postgres) -> None:
    """As during a failover."""
    migrate(own_postgres.url)
    store = Store.open(own_postgres.url)
    try:
        await store.check_write()
        own_postgres.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
        await store.aclose()
        with pytest.raises(StoreUnavailable):
            await store.check_write()
        assert await store.now_ms() > 0
    finally:
        await store.aclose()


async def test_a_server_out_of_connections_is_unavailable(own_postgres: Postgres) -> None:
    """It works again as soon as one is free."""
    migrate(own_postgres.url)
    own_postgres.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 1")
    own_postgres.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO crowded")
    url = own_postgres.url.replace("tokenwire@", "crowded@")
    first, second = Store.open(url), Store.open(url)
    try:
        await first.now_ms()
        with pytest.raises(StoreUnavailable):
            await second.now_ms()
        await first.aclose()
        assert await second.now_ms() > 0
    finally:
        await first.aclose()
        await second.aclose()


async def test_waiting_for_a_free_connection_times_out(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the database were away: all connections of this process may be busy for long, and that
    is no bug of the caller.
    """
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.2)
    crowded = Database(postgres_url)
    try:
        async with contextlib.AsyncExitStack() as held:
            for _ in range(15):
                session = await held.enter_async_context(crowded.reading())
                await session.execute(text("SELECT 1"))
            assert await timed(crowded.now_ms()) < crowded._timeout_seconds / 2
        assert await crowded.now_ms() > 0
    finally:
        await crowded.aclose()
