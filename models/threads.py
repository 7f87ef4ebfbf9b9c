"""What was said before a row, across conversations: each row knows its parent, each conversation the answer that it follows.

A thread is walked from its end by ids and sizes, and no further than a limit of bytes; the texts are read once it is known that they
fit. So a chain of any length costs what it holds, and nothing that is said or edited beside it later changes it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from models.errors import HistoryTooLong
from models.quotas import ROW_BYTES, text_bytes
from models.tables import Conversation, Message

_BEFORE: Any = func.coalesce(col(Message.parent_id), col(Conversation.follows))


@dataclass(frozen=True, slots=True)
class Thread:
    """Rows in order. `whole`: nothing of what came before them has been deleted."""

    rows: list[Message]
    whole: bool
    size: int


async def thread(session: AsyncSession, last: str | None, limit: int | None) -> Thread:
    """All that was said up to the row `last`, that one included. Raises HistoryTooLong above `limit` bytes.

    The row itself counts, too: a thread of very many very short rows ends somewhere.
    """
    if last is None:
        return Thread([], whole=True, size=0)
    steps = _steps(last, limit)
    query = select(Message, steps.c.total, steps.c.before).join(steps, col(Message.id) == steps.c.id).order_by(steps.c.total)
    found = (await session.execute(query)).all()
    size = found[-1].total if found else 0
    if limit is not None and size > limit:
        raise HistoryTooLong(last)
    return Thread([row.Message for row in reversed(found)], whole=bool(found) and found[-1].before is None, size=size)


def _steps(last: str, limit: int | None) -> Any:
    """(id, size of the rows from `last` back to it, id of the row before it)."""
    price = ROW_BYTES + text_bytes
    walk = (
        select(col(Message.id).label("id"), price.label("total"), _BEFORE.label("before"))
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .where(col(Message.id) == last)
        .cte("walk", recursive=True)
    )
    return walk.union_all(
        select(col(Message.id), walk.c.total + price, _BEFORE)
        .join(walk, col(Message.id) == walk.c.before)
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .where(literal(True) if limit is None else walk.c.total <= limit)
    )


async def rows_before(session: AsyncSession, conversation_id: str, ordinal: int, limit: int | None) -> list[Message]:
    """The rows of one conversation before that ordinal, in order, without those that were superseded. Raises HistoryTooLong."""
    before = (
        col(Message.conversation_id) == conversation_id,
        col(Message.ordinal) < ordinal,
        col(Message.superseded_by).is_(None),
    )
    size = (await session.execute(select(func.coalesce(func.sum(ROW_BYTES + text_bytes), 0)).where(*before))).scalar_one()
    if limit is not None and size > limit:
        raise HistoryTooLong(conversation_id)
    return list(await session.scalars(select(Message).where(*before).order_by(col(Message.ordinal))))
