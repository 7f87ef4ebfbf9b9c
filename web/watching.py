"""One answer, watched until it ends: its row and its log as one series of events.

Guarantees: the events that a reader is given fold without a hole, from nothing or from what its
cursor says that it holds, and end with the answer. What a reader holds is taken back only where the
answer is another one.

Why it works this way: a row becomes events (`protocol.replay`), so encoders know events only. The
watcher folds what it gives; when the log forks, is trimmed or does not fit, it reads the row and
gives what turns the one into the other. While Redis is away the row is read now and then.

For a tail it folds forward: from the row where that reaches no further than the cursor, else from
the answer's first event in the log. Rejected: guessing from the last event before the cursor (it
does not tell which sources were sent, or how far two mixed inputs were).
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.models.views import message_view
from tokenwire.protocol import events, upgrade
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.fold import Answer, Hole, Unproven
from tokenwire.protocol.frames import Sendable, merge
from tokenwire.protocol.replay import begins, catch_up
from tokenwire.protocol.upgrade import upgraded
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page
from tokenwire.web import delivery
from tokenwire.web.problems import ApiProblem
from tokenwire.web.readers import Beat, Ended, Entries, HttpReader, Live, Permission, Reason
from tokenwire.web.services import WebServices

log_line = structlog.get_logger(__name__)

OUTAGE_PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 5.0
RESYNC_SECONDS = 0.5
"""A new epoch reaches every reader at once: they read their rows at some moment within this time."""
WINDOW_BYTES = 16 * 1024 * 1024
"""A window of a log is read whole: it is far smaller."""


@dataclass(frozen=True, slots=True)
class News:
    """The next events, the terminal one last. The first news may be empty.

    `cursor`: of the last of them, if a reader may resume there. `known`: the reader holds these
    already. `row`: the row, where it was read for this (always in the first news).
    """

    events: Sequence[AnyEvent]
    cursor: Cursor | None = None
    known: bool = False
    row: Message | None = None


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened for a while."""


@dataclass(frozen=True, slots=True)
class Left:
    """The answer cannot be watched any longer. The last step.

    deleted, expired, removed, or stopped (this process goes away).
    """

    reason: Reason


Step = News | Quiet | Left
Steps = AsyncGenerator[Step]


async def watch(
    services: WebServices, message_id: str, permission: Permission, after: Cursor | None = None
) -> Steps:
    """The steps of an answer that may be read; to be closed by the caller (`contextlib.aclosing`).

    `after`: only what follows this cursor. Where that cannot be served it raises ApiProblem (409)
    at once, or NotFound, Gone, LogUnavailable, StoreUnavailable.
    """
    watcher = _Watcher(services, message_id, permission)
    begun = None if after is None else await watcher.resume(after)
    while True:
        try:
            begun = begun or await watcher.begin()
            async with contextlib.aclosing(watcher.follow(begun)) as steps:
                async for step in steps:
                    yield step
                    if isinstance(step, Left):
                        return
            if watcher.held.ended:
                return
            await asyncio.sleep(random.uniform(0, RESYNC_SECONDS))  # noqa: S311 -- spreads load, guards nothing
        except (LogUnavailable, StoreUnavailable) as error:
            log_line.warning("an answer waits to be read", message_id=message_id, error=repr(error))
            yield Quiet()
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        except (NotFound, Gone):
            yield Left("deleted")
            return
        begun = None


def answer_in(row: Message, have: Answer | None = None) -> Answer:
    """The answer that a row holds. `have`: what readers hold of it, whose order is kept."""
    own: dict[str, Any] = {"by": row.cancel_by or "unknown", "seams": row.seams or []}
    if row.parts is None:  # its layout is a guess: what was followed tells the order
        own["parts"] = None
    return upgrade.answer_of(message_view(row) | own, have)


def unservable() -> ApiProblem:
    """The answer to a cursor from which nothing can be resumed."""
    return ApiProblem(
        "cursor_lost",
        "Nothing can be resumed from this cursor: read the whole answer, without a cursor.",
    )


async def message_at(services: WebServices, conversation_id: str, cursor: Cursor) -> str:
    """The id of the answer whose event is at a cursor. Raises ApiProblem (409), Gone, LogUnavailable."""
    if cursor.seq > 0:
        page = await _read(services, conversation_id, cursor.epoch, cursor.seq - 1, 1)
        for entry in page.entries if page.reached(*cursor) == cursor.seq else ():
            seq, event = events.decode(entry.data)
            message_id = getattr(event, "message_id", None)
            if seq == cursor.seq and isinstance(message_id, str):
                return message_id
    raise unservable()


async def _read(
    services: WebServices, conversation_id: str, epoch: str | None, after: int, limit: int
) -> Page:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await services.log.read(
                conversation_id, epoch, max(after, 0), limit, WINDOW_BYTES
            )
    except TimeoutError as error:
        raise LogUnavailable("the log does not answer") from error


@dataclass(frozen=True, slots=True)
class _Begun:
    """What is known now, and the cursor to follow the log from (None: not at all).

    `skip`: events up to this seq are held already.
    """

    news: News
    cursor: Cursor | None
    skip: int = 0


