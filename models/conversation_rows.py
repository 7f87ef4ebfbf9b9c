"""The rows of a conversation within one transaction: who may see it, its lock, new rows, and rows
that are superseded. Posts of our API, of chats and of OpenAI's clients share this.

A user who is no participant gets NotFound, as if the row did not exist.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.database import now_ms
from tokenwire.models.errors import NotAuthor, NotFound
from tokenwire.models.tables import Conversation, Message, Participant
from tokenwire.protocol.states import UNFINISHED


def takes_part(user_id: str) -> Any:
    """In SQL: whether the user is a participant of the conversation."""
    return exists().where(
        col(Participant.conversation_id) == col(Conversation.id),
        col(Participant.user_id) == user_id,
    )


def archived_by(user_id: str) -> Any:
    """In SQL: whether the conversation is in this participant's archive."""
    return exists().where(
        col(Participant.conversation_id) == col(Conversation.id),
        col(Participant.user_id) == user_id,
        col(Participant.archived_at).is_not(None),
    )


def existing(row: Conversation | None) -> Conversation:
    """The row. Raises NotFound if there is none."""
    if row is None:
        raise NotFound("conversation")
    return row


async def visible(session: AsyncSession, conversation_id: str, user_id: str) -> Conversation:
    """The conversation, for a participant. Raises NotFound."""
    query = select(Conversation).where(col(Conversation.id) == conversation_id, takes_part(user_id))
    return existing((await session.scalars(query)).first())


async def lock(session: AsyncSession, conversation_id: str, user_id: str) -> Conversation:
    """The conversation, for a participant, locked against new rows until the transaction ends.
    Raises NotFound.
    """
    # An UPDATE instead of SELECT FOR UPDATE: it locks on both databases and returns the clock. Its
    # holder assigns ordinals.
    change = (
        update(Conversation)
        .where(col(Conversation.id) == conversation_id, takes_part(user_id))
        .values(updated_at=now_ms())
        .returning(Conversation)
    )
    return existing((await session.scalars(change)).first())


def count_rows(conversation: Conversation, added: int) -> None:
    """Count new rows of a conversation that this transaction has locked or made."""
    conversation.message_count += added
    conversation.last_message_at = conversation.updated_at


@dataclass(frozen=True, slots=True)
class Miscount:
    """A conversation whose `message_count` differs from its rows."""

    conversation_id: str
    counted: int
    stored: int


async def miscounts(session: AsyncSession) -> list[Miscount]:
    """Every conversation with a wrong count. `session` must see one snapshot."""
    stored = (
        select(col(Message.conversation_id), func.count().label("rows"))
        .where(col(Message.superseded_by).is_(None))
        .group_by(col(Message.conversation_id))
        .subquery()
    )
    rows = func.coalesce(stored.c.rows, 0)
    query = (
        select(col(Conversation.id), col(Conversation.message_count), rows)
        .outerjoin(stored, stored.c.conversation_id == col(Conversation.id))
        .where(col(Conversation.message_count) != rows)
        .order_by(col(Conversation.id))
    )
    return [Miscount(*row) for row in await session.execute(query)]


async def amend_count(session: AsyncSession, found: Miscount) -> None:
    """Correct a count by the difference: what was added since stays counted."""
    change = (
        update(Conversation)
        .where(col(Conversation.id) == found.conversation_id)
        .values(message_count=col(Conversation.message_count) + found.stored - found.counted)
    )
    await session.execute(change.execution_options(synchronize_session=False))


async def add_conversation(
    session: AsyncSession, conversation_id: str, user_id: str, **columns: Any
) -> Conversation:
    """A new row with its owner as only participant; `columns`: further columns."""
    now = (await session.execute(select(now_ms()))).scalar_one()
    row = Conversation(
        id=conversation_id, user_id=user_id, created_at=now, updated_at=now, **columns
    )
    session.add(row)
    await session.flush()
    session.add(Participant(conversation_id=row.id, user_id=user_id))
    return row


def named_row(conversation_id: str, name: str) -> Select[Message]:
    """The query of the row with this id, else of the row with this client id.

    A present row comes before a superseded one: an edited message keeps its name, and the new row
    is meant. The id comes before the client's name: otherwise a client could hide a row behind a
    message with its id as name.
    """
    return (
        select(Message)
        .where(
            col(Message.conversation_id) == conversation_id,
            or_(col(Message.id) == name, col(Message.client_id) == name),
        )
        .order_by(col(Message.superseded_by).is_not(None), col(Message.id) != name)
        .limit(1)
    )


async def supersede(
    session: AsyncSession, first: Message, by: str, conversation: Conversation, user_id: str
) -> list[str]:
    """Take `first` and all rows after it out of the conversation; `by` replaces them. Returns the
    ids of answers to cancel.

    A superseded client id can be used again. Only the owner may supersede other people's messages:
    NotAuthor.
    """
    rows = (
        col(Message.conversation_id) == first.conversation_id,
        col(Message.ordinal) >= first.ordinal,
        col(Message.superseded_by).is_(None),
    )
    if user_id != conversation.user_id:
        others = select(col(Message.id)).where(
            *rows, col(Message.role) == "user", col(Message.user_id) != user_id
        )
        if (await session.scalars(others.limit(1))).first() is not None:
            raise NotAuthor(first.id)
    running = list(
        await session.scalars(
            select(col(Message.id)).where(*rows, col(Message.status).in_(UNFINISHED))
        )
    )
    change = update(Message).where(*rows).values(superseded_by=by, client_id=None)
    gone: Any = await session.execute(change.execution_options(synchronize_session=False))
    conversation.message_count -= gone.rowcount
    await request_cancels(session, running)
    return running


async def request_cancels(session: AsyncSession, ids: list[str]) -> None:
    """Note that these answers are to be cancelled, because something takes their place."""
    if ids:
        cancel = (
            update(Message)
            .where(col(Message.id).in_(ids))
            .values(cancel_by=func.coalesce(col(Message.cancel_by), "superseded"))
        )
        await session.execute(cancel.execution_options(synchronize_session=False))


async def newest_row(session: AsyncSession, conversation_id: str) -> Message | None:
    """The row with the highest ordinal, superseded or not."""
    rows = select(Message).where(col(Message.conversation_id) == conversation_id)
    return (await session.scalars(rows.order_by(col(Message.ordinal).desc()).limit(1))).first()


def placeholder(
    user: Message, message_id: str, by: str, ordinal: int, model: str, now: int
) -> Message:
    """The row of a future answer to `user`, charged to the user `by`."""
    return Message(
        id=message_id,
        conversation_id=user.conversation_id,
        ordinal=ordinal,
        role="assistant",
        status="queued",
        model=model,
        charged_to=by,
        parent_id=user.id,
        created_at=now,
        updated_at=now,
    )
