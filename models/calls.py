"""Acts of an attempt on the calls of its answer: a turn is proven, a call claimed, finished, lost;
the answer is parked.

Guarantees: a tool runs at most once for each permission to run. A claim is a compare-and-set on
state and number of runs; only the attempt that claimed it may finish that run. Every act is one
transaction that locks the message's row first and checks that the attempt has the answer, so a
worker that was fenced off changes nothing.

A COMMIT of unknown outcome is looked up. If that fails, too, StoreUnavailable is raised. The tool
must then not begin: its call counts as running, and is lost with the attempt.

Rejected: claims that are recognised when they come again. Two tasks of one attempt would both run
the tool.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.answers import Checkpoint, checkpoint_values
from tokenwire.models.call_rows import calls_in, change_call, clock, lock_held
from tokenwire.models.call_states import awaiting, left_to_caller, lost
from tokenwire.models.database import Database, now_ms
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.saving import save_parts
from tokenwire.models.tables import CallRow, Conversation, Message, is_unfinished

ParkResult = Literal["parked", "changed", "lost"]
"""`changed`: read the answer and its calls again. `lost`: it belongs to another attempt."""


@dataclass(frozen=True, slots=True)
class NewCall:
    """A call of a proven turn, in its first state. `expires_in_ms`: of a state that awaits a
    decision. `keep_ms`: how long the program that asked may allow the call; as long its
    conversation is kept.
    """

    number: int
    id: str
    name: str
    input: str
    runs_at: Literal["server", "client", "caller"]
    state: Literal[
        "proposed", "awaiting_approval", "awaiting_client", "invalid", "failed", "denied"
    ]
    repeatable: bool = False
    title: str | None = None
    error: str | None = None
    expires_in_ms: int | None = None
    keep_ms: int | None = None


@dataclass(frozen=True, slots=True)
class EndedRun:
    """How a run of a tool ended. `proposed`: the tool has not begun, or may run again.
    `expires_in_ms`: of `awaiting_outcome`.
    """

    state: Literal["done", "failed", "proposed", "awaiting_outcome", "unknown"]
    result: Any = None
    error: str | None = None
    expires_in_ms: int | None = None


class Calls(Database):
    """A worker's queries and writes of calls."""

    async def calls_of(self, message_id: str) -> list[CallRow]:
        """All calls of the answer, in order."""
        async with self.reading() as session:
            return await calls_in(session, message_id)

    async def calls_at(self, message_id: str) -> tuple[int, list[CallRow]]:
        """The answer's `calls_rev`, and its calls as they were then or later."""
        query = select(col(Message.calls_rev)).where(col(Message.id) == message_id)
        async with self.reading() as session:
            rev = (await session.scalars(query)).first()
            return rev or 0, await calls_in(session, message_id)

    async def is_followed(self, message_id: str) -> bool:
        """Whether another answer of the conversation is queued behind this one."""
        mine = aliased(Message)
        query = (
            select(col(Message.id))
            .join(mine, col(mine.conversation_id) == col(Message.conversation_id))
            .where(
                col(mine.id) == message_id,
                col(Message.ordinal) > col(mine.ordinal),
                is_unfinished(Message),
            )
            .limit(1)
        )
        async with self.reading() as session:
            return (await session.scalars(query)).first() is not None

    async def prove_turn(self, checkpoint: Checkpoint, calls: Sequence[NewCall]) -> bool:
        """Save a turn that is whole, with all parts so far and its calls. False: the answer belongs
        to another attempt, or has ended. A repeated proof adds no call and no round.
        """
        keep_ms = max((call.keep_ms or 0 for call in calls), default=0)
        async with self.writing() as session:
            if keep_ms:  # before the answer is locked: others lock the conversation first, too
                await session.execute(_keep(checkpoint, keep_ms))
            row = await lock_held(session, checkpoint.message_id, checkpoint.attempt)
            if row is None:
                return False
            there = {call.number for call in await calls_in(session, checkpoint.message_id)}
            new = [call for call in calls if call.number not in there]
            proof = update(Message).where(col(Message.id) == checkpoint.message_id)
            proof = proof.values(
                proven_parts=max(row.proven_parts, checkpoint.proven_parts),
                rounds=row.rounds + int(bool(new)),
                deaths=0,
                starts=0,
                tries=0,
            )
            if row.saves <= checkpoint.saves:  # a later one may have come first: its text stays
                proof = proof.values(**checkpoint_values(checkpoint), updated_at=now_ms())
            # One change: after a second one of the same row PostgreSQL would look at its
            # conversation, which a deletion locks before the answer.
            await session.execute(proof.execution_options(synchronize_session=False))
            if checkpoint.changes:
                await save_parts(session, [checkpoint])
            now = await clock(session)
            session.add_all([_row_of(call, checkpoint.message_id, now) for call in new])
            return True

    async def claim_call(
        self, message_id: str, attempt: int, number: int, runs: int
    ) -> CallRow | None:
        """Claim a call before its tool begins. `runs`: how often it has run. None: somebody else
        has it, it may not run (any more), or the answer is cancelled or belongs to another attempt.
        """
        try:
            return await self._claim_call(message_id, attempt, number, runs)
        except StoreUnavailable:
            if (mine := await self._claimed(message_id, attempt, number, runs)) is not None:
                return mine
        again = await self._claim_call(message_id, attempt, number, runs)
        return again or await self._claimed(message_id, attempt, number, runs)

    async def _claim_call(
        self, message_id: str, attempt: int, number: int, runs: int
    ) -> CallRow | None:
        claim = (
            update(CallRow)
            .where(
                *_key(message_id, number),
                col(CallRow.state) == "proposed",
                col(CallRow.runs_at) == "server",
                col(CallRow.runs) == runs,
            )
            .values(state="running", runs=runs + 1, attempt=attempt, updated_at=now_ms())
            .returning(CallRow)
        )
        async with self.writing() as session:
            row = await lock_held(session, message_id, attempt)
            if row is None or row.cancel_by is not None:
                return None
            return (await session.scalars(claim)).first()

    async def _claimed(
        self, message_id: str, attempt: int, number: int, runs: int
    ) -> CallRow | None:
        """The call, if it runs by a claim of this attempt."""
        mine = _run_of(message_id, number, attempt, runs + 1), col(CallRow.state) == "running"
        async with self.reading() as session:
            return (await session.scalars(select(CallRow).where(*mine[0], mine[1]))).first()

    async def finish_call(
        self, message_id: str, attempt: int, number: int, runs: int, outcome: EndedRun
    ) -> bool:
        """Store how the run number `runs` ended: progress, which forgets deaths. False: it is not
        this attempt's any more.
        """
        try:
            return await self._finish_call(message_id, attempt, number, runs, outcome)
        except StoreUnavailable:
            if await self._has_finished(message_id, attempt, number, runs):
                return True
        again = await self._finish_call(message_id, attempt, number, runs, outcome)
        return again or await self._has_finished(message_id, attempt, number, runs)

    async def _finish_call(
        self, message_id: str, attempt: int, number: int, runs: int, outcome: EndedRun
    ) -> bool:
        async with self.writing() as session:
            row = await lock_held(session, message_id, attempt)
            if row is None:
                return False
            mine = _run_of(message_id, number, attempt, runs)
            change = update(CallRow).where(*mine, col(CallRow.state) == "running")
            change = change.values(
                state=outcome.state,
                result=outcome.result,
                error=outcome.error,
                expires_at=_expiry(await clock(session), outcome.expires_in_ms),
                updated_at=now_ms(),
            ).returning(col(CallRow.number))
            finished = (await session.scalars(change)).first() is not None
            if finished and row.deaths:
                forgotten = update(Message).where(col(Message.id) == message_id).values(deaths=0)
                await session.execute(forgotten.execution_options(synchronize_session=False))
            return finished

    async def _has_finished(self, message_id: str, attempt: int, number: int, runs: int) -> bool:
        query = (
            select(col(CallRow.number))
            .join(Message, col(Message.id) == col(CallRow.message_id))
            .where(
                *_run_of(message_id, number, attempt, runs),
                col(CallRow.state) != "running",
                col(Message.attempt) == attempt,
            )
        )
        async with self.reading() as session:
            return (await session.scalars(query)).first() is not None

    async def lose_calls(self, message_id: str, attempt: int, expires_in_ms: int) -> bool:
        """Give up runs of earlier attempts, which nobody will finish. False: the answer belongs to
        another attempt.

        `expires_in_ms`: how long a person is asked what became of a call that is not repeatable; 0:
        nobody is asked.
        """
        async with self.writing() as session:
            if await lock_held(session, message_id, attempt) is None:
                return False
            expires_at = _expiry(await clock(session), expires_in_ms or None)
            for call in await calls_in(session, message_id):
                if call.state == "running" and call.attempt != attempt:
                    changes = lost(repeatable=call.repeatable, expires_at=expires_at)
                    await change_call(session, call, changes)
            return True

    async def park(self, checkpoint: Checkpoint, billed_input: int, calls_rev: int) -> ParkResult:
        """Save the answer, which then waits for a decision without a worker. `calls_rev`: as read
        before the calls.

        It is refused if anything has changed since then, so no decision is missed.
        """
        try:
            return await self._park(checkpoint, billed_input, calls_rev)
        except StoreUnavailable:
            if await self._has_parked(checkpoint):
                return "parked"
        again = await self._park(checkpoint, billed_input, calls_rev)
        return "parked" if again == "changed" and await self._has_parked(checkpoint) else again

    async def _park(self, checkpoint: Checkpoint, billed_input: int, calls_rev: int) -> ParkResult:
        async with self.writing() as session:
            row = await lock_held(session, checkpoint.message_id, checkpoint.attempt)
            if row is None:
                return "lost"
            if row.status != "streaming" or row.cancel_by or row.calls_rev != calls_rev:
                return "changed"
            if not await _only_waits(session, checkpoint.message_id):
                return "changed"
            change = update(Message).where(col(Message.id) == checkpoint.message_id)
            change = change.values(
                **checkpoint_values(checkpoint),
                status="waiting",
                waits=col(Message.waits) + 1,
                billed_input=billed_input,
                starts=0,
                updated_at=now_ms(),
            )
            await session.execute(change.execution_options(synchronize_session=False))
            if checkpoint.changes:
                await save_parts(session, [checkpoint])
            return "parked"

    async def _has_parked(self, checkpoint: Checkpoint) -> bool:
        """Whether this attempt has parked. A decision may have queued the answer since."""
        query = select(col(Message.status)).where(
            col(Message.id) == checkpoint.message_id, col(Message.attempt) == checkpoint.attempt
        )
        async with self.reading() as session:
            return (await session.scalars(query)).first() in ("waiting", "queued")


