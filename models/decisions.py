"""Acts on calls that no attempt makes: people and clients decide, time runs out, a question is
taken back.

Guarantees: a question has at most one applied decision, and its author is recorded. Every act locks
the message's row first, so the second of two decisions finds the first one. An act counts in
`calls_rev`, so an attempt that would park without having seen it is refused; a waiting answer is
queued in the same transaction.

A repeated decision (same author, same content) gives the first answer again. So a caller whose
COMMIT has an unknown outcome simply decides again.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from tokenwire.models.call_rows import (
    calls_in,
    change_call,
    clock,
    close_calls,
    continue_answer,
    lock_answer,
)
from tokenwire.models.call_states import (
    Decision,
    awaiting,
    decided,
    expired,
    fits,
    same_question,
    withdrawn,
)
from tokenwire.models.conversation_rows import takes_part
from tokenwire.models.database import Database
from tokenwire.models.errors import (
    AlreadyDecided,
    AnswerEnded,
    DecisionExpired,
    NotAwaited,
    NotDecider,
    NotFound,
    StoreUnavailable,
)
from tokenwire.models.steering import let_posts_steer
from tokenwire.models.tables import CallDecision, CallRow, Conversation, Message
from tokenwire.protocol.states import UNFINISHED
from tokenwire.protocol.values import timestamp


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision in its record, and the call. `queued`: the answer needs a job."""

    call: CallRow
    record: CallDecision
    queued: bool


class Decisions(Database):
    """Decisions about calls, and what takes their place."""

    async def decisions_of(self, message_id: str) -> list[CallDecision]:
        """All decisions about calls of the answer, in order of the calls."""
        query = select(CallDecision).where(col(CallDecision.message_id) == message_id)
        order = col(CallDecision.number), col(CallDecision.ordinal)
        async with self.reading() as session:
            return list(await session.scalars(query.order_by(*order)))

    async def decide(
        self, message_id: str, number: int, user_id: str, decision: Decision
    ) -> Decided:
        """Apply a decision about a call, once.

        Raises NotFound, NotDecider; AlreadyDecided (with the first decision), AnswerEnded,
        DecisionExpired, NotAwaited; StoreUnavailable.
        """
        try:
            return await self._decide(message_id, number, user_id, decision)
        except StoreUnavailable:  # a COMMIT of unknown outcome: its record would be found
            return await self._decide(message_id, number, user_id, decision)

    async def _decide(
        self, message_id: str, number: int, user_id: str, decision: Decision
    ) -> Decided:
        async with self.writing() as session:
            row = await lock_answer(session, message_id)
            await require_decider(session, message_id, user_id)
            call = await session.get(CallRow, (message_id, number))
            if row is None or call is None:
                raise NotFound("call")
            records = await records_of(session, message_id, number)
            if not _awaited(row, call, decision):
                session.expunge_all()  # a rollback would empty what a refusal shows
                record = _repeated(records, call, user_id, decision)
                if record is None:
                    raise _refusal(row, call)
                return Decided(call, record, queued=row.status == "queued")
            now = await clock(session)
            if call.expires_at is not None and call.expires_at <= now:
                raise DecisionExpired(message_id)
            record = CallDecision(
                message_id=message_id,
                number=number,
                ordinal=len(records) + 1,
                by=user_id,
                at=now,
                decision=decision.kind,
                reason=decision.reason,
                value=decision.value,
                runs=call.runs,
            )
            session.add(record)
            await change_call(session, call, decided(decision, user_id, timestamp(now)))
            queued = await continue_answer(session, row)
            return Decided(call, record, queued=queued or row.status == "queued")

    async def expire_calls(self, message_id: str) -> bool:
        """Decide what nobody has decided in time. True: the answer was waiting, and needs a job."""
        async with self.writing() as session:
            row = await lock_answer(session, message_id)
            if row is None:
                return False
            if row.status not in UNFINISHED:  # a process of an earlier version has ended it
                await close_calls(session, message_id, row.status, None)
                return False
            now, changed = await clock(session), False
            for call in await calls_in(session, message_id):
                state = awaiting(call.state)
                if state and call.expires_at is not None and call.expires_at <= now:
                    await change_call(session, call, expired(state, timestamp(now)))
                    changed = True
            return changed and await continue_answer(session, row)

    async def withdraw_calls(self, message_id: str, attempt: int | None = None) -> bool:
        """Take all questions of an unfinished answer back, unless a call runs: posts behind it then
        steer it. False: nothing was changed.

        `attempt`: only if it has the answer.
        """
        async with self.writing() as session:
            row = await lock_answer(session, message_id)
            if row is None or row.status not in UNFINISHED:
                return False
            if attempt not in (None, row.attempt) or not await withdraw(session, row):
                return False
            await let_posts_steer(session, message_id)
            return True


async def withdraw(session: AsyncSession, row: Any) -> bool:
    """The same within a transaction that has locked the answer (`lock_answer`)."""
    calls = await calls_in(session, row.id)
    asked = [(call, state) for call in calls if (state := awaiting(call.state)) is not None]
    if not asked or any(call.state == "running" for call in calls):
        return False
    for call, state in asked:
        await change_call(session, call, withdrawn(state))
    await continue_answer(session, row)
    return True


async def require_decider(session: AsyncSession, message_id: str, user_id: str) -> None:
    """Raises NotFound for other people than participants, and NotDecider unless the user owns the
    conversation or wrote what is answered.
    """
    asker = aliased(Message)
    query = (
        select(col(Conversation.user_id), col(asker.user_id))
        .select_from(Message)
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .outerjoin(asker, col(asker.id) == col(Message.parent_id))
        .where(col(Message.id) == message_id, takes_part(user_id))
    )
    found = (await session.execute(query)).first()
    if found is None:
        raise NotFound("call")
    if user_id not in found:
        raise NotDecider(message_id)


async def records_of(session: AsyncSession, message_id: str, number: int) -> list[CallDecision]:
    """All decisions about one call, in order."""
    query = select(CallDecision).where(
        col(CallDecision.message_id) == message_id, col(CallDecision.number) == number
    )
    return list(await session.scalars(query.order_by(col(CallDecision.ordinal))))


def _awaited(row: Any, call: CallRow, decision: Decision) -> bool:
    return _is_open(row) and fits(call.state, decision.kind) and decision.runs in (None, call.runs)


def _is_open(row: Any) -> bool:
    return row.status in UNFINISHED and row.cancel_by is None and row.superseded_by is None


def _repeated(
    records: list[CallDecision], call: CallRow, user_id: str, decision: Decision
) -> CallDecision | None:
    """The record of the same decision, if it has one. None: nobody has decided that question.

    Raises AlreadyDecided.
    """
    asked = [
        record
        for record in records
        if same_question(record.decision, decision.kind) and decision.runs in (None, record.runs)
    ]
    if not asked:
        return None
    first = asked[-1]
    if first.by == user_id and decision.is_same(first.decision, first.reason, first.value):
        return first
    raise AlreadyDecided(call, first)


def _refusal(row: Any, call: CallRow) -> Exception:
    if call.approval is not None and call.approval.get("decision") == "expired":
        return DecisionExpired(call.message_id)
    return NotAwaited(call.state) if _is_open(row) else AnswerEnded(call.message_id)
