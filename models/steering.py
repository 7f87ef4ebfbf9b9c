"""Steering: a running answer takes waiting posts of its conversation in at a step.

Guarantees: a post is taken in at most once, by one answer, and is then not answered a second time.
Its message and its placeholder change in one transaction, which only the attempt that has the
answer commits. A cancelled or replaced post is not taken in. What was taken in is found again
until a step names it, so a crash between the two loses nothing.

Why it works this way: `steers` at the user's row is the record, and a step that names the row is
what readers and the model see of it. The conversation's row is locked first, as in a post, so a
post, an edit and a step follow one another.

Rejected: the running answer's row holds what it took in (two rows could then disagree about one
message); the step is appended first (a crash behind it would answer the message twice).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.call_rows import lock_held
from tokenwire.models.database import Database, now_ms
from tokenwire.models.tables import Conversation, Message, is_unfinished

STEERED: Final = "steered"
"""Who cancels the placeholder of a post that was taken in."""
STEER: Final = "steer"
QUEUE: Final = "queue"
"""Of a placeholder: its post never steers, because its client follows the placeholder."""
MOST_AT_A_STEP = 50
"""Posts that one step takes in. The next step takes more of them."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What an answer has taken in, now and before: users' messages in order, and the ids of the
    placeholders that ended now.
    """

    messages: Sequence[Message] = ()
    ended: Sequence[str] = ()


class Steering(Database):
    """Queries and writes of steering."""

    async def take_in(self, conversation_id: str, message_id: str, attempt: int) -> TakenIn | None:
        """Take in the posts that wait behind the answer and may steer. A cancelled answer takes
        none. None: the answer belongs to another attempt.
        """
        mine = select(col(Conversation.id)).where(col(Conversation.id) == conversation_id)
        async with self.writing() as session:
            await session.execute(mine.with_for_update())
            row = await lock_held(session, message_id, attempt)
            if row is None:
                return None
            ended: Sequence[str] = ()
            if row.cancel_by is None and row.superseded_by is None:
                ended = await _take(session, conversation_id, message_id)
            taken = select(Message).where(
                *_behind(conversation_id, message_id),
                col(Message.steers) == message_id,
                col(Message.superseded_by).is_(None),
            )
            return TakenIn(list(await session.scalars(taken.order_by(col(Message.ordinal)))), ended)

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


async def may_steer_behind(session: AsyncSession, message_id: str) -> None:
    """Let the posts that wait behind this answer steer, unless they need an answer of their own."""
    own = select(col(Message.conversation_id)).where(col(Message.id) == message_id)
    change = (
        update(Message)
        .where(
            *_behind(own.scalar_subquery(), message_id),
            _waits(),
            col(Message.while_running).is_(None),
        )
        .values(while_running=STEER)
    )
    await session.execute(change.execution_options(synchronize_session=False))


async def _take(session: AsyncSession, conversation_id: str, message_id: str) -> list[str]:
    """Move what waits to this answer, and return the ids of the placeholders, which have ended."""
    query = (
        select(col(Message.id), col(Message.parent_id))
        .where(*_behind(conversation_id, message_id), _waits(), col(Message.while_running) == STEER)
        .order_by(col(Message.ordinal))
        .limit(MOST_AT_A_STEP)
    )
    found = (await session.execute(query.with_for_update())).all()
    if not found:
        return []
    ended = [row.id for row in found]
    # An empty answer: its quotas have nothing to settle.
    end = update(Message).where(col(Message.id).in_(ended))
    end = end.values(
        status="cancelled",
        attempt=1,
        cancel_by=STEERED,
        superseded_by=message_id,
        due_at=None,
        updated_at=now_ms(),
        ended_at=now_ms(),
    )
    await session.execute(end.execution_options(synchronize_session=False))
    users = update(Message).where(col(Message.id).in_([row.parent_id for row in found]))
    users = users.values(steers=message_id)
    await session.execute(users.execution_options(synchronize_session=False))
    return ended


def _behind(conversation_id: Any, message_id: str) -> tuple[Any, ...]:
    """The rows of the conversation behind this one."""
    own = select(col(Message.ordinal)).where(col(Message.id) == message_id).scalar_subquery()
    return col(Message.conversation_id) == conversation_id, col(Message.ordinal) > own


def _waits() -> Any:
    """A placeholder that nobody has begun, cancelled or replaced."""
    return and_(
        is_unfinished(Message),
        col(Message.status) == "queued",
        col(Message.attempt) == 0,
        col(Message.cancel_by).is_(None),
        col(Message.superseded_by).is_(None),
    )
