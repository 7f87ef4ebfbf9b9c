"""What a reader who comes back with a cursor holds: the answer as it was at that cursor.

Guarantees: the answer that the events up to the cursor fold to, or a refusal (409).

How: it follows from the row, folded forward to the cursor, or rewound (`protocol.rewind`) where the
row is ahead; else from the answer's first event in the log. So it costs as much as happened since
the cursor, and no more in a long log. Rejected: guessing from the last event before the cursor (it
does not tell which sources were sent, or how far two mixed inputs were).
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

from tokenwire.models.parts import shown_answer
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Entry
from tokenwire.protocol.fold import Answer, Hole, Unproven
from tokenwire.protocol.rewind import before_end, rewound
from tokenwire.streams.log.ports import LogUnavailable, Page
from tokenwire.web.problems import ApiProblem
from tokenwire.web.services import WebServices

READ_TIMEOUT_SECONDS = 5.0
READS_BACK = (64, 1024)
"""How many events before a cursor are read first. Mostly they show what its reader holds."""
WINDOW_BYTES = 16 * 1024 * 1024
"""A window of a log is read whole: it is far smaller."""


def unservable() -> ApiProblem:
    """The error for a cursor from which no stream can resume."""
    return ApiProblem(
        "cursor_lost",
        "Nothing can be resumed from this cursor: read the whole answer, without a cursor.",
    )


async def message_at(services: WebServices, conversation_id: str, cursor: Cursor) -> str:
    """The id of the answer with the event at a cursor. Raises ApiProblem (409), Gone,
    LogUnavailable.
    """
    if cursor.seq > 0:
        page = await page_at(services, conversation_id, cursor)
        for entry in page.entries:
            seq, event = events.decode(entry.data)
            message_id = getattr(event, "message_id", None)
            if seq == cursor.seq and isinstance(message_id, str):
                return message_id
    raise unservable()


async def page_at(services: WebServices, conversation_id: str, cursor: Cursor) -> Page:
    """The page of a log with the event at a cursor. Raises ApiProblem (409), Gone, LogUnavailable.

    The page is of the log's present epoch, which shares its events up to the cursor.
    """
    page = await _read(services, conversation_id, cursor.epoch, cursor.seq - 1, 1)
    shared = page.shared(cursor.epoch)
    if shared is None or cursor.seq > shared:
        raise unservable()
    return page


async def answer_at(services: WebServices, page: Page, row: Message, seq: int) -> Answer:
    """The answer after the event with this seq. Raises ApiProblem (409), Gone, LogUnavailable.

    `page`: of `page_at`. `row`: read after it.
    """
    try:
        there = await _Past(services, page, row).answer_at(seq)
    except (Hole, Unproven) as error:
        raise unservable() from error
    if there is None:
        raise unservable()
    return there


def knows_order(row: Message) -> bool:
    """Whether the row has the whole order. If an answer started over, only the log has the
    withdrawn items of Responses.
    """
    return row.attempt <= 1


async def _read(
    services: WebServices, conversation_id: str, epoch: str | None, after: int, limit: int
) -> Page:
    try:
        async with asyncio.timeout(READ_TIMEOUT_SECONDS):
            return await services.log.read(
                conversation_id, epoch, max(after, 0), limit, WINDOW_BYTES
            )
    except TimeoutError as error:
        raise LogUnavailable("the log does not answer") from error


class _Past:
    """An answer whose row and log were read. Methods raise Hole and Unproven."""

    def __init__(self, services: WebServices, page: Page, row: Message) -> None:
        self._services, self._page, self._row = services, page, row

    async def answer_at(self, last: int) -> Answer | None:
        """The answer after the event with this seq; None: unknown."""
        there = await self._from_row(last) if knows_order(self._row) else None
        for count in (*READS_BACK, last):
            there = there or await self._from_first(last - count, last)
        if there is None and self._row.seq <= last:
            there = await self._from_row(last)
        return there

    async def _from_row(self, last: int) -> Answer | None:
        """From the row, which is behind or ahead. Its end has an event of its own, behind its
        seq.
        """
        row, page = self._row, self._page
        if row.seq == 0 or page.reached(row.epoch, row.seq) != row.seq:
            return None
        held = shown_answer(row)
        there = before_end(held) if held.ended else held
        ahead = row.seq > last
        first = max(page.oldest - 1, last - READS_BACK[0]) if ahead else row.seq
        found = await self._between(first, max(last, row.seq))
        if there is None or found is None or first > last:  # trimmed behind the cursor
            return None
        if not ahead:
            return _folded(there, self._mine(found))
        before, since = found[: last - first], found[last - first :]
        return rewound(there, self._mine(before), self._mine(since))

    async def _from_first(self, after: int, last: int) -> Answer | None:
        """From the answer's first event in the log, if it comes after a seq."""
        after = max(self._page.oldest - 1, after)
        if (found := await self._between(after, last)) is None:
            return None
        mine = self._mine(found)
        if after > 0:
            mine = [*itertools.dropwhile(lambda event: not events.begins_anew(event), mine)]
        return _folded(Answer(self._row.id), mine) if mine else None

    def _mine(self, entries: Iterable[Entry]) -> list[AnyEvent]:
        return [event for _, event in events.events_of(self._row.id, entries)]

    async def _between(self, after: int, last: int) -> Sequence[Entry] | None:
        """The log's events; None if it does not reach back that far."""
        if last <= after:
            return []
        epoch = self._page.epoch
        found = await _read(self._services, self._row.conversation_id, epoch, after, last - after)
        whole = found.epoch == epoch and found.entries and found.entries[-1].seq == last
        return found.entries if whole else None


def _folded(answer: Answer, found: Iterable[AnyEvent]) -> Answer:
    for event in found:
        answer.apply(event)
    return answer
