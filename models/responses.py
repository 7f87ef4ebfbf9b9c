"""Queries of responses, for clients of OpenAI's API: each has its own conversation with the rows of
its input.

Such a conversation is unlisted and expires (`deletions.UNLISTED_LIFE_MS`). Earlier messages come
with the request, or are in the conversation of an earlier answer, which is only referred to
(`threads.py`): a short question after a long one stores only the short text. Several answers may
follow one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.approvals import CallerDecision, carry, decide_all
from tokenwire.models.call_rows import clock
from tokenwire.models.conversation_rows import placeholder
from tokenwire.models.conversations import Posted, fitting, posted_before
from tokenwire.models.database import Database
from tokenwire.models.errors import HistoryTooLong, NotFound
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.parts import Whole, whole
from tokenwire.models.quotas import ROW_BYTES, admit, admit_conversation, shown_bytes
from tokenwire.models.tables import Conversation, Message, Participant
from tokenwire.models.threads import ids_before, measure, thread_ids
from tokenwire.models.tool_choices import NO_CHOICES, ToolChoices
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.values import present

TITLE_CHARS = 80
SLICE = 100
"""Rows per statement."""


@dataclass(frozen=True, slots=True)
class PastCall:
    """A tool call of an earlier turn, or its result. `proposed`: the result comes in the next turn.

    `id`: what the provider called it. `shown_as`: what the client calls it, if that differs.
    `asked_in`: the call of an earlier answer that needs an approval; `approve`, `reason`: what the
    client decided about it.
    """

    id: str
    name: str
    input: str = ""
    state: Literal["proposed", "done", "failed"] = "proposed"
    result: str | None = None
    error: str | None = None
    shown_as: str | None = None
    asked_in: tuple[str, int] | None = None
    approve: bool | None = None
    reason: str | None = None

    @property
    def part(self) -> Part:
        """The call as a part of its row."""
        known = {"id": self.id, "name": self.name, "state": self.state}
        more = present(result=self.result, error=self.error, shown_as=self.shown_as)
        return Part("tool_call", known | more | self._asked, text=self.input)

    @property
    def _asked(self) -> dict[str, Any]:
        if self.asked_in is None:
            return {}
        asked_in = {"message_id": self.asked_in[0], "part": self.asked_in[1]}
        if self.approve is None:
            return {"asked_in": asked_in, "runs_at": "caller"}
        decision = "approved" if self.approve else "denied"
        return {
            "asked_in": asked_in,
            "approval": present(decision=decision, reason=self.reason),
        }


PastRole = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class PastTurn:
    """One earlier message of a request. `calls`: those of an assistant, behind its text. A `tool`
    turn has the results of the turn before.
    """

    role: PastRole
    content: str
    calls: Sequence[PastCall] = ()

    @property
    def texts(self) -> Iterator[str]:
        """All that clients have written in it."""
        yield self.content
        for call in self.calls:
            yield from (call.id, call.name, call.input)
            yield from (call.result or "", call.error or "", call.reason or "")

    @property
    def size(self) -> int:
        """The bytes of all that."""
        return sum(len(text.encode()) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Question:
    """A request for a response. `turns`: at least one message, the newest last. `follows`: an
    answer whose conversation comes before.

    `approvals`: about calls of earlier answers, which the new one carries out.
    `options` go to the provider (see `tables.Message`); `asked` is stored for clients that read the
    response again.
    """

    user_id: str
    turns: Sequence[PastTurn]
    model: str
    instructions: str | None = None
    follows: Message | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    response_schema: dict[str, Any] | None = None
    tools: ToolChoices = NO_CHOICES
    approvals: Sequence[CallerDecision] = ()


class Responses(Database):
    """The additional queries of OpenAI clients."""

    async def ask(self, question: Question, idempotency: Idempotency | None = None) -> Posted:
        """Write a new conversation for one answer; for a repeated key, return the first rows.

        Raises KeyReused, NotFound (also if a followed part is gone or not visible), HistoryTooLong,
        what `approvals.decide_all` raises, and what `quotas.admit` raises.
        """
        made = {"conversation": str(uuid7()), "user": str(uuid7()), "assistant": str(uuid7())}
        async with self.writing() as session:
            if first := await posted_before(session, question.user_id, idempotency, made):
                return first
            await self._check_length(session, question)
            approvals = question.approvals
            calls = await decide_all(session, approvals, question.user_id)
            now = await clock(session)
            conversation = await _make_conversation(session, question, made["conversation"], now)
            posted = await _write(session, question, made, now)
            await carry(session, posted.assistant_message, approvals, calls)
            await admit_conversation(session, self.quotas, conversation)
            await admit(session, self.quotas, question.user_id, conversation.id)
            return posted

    async def input_ids(self, answer: Message, reader: str) -> list[str]:
        """Ids of the answer's input rows, in order; of a followed conversation, those that exist
        and are visible to the reader.

        Raises HistoryTooLong.
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
        """These rows in this order, as many from the first on as fit a page; missing ones are left
        out.
        """
        async with self.reading() as session:
            measured = await session.execute(
                select(col(Message.id), shown_bytes).where(col(Message.id).in_(ids))
            )
            # Rows are no pairs for dict().
            sizes: dict[str, int] = {name: size for name, size in measured}  # noqa: C416
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
            and before.bytes + sum(ROW_BYTES + turn.size for turn in question.turns) > limit
        ):
            raise HistoryTooLong(question.user_id)


