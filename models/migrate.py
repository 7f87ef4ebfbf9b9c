"""`python -m tokenwire.models.migrate` brings the database of DATABASE_URL to the newest revision.

Two migrations that start at once do not race: PostgreSQL holds an advisory lock, SQLite its write
lock. The second one finds nothing to do.

The database may also be a host application's. Therefore our revision stands in a table of our own
(`names.VERSION`), and the first revision creates its tables only if all of their names are free.
Earlier versions kept the revision in `alembic_version`, a name that every project with alembic
uses. `_former_revision` adopts that table only if it can be nobody else's. The table itself stays,
because processes of the version before still read it.

Rejected: dropping the old table (a host may own it), and adopting it with fewer proofs (a host's
revisions may be numbered like ours, and its table `messages` is not ours).
"""

import contextlib
import os
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, column, create_engine, exc, inspect, select, table, text

from tokenwire.config.arguments import refuse_arguments
from tokenwire.models.engines import CONNECT_SECONDS, driver_url, tune_sqlite
from tokenwire.models.errors import MigrationRefused
from tokenwire.models.migrations import HEAD, KNOWN
from tokenwire.models.names import PREFIX, VERSION

_LOCK = 0x746F6B656E776972
"""The advisory lock: any number that no other program uses ("tokenwir")."""

_FORMER = table("alembic_version", column("version_num"))
_OURS = {
    "conversations": {"id", "user_id", "instructions", "rev", "announced_rev"},
    "participants": {"conversation_id", "user_id"},
    "messages": {
        "conversation_id",
        "ordinal",
        "seq",
        "epoch",
        "attempt",
        "started_with",
        "announced_rev",
        "terminal_announced",
        "cancel_by",
    },
    "idempotency_keys": {"user_id", "route", "key", "body_hash", "made"},
}
"""Columns that our tables have had since the first revision. No other project has all of them."""


def migrate(database_url: str) -> bool:
    """Upgrade; True if there was something to do. Creates the folder of a SQLite file.

    Raises ValueError for an unusable address, MigrationRefused, sqlalchemy.exc.SQLAlchemyError.
    """
    engine = _open(database_url)
    try:
        with engine.connect() as connection:
            if _revision(connection) == HEAD:
                return False
        with engine.execution_options(writes=True).begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            if _revision(connection) == HEAD:
                return False
            upgrade(connection)
            return True
    finally:
        engine.dispose()


def upgrade(connection: Connection) -> None:
    """Run the missing revisions in the transaction of this connection. Raises MigrationRefused."""
    # Loaded here: a start that has nothing to do need not wait for it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option(
        "script_location", str(Path(__file__).parent / "migrations").replace("%", "%%")
    )
    config.attributes["connection"] = connection
    try:
        if _revision(connection) is None:
            former = _former_revision(connection)
            if former is None:
                _refuse_taken_names(connection)
            else:
                command.stamp(config, former)
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationRefused(str(error)) from error


def _open(database_url: str) -> Engine:
    url = driver_url(database_url, asynchronous=False)
    if url.drivername.startswith("sqlite") and url.database is not None:
        _make_private(Path(url.database))
    if not url.drivername.startswith(
        "sqlite"
    ):  # a revision may take long; a server that does not even answer is given up
        return create_engine(
            url, hide_parameters=True, connect_args={"connect_timeout": round(CONNECT_SECONDS)}
        )
    engine = create_engine(url, hide_parameters=True)
    tune_sqlite(engine)
    return engine


def _make_private(path: Path) -> None:
    """Create the file for its owner's eyes only. SQLite gives files beside it the same rights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION.name):
        return None
    return connection.execute(select(VERSION.c.version_num)).scalar_one_or_none()


def _former_revision(connection: Connection) -> str | None:
    """What `alembic_version` says, if it is ours: a single revision that we know, our columns in
    all tables, and no prefix (the versions that used this table had none)."""
    if PREFIX or not _has(connection, "alembic_version", {"version_num"}):
        return None
    found = list(connection.scalars(select(_FORMER.c.version_num)))
    ours = (
        len(found) == 1
        and found[0] in KNOWN
        and all(_has(connection, name, columns) for name, columns in _OURS.items())
    )
    return str(found[0]) if ours else None


def _has(connection: Connection, name: str, columns: set[str]) -> bool:
    found = inspect(connection)
    return found.has_table(name) and columns <= {each["name"] for each in found.get_columns(name)}


def _refuse_taken_names(connection: Connection) -> None:
    """A database without our revision holds no table of ours. A table of such a name belongs to
    somebody else, or our revision was lost."""
    from tokenwire.models.tables import Table

    taken = sorted(Table.metadata.tables.keys() & set(inspect(connection).get_table_names()))
    if taken:
        raise MigrationRefused(
            f"the database has tables of these names already: {', '.join(taken)}. They are not "
            "known to be Tokenwire's. If another application uses them, set TABLE_PREFIX "
            "(docs/host-database.md)"
        )


def main() -> int:
    """The command: one line on what was done or what is wrong. Exit code 0; 1 if the database
    refuses or is away; 78 for a wrong setting."""
    from tokenwire.config.settings import load

    url = load(needs=["database_url"]).database_url
    try:
        done = migrate(url)
    except ValueError as error:
        sys.stderr.write(f"tokenwire: wrong setting: {error}\n")
        return os.EX_CONFIG
    except (MigrationRefused, exc.SQLAlchemyError) as error:
        sys.stderr.write(
            f"tokenwire: the database cannot be migrated: {getattr(error, 'orig', None) or error}\n"
        )
        return 1
    name = driver_url(url, asynchronous=False).render_as_string(hide_password=True)
    sys.stdout.write(f"{name} {'migrated to' if done else 'is at'} revision {HEAD}\n")
    return 0


if __name__ == "__main__":
    refuse_arguments()
    raise SystemExit(main())