async def _only_waits(session: AsyncSession, message_id: str) -> bool:
    """Whether a call awaits a decision, and none has a run before it."""
    calls = await calls_in(session, message_id)
    states = {call.state for call in calls if not left_to_caller(call)}
    return any(map(awaiting, states)) and not states & {"proposed", "running"}


def _row_of(call: NewCall, message_id: str, now: int) -> CallRow:
    return CallRow(
        message_id=message_id,
        number=call.number,
        id=call.id,
        name=call.name,
        title=call.title,
        input=call.input,
        runs_at=call.runs_at,
        state=call.state,
        repeatable=call.repeatable,
        key=str(uuid7()),
        error=call.error,
        expires_at=_expiry(now, call.expires_in_ms),
        created_at=now,
        updated_at=now,
    )


def _keep(checkpoint: Checkpoint, keep_ms: int) -> Any:
    """The change that keeps an unlisted conversation, if this attempt has its answer."""
    of_answer = select(col(Message.conversation_id)).where(
        col(Message.id) == checkpoint.message_id, col(Message.attempt) == checkpoint.attempt
    )
    change = update(Conversation).where(
        col(Conversation.id) == of_answer.scalar_subquery(), col(Conversation.listed).is_(False)
    )
    change = change.values(kept_until=now_ms() + keep_ms)
    return change.execution_options(synchronize_session=False)


def _expiry(now: int, expires_in_ms: int | None) -> int | None:
    return None if expires_in_ms is None else now + expires_in_ms


def _key(message_id: str, number: int) -> tuple[Any, ...]:
    return col(CallRow.message_id) == message_id, col(CallRow.number) == number


def _run_of(message_id: str, number: int, attempt: int, runs: int) -> tuple[Any, ...]:
    mine = col(CallRow.attempt) == attempt, col(CallRow.runs) == runs
    return *_key(message_id, number), *mine
