"""The store while a real PostgreSQL goes away and comes back."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from models.conversations import Post
from models.errors import StoreUnavailable
from models.migrate import migrate
from models.store import Store
from tests.databases import NoServer, Postgres, launch


@pytest.fixture
def own_postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A server of this test alone, which it may stop. (The session's server decides whether there is one at all.)"""
    try:
        server = launch()
    except NoServer as error:
        pytest.fail(str(error))
    yield server
    server.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_restart_of_the_server_is_survived(own_postgres: Postgres, how: signal.Signals) -> None:
    """While it is away calls are refused as StoreUnavailable; afterwards they work, without a stale connection showing."""
    migrate(own_postgres.url)
    store = Store.open(own_postgres.url)
    try:
        conversation = await store.create_conversation("me")
        await asyncio.gather(*(store.post(Post(conversation.id, "me", str(n), "demo")) for n in range(6)))
        own_postgres.stop(how)
        for call in (store.snapshot(conversation.id, "me", 10), store.post(Post(conversation.id, "me", "lost", "demo")), store.now_ms()):
            with pytest.raises(StoreUnavailable):
                await call
        own_postgres.start()
        await asyncio.gather(*(store.post(Post(conversation.id, "me", str(n), "demo")) for n in range(6)))
        rows = (await store.snapshot(conversation.id, "me", 200)).messages
        assert [row.ordinal for row in rows] == list(range(1, 25))
        assert "lost" not in {row.content for row in rows}
    finally:
        await store.aclose()


async def test_a_server_out_of_connections_is_unavailable(own_postgres: Postgres) -> None:
    """And nothing worse: it works again as soon as there is a free one."""
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
