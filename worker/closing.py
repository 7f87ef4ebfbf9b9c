"""How a generation ends, whoever ends it: content is committed first, the terminal event follows, the next in line is woken.

The worker that runs a generation ends it with the claim it holds. Anybody else (a cancel when no worker runs it, a deletion) first
claims it as a worker would, so that a worker that wakes up late is fenced off.
"""

from dataclasses import replace
from typing import Literal, cast

import structlog

from models.generations import Ending
from models.store import Store
from models.tables import UNFINISHED, Message
from streams import events, ports
from streams.text import checksum, utf16_length
from worker.continuation import Held
from worker.enqueue import Jobs, JobsUnavailable
from worker.takeover import recover

log_line = structlog.get_logger(__name__)
CLOSING_LEASE_SECONDS = 10.0
"""Long enough for one commit and one append; if this process dies in between, the row stays findable."""


def terminal_event(ending: Ending) -> events.Terminal:
    """The one event that seals a generation, from what was committed."""
    usage = events.Usage(**ending.usage) if ending.usage else None
    length, crc32 = utf16_length(ending.content), checksum(ending.content)
    if ending.status == "complete":
        reason = cast("events.FinishReason", ending.finish_reason or "unknown")
        return events.Complete(ending.message_id, ending.attempt, reason, usage, length, crc32, list(ending.seams or ()))
    if ending.status == "cancelled":
        return events.Cancelled(ending.message_id, ending.attempt, ending.cancel_by or "unknown", usage, length, crc32)
    error = ending.error or {}
    return events.Error(ending.message_id, ending.attempt, error["code"], error["error"], error["retryable"], usage, length, crc32)


async def announce(store: Store, log: ports.Log, claim: ports.Claim, index: int, ending: Ending) -> None:
    """Append the terminal event of a committed ending. A log of another epoch is given the final text first.

    Whoever follows that log began with a row that may have held less, and must hold at the terminal event what it attests.
    """
    try:
        while True:
            try:
                if claim.epoch != ending.epoch:
                    claim, _ = await log.adopt(claim, ending.content, ending.reasoning, CLOSING_LEASE_SECONDS)
                    ending, index = replace(ending, epoch=claim.epoch, seq=0), 0
                await log.append(claim, index, ending.seq, [terminal_event(ending)])
                break
            except ports.Lost:
                ending = replace(ending, epoch=None)
    except ports.Fenced:
        log_line.info("terminal event left to whoever claimed it since", message_id=claim.message_id)
        return
    except (ports.Sealed, ports.Gone):
        log_line.info("terminal event not needed", message_id=claim.message_id)
    await store.terminal_announced(claim.message_id, ending.attempt)


async def cancel(store: Store, log: ports.Log, jobs: Jobs, message_id: str, by: str) -> None:
    """Cancel durably: a flag in SQL, a flag in Redis for the running worker; with no worker at it, the generation is ended here.

    Without Redis the flag in SQL stands, and whoever claims the generation next obeys it.
    """
    row = await store.request_cancel(message_id, by)
    if row is None:
        return
    try:
        await log.request_cancel(row.conversation_id, message_id, by)
        await end_unclaimed(store, log, row, by)
        await start_next(store, jobs, row.conversation_id)
    except ports.Busy:
        log_line.info("cancel left to the running worker", message_id=message_id)
    except (ports.Sealed, ports.Gone) as refusal:
        log_line.info("cancel came after the end", message_id=message_id, reason=type(refusal).__name__)
    except (ports.LogError, JobsUnavailable) as error:
        log_line.warning("cancel is recorded, Redis was not told", message_id=message_id, error=repr(error))


async def end_unclaimed(store: Store, log: ports.Log, row: Message, by: str) -> None:
    """End as cancelled a generation that no live worker holds. Raises Busy where one does."""
    claim = await log.claim(row.conversation_id, row.id, row.attempt, CLOSING_LEASE_SECONDS)
    mine = await store.begin_attempt(row.id, claim.attempt, row.model or "")
    if mine is None:
        await log.release(claim)
        return
    claim, held = await recover(log, mine, claim, CLOSING_LEASE_SECONDS)
    ending = cancelled(mine, claim, held, by)
    if await store.finish(ending):
        await announce(store, log, claim, 0, ending)


def bare(ending: Ending) -> Ending:
    """The ending with its text alone: what is left to store where the database refuses the rest."""
    return replace(ending, tool_calls=None, usage=None, seams=None, finish_reason=None)


def cancelled(row: Message, claim: ports.Claim, held: Held, by: str) -> Ending:
    """The ending of a generation that is cancelled as viewers hold it."""
    return Ending(
        message_id=row.id,
        attempt=claim.attempt,
        status="cancelled",
        content=held.text,
        reasoning=held.reasoning,
        tool_calls=list(held.tool_calls) or None,
        epoch=claim.epoch,
        seq=held.seq,
        usage=row.usage,
        seams=row.seams,
        cancel_by=by,
    )


def ending_of(row: Message) -> Ending:
    """The ending that a row of an ended generation holds."""
    return Ending(
        message_id=row.id,
        attempt=row.attempt,
        status=cast('Literal["complete", "error", "cancelled"]', row.status),
        content=row.content,
        reasoning=row.reasoning,
        tool_calls=row.tool_calls,
        epoch=row.epoch,
        seq=row.seq,
        finish_reason=row.finish_reason,
        error=row.error,
        usage=row.usage,
        seams=row.seams,
        cancel_by=row.cancel_by,
    )


async def start_next(store: Store, jobs: Jobs, conversation_id: str) -> None:
    """An answer has ended: the one that waited behind it may start. Raises StoreUnavailable, JobsUnavailable."""
    following = await store.next_queued(conversation_id)
    if following is not None:
        await jobs.generate(following)


async def delete_conversation(store: Store, log: ports.Log, conversation_id: str, tombstone_seconds: float) -> None:
    """Delete rows, then the log. A running worker learns it from its next append (Gone) or checkpoint, and stops."""
    await store.delete_conversation(conversation_id)
    try:
        await log.delete(conversation_id, tombstone_seconds)
    except ports.LogError as error:
        log_line.warning("conversation deleted, its log was not", conversation_id=conversation_id, error=repr(error))


def unfinished(row: Message) -> bool:
    """Whether the row's generation has yet to end."""
    return row.role == "assistant" and row.status in UNFINISHED
