"""One answer, watched until it ends: its row and its log as one series of events.

Guarantees: a reader gets events that fold without a hole, from nothing or from what it holds at its
cursor, until the answer ends. Text is withdrawn only if the answer itself has changed.

Why it works this way: a row becomes events (`protocol.replay`), so encoders know events only. Each
event is folded once, into an answer that watcher and encoder share. The encoder gets the event
together with the result of the fold. If the log forks, is trimmed or does not fit, the watcher
reads the row, and emits the events that the reader lacks. While Redis is away, it polls the row.

`web.resuming` finds out what a reader who comes back with a cursor already holds.
"""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.parts import shown_answer
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.fold import Answer, Hole, Unproven
from tokenwire.protocol.frames import merge
from tokenwire.protocol.replay import begins, catch_up
from tokenwire.streams.log.ports import Gone, LogUnavailable
from tokenwire.web import delivery, resuming
from tokenwire.web.readers import Beat, Ended, Entries, HttpReader, Live, Permission, Reason
from tokenwire.web.services import WebServices

log_line = structlog.get_logger(__name__)

WATCH_RETRY_SECONDS = 1.0
RESYNC_SECONDS = 0.5
"""Each reader reads its row at a random moment within this time after a new epoch.

A new epoch reaches all readers at once.
"""


class Folded(NamedTuple):
    """The arguments of an encoder's `apply`: an event, and what it changed (`apply_with_text`)."""

    event: AnyEvent
    touched: range
    added: str


