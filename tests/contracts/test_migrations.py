"""The migrations create exactly the tables that the code declares, on SQLite and PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

import tokenwire.models.migrations
from tokenwire.models.engines import driver_url
from tokenwire.models.migrate import migrate
from tokenwire.models.migrations import KNOWN
from tokenwire.models.names import VERSION, named
from tokenwire.models.tables import Table


def engine_of(database_url: str) -> Engine:
    return create_engine(driver_url(database_url, asynchronous=False))


def test_metadata_and_migrations_agree(empty_database_url: str) -> None:
    """A further migration would be empty: tables, columns, types, indexes, keys."""
    assert migrate(empty_database_url)
    engine = engine_of(empty_database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION.name}
        )
        assert compare_metadata(context, Table.metadata) == []
    engine.dispose()


def test_deletion_cascades_as_declared(empty_database_url: str) -> None:
    """What alembic does not compare: the foreign keys' ON DELETE, and the partial index."""
    migrate(empty_database_url)
    engine = engine_of(empty_database_url)
    found = inspect(engine)
    for table in ("messages", "participants", "unfinished_parts", "calls", "decisions"):
        assert [key["options"].get("ondelete") for key in found.get_foreign_keys(named(table))] == [
            "CASCADE"
        ]
    partial = next(
        index
        for index in found.get_indexes(named("messages"))
        if index["name"] == named("ix_messages_unfinished")
    )
    options = {
        name.partition("_")[2]: str(value) for name, value in partial["dialect_options"].items()
    }
    assert "waiting" in options["where"]
    engine.dispose()


def test_a_second_migration_has_nothing_to_do(empty_database_url: str) -> None:
    """It reports this and changes nothing."""
    assert migrate(empty_database_url)
    assert not migrate(empty_database_url)


def test_migrations_at_once_do_not_race(empty_database_url: str) -> None:
    """One of them does the work, and all succeed."""
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(migrate, [empty_database_url] * 4))
    assert sorted(done) == [False, False, False, True]


def test_head_is_the_newest_script() -> None:
    """The constant that processes compare with is the last revision of one line."""
    config = Config()
    config.set_main_option(
        "script_location", str(Path(tokenwire.models.migrations.__file__).parent)
    )
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [tokenwire.models.migrations.HEAD]
    assert {script.revision for script in scripts.walk_revisions()} == KNOWN
