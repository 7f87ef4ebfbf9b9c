"""Queries of the sweeper: everything that SQL knows to be outstanding. What is done about it is the worker's decision."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select, text
from sqlalchemy.orm import aliased
from sqlmodel import col

from models.database import Database, now_ms
from models.tables import UNANNOUNCED_END_SQL, UNFINISHED_SQL, Conversation, Message


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A row that has not ended, or whose end the log may not hold. Times are ms by the database's clock.

    `first_in_line`: no earlier answer of its conversation is unfinished.
    """

    message_id: str
    conversation_id: str
    status: str
    ended: bool
    first_in_line: bool
    cancel_by: str | None
    enqueued_at: int | None
    due_at: int | None
    updated_at: int
    now: int


class Sweeps(Database):
    """What the sweeper asks."""

    async def outstanding(self, limit: int) -> list[Outstanding]:
        """Unfinished answers, oldest first, then ended ones whose terminal event is not known to be in the log; at most `limit` each."""
        async with self.reading() as session:
            unfinished = (await session.execute(_columns(UNFINISHED_SQL, limit))).all()
            ended = (await session.execute(_columns(UNANNOUNCED_END_SQL, limit))).all()
        return [_outstanding(row, ended=False) for row in unfinished] + [_outstanding(row, ended=True) for row in ended]

    async def unannounced_rows(self, older_than_ms: int, limit: int) -> list[Message]:
        """Rows whose newest revision the log is not known to hold."""
        query = (
            select(Message)
            .where(col(Message.announced_rev) < col(Message.rev), col(Message.updated_at) < now_ms() - older_than_ms)
            .order_by(col(Message.conversation_id), col(Message.ordinal))
            .limit(limit)
        )
        async with self.reading() as session:
            return list(await session.scalars(query))

    async def unannounced_titles(self, older_than_ms: int, limit: int) -> list[Conversation]:
        """Conversations whose newest title the log is not known to hold."""
        query = (
            select(Conversation)
            .where(
                col(Conversation.announced_rev) < col(Conversation.rev),
                col(Conversation.updated_at) < now_ms() - older_than_ms,
                col(Conversation.title).is_not(None),
            )
            .limit(limit)
        )
        async with self.reading() as session:
            return list(await session.scalars(query))


def _columns(condition: str, limit: int) -> Any:
    earlier = aliased(Message, name="earlier")
    blocked = exists().where(
        col(earlier.conversation_id) == col(Message.conversation_id),
        col(earlier.ordinal) < col(Message.ordinal),
        text(f"earlier.{UNFINISHED_SQL}"),
    )
    return (
        select(
            col(Message.id),
            col(Message.conversation_id),
            col(Message.status),
            col(Message.cancel_by),
            col(Message.enqueued_at),
            col(Message.due_at),
            col(Message.updated_at),
            blocked.label("blocked"),
            now_ms().label("now"),
        )
        .where(text(condition))
        .order_by(col(Message.id))
        .limit(limit)
    )


def _outstanding(row: Any, *, ended: bool) -> Outstanding:
    return Outstanding(
        row.id,
        row.conversation_id,
        row.status,
        ended,
        not row.blocked,
        row.cancel_by,
        row.enqueued_at,
        row.due_at,
        row.updated_at,
        row.now,
    )
