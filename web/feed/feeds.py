"""Feeds: each user's conversations from SQL, read again after a change, once for all of the user's
readers.

The hub names changed conversations (only a hint); SQL has their users and contents. Regular reads
find changes without a hint. `changes.py` makes the events.

Guarantees: every reader ends up with the list that SQL has, even if hints are lost.

Rejected: a log for each user (each event would be written once for every participant).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import structlog

from tokenwire.config.background import supervise
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.overviews import Overview
from tokenwire.models.store import Store
from tokenwire.protocol.values import optional_timestamp, timestamp
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.ports import LogUnavailable
from tokenwire.web.feed.changes import Absence, ShownList, Summary, after, changes, snapshot

log_line = structlog.get_logger(__name__)

LISTED = 50
"""The newest conversations of a user; others are not listed."""
REMEMBERED = 500
"""Shown conversations that are too old for the list by now: their deletion is still sent."""
GATHER_SECONDS = 0.05
"""Changes within this time share one read for all users."""
READS_AT_A_TIME = 4
RETRY_SECONDS = 2.0


class Feeds:
    """The feeds of this process."""

    def __init__(self, store: Store, hub: Hub, pace: HeartbeatPace) -> None:
        self._store, self._hub, self._pace = store, hub, pace
        self._rooms: dict[str, FeedRoom] = {}
        self._shown = _Shown()
        self._changed: set[str] = set()
        self._reads = asyncio.Semaphore(READS_AT_A_TIME)
        self._gathering: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Listen for changes, as soon as Redis is available."""
        self._watching = asyncio.create_task(supervise("changes", self._watch))

    def stop(self) -> None:
        """End all readers, present and future: the process stops."""
        self._stopping = True
        for room in self._rooms.values():
            for reader in room.readers:
                reader.end()

    async def aclose(self) -> None:
        """Stop listening."""
        tasks = [task for task in (self._watching, self._gathering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def open(self, user_id: str) -> AsyncIterator["FeedReader"]:
        """A reader of the user's feed. Raises StoreUnavailable."""
        room = self._rooms.get(user_id)
        if room is None:
            room = self._rooms[user_id] = FeedRoom(
                self._store, user_id, self._pace, self._reads, self._shown
            )
        reader = FeedReader(room, self._pace.idle_seconds)
        room.readers.add(reader)
        if self._stopping:
            reader.end()
        try:
            await room.first_read()
            yield reader
        finally:
            room.readers.discard(reader)
            if not room.readers:
                room.close()
                if self._rooms.get(user_id) is room:
                    del self._rooms[user_id]

    def changed(self, conversation_id: str | None) -> None:
        """A conversation has changed; None: any may have."""
        if not self._rooms:
            return
        if conversation_id is None:
            for room in self._rooms.values():
                room.refresh()
            return
        self._changed.add(conversation_id)
        if self._gathering is None or self._gathering.done():
            self._gathering = asyncio.create_task(supervise("changes", self._resolve))

    async def _watch(self) -> None:
        while True:
            try:
                await self._hub.watch_changes(self.changed)
            except LogUnavailable as error:
                log_line.warning("conversation feeds get no changes yet", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self.changed(None)
                return

    async def _resolve(self) -> None:
        while self._changed:
            await asyncio.sleep(GATHER_SECONDS)
            ids, self._changed = self._changed, set()
            try:
                async with self._reads:
                    users = await self._store.participants_among(ids)
            except StoreUnavailable as error:  # the next regular read finds it
                log_line.warning(
                    "the owners of changed conversations are unknown", error=repr(error)
                )
                continue
            concerned = self._shown.rooms(ids) | {
                room for user in users if (room := self._rooms.get(user)) is not None
            }
            for room in concerned:
                room.refresh()
            for room in self._shown.reading - concerned:
                room.doubt(ids)


class _Shown:
    """Knows which rooms have shown a conversation, so that its change costs only them. `reading`:
    rooms that are reading rows now.
    """

    def __init__(self) -> None:
        self._rooms: dict[str, set[FeedRoom]] = {}
        self.reading: set[FeedRoom] = set()

    def rooms(self, conversation_ids: Iterable[str]) -> "set[FeedRoom]":
        """Rooms that have shown any of these. Only this knows the participants of a deleted
        conversation.
        """
        return set().union(*(self._rooms.get(name, ()) for name in conversation_ids))

    def change(self, room: "FeedRoom", before: AbstractSet[str], now: AbstractSet[str]) -> None:
        """The room now shows these conversations."""
        for name in now - before:
            self._rooms.setdefault(name, set()).add(room)
        for name in before - now:
            rooms = self._rooms[name]
            rooms.discard(room)
            if not rooms:
                del self._rooms[name]


class FeedRoom:
    """One user's feed. `now`: the newest conversations; `gone`: why shown ones are in no list of
    this user any more.
    """

    def __init__(
        self,
        store: Store,
        user_id: str,
        pace: HeartbeatPace,
        reads: asyncio.Semaphore,
        shown: _Shown,
    ) -> None:
        self.user_id = user_id
        self.now: list[Summary] = []
        self.gone: dict[str, Absence] = {}
        self.readers: set[FeedReader] = set()
        self._older: list[str] = []
        self._names: frozenset[str] = frozenset()
        self._shown = shown
        self._doubtful: set[str] = set()
        self._store, self._pace, self._reads = store, pace, reads
        self._asked = asyncio.Event()
        self._first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._first.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._reading = asyncio.create_task(supervise("feed", self._keep_reading))

    async def first_read(self) -> None:
        """Wait until `now` is set. Raises StoreUnavailable if the first read failed."""
        await asyncio.shield(self._first)

    def refresh(self) -> None:
        """Something may have changed."""
        self._asked.set()

    def doubt(self, conversation_ids: Collection[str]) -> None:
        """Note conversations that changed while this room reads rows. The read may have missed the
        change, or may show one of them for the first time.
        """
        self._doubtful.update(conversation_ids)

    def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        self._shown.reading.discard(self)
        self._show(frozenset())

    async def _keep_reading(self) -> None:
        while True:
            self._asked.clear()
            self._shown.reading.add(self)
            error: StoreUnavailable | None = None
            try:
                async with self._reads:
                    await self._refresh()
            except StoreUnavailable as unavailable:
                error = unavailable
                log_line.warning("a feed is paused", user_id=self.user_id, error=repr(error))
            except Exception as unexpected:
                self._answer(unexpected)  # callers that wait for the first read get the error
                raise
            self._answer(error)
            self._shown.reading.discard(self)
            doubtful, self._doubtful = self._doubtful, set()
            if doubtful & self._names:
                self.refresh()
            running = any(summary.state == "running" for summary in self.now)
            delay = self._pace.delay(running)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._asked.wait()

    async def _refresh(self) -> None:
        now = [_summary(overview) for overview in await self._store.overviews(self.user_id, LISTED)]
        listed = {summary.id for summary in now}
        missing = [
            name
            for name in (*self._older, *(summary.id for summary in self.now))
            if name not in listed
        ]
        archived = await self._store.archived_among(self.user_id, missing) if missing else {}
        self._older = [name for name in missing if archived.get(name) is False][-REMEMBERED:]
        # Readers that lag by more than this miss that one is gone, and nothing else.
        gone = self.gone if len(self.gone) < REMEMBERED else {}
        gone |= {
            name: "archived" if name in archived else "deleted"
            for name in missing
            if archived.get(name) is not False
        }
        self.gone = {name: why for name, why in gone.items() if name not in listed}
        self.now = now
        self._show(frozenset((*self._older, *listed)))
        for reader in self.readers:
            reader.wake()

    def _answer(self, error: Exception | None) -> None:
        if self._first.done():
            return
        if error is None:
            self._first.set_result(None)
        else:
            self._first.set_exception(error)

    def _show(self, names: frozenset[str]) -> None:
        self._shown.change(self, self._names, names)
        self._names = names


class FeedReader:
    """A reader of a feed: an asynchronous iterator of lists of events; an empty list means a while
    without any.
    """

    def __init__(self, room: FeedRoom, idle_seconds: float) -> None:
        self._room = room
        self._idle_seconds = idle_seconds
        self._shown_list: ShownList | None = None
        self._news = asyncio.Event()
        self._over = False

    def wake(self) -> None:
        """Something may have happened."""
        self._news.set()

    def end(self) -> None:
        """End the iteration."""
        self._over = True
        self._news.set()

    def __aiter__(self) -> "FeedReader":
        return self

    async def __anext__(self) -> Sequence[dict[str, Any]]:
        while not self._over:
            self._news.clear()
            if events := self._changes():
                return events
            try:
                async with asyncio.timeout(self._idle_seconds):
                    await self._news.wait()
            except TimeoutError:
                return ()
        raise StopAsyncIteration

    def _changes(self) -> list[dict[str, Any]]:
        now, gone = self._room.now, self._room.gone
        before, self._shown_list = self._shown_list, after(self._shown_list or {}, now, gone)
        return [snapshot(now)] if before is None else changes(before, now, gone)


def _summary(overview: Overview) -> Summary:
    row = overview.conversation
    return Summary(
        id=row.id,
        user_id=row.user_id,
        title=row.title,
        model=row.model,
        rev=row.rev,
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        message_count=row.message_count,
        last_message_at=optional_timestamp(row.last_message_at),
        running=overview.running,
        message_id=overview.answer_id,
        status=overview.answer_status,
    )
