"""One database for Tokenwire and an application with its own tables `messages`, `conversations` and
perhaps `alembic_version`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from tests.integration.forked import Done, run_module
from tokenwire.models.engines import driver_url
from tokenwire.models.migrations import HEAD

HOSTS = "tests.integration.hosts"
OURS, DJANGO, ALEMBIC = f"{HOSTS}.ours", f"{HOSTS}.django_host", f"{HOSTS}.alembic_host"
ANSWERED = "[('ours', ['hello?', 'hello!'])]"


@pytest.fixture
def shared_url(empty_database_url: str, tmp_path: Path) -> str:
    """An empty database; for SQLite the folder exists, as a host expects."""
    (tmp_path / "new").mkdir()
    return empty_database_url


def run(module: str, *arguments: str, prefix: str = "tw_", **environ: str) -> str:
    """The output of a program that must succeed."""
    done = attempt(module, *arguments, prefix=prefix, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attempt(module: str, *arguments: str, prefix: str = "tw_", **environ: str) -> Done:
    """The same for any exit code."""
    return run_module(module, arguments, environment(prefix) | environ)


def environment(prefix: str) -> dict[str, str]:
    """What each of them is handed."""
    ours = {"TABLE_PREFIX": prefix, "MODE": "development", "ENV_FILE": os.devnull}
    return os.environ | ours


def tables(url: str) -> set[str]:
    engine = engine_of(url)
    found = set(inspect(engine).get_table_names())
    engine.dispose()
    return found


def engine_of(url: str) -> Engine:
    return create_engine(driver_url(url, asynchronous=False))


@pytest.mark.parametrize("first", ["host", pytest.param("ours", marks=pytest.mark.long)])
def test_beside_django(shared_url: str, first: str) -> None:
    """Both migrate and work in either order, and neither sees the other's rows."""
    both = [(DJANGO, shared_url, "migrate"), (OURS, shared_url, "migrate")]
    for step in both if first == "host" else reversed(both):
        run(*step)
    assert run(DJANGO, shared_url, "write", "migrate") == "[('ada', 'board', 'a note')]\n"
    assert run(OURS, shared_url, "answer", "migrate") == f"tw_ {ANSWERED}\n"
    assert run(DJANGO, shared_url) == "[('ada', 'board', 'a note')]\n"
    assert {"messages", "auth_user", "tw_messages", "tw_tokenwire_version"} <= tables(shared_url)


@pytest.mark.parametrize("first", ["host", pytest.param("ours", marks=pytest.mark.long)])
def test_beside_alembic(shared_url: str, first: str) -> None:
    """Each has its own revision, though the host's has the name of one of ours. The host may
    downgrade to nothing and upgrade again.
    """
    both = [(ALEMBIC, shared_url, "upgrade"), (OURS, shared_url, "migrate")]
    for step in both if first == "host" else reversed(both):
        run(*step)
    assert run(OURS, shared_url, "answer") == f"tw_ {ANSWERED}\n"
    assert run(ALEMBIC, shared_url, "write") == "[('board', 'a note')]\n"
    assert run(ALEMBIC, shared_url, "downgrade", "upgrade") == "[]\n"
    assert run(OURS, shared_url, "migrate") == f"tw_ {ANSWERED}\n"
    engine = engine_of(shared_url)
    with engine.connect() as connection:
        assert (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
            == "0001"
        )
        assert (
            connection.execute(text("SELECT version_num FROM tw_tokenwire_version")).scalar_one()
            == HEAD
        )
    engine.dispose()


def test_beside_sqlmodel(shared_url: str) -> None:
    """In one process, a host's classes may have the names of ours. `create_all` creates only the
    host's tables.
    """
    assert run(ALEMBIC, shared_url, "create_all") == "[]\n"
    assert tables(shared_url) == {"messages", "conversations"}
    run(OURS, shared_url, "migrate", "answer")
    assert run(ALEMBIC, shared_url, "write") == "[('board', 'a note')]\n"


def test_a_hosts_autogenerate_leaves_our_tables(shared_url: str, tmp_path: Path) -> None:
    """With `include_name` it finds nothing to do; without, it would drop them all."""
    run(ALEMBIC, shared_url, "upgrade")
    run(OURS, shared_url, "migrate")
    careless = run(ALEMBIC, shared_url, f"revision={tmp_path}/careless")
    assert "op.drop_table('tw_messages')" in careless
    assert "op.drop_table('tw_tokenwire_version')" in careless
    careful = run(ALEMBIC, shared_url, f"revision={tmp_path}/careful", KEEP_OURS="1")
    assert "def upgrade()" in careful
    assert "op." not in careful


@pytest.mark.parametrize("host", [DJANGO, ALEMBIC])
def test_without_a_prefix_nothing_of_a_host_is_touched(shared_url: str, host: str) -> None:
    """The migration names the tables and the setting, and leaves the database as it was."""
    said = run(host, shared_url, {DJANGO: "migrate", ALEMBIC: "upgrade"}[host], "write")
    before = tables(shared_url)
    refused = attempt("tokenwire.models.migrate", prefix="", DATABASE_URL=shared_url)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "conversations, messages" in refused.stderr
    assert "TABLE_PREFIX" in refused.stderr
    assert (tables(shared_url), run(host, shared_url)) == (before, said)


def test_two_prefixes_are_two_installations(shared_url: str) -> None:
    """On PostgreSQL too, where index names are unique in a schema."""
    assert run(OURS, shared_url, "migrate", "answer", prefix="one_") == f"one_ {ANSWERED}\n"
    assert run(OURS, shared_url, "migrate", prefix="two_") == "two_ []\n"
    assert run(OURS, shared_url, "migrate", prefix="") == " []\n"


def test_a_prefix_that_makes_no_plain_name_is_refused() -> None:
    """In one line, before any table is declared."""
    refused = attempt("tokenwire.models.migrate", prefix="Chat-")
    assert refused.returncode == 78
    assert refused.stderr.startswith("tokenwire: wrong setting: TABLE_PREFIX: ")
    assert refused.stderr.count("\n") == 1


def test_the_longest_prefix_leaves_room_for_every_name(tmp_path: Path) -> None:
    """PostgreSQL silently cuts names at 63 bytes: two would become one."""
    longest = "p" * 24
    names = run(f"{HOSTS}.all_names", f"sqlite:///{tmp_path}/t.db", prefix=longest).split()
    assert len(names) > 30
    assert [name for name in names if not name.startswith(longest) or len(name.encode()) > 63] == []


def contracts(*arguments: str) -> "subprocess.CompletedProcess[str]":
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*pytest_, "--ignore=tests/contracts/log", "tests/contracts", *arguments],
        env=environment("tw_"),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )


@pytest.mark.long
def test_query_plans_hold_with_a_prefix() -> None:
    """Each query uses its index on both databases."""
    done = contracts(
        "-k",
        "no_query_reads_a_table or reading_the_messages or metadata_and_migrations or cascades",
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_store_keeps_its_contract_with_a_prefix() -> None:
    """All of the store's promises, on both databases."""
    done = contracts()
    assert done.returncode == 0, done.stdout
