"""The project's error for a driver's error.

Callers wait for the end of an outage. So only errors that affect everybody and end some time count
as outages: a broken connection, a server that shuts down or is read-only, a lack of memory, disk or
connections. Both databases report these with a code. All other errors of a working database belong
to the rows of the statement (a damaged page, a limit of one row): `StatementFailed`.
"""

import sqlite3

from sqlalchemy import exc

from tokenwire.models.errors import Conflict, GivenUp, StatementFailed, StoreUnavailable, Unstorable

_GIVEN_UP = frozenset({"57014", "55P03", "40P01", "40001"})
"""SQLSTATEs of a working server: a statement or lock timeout, a deadlock, a conflict of
transactions.
"""
_OUTAGES = ("08", "28", "53", "57", "25006", "25P03", "25P04", "40003", "58030")
"""Prefixes of outage SQLSTATEs: connection, login, resources (a full disk too), shutdown,
read-only, ended sessions, a COMMIT of unknown outcome, a failing disk. A missing file (58P01)
belongs to a row: PostgreSQL reports damaged transaction ids that way.
"""
_ENDS_SESSION = frozenset({"FATAL", "PANIC"})
_SQLITE_OUTAGES = frozenset(
    {
        *(
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_PROTOCOL,
            sqlite3.SQLITE_SCHEMA,
            sqlite3.SQLITE_INTERRUPT,
        ),
        *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM),
        *(
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_NOTADB,
        ),
    }
)
"""Primary result codes: locks, disk, memory, an unusable file. Not SQLITE_CORRUPT: other pages are
sound.
"""
_NO_SCHEMA = "no such "
"""Prefix of SQLite's error for a missing table or column: the database has not been migrated."""


def store_error(error: Exception) -> Exception:
    """The project's error for a driver's error; other errors are returned unchanged."""
    match error:
        case exc.IntegrityError():
            return Conflict("the database refused the row")
        case exc.DataError():
            return Unstorable(
                "the database refused a value "
                f"({getattr(error.orig, 'sqlstate', None) or 'too large'})"
            )
        case exc.DBAPIError():
            return _driver_error(error)
        case exc.TimeoutError() | OSError():  # the built-in TimeoutError is an OSError
            return StoreUnavailable("the database does not answer")
        case (
            exc.StatementError() | UnicodeError() | OverflowError()
        ):  # the driver could not send it
            return Unstorable(
                f"a value cannot be sent to the database "
                f"({type(getattr(error, 'orig', None) or error).__name__})"
            )
    return error


def _driver_error(error: exc.DBAPIError) -> Exception:
    if getattr(error.orig, "sqlstate", None) in _GIVEN_UP:
        return GivenUp("the database gave a statement up")
    if error.connection_invalidated or _severity(error) in _ENDS_SESSION:
        return StoreUnavailable("the connection to the database broke")
    if isinstance(
        error, exc.ProgrammingError | exc.NotSupportedError
    ):  # a bug of ours, or no schema
        return error
    if (
        _is_sqlite_outage(error.orig)
        if isinstance(error.orig, sqlite3.Error)
        else _is_outage(error)
    ):
        return StoreUnavailable("the database does not answer")
    return StatementFailed(f"the database failed at a statement ({_name(error.orig)})")


def _severity(error: exc.DBAPIError) -> str | None:
    severity: str | None = getattr(getattr(error.orig, "diag", None), "severity_nonlocalized", None)
    return severity


def _is_outage(error: exc.DBAPIError) -> bool:
    """Without an SQLSTATE the driver failed: the server reported nothing."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return (
        state.startswith(_OUTAGES)
        if state
        else isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    )


def _is_sqlite_outage(error: sqlite3.Error) -> bool:
    """Python's own module raises errors without a code, for a value that it read (text that is no
    UTF-8, for example).
    """
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in _SQLITE_OUTAGES or (
        code == sqlite3.SQLITE_ERROR and str(error).startswith(_NO_SCHEMA)
    )


def _name(error: BaseException | None) -> str:
    """A code, never the driver's sentence: SQLite's quotes undecodable text."""
    return str(
        getattr(error, "sqlstate", None)
        or getattr(error, "sqlite_errorname", None)
        or type(error).__name__
    )
