"""Databases of versions that kept their revision in `alembic_version`, and databases that only
resemble them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, inspect, text

import tokenwire.models.migrations
from tokenwire.models import migrate
from tokenwire.models.errors import MigrationRefused
from tokenwire.models.migrations import HEAD
from tokenwire.models.store import Store


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    """Of an empty database."""
    opened = migrate._open(empty_database_url)
    yield opened.execution_options(writes=True)
    opened.dispose()


def made_by_a_former_version(connection: Connection, revision: str) -> None:
    """The tables of that revision, with the former version table."""
    config = Config()
    config.set_main_option(
        "script_location", str(Path(tokenwire.models.migrations.__file__).parent)
    )
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
    connection.execute(text("DROP TABLE tokenwire_version"))
    pkey = "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)"
    connection.execute(
        text(f"CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, {pkey})")
    )
    connection.execute(
        text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision}
    )


def versions(engine: Engine) -> dict[str, list[str]]:
    """The contents of the existing version tables."""
    with engine.connect() as connection:
        there = [
            name
            for name in ("alembic_version", "tokenwire_version")
            if inspect(connection).has_table(name)
        ]
        return {
            name: list(connection.scalars(text(f"SELECT version_num FROM {name}")))
            for name in there
        }


@pytest.mark.parametrize("revision", ["0001", "0010", HEAD])
async def test_it_is_migrated_with_its_rows(
    empty_database_url: str, engine: Engine, revision: str
) -> None:
    """From its own revision. The old table stays for the previous version."""
    with engine.begin() as connection:
        made_by_a_former_version(connection, revision)
        columns = "id, user_id, rev, announced_rev, created_at, updated_at"
        connection.execute(
            text(f"INSERT INTO conversations ({columns}) VALUES ('c', 'me', 1, 1, 0, 0)")
        )
        connection.execute(
            text("INSERT INTO participants (conversation_id, user_id) VALUES ('c', 'me')")
        )
    assert migrate.migrate(empty_database_url)
    assert versions(engine) == {"alembic_version": [revision], "tokenwire_version": [HEAD]}
    assert not migrate.migrate(empty_database_url)
    store = Store.open(empty_database_url)
    try:
        assert (await store.conversation("c", "me")).user_id == "me"
        assert await store.check() is None
    finally:
        await store.aclose()


@pytest.mark.parametrize("found", [[], ["0001", "0002"], ["9999"], ["ab12cd34ef56"]])
def test_an_unknown_revision_is_refused(
    empty_database_url: str, engine: Engine, found: list[str]
) -> None:
    """Even beside tables like ours: nothing changes."""
    with engine.begin() as connection:
        made_by_a_former_version(connection, HEAD)
        connection.execute(text("DELETE FROM alembic_version"))
        for revision in found:
            connection.execute(
                text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision}
            )
    with pytest.raises(MigrationRefused, match="TABLE_PREFIX"):
        migrate.migrate(empty_database_url)
    assert {name: sorted(rows) for name, rows in versions(engine).items()} == {
        "alembic_version": found
    }


@pytest.mark.parametrize("table", sorted(migrate._OURS))
def test_tables_of_others_are_not_migrated(
    empty_database_url: str, engine: Engine, table: str
) -> None:
    """An equal revision proves nothing unless every table has our columns."""
    column = min(migrate._OURS[table] - {"id"})
    with engine.begin() as connection:
        made_by_a_former_version(connection, "0001")
        connection.execute(text(f"ALTER TABLE {table} RENAME COLUMN {column} TO other"))
    with pytest.raises(MigrationRefused, match=table):
        migrate.migrate(empty_database_url)
    assert versions(engine) == {"alembic_version": ["0001"]}


def test_a_hosts_version_table_alone_is_no_obstacle(
    empty_database_url: str, engine: Engine
) -> None:
    """Without tables of our names nothing is ambiguous: ours are created, and the host's revision
    stays.
    """
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0007')"))
    assert migrate.migrate(empty_database_url)
    assert versions(engine) == {"alembic_version": ["0007"], "tokenwire_version": [HEAD]}
