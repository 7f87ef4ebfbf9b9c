"""Steering: a running answer takes waiting posts of its conversation in at a step.

Guarantees: a post is taken in at most once, by one answer, and is then not answered a second time.
A message that no step of the answer names is answered next, however the answer ends and wherever a
process dies. A placeholder ends only when the answer's row has the step.

Why it works this way: the step is the record. It comes into the log, then into the answer's row,
and then the placeholder ends. Until then no row has changed, so a cancel, a failure or a crash in
between has nothing to undo. Nothing is answered twice: a placeholder does not begin while an
earlier answer is unfinished, and the end of an answer ends the placeholders of all messages that
its steps name, in one transaction. The conversation's row is locked first, as in a post, so a post,
an edit and a step follow one another.

Rejected: the placeholder ends before the step (readers would have seen an end that a cancel or an
exhausted budget takes back); the running answer's row holds what it will take in (two rows could
then disagree about one message).
"""

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from tokenwire.models.call_rows import lock_held
from tokenwire.models.database import Database, now_ms
from tokenwire.models.tables import Conversation, Message, is_unfinished

STEERED: Final = "steered"
"""Who cancels the placeholder of a post that was taken in."""
STEER: Final = "steer"
QUEUE: Final = "queue"
"""Of a placeholder: its message never steers, because somebody wants just this answer."""
MOST_AT_A_STEP = 50
"""Posts that one step takes in. The next step takes more of them."""


class Steering(Database):
    """Queries and writes of steering."""

    async def steering_behind(self, message_id: str, attempt: int) -> list[str]:
        """The users' messages that wait behind the answer and may steer it, in order: none if it is
        cancelled or belongs to another attempt.
        """
        own = aliased(Message)
        query = (
            select(col(Message.parent_id))
            .join(own, col(own.conversation_id) == col(Message.conversation_id))
            .where(
                col(own.id) == message_id,
                col(own.attempt) == attempt,
                col(own.cancel_by).is_(None),
                col(own.superseded_by).is_(None),
                is_unfinished(own),
                col(Message.ordinal) > col(own.ordinal),
                _waits(),
                col(Message.cancel_by).is_(None),
                col(Message.while_running) == STEER,
            )
            .order_by(col(Message.ordinal))
            .limit(MOST_AT_A_STEP)
        )
        async with self.reading() as session:
            return [name for name in await session.scalars(query) if name is not None]

    async def take_in(
        self, message_id: str, attempt: int, ids: Collection[str]
    ) -> list[str] | None:
        """End the placeholders of these messages, which steps in the answer's row name; the ids of
        those that ended now. None: the answer belongs to another attempt, or has ended.
        """
        async with self.writing() as session:
            await lock_conversation_of(session, message_id)
            if await lock_held(session, message_id, attempt) is None:
                return None
            return await end_placeholders(session, message_id, ids)

    async def texts_of(self, ids: Collection[str]) -> dict[str, str]:
        """The texts of these users' messages, by id."""
        query = select(col(Message.id), col(Message.content)).where(
            col(Message.id).in_(sorted(ids)), col(Message.role) == "user"
        )
        async with self.reading() as session:
            return {row.id: row.content for row in await session.execute(query)}


async def answer_to(session: AsyncSession, user: Message, answer: Message) -> Message:
    """The answer to a post: the placeholder, or the answer that took its message in."""
    if user.steers is None or answer.superseded_by != user.steers:
        return answer
    return await session.get(Message, user.steers) or answer


async def let_posts_steer(session: AsyncSession, message_id: str) -> None:
    """Let the posts that wait behind this answer steer, unless they need an answer of their own."""
    change = (
        update(Message)
        .where(
            *_behind(message_id),
            _waits(),
            col(Message.cancel_by).is_(None),
            col(Message.while_running).is_(None),
        )
        .values(while_running=STEER)
    )
    await session.execute(change.execution_options(synchronize_session=False))


async def lock_conversation_of(session: AsyncSession, message_id: str) -> None:
    """Lock the conversation of the message until the transaction ends."""
    own = select(col(Message.conversation_id)).where(col(Message.id) == message_id)
    mine = select(col(Conversation.id)).where(col(Conversation.id) == own.scalar_subquery())
    await session.execute(mine.with_for_update(key_share=True))


async def end_placeholders(
    session: AsyncSession, message_id: str, ids: Collection[str]
) -> list[str]:
    """End the placeholders of messages that this answer has taken in; the ids of those that ended
    now. One that somebody cancels at this moment leaves the conversation all the same.

    The conversation is locked.
    """
    query = select(col(Message.id), col(Message.parent_id), _waits().label("waits")).where(
        *_behind(message_id),
        col(Message.parent_id).in_(sorted(ids)),
        col(Message.while_running) == STEER,
        col(Message.superseded_by).is_(None),
    )
    query = query.order_by(col(Message.ordinal)).with_for_update(key_share=True)
    found = (await session.execute(query)).all()
    ended = [row.id for row in found if row.waits]
    # An empty answer: its quotas have nothing to settle.
    await _set(
        session,
        ended,
        status="cancelled",
        attempt=1,
        cancel_by=STEERED,
        due_at=None,
        updated_at=now_ms(),
        ended_at=now_ms(),
    )
    await _set(session, [row.id for row in found], superseded_by=message_id)
    await _uncount(session, message_id, len(found))
    await _set(session, [row.parent_id for row in found], steers=message_id)
    return ended


async def _uncount(session: AsyncSession, message_id: str, gone: int) -> None:
    """Take rows that left it off the count of the conversation of this message."""
    if gone:
        own = select(col(Message.conversation_id)).where(col(Message.id) == message_id)
        change = (
            update(Conversation)
            .where(col(Conversation.id) == own.scalar_subquery())
            .values(message_count=col(Conversation.message_count) - gone)
        )
        await session.execute(change.execution_options(synchronize_session=False))


async def _set(session: AsyncSession, ids: Collection[str], **values: Any) -> None:
    if ids:
        change = update(Message).where(col(Message.id).in_(ids)).values(**values)
        await session.execute(change.execution_options(synchronize_session=False))


def _behind(message_id: str) -> tuple[Any, ...]:
    """The rows of the same conversation behind this one."""
    own = select(col(Message.conversation_id)).where(col(Message.id) == message_id)
    place = select(col(Message.ordinal)).where(col(Message.id) == message_id)
    return (
        col(Message.conversation_id) == own.scalar_subquery(),
        col(Message.ordinal) > place.scalar_subquery(),
    )


def _waits() -> Any:
    """A placeholder that nobody has begun."""
    return and_(
        is_unfinished(Message),
        col(Message.status) == "queued",
        col(Message.attempt) == 0,
    )
