"""Access to SQLite and PostgreSQL: engines, transactions, the database's clock, errors.

Decides isolation (reads see one snapshot, writes take SQLite's write lock at once) and timeouts.
`failures.py` decides what a failure means; `conversations.py` and `answers.py` have the queries.
"""

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

import psycopg
import structlog
from psycopg import waiting
from psycopg.pq import TransactionStatus
from sqlalchemy import BigInteger, exc, select, text, update
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import col

from tokenwire.models import migrations
from tokenwire.models.engines import (
    CONNECT_SECONDS,
    TIMEOUT_SECONDS,
    driver_url,
    milliseconds,
    tune_sqlite,
)
from tokenwire.models.errors import StatementFailed, StoreUnavailable, Unstorable
from tokenwire.models.failures import store_error
from tokenwire.models.names import VERSION
from tokenwire.models.quotas import NO_QUOTAS, Quotas
from tokenwire.models.shapes import loads
from tokenwire.models.whole import make_whole

log_line = structlog.get_logger(__name__)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


# The pool logs the cancellation of a request at level error: a browser has left, and the connection
# is closed and replaced.
logging.getLogger("sqlalchemy.pool.impl.AsyncAdaptedQueuePool").addFilter(_is_no_cancellation)

LOCK_SECONDS = 2.0
"""Longest wait for a locked row: our own transactions hold their locks only for moments."""
CANCEL_SECONDS = 0.5
"""Longest time for cancelling a query on the server."""


_strict_json = functools.partial(json.dumps, allow_nan=False)
"""NaN and infinities, which PostgreSQL refuses, are refused on SQLite too, so that tests there
notice.
"""
_SQLITE_WRITE = update(VERSION).values(version_num=VERSION.c.version_num)
_POSTGRESQL_WRITE = text("CREATE TEMPORARY TABLE readiness ON COMMIT DROP AS SELECT 1 AS written")


class now_ms(FunctionElement[int]):  # noqa: N801 - it reads as the SQL function that it is
    """The database's clock in UTC epoch milliseconds, which processes on several machines share."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _sqlite_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _postgresql_now(_element: Any, _compiler: Any, **_options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


class _DatabaseConnection(psycopg.AsyncConnection[Any]):
    """psycopg's connection for servers that may be frozen: an interrupted query is cancelled
    without waiting for the server.

    psycopg itself waits up to ten seconds for the query's end, so that a timeout of one second
    would take eleven. The connection is closed after any interruption: SQLAlchemy would not use it
    again. Calls that need no answer of the server, such as the choice of an isolation level, are
    not interrupted: there SQLAlchemy would lose the connection and its place in the pool.
    """

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            wanted = next(gen)
        except StopIteration as end:
            return end.value
        try:
            return await waiting.wait_async(
                _resumed(gen, wanted), self.pgconn.socket, interval=interval, timeout=timeout
            )
        except asyncio.CancelledError:
            try:
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    await self._abandon_query()
            finally:
                self.pgconn.finish()
            raise

    async def _abandon_query(self) -> None:
        try:
            await self.cancel_safe(timeout=CANCEL_SECONDS)
        except (psycopg.Error, OSError) as error:
            log_line.debug("a query could not be cancelled", error=repr(error))


def _resumed(gen: Any, wanted: Any) -> Any:
    """The rest of one of psycopg's generators after its first step."""
    while True:
        ready = yield wanted
        try:
            wanted = gen.send(ready)
        except StopIteration as end:
            return end.value


def _open_engine(database_url: str, timeout_seconds: float) -> AsyncEngine:
    url = driver_url(database_url, asynchronous=True)
    if url.drivername.startswith("sqlite"):
        engine = create_async_engine(
            url,
            pool_size=4,
            max_overflow=4,
            pool_timeout=timeout_seconds,
            json_serializer=_strict_json,
            json_deserializer=loads,
            hide_parameters=True,
        )
        tune_sqlite(engine.sync_engine, timeout_seconds)
        return engine
    longest = milliseconds(timeout_seconds)
    # The server cancels a statement a little earlier than we do, and then gives the reason.
    limits = {
        "statement_timeout": milliseconds(timeout_seconds * 0.9),
        "lock_timeout": milliseconds(min(LOCK_SECONDS, timeout_seconds / 2)),
        "idle_in_transaction_session_timeout": 2 * longest,
    }
    return create_async_engine(
        url,
        pool_size=5,
        max_overflow=10,
        pool_timeout=min(CONNECT_SECONDS, timeout_seconds),
        pool_pre_ping=True,
        json_serializer=_strict_json,
        json_deserializer=loads,
        hide_parameters=True,  # a logged error must not show people's texts
        connect_args={
            "async_creator_fn": _DatabaseConnection.connect,
            "connect_timeout": max(
                2, round(min(CONNECT_SECONDS, timeout_seconds))
            ),  # libpq takes whole seconds, at least two
            "tcp_user_timeout": longest,
            "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
        },
    )


