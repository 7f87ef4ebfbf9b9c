"""Rows at which a working database fails when they are written or read."""

import base64
import json
import os
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, Text

from tests.databases import Postgres, prefixed, sql
from tokenwire.models.shapes import Shaped
from tokenwire.models.store import Store
from tokenwire.models.tables import Message

# SQLModel adds it when the class is built.
_columns: Any = Message.__table__.columns  # type: ignore[attr-defined]
LONG = {
    one.name: "TEXT" if isinstance(one.type, Text) else "JSON"
    for one in _columns
    if isinstance(one.type, Text | JSON | Shaped)
}
"""Long column of a message -> its type: PostgreSQL keeps such values in blocks of their own, which
it may lose.
"""


async def poison(store: Store, message_id: str, failure: str) -> None:
    """Make the database fail this way (a statement of a trigger's body) whenever this row
    changes.
    """
    assert "'" not in message_id
    create = (
        [
            (
                f"CREATE TRIGGER poison BEFORE UPDATE ON messages WHEN NEW.id = '{message_id}' "
                f"BEGIN {failure}; END"
            )
        ]
        if store.is_sqlite
        else [
            (
                f"CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {failure}; "
                f"RETURN NEW; END $$"
            ),
            (
                f"CREATE TRIGGER poison BEFORE UPDATE ON messages FOR EACH ROW WHEN (NEW.id = "
                f"'{message_id}') EXECUTE FUNCTION poison()"
            ),
        ]
    )
    async with store.writing() as session:
        for statement in create:
            await (await session.connection()).exec_driver_sql(prefixed(statement))


async def unreadable(store: Store, message_id: str) -> None:
    """Replace the text of a row in SQLite with bytes that are no UTF-8."""
    async with store.writing() as session:
        await session.execute(
            sql("UPDATE messages SET content = CAST(x'fffe' AS TEXT) WHERE id = :id"),
            {"id": message_id},
        )


async def lose(
    store: Store, server: Postgres, values: Mapping[str, str], *, block: bool = True
) -> None:
    """Make PostgreSQL lose a long value of each of these rows (message id -> column). The server is
    restarted.

    `block` false: the blocks exist and are empty.
    """
    long = base64.b64encode(os.urandom(60_000)).decode()
    async with store.writing() as session:
        for message_id, column in values.items():
            value = long if LONG[column] == "TEXT" else json.dumps({"a": long})
            change = f"UPDATE messages SET {column} = CAST(:value AS {LONG[column]}) WHERE id = :id"
            await session.execute(sql(change), {"value": value, "id": message_id})
    async with store.reading() as session:
        where = (
            "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'messages'"
        )
        path = server.folder / "data" / (await session.execute(sql(where))).scalar_one()
    server.stop()
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, 0 if block else size)
    server.start()
