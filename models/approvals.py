"""Approvals that come with a request of an OpenAI client: decisions about calls of an ended answer,
which the new answer carries out.

Guarantees: a call is decided once, whoever asks, and its author is recorded. The decision, the new
answer and its calls are one transaction: there is no approved call without an answer that sees to
it, and none that two answers carry out.

Why it works this way: the answer that asked has ended, so it holds nothing, and its response never
changes. The new answer begins with copies of the calls, like an answer that has waited: its turn is
proven, and its calls are allowed or denied.

Rejected: one answer that two responses show in slices. Each response has its own model, tools,
metadata, stream and cancel; and a program that repeats its history names no response before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.call_rows import clock, lock_answer
from tokenwire.models.call_states import Decision, call_fields, decided, left_to_caller
from tokenwire.models.database import now_ms
from tokenwire.models.decisions import records_of, require_decider
from tokenwire.models.errors import AlreadyDecided, DecisionExpired, NotAwaited, NotFound
from tokenwire.models.tables import CallDecision, CallRow, Conversation, Message, UnfinishedPart
from tokenwire.protocol.values import timestamp


@dataclass(frozen=True, slots=True)
class CallerDecision:
    """A decision about the call `number` of an ended answer. `call_id`: what the history of the new
    answer calls it. `expires_in_ms`: how long after the end it could be decided.
    """

    message_id: str
    number: int
    call_id: str
    approve: bool
    reason: str | None
    expires_in_ms: int

    @property
    def decision(self) -> Decision:
        """The decision as everywhere else."""
        return Decision("approve") if self.approve else Decision("deny", self.reason)


async def decide_all(
    session: AsyncSession, approvals: Sequence[CallerDecision], user_id: str
) -> list[CallRow]:
    """Record the decisions, and give the calls of the new answer, which have no `message_id` yet.

    Raises NotFound, NotDecider, AlreadyDecided, NotAwaited, DecisionExpired.
    """
    asked = sorted({approval.message_id for approval in approvals})
    for message_id in asked:  # conversations before answers: the order of a deletion
        await session.execute(_release(message_id))
    for message_id in asked:
        if await lock_answer(session, message_id) is None:
            raise NotFound("answer")
        await require_decider(session, message_id, user_id)
    now = await clock(session)  # behind the locks, which may have taken long
    return [
        await _decided(session, approval, number, user_id, now)
        for number, approval in enumerate(approvals)
    ]


def _release(message_id: str) -> Any:
    """The change that no longer keeps a conversation for a decision: it lives as long as others."""
    of_answer = select(col(Message.conversation_id)).where(col(Message.id) == message_id)
    now = now_ms()
    change = update(Conversation).where(
        col(Conversation.id) == of_answer.scalar_subquery(), col(Conversation.kept_until) > now
    )
    return change.values(kept_until=now).execution_options(synchronize_session=False)


async def carry(
    session: AsyncSession,
    answer: Message,
    approvals: Sequence[CallerDecision],
    calls: Sequence[CallRow],
) -> None:
    """Let a new answer begin with these calls, as a turn that is proven."""
    for approval, call in zip(approvals, calls, strict=True):
        call.message_id = answer.id
        asked_in = {"message_id": approval.message_id, "part": approval.number}
        fields = {"id": call.id, "name": call.name, "asked_in": asked_in, **call_fields(call)}
        session.add(call)
        session.add(
            UnfinishedPart(
                message_id=answer.id,
                number=call.number,
                type="tool_call",
                text=call.input,
                value=fields,
            )
        )
    answer.part_count = answer.proven_parts = len(calls)
    answer.rounds = int(bool(calls))
    await session.flush()


async def _decided(
    session: AsyncSession, approval: CallerDecision, number: int, user_id: str, now: int
) -> CallRow:
    key = approval.message_id, approval.number
    answer, call = await session.get(Message, key[0]), await session.get(CallRow, key)
    if answer is None or call is None:
        raise NotFound("call")
    if first := await records_of(session, *key):
        session.expunge_all()  # a rollback would empty what a refusal shows
        raise AlreadyDecided(call, first[0])
    if answer.ended_at is None or not left_to_caller(call):
        raise NotAwaited(call.state)
    if answer.ended_at + approval.expires_in_ms <= now:
        raise DecisionExpired(answer.id)
    decision = approval.decision
    session.add(
        CallDecision(
            message_id=answer.id,
            number=call.number,
            ordinal=1,
            by=user_id,
            at=now,
            decision=decision.kind,
            reason=decision.reason,
            runs=call.runs,
        )
    )
    await session.flush()
    return CallRow(
        message_id="",
        number=number,
        id=approval.call_id,
        name=call.name,
        title=call.title,
        input=call.input,
        runs_at="server",
        repeatable=call.repeatable,
        key=str(uuid7()),
        created_at=now,
        updated_at=now,
        **decided(decision, user_id, timestamp(now)),
    )
