"""Ends answers: commit the end, append the terminal event, start the conversation's next answer.

The worker that makes an answer ends it with the claim that it holds. Any other process (a cancel
when no worker has the answer, a deletion) first claims the answer like a worker. So a worker that
wakes up late is fenced off.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import structlog

from tokenwire.models.answers import Ending
from tokenwire.models.errors import HistoryTooLong, NotFound, StatementFailed, StoreUnavailable
from tokenwire.models.rows import unfinished
from tokenwire.models.store import Store
from tokenwire.models.tables import CallRow, Message
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.protocol.replay import terminal_event
from tokenwire.protocol.rewind import without_end
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.usage import Reported, json_chars, sent_chars, tokens
from tokenwire.worker.deaths import DEADLY
from tokenwire.worker.ending import (
    ended_answer,
    ending_of,
    make_ending,
    text_only,
    usage_fields,
)
from tokenwire.worker.enqueue import Jobs, JobsUnavailable
from tokenwire.worker.metrics import ANSWERS_ENDED
from tokenwire.worker.resume.continuation import Held
from tokenwire.worker.resume.takeover import Known, recover_anyway, restate, restore, saved_in

log_line = structlog.get_logger(__name__)
CLOSING_LEASE_SECONDS = 10.0
"""Long enough for one commit and one append. If this process dies, the sweeper takes over."""


async def append_end(
    store: Store, log: ports.Log, claim: ports.Claim, index: int, ending: Ending
) -> None:
    """Append the terminal event of a committed ending.

    If the log forked or began again, the text that it lacks is appended first: readers must hold
    the text whose length and checksum the terminal event carries.
    """
    ended = ended_answer(ending)
    known = Known(Held(without_end(ended), ending.seq), ending.epoch)
    last = terminal_event(ended, ending.attempt)
    there = claim.epoch == ending.epoch
    try:
        while True:
            try:
                if not there:
                    claim, held = await restore(log, claim, known, CLOSING_LEASE_SECONDS)
                    known, index, there = Known(held, claim.epoch), 0, True
                await log.append(claim, index, known.held.seq, [last])
                _log_end(ending)
                break
            except ports.Lost:
                there = False
    except ports.Fenced:
        log_line.info("terminal event left to a newer claim", message_id=claim.message_id)
        return
    except (ports.Sealed, ports.Gone):
        log_line.info("a terminal event is not needed", message_id=claim.message_id)
    await store.terminal_announced(claim.message_id, ending.attempt)


def _log_end(ending: Ending) -> None:
    """Log and count the end of an answer, whatever its status."""
    ANSWERS_ENDED.labels(ending.status).inc()
    log_line.info(
        "answer ended",
        message_id=ending.message_id,
        attempt=ending.attempt,
        status=ending.status,
        characters=len(ending.content),
        **({"code": ending.error["code"]} if ending.error else {}),
        **({"by": ending.cancel_by} if ending.cancel_by else {}),
    )


async def cancel(store: Store, log: ports.Log, jobs: Jobs, message_id: str, by: str) -> bool:
    """Cancel durably: set a flag in SQL, and one in Redis for the worker. Without a worker, end it.

    Returns True if a worker has the answer and has not had the time to obey. Call again after
    `ports.UNHEARD_SECONDS`: this ends the answer if its worker is frozen. If Redis is away, the
    next process that claims the answer obeys the flag in SQL.
    """
    row = await store.request_cancel(message_id, by)
    ended = await store.message(message_id) if row is None else None
    try:
        if row is not None:
            await log.request_cancel(row.conversation_id, message_id, by)
            await end_cancelled(store, log, row, by)
            await start_next(store, jobs, row.conversation_id)
        elif ended is not None and not ended.terminal_announced:
            await announce_end(store, log, ended)
    except ports.Busy:
        log_line.info("cancel left to the running worker", message_id=message_id)
        return True
    except (ports.Sealed, ports.Gone) as refusal:
        log_line.info(
            "cancel came after the end", message_id=message_id, reason=type(refusal).__name__
        )
    except (ports.LogError, JobsUnavailable) as error:
        log_line.warning(
            "cancel is recorded, Redis is away", message_id=message_id, error=repr(error)
        )
    return False


async def end_cancelled(store: Store, log: ports.Log, row: Message, by: str) -> None:
    """End the answer as cancelled. Raises Busy while a worker still has the time to obey."""
    await _end(store, log, row, lambda mine, claim, held: _cancelled(mine, claim, held, by))


async def end_failed(store: Store, log: ports.Log, row: Message, error: dict[str, object]) -> None:
    """End an answer as failed that nobody can resume, as readers hold it. It must be released."""
    await _end(
        store,
        log,
        row,
        lambda mine, claim, held: replace(
            _cancelled(mine, claim, held, None), status="error", error=error
        ),
    )


_Make = Callable[[Message, ports.Claim, Held], Ending]


async def _end(store: Store, log: ports.Log, row: Message, make: _Make) -> None:
    """Claim the answer and end it.

    Every answer must end. If a bug prevents reading its log, it ends in the rows alone, and the
    sweeper announces the end as soon as it can.
    """
    try:
        claim = await log.claim(
            row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS, True
        )
    except ports.LogError:
        raise
    except Exception:
        log_line.exception("an answer cannot be claimed", message_id=row.id)
        claim = ports.Claim(row.conversation_id, row.id, row.epoch or "", row.attempt + 1)
        if (
            mine := await store.begin_attempt(row.id, claim.attempt, row.model or "", closes=True)
        ) is not None:
            await _end_in_rows(store, mine, make(mine, claim, saved_in(mine)))
        return
    async with released_on_failure(log, claim):
        mine = await store.begin_attempt(row.id, claim.attempt, row.model or "", closes=True)
        if mine is None:
            await _announce_of(store, log, claim)
            return
        calls_rev, calls = await _calls_of(store, mine)
        recovered = await _recovered(log, mine, claim, calls)
        if recovered is not None:
            claim, held = recovered
            ending = replace(make(mine, claim, held), usage=await _usage(store, mine, held))
            await commit(store, log, claim, replace(ending, calls_rev=calls_rev))
        else:
            await _end_in_rows(store, mine, make(mine, claim, saved_in(mine)))
            await give_back(log, claim)


async def _calls_of(store: Store, row: Message) -> tuple[int | None, Sequence[CallRow]]:
    """The answer's `calls_rev` and calls. Of calls that the database cannot read, nothing is
    announced.
    """
    if not row.rounds:
        return None, ()
    try:
        return await store.calls_at(row.id)
    except StatementFailed:
        log_line.exception("the calls of an answer cannot be read", message_id=row.id)
        return None, ()


async def _recovered(
    log: ports.Log, row: Message, claim: ports.Claim, calls: Sequence[CallRow]
) -> tuple[ports.Claim, Held] | None:
    """The result of `recover_anyway`, or None if even that is impossible."""
    how = recover_anyway if row.deaths <= DEADLY else restate
    try:
        return await how(log, row, claim, CLOSING_LEASE_SECONDS, calls)
    except ports.LogError:
        raise
    except Exception:
        log_line.exception("the log of an answer cannot be read", message_id=row.id)
        return None


async def _end_in_rows(store: Store, row: Message, ending: Ending) -> None:
    await _store(store, replace(ending, epoch=row.epoch, seq=row.seq))


@contextlib.asynccontextmanager
async def released_on_failure(log: ports.Log, claim: ports.Claim) -> AsyncIterator[None]:
    """Release the claim if the block raises: the next try need not wait for the lease."""
    try:
        yield
    except (
        Exception,
        asyncio.CancelledError,
    ):  # not for GeneratorExit: a coroutine that is being closed cannot await
        await give_back(log, claim)
        raise


async def give_back(log: ports.Log, claim: ports.Claim) -> None:
    """Release the claim if possible. Otherwise its lease expires."""
    try:
        await log.release(claim)
    except Exception as error:  # noqa: BLE001 -- the caller has an error of its own to raise
        log_line.warning(
            "a claim could not be given back", message_id=claim.message_id, error=repr(error)
        )


async def commit(store: Store, log: ports.Log, claim: ports.Claim, ending: Ending) -> None:
    """Store an ending and announce it. Values that the database refuses are left out.

    If it is refused, somebody has decided about a call meanwhile, or has the answer.
    """
    stored = await _store(store, ending)
    if stored is not None:
        await append_end(store, log, claim, 0, stored)
    else:
        await give_back(log, claim)


async def _store(store: Store, ending: Ending) -> Ending | None:
    """The ending as it was stored. None: the answer had ended, has a newer attempt, or its calls
    have changed.
    """
    try:
        return ending if await store.finish(ending) else None
    except StoreUnavailable:
        raise
    except Exception:  # Unstorable, or another error of a value: store the text alone
        log_line.exception(
            "only the text of an answer could be stored", message_id=ending.message_id
        )
        ending = text_only(ending)
        return ending if await store.finish(ending) else None


async def announce_end(store: Store, log: ports.Log, row: Message) -> bool:
    """Append the terminal event of an ended answer. Returns whether the log lacked it.

    Raises Busy while the process that ended the answer may still append it.
    """
    try:
        claim = await log.claim(
            row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS, True
        )
    except (ports.Sealed, ports.Gone):
        await store.terminal_announced(row.id, row.attempt)
        return False
    async with released_on_failure(log, claim):
        await append_end(store, log, claim, 0, ending_of(row))
    return True


async def _announce_of(store: Store, log: ports.Log, claim: ports.Claim) -> None:
    """Announce the end that another process committed, and could not announce: it was fenced."""
    row = await store.message(claim.message_id)
    if row is None or unfinished(row):
        await log.release(claim)
    else:
        await append_end(store, log, claim, 0, ending_of(row))


async def _usage(store: Store, row: Message, held: Held) -> dict[str, Any] | None:
    """The usage of the answer: what was reported, and an estimate for the request under way.

    The worker cannot be asked. None: the answer had not begun, or its usage is unknown.
    """
    try:
        return await _cost(store, row, held)
    except StoreUnavailable:
        raise
    except (HistoryTooLong, NotFound):
        return None
    except Exception:
        log_line.exception("the usage of an answer is unknown", message_id=row.id)
        return None


async def _cost(store: Store, row: Message, held: Held) -> dict[str, Any] | None:
    reported, units = Reported.of(row.reported), held.answer.units
    if not units:
        return usage_fields(reported.total())
    conversation = await store.conversation_of(row.id)
    before = await store.history(row.conversation_id, row.ordinal)
    asked = len((conversation and conversation.instructions) or "") + json_chars(
        row.response_schema
    )
    asked += sent_chars(value for earlier in before for value in _sent(earlier, row.model))
    # Earlier attempts have reported their text, and turns that are whole theirs.
    if reported.before or reported.lost:
        proven = sum(part.units for part in held.answer.parts[: row.proven_parts])
        units -= max(row.started_with, proven)
    return usage_fields(reported.with_estimate(tokens(asked), units))


def _sent(row: Message, model: str | None) -> Iterator[Any]:
    """What the row sends to `model`: texts, and kept values, which are stored without their text.

    `costs` counts the same in the messages of `context`, which web may not import.
    """
    yield row.content
    if row.parts_kept and row.model == model:
        kept = {entry.get("part") for entry in row.parts_kept}
        parts = enumerate(row.parts or ())
        if any(part["type"] == "reasoning" for number, part in parts if number in kept):
            yield row.reasoning
        yield from (entry.get("value") for entry in row.parts_kept)
    for call in row.parts or ():
        if call["type"] == "tool_call":
            yield from (call["name"], call["input"])
            if (outcome := outcome_of(call)) is not None:
                yield from (call["name"], outcome[0])


def _cancelled(row: Message, claim: ports.Claim, held: Held, by: str | None) -> Ending:
    """The ending of a cancelled answer, as readers hold it."""
    return make_ending(
        "cancelled",
        held,
        claim.attempt,
        claim.epoch,
        usage=row.usage,
        seams=row.seams,
        cancel_by=by,
    )


async def start_next(store: Store, jobs: Jobs, conversation_id: str) -> None:
    """Enqueue the conversation's next answer. Raises StoreUnavailable, JobsUnavailable."""
    following = await store.next_queued(conversation_id)
    if following is not None:
        await jobs.generate(following)


async def delete_conversation(store: Store, log: ports.Log, conversation_id: str) -> None:
    """Delete the rows, then the log. A worker stops at its next append (Gone).

    If Redis is away, SQL remembers the deletion, and the sweeper deletes the log later.
    """
    await store.delete_conversation(conversation_id)
    try:
        await log.delete(conversation_id)
        await store.log_deleted(conversation_id)
    except (ports.LogError, StoreUnavailable) as error:
        log_line.warning(
            "conversation deleted, its log is left to the sweeper",
            conversation_id=conversation_id,
            error=repr(error),
        )