class Database:
    """One engine and its two kinds of transaction. Belongs to one event loop."""

    def __init__(
        self,
        database_url: str,
        quotas: Quotas = NO_QUOTAS,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Connects lazily; a longer transaction is StoreUnavailable. Raises ValueError for another
        kind of database.
        """
        self.quotas = quotas
        self._timeout_seconds = timeout_seconds
        self._engine = _open_engine(database_url, timeout_seconds)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        # SQLite's own lock works between processes; within one, waiting here is fair and needs no
        # polling.
        self._gate: AbstractAsyncContextManager[Any] = (
            asyncio.Lock() if self.is_sqlite else nullcontext()
        )
        reader = (
            self._engine
            if self.is_sqlite
            else self._engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self._readers = async_sessionmaker(reader, expire_on_commit=False, autoflush=False)
        self._writers = async_sessionmaker(
            self._engine.execution_options(writes=True), expire_on_commit=False, autoflush=False
        )

    @asynccontextmanager
    async def reading(self, *, by_index: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction whose statements see one snapshot. `by_index`: no table scans, whatever the
        planner prefers.
        """
        async with _translated(self._timeout_seconds), self._readers() as session, session.begin():
            if by_index and not self.is_sqlite:
                await session.execute(text("SET LOCAL enable_seqscan = off"))
            yield session
            await make_whole(session)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncSession]:
        """A transaction that is committed at the end of the block, and rolled back if it raises."""
        async with (
            _translated(self._timeout_seconds),
            self._gate,
            self._writers() as session,
            session.begin(),
        ):
            yield session
            await make_whole(session)

    async def now_ms(self) -> int:
        """The database's clock."""
        async with self.reading() as session:
            return (await session.execute(select(now_ms()))).scalar_one()

    async def revision(self) -> str | None:
        """The revision of the database; None for an empty one."""
        try:
            async with self.reading() as session:
                return (await session.execute(select(VERSION.c.version_num))).scalar_one_or_none()
        except exc.ProgrammingError:  # PostgreSQL: no such table
            return None
        except StoreUnavailable as error:
            if "no such table" in str(error.__cause__):
                return None
            raise

    async def check(self) -> str | None:
        """For readiness: what is wrong with the schema, or None. Raises StoreUnavailable."""
        revision = await self.revision()
        return (
            None
            if migrations.serves(revision)
            else f"at revision {revision}, needs {migrations.HEAD} (python -m "
            f"tokenwire.models.migrate)"
        )

    async def check_write(self) -> None:
        """For readiness: returns if a transaction that needs disk space can be committed. Raises
        StoreUnavailable.

        A full disk or a read-only server still answers reads. PostgreSQL reuses freed space for a
        while on a full disk; only a new table always needs more. Nobody else waits for that table
        or its lock.
        """
        async with self.writing() as session:
            await session.execute(_SQLITE_WRITE if self.is_sqlite else _POSTGRESQL_WRITE)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


async def lock_free(
    session: AsyncSession, table: Any, ids: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Lock those rows that are free, without waiting: their ids, and the ids of the locked ones.

    For writes to many rows: a row that is locked for long (by an operator's transaction, for
    example) delays no other.
    """
    name = col(table.id)
    free = set(
        await session.scalars(
            select(name).where(name.in_(ids)).with_for_update(skip_locked=True, key_share=True)
        )
    )
    left = [one for one in ids if one not in free]
    locked = list(await session.scalars(select(name).where(name.in_(left)))) if left else []
    return [one for one in ids if one in free], locked


@asynccontextmanager
async def _translated(timeout_seconds: float) -> AsyncIterator[None]:
    before = _times_cancelled()
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except Exception as error:
        if (
            _times_cancelled() > before
        ):  # the driver reports that the cancellation cost the connection
            raise asyncio.CancelledError from error
        named = store_error(error)
        if named is error:
            raise
        raise named from (
            None if isinstance(named, Unstorable | StatementFailed) else error
        )  # a driver's error may quote the value


def _times_cancelled() -> int:
    """How often other code has cancelled the task."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0
