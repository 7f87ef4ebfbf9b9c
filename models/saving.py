"""Statements that write the parts of an unfinished answer beside its row.

Each has the same fence as the UPDATE of the row: the attempt, the number of the checkpoint, and
that the answer has not ended. The UPDATE comes first and holds the row's lock, so no other attempt
can write in between. If the UPDATE was refused, the row has another number, and these statements
change nothing either. A checkpoint runs them only for answers whose parts have changed, as one
batch per statement.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from sqlalchemy import ColumnElement, and_, bindparam, delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.dialects import insert
from tokenwire.models.parts import StoredPart
from tokenwire.models.tables import Message, UnfinishedPart, is_unfinished
from tokenwire.models.unsaved import PartsToSave

KEYS_AT_A_TIME = 1_000
"""Keys in one query. PostgreSQL accepts 65,535 parameters."""


class Saved(Protocol):
    """The fields of a checkpoint that these statements use."""

    @property
    def message_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def saves(self) -> int: ...
    @property
    def changes(self) -> PartsToSave: ...


# SQLModel adds it when the class is built.
_messages: Any = Message.__table__  # type: ignore[attr-defined]
_parts: Any = UnfinishedPart.__table__  # type: ignore[attr-defined]
_KEY = (col(UnfinishedPart.message_id), col(UnfinishedPart.number))
_NAMES = ("number", "type", "text", "value", "kept")
_fence = (
    _messages.c.id == bindparam("b_id"),
    _messages.c.attempt == bindparam("b_attempt"),
    _messages.c.saves == bindparam("b_saves"),
    is_unfinished(_messages.c),
)
_delete = delete(_parts).where(
    _parts.c.message_id == bindparam("b_id"),
    _parts.c.number >= bindparam("b_from"),
    select(_messages.c.id).where(*_fence).exists(),
)
_values = [bindparam(f"b_{name}", type_=_parts.c[name].type) for name in _NAMES]
_new = select(_messages.c.id, *_values).where(*_fence)


async def save_parts(session: AsyncSession, items: Sequence[Saved]) -> None:
    """Save the changed parts of these answers, after the answers' own rows."""
    cuts = [
        owner_values(item) | {"b_from": item.changes.deleted_from}
        for item in items
        if item.changes.deleted_from is not None
    ]
    rows = [owner_values(item) | _columns(part) for item in items for part in item.changes.parts]
    connection = await session.connection()
    if cuts:
        await connection.execute(_delete, cuts)
    if rows:
        upsert = insert(session, UnfinishedPart).from_select(["message_id", *_NAMES], _new)
        upsert = upsert.on_conflict_do_update(
            index_elements=["message_id", "number"],
            set_={name: upsert.excluded[name] for name in _NAMES[1:]},
        )
        await connection.execute(upsert, rows)


async def forget_parts(session: AsyncSession, message_id: str) -> None:
    """Delete the parts' rows of an answer that has ended: its own row holds everything."""
    change = delete(UnfinishedPart).where(col(UnfinishedPart.message_id) == message_id)
    await session.execute(change.execution_options(synchronize_session=False))


async def lock_parts(session: AsyncSession, items: Sequence[Saved]) -> frozenset[str]:
    """Lock the rows that saving these would change, without waiting.

    Returns the ids of the answers with a row that another transaction has locked. The caller
    leaves them out: otherwise all other answers would wait with them.
    """
    there, free = set[tuple[str, int]](), set[tuple[str, int]]()
    if session.get_bind().dialect.name != "sqlite":  # it locks no rows
        for condition in _conditions(items):
            rows = select(*_KEY).where(condition)
            # In this order, a row that is deleted between the two queries does not count as locked.
            free |= {
                (name, n)
                for name, n in await session.execute(rows.with_for_update(skip_locked=True))
            }
            there |= {(name, n) for name, n in await session.execute(rows)}
    return frozenset(name for name, _ in there - free)


def _conditions(items: Sequence[Saved]) -> Iterator[ColumnElement[bool]]:
    """Conditions for the rows that would be deleted or changed."""
    for item in items:
        if item.changes.deleted_from is not None:
            yield and_(_KEY[0] == item.message_id, _KEY[1] >= item.changes.deleted_from)
    keys = [(item.message_id, part.number) for item in items for part in item.changes.parts]
    for start in range(0, len(keys), KEYS_AT_A_TIME):
        yield tuple_(*_KEY).in_(keys[start : start + KEYS_AT_A_TIME])


def owner_values(item: Saved) -> dict[str, Any]:
    """The attempt that a statement writes for, and the number of its checkpoint."""
    return {"b_id": item.message_id, "b_attempt": item.attempt, "b_saves": item.saves}


def _columns(part: StoredPart) -> dict[str, Any]:
    return {f"b_{name}": getattr(part, name) for name in _NAMES}