class _Watcher:
    """`held`: what the reader holds after the events that it was given."""

    def __init__(self, services: WebServices, message_id: str, permission: Permission) -> None:
        self._services, self._id, self._permission = services, message_id, permission
        self._conversation = ""
        self.held = Answer(message_id)

    async def begin(self) -> _Begun:
        """Read the row. Raises NotFound, Gone, StoreUnavailable."""
        row = await self._row()
        if not unfinished(row) and _knows_order(row):
            return _Begun(self._row_news(row), None)
        # The log first: a row that is read later holds at least what lies before its cursor.
        page = await delivery.log_state(self._services, self._conversation)
        row = await self._row()
        if page is None:
            return _Begun(self._row_news(row), None)
        reached = page.reached(row.epoch, row.seq)
        exact = reached == row.seq
        if not self.held.parts and not _knows_order(row) and exact and page.oldest == 1:
            return _Begun(News([], row=row), Cursor(page.epoch, 0))
        news = self._row_news(row, Cursor(page.epoch, reached) if exact and reached else None)
        return _Begun(news, page.cursor, reached)

    async def resume(self, after: Cursor) -> _Begun:
        """Become what the reader holds who has everything up to a cursor."""
        row = await self._row()
        page = await _read(self._services, self._conversation, after.epoch, after.seq - 1, 1)
        shared = page.shared(after.epoch)
        if shared is None or after.seq > shared:
            raise unservable()
        row = await self._row()
        from_row = 0 < row.seq <= after.seq and page.reached(row.epoch, row.seq) == row.seq
        try:
            if from_row and _knows_order(row):
                known = await self._forward(page, after.seq, row)
            else:
                known = await self._forward(page, after.seq, None)
                if known is None and from_row:
                    known = await self._forward(page, after.seq, row)
        except (Hole, Unproven) as error:
            raise unservable() from error
        if known is None:
            raise unservable()
        return _Begun(News(known, known=True, row=row), Cursor(page.epoch, after.seq))

    async def follow(self, begun: _Begun) -> Steps:
        """Steps until the end, or until the row must be read again."""
        yield begun.news
        if self.held.ended:
            return
        if begun.cursor is None:
            raise LogUnavailable("the cursor of the row is not known")
        async with self._services.readers.follow(
            self._conversation, begun.cursor, self._permission
        ) as reader:
            async for part in reader:
                match part:
                    case Entries():
                        if reader.cursor.epoch != begun.cursor.epoch:
                            return  # it forked: what is held counts in the log as it was
                        news, whole = self._log_news(reader, part, begun.skip)
                        if news is not None:
                            yield news
                        if self.held.ended or not whole:
                            return
                    case Ended(reason):
                        if part.resync is None:
                            yield Left(reason)
                        return
                    case Live() | Beat():
                        yield Quiet()
                        if isinstance(part, Live) or part.cursor is None:
                            row = await self._row()
                            if not unfinished(row):
                                yield self._row_news(row)
                                return

    async def _row(self) -> Message:
        row = await self._services.store.message(self._id)
        if row is None:
            raise NotFound("message")
        self._conversation = row.conversation_id
        return row

    def _row_news(self, row: Message, cursor: Cursor | None = None) -> News:
        """What the reader lacks of the row. One that is only behind takes nothing back."""
        want = answer_in(row, self.held)
        if not want.ended and begins(want, self.held):
            return News([], row=row)
        needed = catch_up(self.held, want, row.attempt)
        for event in needed:
            self.held.apply(event)
        return News(needed, None if self.held.ended else cursor, row=row)

    def _log_news(self, reader: HttpReader, part: Entries, skip: int) -> tuple[News | None, bool]:
        """The events that concern the answer; whether all of them fit."""
        heard: list[AnyEvent] = []
        last, whole = 0, True
        try:
            for seq, event in self._mine(merge(part.entries) if part.late else part.entries, skip):
                heard += self._apply(event)
                last = seq
        except (Hole, Unproven) as error:
            log_line.warning("an answer is read again", message_id=self._id, reason=str(error))
            whole = False
        news = News(heard, Cursor(reader.cursor.epoch, last) if last else None)
        return (news if heard else None), whole

    def _mine(self, entries: Iterable[Sendable], skip: int) -> Iterable[tuple[int, AnyEvent]]:
        for entry in entries:
            seq, event = events.decode(entry.data)
            mine = getattr(event, "message_id", None) == self._id
            if event is not None and mine and seq > skip:
                yield seq, event

    def _apply(self, event: AnyEvent) -> list[AnyEvent]:
        """Fold it. Gives what of it is new, as the fold knows it. Raises Hole, Unproven."""
        new: list[AnyEvent] = []
        for each in upgraded(self.held, event):
            touched = self.held.apply(each)
            if touched or not isinstance(each, events.Chunk | events.Reasoning | events.ToolInput):
                new.append(each)
        return new

    async def _forward(self, page: Page, last: int, row: Message | None) -> list[AnyEvent] | None:
        """Fold up to a seq: from the row, or (None) from the answer's first event in the log.

        Gives the events; None where the log does not reach back so far. Raises Hole, Unproven.
        """
        self.held = Answer(self._id)
        known = [] if row is None else list(self._row_news(row).events)
        first = page.oldest - 1 if row is None else row.seq
        found: Page | None = None
        if last > first:
            found = await _read(self._services, self._conversation, page.epoch, first, last - first)
            if found.epoch != page.epoch or not found.entries or found.entries[-1].seq != last:
                return None
        begun = row is not None or page.oldest == 1
        for _, event in self._mine(found.entries if found else (), 0):
            begun = begun or _is_first(event)
            if begun:
                known += self._apply(event)
        return known if begun else None


def _is_first(event: AnyEvent) -> bool:
    """Whether the answer is nothing before this event, or what it was does not count."""
    match event:
        case events.Start(attempt=1) | events.Reset(keep=0, keep_reasoning=0, keep_parts=0):
            return True
        case _:
            return False


def _knows_order(row: Message) -> bool:
    """Whether the row tells all that was seen: the order of parts, and what was withdrawn.

    Where an answer began again only the log has the items of Responses that were withdrawn.
    """
    plain = not row.reasoning and not row.tool_calls
    return row.attempt <= 1 and (plain or row.parts is not None)