async def _make_conversation(
    session: AsyncSession, question: Question, conversation_id: str, now: int
) -> Conversation:
    asked = next((turn.content for turn in reversed(question.turns) if turn.content), "")
    title = " ".join(asked.split())[:TITLE_CHARS]
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
        message_count=len(question.turns) + 1,
        last_message_at=now,
    )
    session.add(row)
    await session.flush()
    session.add(Participant(conversation_id=conversation_id, user_id=question.user_id))
    return row


async def _write(
    session: AsyncSession, question: Question, made: Mapping[str, str], now: int
) -> Posted:
    turns = question.turns
    ids = [*(str(uuid7()) for _ in turns[:-1]), made["user"]]
    for start in range(
        0, len(turns), SLICE
    ):  # thousands of rows at once would block the event loop
        rows = [
            _row(question, made["conversation"], ids, place, turns[place], now)
            for place in range(start, min(start + SLICE, len(turns)))
        ]
        await session.execute(insert(Message), [row.model_dump() for row in rows])
    assistant = placeholder(
        rows[-1], made["assistant"], question.user_id, len(turns) + 1, question.model, now
    )
    assistant.announced_rev = assistant.rev  # nothing can follow a conversation that did not exist
    assistant.options, assistant.asked = dict(question.options) or None, dict(question.asked)
    assistant.response_schema, assistant.tools = question.response_schema, question.tools.stored()
    session.add(assistant)
    await session.flush()
    return Posted(rows[-1], assistant)


def _row(
    question: Question,
    conversation_id: str,
    ids: Sequence[str],
    place: int,
    turn: PastTurn,
    now: int,
) -> Message:
    held = _whole(turn)
    return Message(
        id=ids[place],
        conversation_id=conversation_id,
        ordinal=place + 1,
        parent_id=ids[place - 1] if place else None,
        role=turn.role,
        content=held.content,
        parts=held.parts,
        status="complete",
        announced_rev=1,
        terminal_announced=True,
        user_id=question.user_id if turn.role in ("user", "tool") else None,
        charged_to=question.user_id,
        created_at=now,
        updated_at=now,
    )


def _whole(turn: PastTurn) -> Whole:
    if not turn.calls:
        return Whole(turn.content, "", None, None)
    answer = Answer("")
    if turn.content:
        answer.add(Part("text", {}, text=turn.content))
    for call in turn.calls:
        answer.add(call.part)
    return whole(answer)
