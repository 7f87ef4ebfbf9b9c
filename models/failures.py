"""What a driver's error means, in the words of this project. Pure.

Callers wait for an outage, for as long as it lasts. So only what concerns everybody and ends some time counts as one: a broken connection,
a server that shuts down or has become read-only, a lack of memory, disk or connections. Both databases tell these by a code. Everything
else that a living database raises belongs to the rows that the statement met (a damaged page, a limit of one row): `StatementFailed`.
"""

import sqlite3

from sqlalchemy import exc

from tokenwire.models.errors import Conflict, GivenUp, StatementFailed, StoreUnavailable, Unstorable

_GIVEN_UP = frozenset({"57014", "55P03", "40P01", "40001"})
"""SQLSTATEs of a server that lives: a statement took too long, a lock was waited for too long, a deadlock, a conflict of transactions."""
_OUTAGES = ("08", "28", "53", "57", "25006", "25P03", "25P04", "40003", "58030")
"""How the SQLSTATEs of an outage begin: connection, login, resources (a full disk, too), shutdown, read-only, sessions that were ended,
a COMMIT of unknown outcome, a disk that fails. A file that is missing (58P01) is some row's: PostgreSQL says so of damaged transaction ids.
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
"""Primary result codes: locks; disk and memory; a file that cannot be used at all. Not SQLITE_CORRUPT: other pages are sound."""
_NO_SCHEMA = "no such "
"""How SQLite begins to tell of a table or column that is not there: the database has yet to be migrated."""


def ours(error: Exception) -> Exception:
    """The project's error for one of the driver's, or the same error."""
    match error:
        case exc.IntegrityError():
            return Conflict("the database refused the row")
        case exc.DataError():
            return Unstorable(
                f"the database refused a value ({getattr(error.orig, 'sqlstate', None) or 'too large'})"
            )
        case exc.DBAPIError():
            return _of_driver(error)
        case exc.TimeoutError() | OSError():  # the built-in TimeoutError is an OSError
            return StoreUnavailable("the database does not answer")
        case (
            exc.StatementError() | UnicodeError() | OverflowError()
        ):  # the driver could not even send it
            return Unstorable(
                f"a value cannot be sent to the database ({type(getattr(error, 'orig', None) or error).__name__})"
            )
    return error


def _of_driver(error: exc.DBAPIError) -> Exception:
    if getattr(error.orig, "sqlstate", None) in _GIVEN_UP:
        return GivenUp("the database gave a statement up")
    if error.connection_invalidated or _severity(error) in _ENDS_SESSION:
        return StoreUnavailable("the connection to the database broke")
    if isinstance(
        error, exc.ProgrammingError | exc.NotSupportedError
    ):  # a bug of ours, or no schema
        return error
    if _away_sqlite(error.orig) if isinstance(error.orig, sqlite3.Error) else _away(error):
        return StoreUnavailable("the database does not answer")
    return StatementFailed(f"the database failed at a statement ({_name(error.orig)})")


def _severity(error: exc.DBAPIError) -> str | None:
    severity: str | None = getattr(getattr(error.orig, "diag", None), "severity_nonlocalized", None)
    return severity


def _away(error: exc.DBAPIError) -> bool:
    """Without an SQLSTATE it was the driver that failed: the server said nothing."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return (
        state.startswith(_OUTAGES)
        if state
        else isinstance(error, exc.OperationalError | exc.InterfaceError | exc.InternalError)
    )


def _away_sqlite(error: sqlite3.Error) -> bool:
    """What has no code (text that is no UTF-8, say) was raised by Python's own module over a value that it had read."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF in _SQLITE_OUTAGES or (
        code == sqlite3.SQLITE_ERROR and str(error).startswith(_NO_SCHEMA)
    )


def _name(error: BaseException | None) -> str:
    """A code, never the driver's sentence: SQLite's quotes the text that it cannot decode."""
    return str(
        getattr(error, "sqlstate", None)
        or getattr(error, "sqlite_errorname", None)
        or type(error).__name__
    )
