"""Queries of answers that clients of OpenAI's API ask for: each has a conversation of its own, with the rows of what was said before.

Such a conversation is unlisted: it stands in no list and is forgotten after a while (`deletions.UNLISTED_LIFE_MS`). What was said before is
given by the client, or stands in the conversation of an earlier answer, which is referred to (`threads.py`): a short question after a
long one stores what is short. An answer can be followed by several others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.conversations import Posted, fitting, placeholder, visible
from tokenwire.models.database import Database, now_ms
from tokenwire.models.errors import HistoryTooLong, NotFound
from tokenwire.models.idempotency import Idempotency, claim_key, rows_of_key
from tokenwire.models.quotas import ROW_BYTES, admit, admit_conversation, shown_bytes
from tokenwire.models.tables import Conversation, Message, Participant
from tokenwire.models.threads import ids_before, measure, thread_ids

TITLE_CHARS = 80
SLICE = 100
"""Rows that are written by one statement."""


@dataclass(frozen=True, slots=True)
class PastTurn:
    """One message of what was said before."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, by whom, and how. `said`: at least one message, the newest last. `follows`: an answer whose conversation comes before.

    `options` go to the provider (see `tables.Message`), `asked` is only kept: what the answer's client wants to read again.
    """

    user_id: str
    said: Sequence[PastTurn]
    model: str
    instructions: str | None = None
    follows: Message | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    response_schema: dict[str, Any] | None = None


class Responses(Database):
    """What clients of OpenAI's API ask beside what everybody does."""

    async def ask(self, question: Question, idempotency: Idempotency | None = None) -> Posted:
        """Write a conversation of its own for one answer; for a repeated key: the rows that were written.

        KeyReused, NotFound (also: a part of what is followed is gone or closed to the user), HistoryTooLong, what `quotas.admit` raises.
        """
        made = {"conversation": str(uuid7()), "user": str(uuid7()), "assistant": str(uuid7())}
        async with self.writing() as session:
            if idempotency is not None:
                earlier = await claim_key(session, question.user_id, idempotency, made)
                if earlier is not made:
                    await visible(session, earlier["conversation"], question.user_id)
                    return Posted(*await rows_of_key(session, earlier))
            now = (await session.execute(select(now_ms()))).scalar_one()
            await self._check_length(session, question)
            conversation = await _make_conversation(session, question, made["conversation"], now)
            posted = await _write(session, question, made, now)
            await admit_conversation(session, self.quotas, conversation)
            await admit(session, self.quotas, question.user_id, conversation.id)
            return posted

    async def input_ids(self, answer: Message, reader: str) -> list[str]:
        """Ids of the rows with what the answer was given to answer, in order; of what was followed, what is left and open to the reader.

        HistoryTooLong.
        """
        limit = self.quotas.history_bytes
        async with self.reading() as session:
            conversation = await session.get(Conversation, answer.conversation_id)
            before = await thread_ids(
                session, conversation.follows if conversation else None, limit, reader
            )
            return [
                *before,
                *await ids_before(session, answer.conversation_id, answer.ordinal, limit),
            ]

    async def rows(self, ids: Sequence[str]) -> list[Message]:
        """These rows, in this order, from the first on as many as make a page; those that are gone are left out."""
        async with self.reading() as session:
            measured = await session.execute(
                select(col(Message.id), shown_bytes).where(col(Message.id).in_(ids))
            )
            sizes: dict[str, int] = {name: size for name, size in measured}  # noqa: C416 -- rows are no pairs for dict()
            there = [name for name in ids if name in sizes]
            ids = there[: fitting([sizes[name] for name in there])]
            found = {
                row.id: row
                for row in await session.scalars(select(Message).where(col(Message.id).in_(ids)))
            }
        return [found[name] for name in ids if name in found]

    async def _check_length(self, session: AsyncSession, question: Question) -> None:
        limit = self.quotas.history_bytes
        before = await measure(
            session, question.follows.id if question.follows else None, limit, question.user_id
        )
        if not before.whole:
            raise NotFound("a message that was followed")
        if (
            limit is not None
            and before.bytes + sum(ROW_BYTES + len(said.content.encode()) for said in question.said)
            > limit
        ):
            raise HistoryTooLong(question.user_id)


async def _make_conversation(
    session: AsyncSession, question: Question, conversation_id: str, now: int
) -> Conversation:
    title = " ".join(question.said[-1].content.split())[:TITLE_CHARS]
    row = Conversation(
        id=conversation_id,
        listed=False,
        follows=question.follows.id if question.follows else None,
        user_id=question.user_id,
        title=title,
        model=question.model,
        instructions=question.instructions,
        created_at=now,
        updated_at=now,
    )
    session.add(row)
    await session.flush()
    session.add(Participant(conversation_id=conversation_id, user_id=question.user_id))
    return row


async def _write(
    session: AsyncSession, question: Question, made: Mapping[str, str], now: int
) -> Posted:
    said = question.said
    ids = [*(str(uuid7()) for _ in said[:-1]), made["user"]]
    for start in range(
        0, len(said), SLICE
    ):  # thousands of rows at once would keep the event loop from everybody else
        rows = [
            _row(question, made["conversation"], ids, place, said[place], now)
            for place in range(start, min(start + SLICE, len(said)))
        ]
        await session.execute(insert(Message), [row.model_dump() for row in rows])
    assistant = placeholder(
        rows[-1], made["assistant"], question.user_id, len(said) + 1, question.model, now
    )
    assistant.announced_rev = (
        assistant.rev
    )  # nobody can be following a conversation that did not exist
    assistant.options, assistant.asked = dict(question.options) or None, dict(question.asked)
    assistant.response_schema = question.response_schema
    session.add(assistant)
    await session.flush()
    return Posted(rows[-1], assistant)


def _row(
    question: Question,
    conversation_id: str,
    ids: Sequence[str],
    place: int,
    said: PastTurn,
    now: int,
) -> Message:
    return Message(
        id=ids[place],
        conversation_id=conversation_id,
        ordinal=place + 1,
        parent_id=ids[place - 1] if place else None,
        role=said.role,
        content=said.content,
        status="complete",
        announced_rev=1,
        terminal_announced=True,
        user_id=question.user_id if said.role == "user" else None,
        charged_to=question.user_id,
        created_at=now,
        updated_at=now,
    )
