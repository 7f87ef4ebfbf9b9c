"""One answer, watched until it has ended: the row and the log as one series of steps, whatever happens to either.

Whoever tells it in a dialect of its own (`openai`) turns steps into bytes. A step can be repeated knowledge (a row after events) or take
some of it back; it never leaves anything out. While Redis is away the row is looked at now and then.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

import structlog

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.frames import Sendable
from tokenwire.streams.log.ports import Gone, LogUnavailable
from tokenwire.web import delivery
from tokenwire.web.readers import Beat, Ended, Entries, Live, Permission, Reason
from tokenwire.web.services import WebServices

log_line = structlog.get_logger(__name__)

OUTAGE_PAUSE_SECONDS = 1.0
RESYNC_SECONDS = 0.5
"""Everybody is told of a new epoch at once: they read their rows at some moment within this time."""


@dataclass(frozen=True, slots=True)
class Held:
    """The answer is as far as this row."""

    row: Message


@dataclass(frozen=True, slots=True)
class Heard:
    """Events of the answer, in order; none of them is terminal."""

    events: Sequence[AnyEvent]


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened for a while."""


@dataclass(frozen=True, slots=True)
class Final:
    """The answer has ended, and this is it. The last step."""

    row: Message


@dataclass(frozen=True, slots=True)
class Over:
    """It cannot be watched any longer: `deleted`, `expired`, or `stopped` (this process goes away). The last step."""

    reason: Reason


Step = Held | Heard | Quiet | Final | Over
Steps = AsyncGenerator[Step]


async def watch(
    services: WebServices, message_id: str, permission: Permission, *, from_start: bool = False
) -> Steps:
    """The steps of an answer that may be read. `from_start`: all its events rather than the row, if the log holds all of them.

    To be closed by the caller (`contextlib.aclosing`).
    """
    while True:
        try:
            async with contextlib.aclosing(
                _steps(services, message_id, permission, from_start=from_start)
            ) as steps:
                async for step in steps:
                    yield step
                    if isinstance(step, Final | Over):
                        return
            await asyncio.sleep(random.uniform(0, RESYNC_SECONDS))  # noqa: S311 -- spreads load, guards nothing
        except (LogUnavailable, StoreUnavailable) as error:
            log_line.warning("an answer waits to be read", message_id=message_id, error=repr(error))
            yield Quiet()
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        except (NotFound, Gone):
            yield Over("deleted")
            return
        from_start = False


async def _steps(
    services: WebServices, message_id: str, permission: Permission, *, from_start: bool
) -> Steps:
    """Steps until the end, or until the row must be read again. Raises Unavailable, StoreUnavailable, NotFound, Gone."""
    begun = await _begin(services, message_id, from_start=from_start)
    if begun.position is None and not unfinished(begun.row):
        yield Final(begun.row)
        return
    if not begun.whole:
        yield Held(begun.row)
    if begun.position is None:
        raise LogUnavailable("the position is not known")
    async with contextlib.aclosing(
        _follow(services, begun, begun.position, permission)
    ) as following:
        async for step in following:
            yield step


@dataclass(frozen=True, slots=True)
class _Begun:
    """The row, and the position to follow the log from (None: not at all).

    `held`: the row holds the answer's events up to this seq of the log that is there now. `whole`: the position is before the first of
    them, and all are told of instead.
    """

    row: Message
    position: Cursor | None
    held: int = 0
    whole: bool = False


async def _begin(services: WebServices, message_id: str, *, from_start: bool) -> _Begun:
    row = await _row(services, message_id)
    if not unfinished(row) and not (from_start and _took_turns(row)):
        return _Begun(row, None)
    # The log first: a row that is read later holds at least what lies before its position.
    page = await delivery.look(services, row.conversation_id)
    row = await _row(services, message_id)
    if page is None:
        return _Begun(row, None)
    reached = page.reached(row.epoch, row.seq)
    if from_start and page.oldest == 1 and reached == row.seq:
        return _Begun(row, Cursor(page.epoch, 0), whole=True)
    return _Begun(row, page.cursor if unfinished(row) else None, held=reached)


async def _row(services: WebServices, message_id: str) -> Message:
    row = await services.store.message(message_id)
    if row is None:
        raise NotFound("message")
    return row


def _took_turns(row: Message) -> bool:
    """Whether a row cannot tell in which order the answer came: it was begun again, or has reasoning, which may stand between."""
    return row.attempt > 1 or bool(row.reasoning)


async def _follow(
    services: WebServices, begun: _Begun, position: Cursor, permission: Permission
) -> Steps:
    row = begun.row
    async with services.readers.follow(row.conversation_id, position, permission) as reader:
        async for part in reader:
            match part:
                case Entries(entries, _):
                    if reader.cursor.epoch != position.epoch:
                        return  # it forked: the row counts in the log as it was
                    heard, ended = _heard(begun, entries)
                    if heard:
                        yield Heard(heard)
                    if ended:
                        yield Final(await _row(services, row.id))
                        return
                case Ended():
                    if part.resync is None:
                        yield Over(part.reason)
                    return
                case Live() | Beat():
                    yield Quiet()
                    if isinstance(part, Live) or part.cursor is None:
                        now = await _row(services, row.id)
                        if not unfinished(now):
                            yield Final(now)
                            return


def _heard(begun: _Begun, entries: Iterable[Sendable]) -> tuple[list[AnyEvent], bool]:
    """The events that concern the answer and that its row does not hold; whether a terminal one follows them."""
    heard: list[AnyEvent] = []
    for entry in entries:
        seq, event = events.decode(entry.data)
        if event is None or seq <= begun.held or getattr(event, "message_id", None) != begun.row.id:
            continue
        if events.is_terminal(event):
            return heard, True
        heard.append(event)
    return heard, False
