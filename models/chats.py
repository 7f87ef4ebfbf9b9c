"""Queries of chats: conversations under their clients' names, and regenerated answers.

A chat id is the client's own, for one user; the id of a conversation of the user is one too. A
regenerated answer is a new row after the same user's message; the old one and what followed it are
superseded: kept, but no longer shown or sent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.conversation_rows import (
    add_conversation,
    count_rows,
    lock,
    named_row,
    newest_row,
    placeholder,
    supersede,
    visible,
)
from tokenwire.models.conversations import Posted, posted_before
from tokenwire.models.database import Database
from tokenwire.models.errors import AnswerRunning, Conflict, NotFound
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.quotas import admit, admit_conversation
from tokenwire.models.rows import unfinished
from tokenwire.models.steering import QUEUE
from tokenwire.models.tables import Conversation, Message
from tokenwire.models.tool_choices import ToolChoices


@dataclass(frozen=True, slots=True)
class Regeneration:
    """A regeneration. `message_id`: the answer, or the user's message that it answers.
    `stop_running`: see `regenerate`.
    """

    conversation_id: str
    user_id: str
    message_id: str
    model: str
    stop_running: bool = False
    idempotency: Idempotency | None = None
    options: Mapping[str, Any] | None = None
    """Parameters of the new answer. None: those of the answer that it replaces."""
    tools: ToolChoices | None = None
    """The same of its tools."""


class Chats(Database):
    """The additional queries of AI SDK clients."""

    async def find_chat(self, user_id: str, chat_id: str) -> Conversation | None:
        """The user's conversation with the client's name `chat_id`, or with this id and the user in
        it.
        """
        async with self.reading() as session:
            return await _find(session, user_id, chat_id)

    async def open_chat(self, user_id: str, chat_id: str) -> Conversation:
        """The same; created if there is none."""
        try:
            async with self.writing() as session:
                return await _find(session, user_id, chat_id) or await self._create(
                    session, user_id, client_id=chat_id
                )
        except Conflict:  # another request has just created it
            async with self.writing() as session:
                found = await _find(session, user_id, chat_id)
        if found is None:
            raise NotFound("conversation")
        return found

    async def create_unlisted(self, user_id: str, instructions: str | None) -> Conversation:
        """A conversation for a single answer: unlisted, and deleted after a day."""
        async with self.writing() as session:
            return await self._create(session, user_id, listed=False, instructions=instructions)

    async def _create(
        self,
        session: AsyncSession,
        user_id: str,
        *,
        client_id: str | None = None,
        listed: bool = True,
        instructions: str | None = None,
    ) -> Conversation:
        title = None if listed else "Single answer"  # so that no title is generated
        row = await add_conversation(
            session,
            str(uuid7()),
            user_id,
            client_id=client_id,
            listed=listed,
            title=title,
            instructions=instructions,
        )
        await admit_conversation(session, self.quotas, row)
        return row

    async def named_message(self, conversation_id: str, name: str) -> Message | None:
        """The row with this name (`named_row`), superseded or not."""
        async with self.reading() as session:
            return (await session.scalars(named_row(conversation_id, name))).first()

    async def last_question(self, conversation_id: str) -> Message | None:
        """The newest message of a user."""
        query = select(Message).where(
            col(Message.conversation_id) == conversation_id,
            col(Message.role) == "user",
            col(Message.superseded_by).is_(None),
        )
        async with self.reading() as session:
            return (
                await session.scalars(query.order_by(col(Message.ordinal).desc()).limit(1))
            ).first()

    async def regenerate(self, again: Regeneration) -> Posted:
        """Write the placeholder of a new answer, and supersede what follows the user's message; for
        a repeated key, return its rows.

        Raises NotFound (neither an answer nor a user's message), Conflict (it was superseded
        itself), KeyReused, AnswerRunning (a row to supersede is unfinished; with `stop_running` it
        is cancelled instead: `superseded`), and what `quotas.admit` raises.
        """
        made = {"assistant": str(uuid7())}
        async with self.writing() as session:
            if first := await posted_before(session, again.user_id, again.idempotency, made):
                return first
            conversation = await lock(session, again.conversation_id, again.user_id)
            user = await _question(session, again)
            replaced = await _following(session, again, user)
            superseded = await _clear(session, again, replaced, made["assistant"], conversation)
            last = await newest_row(session, again.conversation_id) or user
            row = placeholder(
                user,
                made["assistant"],
                again.user_id,
                last.ordinal + 1,
                again.model,
                conversation.updated_at,
            )
            row.response_schema = conversation.response_schema
            _take_over(row, again, replaced)
            row.while_running = QUEUE
            session.add(row)
            count_rows(conversation, 1)
            await session.flush()
            await admit(session, self.quotas, again.user_id, again.conversation_id, [row.id])
            return Posted(user, row, superseded)


async def _find(session: AsyncSession, user_id: str, chat_id: str) -> Conversation | None:
    query = select(Conversation).where(
        col(Conversation.user_id) == user_id, col(Conversation.client_id) == chat_id
    )
    found = (await session.scalars(query)).first()
    if found is not None:
        return found
    try:
        return await visible(session, chat_id, user_id)
    except NotFound:
        return None


async def _question(session: AsyncSession, again: Regeneration) -> Message:
    """The user's message to answer again."""
    row = await session.get(Message, again.message_id)
    if row is not None and row.role == "assistant" and row.parent_id is not None:
        row = await session.get(Message, row.parent_id)
    if row is None or row.role != "user" or row.conversation_id != again.conversation_id:
        raise NotFound("message")
    if row.superseded_by is not None:
        raise Conflict("the message is no longer part of the conversation")
    return row


async def _following(
    session: AsyncSession, again: Regeneration, user: Message
) -> Sequence[Message]:
    """What follows the user's message, in order. Raises AnswerRunning."""
    after = select(Message).where(
        col(Message.conversation_id) == user.conversation_id,
        col(Message.ordinal) > user.ordinal,
        col(Message.superseded_by).is_(None),
    )
    rows = list(await session.scalars(after.order_by(col(Message.ordinal))))
    if not again.stop_running and any(unfinished(row) for row in rows):
        raise AnswerRunning(rows[0].id)
    return rows


async def _clear(
    session: AsyncSession,
    again: Regeneration,
    rows: Sequence[Message],
    by: str,
    conversation: Conversation,
) -> list[str]:
    """Supersede these rows."""
    return await supersede(session, rows[0], by, conversation, again.user_id) if rows else []


def _take_over(row: Message, again: Regeneration, replaced: Sequence[Message]) -> None:
    """Fill the fields of the request: the given ones, else those of the answer it replaces."""
    if replaced and (earlier := replaced[0]).role == "assistant":
        row.options, row.tools = earlier.options, earlier.tools
        row.response_schema = earlier.response_schema
    if again.options is not None:
        row.options = dict(again.options) or None
    if again.tools is not None:
        row.tools = again.tools.stored()