@dataclass(slots=True)
class News:
    """The next events, the terminal one last (`ends`). The first news may be empty.

    `folded`: an event is folded when it is asked for; until the next one is, the answer is as it
    left it. What nobody asked for is folded before the next update. `cursor`: of the last event, if
    a reader may resume there; read it after all of them. `known`: the reader holds these already.
    `row`: the row, where it was read for this (always in the first news).
    """

    folded: Iterator[Folded]
    cursor: Cursor | None = None
    ends: bool = False
    known: bool = False
    row: Message | None = None


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing happened for a while."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """The last update: the reader may follow no longer.

    deleted, expired, removed, or stopped (this process stops).
    """

    reason: Reason


HeldOf = Callable[[Answer], Answer]
"""From an answer to what a reader says it holds of it."""
Update = News | Quiet | CutOff
Updates = AsyncGenerator[Update]


async def watch(
    services: WebServices,
    answer: Answer,
    permission: Permission,
    after: Cursor | None = None,
    held: HeldOf | None = None,
    *,
    withdrawn: bool = True,
) -> Updates:
    """The updates of an answer that may be read. The caller closes them (`contextlib.aclosing`).

    `answer`: blank; it becomes what a reader holds. `after`: only what follows this cursor. Where
    that cannot be served it raises ApiProblem (409) at once, or NotFound, Gone, LogUnavailable,
    StoreUnavailable. `held`: first comes what the reader holds (`known`), then what it lacks; the
    same is raised. `withdrawn`: a reader without both gets earlier states, where the log has them.
    """
    watcher = _Watcher(services, answer, permission)
    watcher.withdrawn = withdrawn
    begun = None if after is None else await watcher.resume(after)
    if held is not None:
        known, begun = await watcher.join(held)
        yield known
        deque(known.folded, 0)
    while True:
        try:
            begun = begun or await watcher.begin()
            async with contextlib.aclosing(watcher.follow(begun)) as updates:
                async for update in updates:
                    yield update
                    if isinstance(update, News):
                        deque(update.folded, 0)  # skipped events are folded, too
                    elif isinstance(update, CutOff):
                        return
            if answer.ended:
                return
            # Spreads load, guards nothing.
            await asyncio.sleep(random.uniform(0, RESYNC_SECONDS))  # noqa: S311
        except (LogUnavailable, StoreUnavailable) as error:
            log_line.warning("an answer waits to be read", message_id=answer.id, error=repr(error))
            yield Quiet()
            await asyncio.sleep(WATCH_RETRY_SECONDS)
        except (NotFound, Gone):
            yield CutOff("deleted")
            return
        begun = None


@dataclass(frozen=True, slots=True)
class _Begun:
    """A known state, and the cursor after which to follow the log (None: do not follow).

    `skip`: events up to this seq are included.
    """

    news: News
    cursor: Cursor | None
    skip: int = 0


class _Watcher:
    """`_held`: the reader's state after its events."""

    def __init__(self, services: WebServices, held: Answer, permission: Permission) -> None:
        self._services, self._id, self._permission = services, held.id, permission
        self._held = held
        self.withdrawn = True  # whether readers may begin with parts that the answer lost again
        self._conversation = ""
        self._log_fits = True  # whether the latest events of the log fitted

    async def begin(self) -> _Begun:
        """Read the row. Raises NotFound, Gone, StoreUnavailable."""
        row = await self._row()
        if not unfinished(row) and resuming.knows_order(row):
            return _Begun(self._row_news(row), None)
        # The log first: a row that is read later holds at least everything before that cursor.
        page = await delivery.log_state(self._services, self._conversation)
        row = await self._row()
        if page is None:
            return _Begun(self._row_news(row), None)
        reached = page.reached(row.epoch, row.seq)
        exact = reached == row.seq
        wants_log = self.withdrawn and not self._held.parts and not resuming.knows_order(row)
        if wants_log and exact and page.oldest == 1:
            return _Begun(self._news([], row), Cursor(page.epoch, 0))
        news = self._row_news(row, Cursor(page.epoch, reached) if exact and reached else None)
        return _Begun(news, page.cursor, reached)

    async def join(self, held: HeldOf) -> tuple[News, _Begun]:
        """What a reader holds of the row, then what it lacks."""
        await self._row()
        page = await delivery.log_state(self._services, self._conversation)
        row = await self._row()
        want = shown_answer(row)
        there = held(want)
        known = self._news(catch_up(self._held, there, row.attempt), row)
        known.known = True
        news = self._news(catch_up(there, want, row.attempt), row)
        news.ends = want.ended
        if page is None or want.ended:
            return known, _Begun(news, None)
        reached = page.reached(row.epoch, row.seq)
        if reached == row.seq and reached:
            news.cursor = Cursor(page.epoch, reached)
        return known, _Begun(news, page.cursor, reached)

    async def resume(self, after: Cursor) -> _Begun:
        """Begin with the state of a reader that has everything up to a cursor."""
        row = await self._row()
        page = await resuming.page_at(self._services, self._conversation, after)
        row = await self._row()  # at least as far as the log was
        there = await resuming.answer_at(self._services, page, row, after.seq)
        begun = [events.Start(there.id, there.attempt, there.model or "")] if there.attempt else []
        news = self._news([*begun, *catch_up(self._held, there, there.attempt)], row)
        news.known, news.ends = True, there.ended
        return _Begun(news, Cursor(page.epoch, after.seq))

    async def follow(self, begun: _Begun) -> Updates:
        """Updates until the end, or until the row must be read again."""
        self._log_fits = True
        yield begun.news
        if self._held.ended:
            return
        if begun.cursor is None:
            raise LogUnavailable("the cursor of the row is not known")
        async with self._services.readers.follow(
            self._conversation, begun.cursor, self._permission
        ) as reader:
            async for item in reader:
                match item:
                    case Entries():
                        if reader.cursor.epoch != begun.cursor.epoch:
                            return  # the log forked: seqs of held events count in the old log
                        if (news := self._log_news(reader, item, begun.skip)) is None:
                            continue
                        yield news
                        if self._held.ended or not self._log_fits:
                            return
                    case Ended(reason):
                        if item.resync is None:
                            yield CutOff(reason)
                        return
                    case Live() | Beat():
                        yield Quiet()
                        if isinstance(item, Live) or item.cursor is None:
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
        """The events that the reader lacks of the row. A row that is behind withdraws nothing."""
        want = shown_answer(row)
        if not want.ended and begins(want, self._held):
            return self._news([], row)
        news = self._news(catch_up(self._held, want, row.attempt), row)
        news.cursor, news.ends = None if want.ended else cursor, want.ended
        return news

    def _news(self, needed: Iterable[AnyEvent], row: Message) -> News:
        return News(
            (Folded(event, *self._held.apply_with_text(event)) for event in needed), row=row
        )

    def _log_news(self, reader: HttpReader, item: Entries, skip: int) -> News | None:
        """The events of the answer among these entries. None if there are none."""
        entries = merge(item.entries) if item.late else item.entries
        mine = [(seq, event) for seq, event in events.events_of(self._id, entries) if seq > skip]
        if not mine:
            return None
        last, final = mine[-1]
        news = News(iter(()), Cursor(reader.cursor.epoch, last), events.is_terminal(final))
        news.folded = self._checked((event for _, event in mine), news)
        return news

    def _checked(self, mine: Iterable[AnyEvent], news: News) -> Iterator[Folded]:
        """Fold the events, until one does not fit. Then the row is read again."""
        held = self._held
        try:
            for event in mine:
                touched, added = held.apply_with_text(event)
                if added or not isinstance(event, events.Piece):
                    yield Folded(event, touched, added)
        except (Hole, Unproven) as error:
            log_line.warning("an answer is read again", message_id=self._id, reason=str(error))
            self._log_fits, news.cursor = False, None
