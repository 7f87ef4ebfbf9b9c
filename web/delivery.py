"""Between SQL and Redis: the cursor of an answer, and the effects of a committed change
(announcement, job).

Nothing is lost without Redis: rows are in SQL, where the sweeper finds what is not announced or
enqueued. So each step here gives up after a short time and reports instead of failing the request.
"""

import asyncio
from collections.abc import Awaitable, Iterable

import structlog

from tokenwire.models.conversations import Posted
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Conversation, Message
from tokenwire.streams.log import ports
from tokenwire.web.services import WebServices
from tokenwire.worker import announcing
from tokenwire.worker.enqueue import JobsUnavailable

log_line = structlog.get_logger(__name__)

LOG_TIMEOUT_SECONDS = 1.0
"""Longest wait for Redis per step."""
WANTED_SECONDS = 15.0
"""How long an answer counts as watched after it was read: longer than its worker's interval."""


async def log_state(services: WebServices, conversation_id: str) -> ports.Page | None:
    """The log's state, to be read before SQL; None if it cannot be read. Raises ports.Gone."""
    try:
        async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
            return await services.log.read(conversation_id, None, 0, 0)
    except (ports.LogUnavailable, TimeoutError) as error:
        log_line.warning(
            "the cursor of a conversation cannot be read",
            conversation_id=conversation_id,
            error=repr(error),
        )
        return None


async def note_interest(services: WebServices, rows: Iterable[Message]) -> None:
    """Rows are read without following: unfinished answers among them are not cancelled for lack of
    readers.
    """
    if not services.settings.cancel_without_readers_seconds:
        return
    for conversation_id in {row.conversation_id for row in rows if unfinished(row)}:
        try:
            async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
                await services.log.note_interest(conversation_id, WANTED_SECONDS)
        except (ports.LogUnavailable, TimeoutError) as error:
            log_line.warning(
                "the reader of an answer was not noted",
                conversation_id=conversation_id,
                error=repr(error),
            )


def reached(page: ports.Page | None, row: Message) -> int:
    """How far the row's text reaches in a log of this state (None: unknown)."""
    return page.reached(row.epoch, row.seq) if page else 0


async def announce_post(services: WebServices, posted: Posted) -> None:
    """Announce both rows of a post, cancel superseded answers, enqueue the job. Raises ports.Gone
    (deleted meanwhile).

    Rows of a repeated post that are announced and enqueued already are skipped.
    """
    user, assistant = posted.user_message, posted.assistant_message
    announced = [await _announce_row(services, row) for row in (user, assistant)]
    if posted.resumed is not None:
        await _try(services, "enqueue", posted.resumed, services.jobs.generate(posted.resumed))
    for message_id in posted.superseded:
        await _note(services.cancels.cancel(message_id, "superseded"), message_id)
    enqueued = assistant.enqueued_at is None and await _enqueue(services, assistant.id)
    if all(announced):
        await _note(
            services.store.mark_posted(user.id, assistant.id, assistant.rev, enqueued=enqueued),
            assistant.id,
        )
    elif enqueued:
        await _note(services.store.mark_enqueued(assistant.id), assistant.id)


async def continue_answer(services: WebServices, message_id: str) -> None:
    """Enqueue the job of an answer that a decision has queued."""
    if await _enqueue(services, message_id):
        await _note(services.store.mark_enqueued(message_id), message_id)


async def announce_title(services: WebServices, conversation: Conversation) -> None:
    """Announce the title, unless the log has it."""
    if conversation.title is None or conversation.announced_rev >= conversation.rev:
        return
    announced = announcing.announce_title(services.store, services.log, conversation)
    await _note(_try(services, "announce", conversation.id, announced), conversation.id)


async def touch_lists(services: WebServices, conversation_id: str) -> None:
    """Notify feeds of a conversation that is new, or new to a user. Their next regular read finds
    missed ones.
    """
    await _try(services, "touch", conversation_id, services.log.touch(conversation_id))


async def _announce_row(services: WebServices, row: Message) -> bool:
    return row.announced_rev >= row.rev or await _try(
        services, "announce", row.id, announcing.append_message(services.log, row)
    )


async def _enqueue(services: WebServices, message_id: str) -> bool:
    return await _try(services, "enqueue", message_id, services.jobs.generate(message_id))


async def _try(services: WebServices, step: str, row_id: str, call: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(LOG_TIMEOUT_SECONDS):
            await call
    except (ports.LogUnavailable, JobsUnavailable, TimeoutError) as error:
        services.metrics.undelivered.labels(step).inc()
        log_line.warning(
            "a step of a post is left to the sweeper", step=step, row_id=row_id, error=repr(error)
        )
        return False
    return True


async def _note(write: Awaitable[object], row_id: str) -> None:
    """Bookkeeping after the important commit: a database outage now does not fail the request."""
    try:
        await write
    except StoreUnavailable as error:
        log_line.warning(
            "a step of a post is left to the sweeper", step="note", row_id=row_id, error=repr(error)
        )
