"""`python -m tokenwire.models.migrate`: bring the database of DATABASE_URL to the newest revision; quick when it is there already.

Two starts at once do not race: PostgreSQL holds an advisory lock, SQLite its write lock, and who comes second finds nothing to do.
"""

import contextlib
import os
import sys
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, exc, inspect, text

from tokenwire.models.database import CONNECT_SECONDS, driver_url, tune_sqlite
from tokenwire.models.errors import MigrationRefused
from tokenwire.models.migrations import HEAD

_LOCK = 0x746F6B656E776972
"""The advisory lock: any number that no other program uses ("tokenwir")."""


def migrate(database_url: str) -> bool:
    """Upgrade; True if there was something to do. Creates the folder of a SQLite file.

    Raises ValueError for an unusable address, MigrationRefused, and sqlalchemy.exc.SQLAlchemyError as it comes.
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
    """Run the revisions that are missing, in the transaction of this connection. Raises MigrationRefused."""
    # Loaded here: a start that has nothing to do need not wait for it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationRefused(str(error)) from error


def _open(database_url: str) -> Engine:
    url = driver_url(database_url, asynchronous=False)
    if url.drivername.startswith("sqlite") and url.database is not None:
        _make_private(Path(url.database))
    if not url.drivername.startswith("sqlite"):  # a revision may take long; a server that does not even answer is given up
        return create_engine(url, hide_parameters=True, connect_args={"connect_timeout": round(CONNECT_SECONDS)})
    engine = create_engine(url, hide_parameters=True)
    tune_sqlite(engine)
    return engine


def _make_private(path: Path) -> None:
    """A new database file is for its owner's eyes only; SQLite gives the same rights to the files that it puts beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def main() -> int:
    """The command: one line on what was done or what is wrong; exit code 0, or 1 where the database refuses or is away."""
    from tokenwire.config.settings import load

    url = load(needs=["database_url"]).database_url
    try:
        done = migrate(url)
    except ValueError as error:
        sys.stderr.write(f"tokenwire: wrong setting: {error}\n")
        return 78
    except (MigrationRefused, exc.SQLAlchemyError) as error:
        sys.stderr.write(f"tokenwire: the database cannot be migrated: {getattr(error, 'orig', None) or error}\n")
        return 1
    name = driver_url(url, asynchronous=False).render_as_string(hide_password=True)
    sys.stdout.write(f"{name} {'migrated to' if done else 'is at'} revision {HEAD}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
