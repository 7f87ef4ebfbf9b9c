"""Rows at which a living database fails: when they are written, or when they are read."""

import base64
import os

from sqlalchemy import text

from models.store import Store
from tests.databases import Postgres


async def poison(store: Store, message_id: str, failure: str) -> None:
    """Let the database fail so (a statement of a trigger's body) whenever this row is changed."""
    assert "'" not in message_id
    create = (
        [f"CREATE TRIGGER poison BEFORE UPDATE ON messages WHEN NEW.id = '{message_id}' BEGIN {failure}; END"]
        if store.is_sqlite
        else [
            f"CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {failure}; RETURN NEW; END $$",
            f"CREATE TRIGGER poison BEFORE UPDATE ON messages FOR EACH ROW WHEN (NEW.id = '{message_id}') EXECUTE FUNCTION poison()",
        ]
    )
    async with store.writing() as session:
        for statement in create:
            await (await session.connection()).exec_driver_sql(statement)


async def unreadable(store: Store, message_id: str) -> None:
    """Make the text of a row of SQLite bytes that are no UTF-8."""
    async with store.writing() as session:
        await session.execute(text("UPDATE messages SET content = CAST(x'fffe' AS TEXT) WHERE id = :id"), {"id": message_id})


async def lose_text(store: Store, server: Postgres, message_id: str) -> None:
    """Let PostgreSQL lose the block that holds the text of a row. The server is restarted."""
    long = base64.b64encode(os.urandom(60_000)).decode()
    async with store.writing() as session:
        await session.execute(text("UPDATE messages SET content = :content WHERE id = :id"), {"content": long, "id": message_id})
    async with store.reading() as session:
        where = "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'messages'"
        path = (await session.execute(text(where))).scalar_one()
    server.stop()
    os.truncate(server.folder / "data" / path, 0)
    server.start()
