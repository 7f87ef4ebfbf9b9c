"""How an engine reaches SQLite or PostgreSQL: the driver of an address, SQLite's settings, waits.

The migration comes before everything else at each start. It needs this module alone, which loads
in half the time of `database.py`.
"""

import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL, make_url

TIMEOUT_SECONDS = 10.0
"""Default for the longest life of a transaction, the wait for a connection included."""
CONNECT_SECONDS = 5.0
WAL_PAUSE_SECONDS = 0.005
"""Pause between tries to switch a new SQLite file to a write-ahead log."""


def driver_url(database_url: str, *, asynchronous: bool) -> URL:
    """`sqlite:///path` or `postgresql://...` with this project's driver. Raises ValueError for
    another database.
    """
    url = make_url(database_url)
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ValueError(
                "DATABASE_URL: SQLite needs a file, such as sqlite:///var/tokenwire.db"
            )
        return url.set(drivername="sqlite+aiosqlite" if asynchronous else "sqlite+pysqlite")
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise ValueError("DATABASE_URL begins with sqlite:// or postgresql://")


def tune_sqlite(engine: Engine, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Transactions begin with an explicit BEGIN (the driver's own are off), and every connection
    gets its settings.

    `timeout_seconds`: the longest wait for another process's lock.
    """

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={milliseconds(timeout_seconds)}",
            "synchronous=NORMAL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        _use_wal(cursor, timeout_seconds)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # IMMEDIATE waits for the write lock here; a deferred transaction could fail at its first
        # write with "locked".
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN"
        )


def _use_wal(cursor: Any, timeout_seconds: float) -> None:
    """The file keeps this setting. If several processes set it in a new file at once, SQLite
    refuses some without waiting.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(WAL_PAUSE_SECONDS)
        else:
            return


def milliseconds(seconds: float) -> int:
    """Whole ones, at least one: zero would mean no limit."""
    return max(1, round(seconds * 1000))
