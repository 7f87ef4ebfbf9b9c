"""tests/databases.py: a database that another test has used is like a new copy, or is not used."""

import psycopg
import pytest

from tests.contracts.calls import asked, call
from tests.databases import LARGE_BYTES, emptied, prefixed, shape_of
from tokenwire.models.names import VERSION
from tokenwire.models.store import Store
from tokenwire.models.tables import Table


async def test_rows_and_connections_are_gone(postgres_url: str, postgres_shape: str) -> None:
    """Of all tables but that of the revision."""
    store = Store.open(postgres_url)
    await (await asked(store)).prove(call(0))
    assert emptied(postgres_url, postgres_shape)
    with psycopg.connect(postgres_url) as connection:
        for table in Table.metadata.tables:
            assert connection.execute(f'SELECT count(*) FROM "{table}"').fetchone() == (0,)
        assert connection.execute(f"SELECT count(*) FROM {VERSION.name}").fetchone() == (1,)
    await store.aclose()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE messages ADD COLUMN other text",
        "ALTER TABLE messages DROP COLUMN content",
        "ALTER TABLE conversations ALTER COLUMN title SET NOT NULL",
        "CREATE TABLE other (id int)",
        "CREATE INDEX other ON messages (id)",
        "CREATE SCHEMA other",
        "CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ANALYZE pg_class; ANALYZE conversations",
        "ALTER ROLE CURRENT_USER SET statement_timeout = 5",
    ],
)
def test_another_shape_is_noticed(postgres_url: str, postgres_shape: str, change: str) -> None:
    """Whatever a test may do to a database besides writing rows."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        assert shape_of(connection) == postgres_shape
        try:
            connection.execute(prefixed(change))
            assert not emptied(postgres_url, postgres_shape)
        finally:
            with psycopg.connect(postgres_url, autocommit=True) as other:
                other.execute("ALTER ROLE CURRENT_USER RESET ALL")


def test_a_large_one_is_not_used_again(postgres_url: str, postgres_shape: str) -> None:
    """Its pages would make other tests slow."""
    made = "deleted_conversations (id, deleted_at, log_deleted) SELECT md5(n::text), 1, true"
    rows = f"FROM generate_series(1, {LARGE_BYTES // 100}) n"
    with psycopg.connect(postgres_url) as connection:
        connection.execute(prefixed(f"INSERT INTO {made} {rows}"))
    assert not emptied(postgres_url, postgres_shape)
