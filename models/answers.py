"""Queries of the worker: attempts, checkpoints, endings, what comes next.

Writes to a running answer are compare-and-set: on `attempt` (only the current one may write) and on
the status (an ended answer never changes). The worker decides when to write, and what follows from
a refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from sqlalchemy import and_, bindparam, case, exists, func, null, select, update
from sqlalchemy.orm import aliased
from sqlmodel import col

from tokenwire.models.call_rows import close_calls
from tokenwire.models.database import Database, lock_free, now_ms
from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.quotas import settle
from tokenwire.models.rows import is_held, unfinished
from tokenwire.models.saving import forget_parts, lock_parts, owner_values, save_parts
from tokenwire.models.steering import end_placeholders, lock_conversation_of
from tokenwire.models.tables import Conversation, Message, UnfinishedPart, is_unfinished
from tokenwire.models.threads import measure, rows_before, thread
from tokenwire.models.unsaved import NO_PARTS, PartsToSave
from tokenwire.models.usage import count_usage
from tokenwire.protocol.states import EndedStatus
from tokenwire.protocol.values import brought_by

_unfinished = is_unfinished(Message)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What an answer holds so far: exactly what was acknowledged, up to `seq` of `epoch`.

    `content`, `reasoning`: the texts that still grow, of the parts `open_text`, `open_reasoning`.
    """

    message_id: str
    attempt: int
    content: str
    reasoning: str
    epoch: str
    seq: int
    run_id: str | None = None
    run_cursor: int | None = None
    run_text: int | None = None
    run_reasoning: int | None = None
    run_silent_since: int | None = None
    reported: dict[str, Any] | None = None
    proven_parts: int = 0
    """How many leading parts belong to proven turns."""
    saves: int = 0
    """Number of this checkpoint in its attempt: two running ones may be committed in any order."""
    part_count: int = 0
    """How many parts the answer has."""
    open_text: int | None = None
    open_reasoning: int | None = None
    run_parts: int | None = None
    changes: PartsToSave = NO_PARTS
    """Parts to store beside the row: those that changed since a checkpoint known to be stored."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The final state of an answer. `error`: {code, error, retryable}; `usage` and `seams` as on
    the wire.
    """

    message_id: str
    attempt: int
    status: EndedStatus
    content: str
    reasoning: str
    epoch: str | None
    seq: int
    finish_reason: str | None = None
    error: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    seams: list[int] | None = None
    cancel_by: str | None = None
    parts: list[dict[str, Any]] | None = None
    """The layout; None: reasoning, then text (`models.parts.whole`)."""
    parts_kept: list[dict[str, Any]] | None = None
    object: Any = None
    """What the document says, of a complete answer that fits its schema."""
    calls_rev: int | None = None
    """As read before the end was decided; None: whatever it is now."""


# SQLModel adds it when the class is built.
_messages: Any = Message.__table__  # type: ignore[attr-defined]
_own = update(_messages).where(
    _messages.c.id == bindparam("b_id"),
    _messages.c.attempt == bindparam("b_attempt"),
    _messages.c.saves <= bindparam("b_saves"),
    is_unfinished(_messages.c),
)
_COLUMNS: Final = tuple(
    field.name
    for field in fields(Checkpoint)
    if field.name not in ("message_id", "attempt", "changes")
)
"""What a checkpoint sets: each of its fields is a column."""
_checkpoint = _own.values(
    tool_calls=null(),  # what the version before held there is a part now
    kept=null(),
    updated_at=now_ms(),
    **{name: bindparam(f"b_{name}") for name in _COLUMNS},
)


