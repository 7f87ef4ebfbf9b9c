"""models.failures: which errors of a driver are outages, and which are caused by the row."""

import sqlite3
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from sqlalchemy import exc

from tokenwire.models.errors import Conflict, GivenUp, StatementFailed, StoreUnavailable, Unstorable
from tokenwire.models.failures import store_error


def postgresql(
    state: str | None, kind: type[psycopg.Error] = psycopg.OperationalError
) -> Exception:
    """The library's error around the one that PostgreSQL's driver raises for this SQLSTATE."""
    error = psycopg.errors.lookup(state)("quoted: secret") if state else kind("quoted: secret")
    return wrapped(error, psycopg.Error)


def sqlite(
    kind: type[sqlite3.Error], code: int | None = None, said: str = "quoted: secret"
) -> Exception:
    """The same for SQLite."""
    error = kind(said)
    if code is not None:
        error.sqlite_errorcode = code
    return wrapped(error, sqlite3.Error)


def wrapped(error: Exception, base: Any) -> Exception:
    made: Any = exc.DBAPIError.instance("SELECT 1", {}, error, base)
    assert isinstance(made, exc.DBAPIError)
    return made


AWAY = [
    *(
        "08006",
        "08P01",
        "28P01",
        "53000",
        "53100",
        "53200",
        "53300",
        "57000",
        "57P01",
        "57P02",
        "57P03",
        "57P05",
        "58030",
        "25006",
    ),
    *("25P03", "40003"),
]
SICK = ["XX000", "XX001", "XX002", "54000", "54001", "54023", "58P01", "55000", "25P02", "F0000"]
SQLITE_AWAY = [
    *(
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
    ),
    *(
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_BUSY_SNAPSHOT,
        sqlite3.SQLITE_IOERR_READ,
    ),
]


@pytest.mark.parametrize("state", AWAY)
def test_errors_of_a_server_that_cannot_serve_are_outages(state: str) -> None:
    """A full disk too: it affects every row, and ends when somebody makes room."""
    assert type(store_error(postgresql(state))) is StoreUnavailable


@pytest.mark.parametrize("state", SICK)
def test_errors_of_a_living_server_about_rows_are_no_outage(state: str) -> None:
    """The message names the code and quotes nothing."""
    told = store_error(postgresql(state))
    assert (type(told), str(told)) == (
        StatementFailed,
        f"the database failed at a statement ({state})",
    )


@pytest.mark.parametrize(
    "kind", [psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError]
)
def test_errors_without_a_code_are_outages(kind: type[psycopg.Error]) -> None:
    """The driver has lost the server or never reached it."""
    assert type(store_error(postgresql(None, kind))) is StoreUnavailable


def test_an_error_that_closed_the_connection_is_an_outage() -> None:
    """Whatever its code: a server with damaged shared memory goes down, for example."""
    for error in (postgresql("XX000"), sqlite(sqlite3.OperationalError)):
        error.connection_invalidated = True  # type: ignore[attr-defined]
        assert type(store_error(error)) is StoreUnavailable


@pytest.mark.parametrize(
    ("severity", "kind"),
    [("ERROR", StatementFailed), ("FATAL", StoreUnavailable), ("PANIC", StoreUnavailable)],
)
def test_an_error_that_ends_the_session_is_an_outage(severity: str, kind: type[Exception]) -> None:
    """The server says so itself; the driver may notice only at the next statement."""

    class Ended(psycopg.errors.InternalError_):
        diag = SimpleNamespace(severity_nonlocalized=severity)  # type: ignore[assignment]

    assert type(store_error(wrapped(Ended(), psycopg.Error))) is kind


@pytest.mark.parametrize("state", ["57014", "55P03", "40P01", "40001"])
def test_an_abandoned_statement_may_be_tried_again(state: str) -> None:
    """The database is alive, and nothing is wrong with the row."""
    assert type(store_error(postgresql(state))) is GivenUp


@pytest.mark.parametrize("code", SQLITE_AWAY)
def test_locks_and_disks_are_outages_of_sqlite(code: int) -> None:
    """Extended codes count by their primary code."""
    assert type(store_error(sqlite(sqlite3.OperationalError, code))) is StoreUnavailable


@pytest.mark.parametrize(
    "error",
    [
        sqlite(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT, "database disk image is malformed"),
        sqlite(sqlite3.DatabaseError, sqlite3.SQLITE_CORRUPT_INDEX),
        sqlite(sqlite3.OperationalError, sqlite3.SQLITE_ERROR, "malformed JSON"),
        sqlite(
            sqlite3.OperationalError,
            None,
            "Could not decode to UTF-8 column 'content' with text 'secret'",
        ),
    ],
)
def test_damage_is_the_row_s(error: Exception) -> None:
    """Other pages of the file are sound. What SQLite quotes is not repeated."""
    told = store_error(error)
    assert type(told) is StatementFailed
    assert "secret" not in str(told)


def test_a_file_without_a_schema_is_waited_for() -> None:
    """It has not been migrated yet."""
    assert (
        type(
            store_error(
                sqlite(sqlite3.OperationalError, sqlite3.SQLITE_ERROR, "no such table: messages")
            )
        )
        is StoreUnavailable
    )


def test_values_conflicts_and_bugs_keep_their_kinds() -> None:
    """A wrong statement is a bug of ours and keeps its type."""
    assert type(store_error(postgresql("22001"))) is Unstorable
    assert type(store_error(postgresql("23505"))) is Conflict
    wrong = postgresql("42601")
    assert store_error(wrong) is wrong
    assert type(store_error(OverflowError())) is Unstorable
    assert type(store_error(TimeoutError())) is StoreUnavailable
