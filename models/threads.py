"""The history of a row across conversations: each row knows its parent, each conversation the
answer that it follows.

A thread is walked from its end by ids and sizes, within a limit of bytes; texts are read only after
they are known to fit. The walk uses parents, so later posts and edits do not change it. A deleted
row ends it, and the rest is never passed off as the whole; so does a row of a conversation that the
reader has left.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.errors import HistoryTooLong
from tokenwire.models.quotas import ROW_BYTES, answer_bytes
from tokenwire.models.tables import Conversation, Message, Participant

ROWS_A_TURN = 100
_has_content = or_(
    col(Message.content) != "", col(Message.parts).is_not(None), col(Message.part_count) > 0
)
_BEFORE: Any = func.coalesce(col(Message.parent_id), col(Conversation.follows))


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a thread. A row counts its text and a fixed price, so that many short rows are
    limited, too.

    `whole`: nothing was deleted or is invisible to the reader.
    """

    bytes: int
    whole: bool


async def measure(
    session: AsyncSession, last: str | None, limit: int | None, reader: str | None = None
) -> Size:
    """The size up to and including the row `last`. Raises HistoryTooLong above `limit` bytes.

    `reader`: the user who reads it; None for the system itself.
    """
    if last is None:
        return Size(0, whole=True)
    steps = _steps(last, limit, reader)
    end = (
        await session.execute(
            select(steps.c.total, steps.c.before).order_by(steps.c.total.desc()).limit(1)
        )
    ).first()
    if end is None:
        return Size(0, whole=False)
    if limit is not None and end.total > limit:
        raise HistoryTooLong(last)
    return Size(end.total, whole=end.before is None)


async def thread(session: AsyncSession, last: str | None, limit: int | None) -> list[Message]:
    """All rows up to and including `last`, in order; a deleted row and all before it are missing.
    Raises HistoryTooLong.
    """
    if last is None:
        return []
    await measure(session, last, limit)
    steps = _steps(last, limit)
    return await _load_in_slices(
        session,
        select(Message).join(steps, col(Message.id) == steps.c.id).order_by(steps.c.total.desc()),
    )


async def thread_ids(
    session: AsyncSession, last: str | None, limit: int | None, reader: str
) -> list[str]:
    """Ids of the same rows that are visible to the reader, without empty ones. Raises
    HistoryTooLong.
    """
    if last is None:
        return []
    await measure(session, last, limit, reader)
    steps = _steps(last, limit, reader)
    query = (
        select(steps.c.id)
        .join(Message, col(Message.id) == steps.c.id)
        .where(_has_content)
        .order_by(steps.c.total.desc())
    )
    return list(await session.scalars(query))


def _steps(last: str, limit: int | None, reader: str | None = None) -> Any:
    """(id, size from this row to `last`, id of the row before)."""
    price = ROW_BYTES + answer_bytes
    takes_part = exists().where(
        col(Participant.conversation_id) == col(Conversation.id), col(Participant.user_id) == reader
    )
    open_to_reader = literal(True) if reader is None else takes_part
    walk = (
        select(col(Message.id).label("id"), price.label("total"), _BEFORE.label("before"))
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .where(col(Message.id) == last, open_to_reader)
        .cte("walk", recursive=True)
    )
    return walk.union_all(
        select(col(Message.id), walk.c.total + price, _BEFORE)
        .join(walk, col(Message.id) == walk.c.before)
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .where(literal(True) if limit is None else walk.c.total <= limit, open_to_reader)
    )


async def rows_before(
    session: AsyncSession, conversation_id: str, ordinal: int, limit: int | None
) -> list[Message]:
    """The rows of one conversation before that ordinal, in order, without superseded ones. Raises
    HistoryTooLong.
    """
    before = await _fitting(session, conversation_id, ordinal, limit)
    return await _load_in_slices(
        session, select(Message).where(*before).order_by(col(Message.ordinal))
    )


async def ids_before(
    session: AsyncSession, conversation_id: str, ordinal: int, limit: int | None
) -> list[str]:
    """Ids of the same rows, without empty ones. Raises HistoryTooLong."""
    before = await _fitting(session, conversation_id, ordinal, limit)
    return list(
        await session.scalars(
            select(col(Message.id)).where(*before, _has_content).order_by(col(Message.ordinal))
        )
    )


async def _fitting(
    session: AsyncSession, conversation_id: str, ordinal: int, limit: int | None
) -> tuple[ColumnElement[bool], ...]:
    """The condition, after a check that the rows together are not too long."""
    before = (
        col(Message.conversation_id) == conversation_id,
        col(Message.ordinal) < ordinal,
        col(Message.superseded_by).is_(None),
    )
    size = (
        await session.execute(
            select(func.coalesce(func.sum(ROW_BYTES + answer_bytes), 0)).where(*before)
        )
    ).scalar_one()
    if limit is not None and size > limit:
        raise HistoryTooLong(conversation_id)
    return before


async def _load_in_slices(session: AsyncSession, query: Any) -> list[Message]:
    """The rows in slices: thousands at once would block the event loop."""
    # A cancelled caller would leave a server-side cursor open. The driver has read all rows when
    # this returns.
    rows = await session.run_sync(lambda sync: sync.scalars(query).yield_per(ROWS_A_TURN))
    found: list[Message] = []
    for some in rows.partitions():
        found += some
        await asyncio.sleep(0)
    return found