class Answers(Database):
    """The queries and writes of a worker."""

    async def message(self, message_id: str) -> Message | None:
        """The row, without a check of the reader."""
        async with self.reading() as session:
            return await session.get(Message, message_id)

    async def conversation_of(self, message_id: str) -> Conversation | None:
        """The conversation that the message belongs to."""
        query = (
            select(Conversation)
            .join(Message, col(Message.conversation_id) == col(Conversation.id))
            .where(col(Message.id) == message_id)
        )
        async with self.reading() as session:
            return (await session.scalars(query)).first()

    async def history(self, conversation_id: str, before_ordinal: int) -> list[Message]:
        """All rows before that ordinal, in order, without superseded ones, after the conversation
        that this one follows.

        Raises HistoryTooLong, and NotFound if a part was deleted.
        """
        async with self.reading() as session:
            conversation = await session.get(Conversation, conversation_id)
            follows, limit = (
                conversation.follows if conversation else None,
                self.quotas.history_bytes,
            )
            if follows is not None and not (await measure(session, follows, limit)).whole:
                raise NotFound("a message that was followed")
            return [
                *await thread(session, follows, limit),
                *await rows_before(session, conversation_id, before_ordinal, limit),
            ]

    async def blocked_by(self, message_id: str) -> str | None:
        """The earliest unfinished message before this one in the conversation, if any."""
        mine = aliased(Message)
        query = (
            select(col(Message.id))
            .join(mine, col(mine.conversation_id) == col(Message.conversation_id))
            .where(
                col(mine.id) == message_id, col(Message.ordinal) < col(mine.ordinal), _unfinished
            )
            .order_by(col(Message.ordinal))
            .limit(1)
        )
        async with self.reading() as session:
            return (await session.scalars(query)).first()

    async def next_queued(self, conversation_id: str) -> str | None:
        """The first unfinished message of the conversation if it is `queued`: it may start now."""
        query = (
            select(col(Message.id), col(Message.status))
            .where(col(Message.conversation_id) == conversation_id, _unfinished)
            .order_by(col(Message.ordinal))
            .limit(1)
        )
        async with self.reading() as session:
            row = (await session.execute(query)).first()
        return row.id if row is not None and row.status == "queued" else None

    async def unfinished(self, conversation_id: str) -> list[Message]:
        """All unfinished messages of the conversation, in order."""
        query = (
            select(Message)
            .where(col(Message.conversation_id) == conversation_id, _unfinished)
            .order_by(col(Message.ordinal))
        )
        async with self.reading() as session:
            return list(await session.scalars(query))

    async def begin_attempt(
        self,
        message_id: str,
        attempt: int,
        model: str,
        *,
        survived: bool = False,
        closes: bool = False,
    ) -> Message | None:
        """Begin an attempt in SQL: the row from now on, or None if it has ended, waits for a
        decision, or a newer attempt has it. `model`: for a row without one.

        An attempt that finds the row `streaming` counts the death of a worker, before anything that
        may kill another one. `survived`: the previous attempt was this process's own and ended with
        an outage. `closes`: the attempt only ends the answer, a waiting one, too.
        """
        ready = _unfinished if closes else and_(_unfinished, col(Message.status) != "waiting")
        died = 0 if survived else case((col(Message.status) == "streaming", 1), else_=0)
        change = (
            update(Message)
            .where(col(Message.id) == message_id, col(Message.attempt) < attempt, ready)
            .values(
                attempt=attempt,
                status="streaming",
                model=func.coalesce(col(Message.model), model),
                due_at=None,
                starts=col(Message.starts) + 1,
                saves=0,
                updated_at=now_ms(),
            )
            .values(deaths=col(Message.deaths) + died)
            .returning(Message)
        )
        async with self.writing() as session:
            return (await session.scalars(change)).first()

    async def checkpoint(self, items: Sequence[Checkpoint], *, wait: bool = True) -> frozenset[str]:
        """Save all these answers with one batch of one statement, and changed parts with another.

        Answers that have ended, have a newer attempt or a newer save stay as they are. `wait`
        false: answers with a locked row are skipped, too. Returns the ids of those.
        """
        if not items:
            return frozenset()
        # All batches use one order: two that share rows wait for each other instead of deadlocking.
        items = sorted(items, key=lambda item: item.message_id)
        async with self.writing() as session:
            locked = (
                frozenset[str]()
                if wait
                else frozenset(
                    (await lock_free(session, Message, [item.message_id for item in items]))[1]
                )
            )
            items = [item for item in items if item.message_id not in locked]
            parted = [item for item in items if item.changes]
            if parted and not wait:
                locked |= await lock_parts(session, parted)
                items = [item for item in items if item.message_id not in locked]
                parted = [item for item in parted if item.message_id not in locked]
            if not items:
                return locked
            connection = await session.connection()
            await connection.execute(_checkpoint, [_parameters(item) for item in items])
            if parted:
                await save_parts(session, parted)
            return locked

    async def finish(self, ending: Ending) -> bool:
        """End the answer and its calls, and the placeholders of messages that its steps name.
        False: it had ended already, a newer attempt has it, or its calls have changed
        (`calls_rev`).

        A COMMIT of unknown outcome is looked up: a row that ended under this attempt is its own.
        StoreUnavailable is raised only if that fails too; the same call may then be repeated.
        """
        try:
            if await self._finish(ending):
                return True
        except StoreUnavailable:
            if await self._ended_by(ending):
                return True
            if await self._finish(ending):
                return True
        return await self._ended_by(ending)

    async def _finish(self, ending: Ending) -> bool:
        seen = () if ending.calls_rev is None else (col(Message.calls_rev) == ending.calls_rev,)
        change = (
            update(Message)
            .where(is_held(ending.message_id, ending.attempt), *seen)
            .values(
                status=ending.status,
                content=ending.content,
                reasoning=ending.reasoning,
                tool_calls=None,
                kept=None,
                parts=ending.parts,
                parts_kept=ending.parts_kept,
                part_count=0,
                open_text=None,
                open_reasoning=None,
                epoch=ending.epoch,
                seq=ending.seq,
                finish_reason=ending.finish_reason,
                error=ending.error,
                usage=ending.usage,
                seams=ending.seams,
                object=ending.object,
                misfit=None,
                cancel_by=func.coalesce(col(Message.cancel_by), ending.cancel_by),
                due_at=None,
                updated_at=now_ms(),
                ended_at=now_ms(),
            )
            .returning(
                exists().where(col(UnfinishedPart.message_id) == ending.message_id),
                col(Message.rounds),
            )
        )
        steering = {name for part in ending.parts or () for name in brought_by(part)}
        async with self.writing() as session:
            if steering:
                await lock_conversation_of(session, ending.message_id)
            ended = (await session.execute(change)).first()
            if ended is None:
                return False
            if steering:
                await end_placeholders(session, ending.message_id, steering)
            has_rows, rounds = ended
            if has_rows:
                await forget_parts(session, ending.message_id)
            if rounds:
                await close_calls(session, ending.message_id, ending.status, ending.finish_reason)
            await settle(session, ending.message_id)
            await count_usage(session, ending.message_id, ending.usage)
            return True

    async def _ended_by(self, ending: Ending) -> bool:
        row = await self.message(ending.message_id)
        return row is not None and row.attempt == ending.attempt and not unfinished(row)

    async def terminal_announced(self, message_id: str, attempt: int) -> None:
        """The log holds the terminal event of this attempt."""
        await self._change(message_id, col(Message.attempt) == attempt, terminal_announced=True)

    async def note_attempt(
        self, message_id: str, attempt: int, deaths: int, started_with: int
    ) -> None:
        """Note for later attempts: the number of workers that died in a row before this one, and
        the length of its initial text.
        """
        await self._change(
            message_id, col(Message.attempt) == attempt, deaths=deaths, started_with=started_with
        )

    async def hand_back(self, checkpoint: Checkpoint, billed_input: int) -> bool:
        """Save the text and return the answer to the queue, as a stopping process does. False: it
        belongs to another attempt.
        """
        change = (
            update(Message)
            .where(is_held(checkpoint.message_id, checkpoint.attempt))
            .values(
                **checkpoint_values(checkpoint),
                status="queued",
                billed_input=billed_input,
                starts=0,
            )
            .values(enqueued_at=now_ms(), updated_at=now_ms())
            .returning(col(Message.id))
        )
        async with self.writing() as session:
            is_mine = (await session.scalars(change)).first() is not None
            if is_mine and checkpoint.changes:
                await save_parts(session, [checkpoint])
            return is_mine

    async def note_bill(
        self, message_id: str, attempt: int, billed_input: int, requests: int
    ) -> None:
        """Note before a further request: the tokens billed by then, and the number of requests."""
        await self._change(
            message_id,
            col(Message.attempt) == attempt,
            billed_input=billed_input,
            requests=requests,
        )

    async def schedule_retry(
        self,
        message_id: str,
        attempt: int,
        delay_ms: int,
        tries: int,
        billed_input: int,
        *,
        run_is_silent: bool = False,
        model: str | None = None,
    ) -> bool:
        """Make the next attempt due in `delay_ms` by the database's clock. False: ended, or a newer
        attempt has it.

        `run_is_silent`: the provider's run continues, and the attempt received nothing from it.
        `model`: takes the place of the answer's model.
        """
        change = (
            update(Message)
            .where(is_held(message_id, attempt))
            .values(
                status="retrying",
                due_at=now_ms() + delay_ms,
                tries=tries,
                billed_input=billed_input,
                starts=0,
                updated_at=now_ms(),
            )
            .values(
                run_silent_since=func.coalesce(col(Message.run_silent_since), now_ms())
                if run_is_silent
                else None
            )
            .returning(col(Message.id))
        )
        if model is not None:
            first = func.coalesce(col(Message.first_model), col(Message.model))
            change = change.values(model=model, first_model=first)
        async with self.writing() as session:
            return (await session.scalars(change)).first() is not None

    async def count_start(self, message_id: str) -> int:
        """Count an attempt that failed before it began; returns the number since the last one that
        completed.

        0: the answer itself has ended.
        """
        mine = update(Message).where(col(Message.id) == message_id, _unfinished)
        change = mine.values(starts=col(Message.starts) + 1).returning(col(Message.starts))
        async with self.writing() as session:
            return (await session.scalars(change)).first() or 0

    async def end_unread(self, message_id: str, error: dict[str, object]) -> str | None:
        """End an unreadable answer in its row alone, which keeps its contents. Returns its
        conversation; None: it has ended already.
        """
        change = (
            update(Message)
            .where(col(Message.id) == message_id, _unfinished)
            .values(
                status="error",
                error=error,
                attempt=col(Message.attempt) + 1,
                due_at=None,
                updated_at=now_ms(),
                ended_at=now_ms(),
            )
            .returning(col(Message.conversation_id))
        )
        async with self.writing() as session:
            conversation_id = (await session.scalars(change)).first()
            if conversation_id is not None:
                await close_calls(session, message_id, "error", None)
                await settle(session, message_id)
            return conversation_id

    async def mark_enqueued(self, *message_ids: str) -> None:
        """The broker now has a job for each of these messages. Locked rows are skipped."""
        if not message_ids:
            return
        async with self.writing() as session:
            free, _locked = await lock_free(session, Message, message_ids)
            change = update(Message).where(col(Message.id).in_(free)).values(enqueued_at=now_ms())
            await session.execute(change.execution_options(synchronize_session=False))

    async def mark_announced(self, message_id: str, rev: int) -> None:
        """The log holds this row as of `rev`."""
        await self._change(message_id, col(Message.announced_rev) < rev, announced_rev=rev)

    async def request_cancel(self, message_id: str, by: str) -> Message | None:
        """Note the user who cancels an unfinished answer (the first one counts). None: it has
        ended, or does not exist.
        """
        change = (
            update(Message)
            .where(col(Message.id) == message_id, _unfinished)
            .values(cancel_by=func.coalesce(col(Message.cancel_by), by), updated_at=now_ms())
            .returning(Message)
        )
        async with self.writing() as session:
            return (await session.scalars(change)).first()

    async def _change(self, message_id: str, *conditions: Any, **values: Any) -> None:
        async with self.writing() as session:
            await session.execute(
                update(Message)
                .where(col(Message.id) == message_id, *conditions)
                .values(**values)
                .execution_options(synchronize_session=False)
            )


def checkpoint_values(item: Checkpoint) -> dict[str, Any]:
    """The columns that a checkpoint sets. What the version before held elsewhere is a part now."""
    return {"tool_calls": None, "kept": None} | _columns(item)


def _columns(item: Checkpoint) -> dict[str, Any]:
    return {name: getattr(item, name) for name in _COLUMNS}


def _parameters(item: Checkpoint) -> dict[str, Any]:
    return owner_values(item) | {f"b_{name}": value for name, value in _columns(item).items()}
