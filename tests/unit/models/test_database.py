"""models.database: addresses, errors, locks and absent servers."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event, text

from tests.databases import create_tables
from tokenwire.models import database
from tokenwire.models.database import Database
from tokenwire.models.engines import _use_wal, driver_url
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store


@pytest.mark.parametrize(
    ("given", "asynchronous", "driver"),
    [
        ("sqlite:///var/x.db", True, "sqlite+aiosqlite"),
        ("sqlite:///var/x.db", False, "sqlite+pysqlite"),
        ("postgresql://a:b@c/d", True, "postgresql+psycopg"),
        ("postgres://a:b@c/d", False, "postgresql+psycopg"),
        ("postgresql+asyncpg://a:b@c/d", True, "postgresql+psycopg"),
    ],
)
def test_an_address_gets_the_driver_that_is_used_here(
    given: str, asynchronous: bool, driver: str
) -> None:
    """The operator's URL may name any driver."""
    assert driver_url(given, asynchronous=asynchronous).drivername == driver


@pytest.mark.parametrize("given", ["sqlite://", "sqlite:///:memory:", "mysql://a/b", "nonsense"])
def test_another_address_is_refused(given: str) -> None:
    """A ValueError, before anything is opened."""
    with pytest.raises(Exception, match=r"SQLite needs a file|begins with|Could not parse"):
        driver_url(given, asynchronous=True)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """A refused connection is StoreUnavailable, for reads and writes."""
    store = Store.open("postgresql://nobody@127.0.0.1:1/none")
    try:
        with pytest.raises(StoreUnavailable):
            await store.message("m")
        with pytest.raises(StoreUnavailable):
            await store.mark_enqueued("m")
        with pytest.raises(StoreUnavailable):
            await store.revision()
    finally:
        await store.aclose()


async def test_a_database_that_stays_locked_is_unavailable(tmp_path: Path) -> None:
    """A write gives up after the busy timeout. Reads continue, and writes work again once the lock
    is gone.
    """
    url = f"sqlite:///{tmp_path}/locked.db"
    create_tables(url)
    store, hasty = Store.open(url), Store.open(url, timeout_seconds=0.05)
    other = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await hasty.create_conversation("me")
        assert await store.message("m") is None
        other.execute("ROLLBACK")
        await store.create_conversation("me")
    finally:
        other.close()
        await store.aclose()
        await hasty.aclose()


async def test_sqlite_is_set_up_for_several_processes(tmp_path: Path) -> None:
    """A write-ahead log, foreign keys and a patient busy handler."""
    url = f"sqlite:///{tmp_path}/tuned.db"
    create_tables(url)
    store = Store.open(url)
    try:
        async with store.reading() as session:
            connection = await session.connection()
            found = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
            ]
        assert found == ["wal", 1, 1, database.TIMEOUT_SECONDS * 1000]
    finally:
        await store.aclose()


async def test_nothing_is_kept_of_a_transaction_that_raises(tmp_path: Path) -> None:
    """The transaction is rolled back as a whole."""
    url = f"sqlite:///{tmp_path}/rolled.db"
    create_tables(url)
    store = Store.open(url)
    try:
        made = await store.create_conversation("me")
        with contextlib.suppress(RuntimeError):
            async with store.writing() as session:
                await session.execute(text("DELETE FROM conversations"))
                raise RuntimeError
        assert (await store.conversation(made.id, "me")).id == made.id
    finally:
        await store.aclose()


class Refusing:
    """A cursor that SQLite refuses this often without waiting, as when several processes switch a
    new file to a write-ahead log.
    """

    def __init__(self, times: int, code: int = sqlite3.SQLITE_BUSY) -> None:
        self.times, self.code = times, code

    def execute(self, statement: str) -> None:
        assert statement == "PRAGMA journal_mode=WAL"
        self.times -= 1
        if self.times >= 0:
            error = sqlite3.OperationalError("refused")
            error.sqlite_errorcode = self.code
            raise error


def test_several_processes_open_a_new_file_at_once() -> None:
    """A refused process tries again for as long as it waits for any lock. Another error is raised
    at once.
    """
    cursor = Refusing(3)
    _use_wal(cursor, 10.0)
    assert cursor.times == -1
    with pytest.raises(sqlite3.OperationalError):
        _use_wal(Refusing(10_000), 0.02)
    broken = Refusing(2, sqlite3.SQLITE_IOERR)
    with pytest.raises(sqlite3.OperationalError):
        _use_wal(broken, 10.0)
    assert broken.times == 1


async def test_a_lock_of_another_process_is_waited_for_as_long_as_set(tmp_path: Path) -> None:
    """SQLite's own default does not apply: it waits by itself, where none of our time-outs reaches
    it.
    """
    database = Database(f"sqlite:///{tmp_path}/t.db", timeout_seconds=0.25)
    try:
        async with database.reading() as session:
            assert (await session.execute(text("PRAGMA busy_timeout"))).scalar_one() == 250
    finally:
        await database.aclose()


@pytest.mark.parametrize(
    ("error", "lines"), [(asyncio.CancelledError(), 0), (OSError("gone"), 1)], ids=repr
)
async def test_who_leaves_in_a_transaction_leaves_no_error_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, error: BaseException, lines: int
) -> None:
    """Other errors of a connection that goes back are logged."""
    database = Database(f"sqlite:///{tmp_path}/t.db")

    @event.listens_for(database._engine.sync_engine, "reset")
    def fails(*_: object) -> None:
        raise error

    try:
        with contextlib.suppress(asyncio.CancelledError, OSError, StoreUnavailable):
            async with database._engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        assert [line.message for line in caplog.records].count(
            "Exception during reset or similar"
        ) == lines
    finally:
        event.remove(database._engine.sync_engine, "reset", fails)
        await database.aclose()
