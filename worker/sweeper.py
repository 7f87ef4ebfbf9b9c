"""Finds work that nobody does: SQL lists it, `sweeps` judges it, this module carries it out. One sweeper is active at a time.

Every worker process runs one; they elect a leader through Redis. When Redis was away or this process was paused, the leases of healthy
workers may have run out unrenewed: judgement waits for one lease then, so that nobody is robbed who is alive.
"""

import asyncio
import uuid
from collections.abc import Coroutine, Iterable

import structlog

from models.errors import StoreUnavailable
from models.sweeps import Outstanding
from models.views import message_view
from streams import events, ports
from worker import closing
from worker.enqueue import JobsUnavailable
from worker.services import Services
from worker.sweeps import UNANNOUNCED_MS, Verdict, judge

log_line = structlog.get_logger(__name__)
INTERVAL_SECONDS = 0.5
LEADERSHIP_SECONDS = 1.5
PAUSE_SECONDS = 2.0
"""A round that took longer than this was paused, or Redis was. A lease that was renewed in time outlives a shorter pause."""
BATCH = 2000
SIDE_BY_SIDE = 16
"""Rows that are dealt with at a time: the streams of a dead worker are all due at once, and each of them is waited for by people."""


class Sweeper:
    """One per worker process."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._name = uuid.uuid4().hex
        self._not_before = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            begun = _clock()
            try:
                if await self._leads() and not self.holds_back:
                    await self.sweep()
            except (StoreUnavailable, ports.Unavailable, JobsUnavailable) as error:
                log_line.warning("sweep put off", error=repr(error))
                self._wait_one_lease()
            except Exception:
                log_line.exception("sweep failed")
            await asyncio.sleep(INTERVAL_SECONDS)
            if _clock() - begun > INTERVAL_SECONDS + PAUSE_SECONDS:
                self._wait_one_lease()

    async def _leads(self) -> bool:
        try:
            return await self._services.jobs.lead(self._name, LEADERSHIP_SECONDS)
        except JobsUnavailable:  # one connection that broke is no outage: only a second failure says that Redis was away
            return await self._services.jobs.lead(self._name, LEADERSHIP_SECONDS)

    @property
    def holds_back(self) -> bool:
        """Whether judgement waits, after an outage or a pause."""
        return _clock() < self._not_before

    def _wait_one_lease(self) -> None:
        self._not_before = _clock() + self._services.lease_seconds

    async def sweep(self) -> None:
        """One round."""
        rows = await self._services.store.outstanding(BATCH)
        waiting = await self._services.jobs.waiting([row.message_id for row in rows if row.status == "queued"])
        verdicts = [(judge(row, waiting.get(row.message_id)), row) for row in rows]
        places = asyncio.Semaphore(SIDE_BY_SIDE)
        await _all(self._carry_out(verdict, row, places) for verdict, row in verdicts if verdict is not Verdict.NOTHING)
        await self._announce_changes()
        await self._services.endings.carry_out()

    async def _carry_out(self, verdict: Verdict, row: Outstanding, places: asyncio.Semaphore) -> None:
        async with places:
            await self._do(verdict, row)

    async def _do(self, verdict: Verdict, row: Outstanding) -> None:
        match verdict:
            case Verdict.ENQUEUE:
                await self._enqueue(row)
            case Verdict.ENQUEUE_IF_LOST:
                if not await self._services.jobs.holds(row.message_id):
                    await self._enqueue(row)
            case Verdict.TAKE_OVER_IF_FREE:
                if not await self._leased(row):
                    await self._enqueue(row)
            case Verdict.CANCEL:
                await closing.cancel(
                    self._services.store, self._services.log, self._services.jobs, row.message_id, row.cancel_by or "unknown"
                )
            case Verdict.ANNOUNCE_END:
                await self._announce_end(row)

    async def _enqueue(self, row: Outstanding) -> None:
        log_line.info("swept: enqueued again", message_id=row.message_id, status=row.status)
        await self._services.jobs.generate(row.message_id)
        await self._services.store.mark_enqueued(row.message_id)

    async def _leased(self, row: Outstanding) -> bool:
        try:
            return await self._services.log.leased(row.conversation_id, row.message_id)
        except ports.Gone:
            return True

    async def _announce_end(self, row: Outstanding) -> None:
        """Supply the terminal event that a crash swallowed."""
        ended = await self._services.store.message(row.message_id)
        if ended is None:
            return
        try:
            await closing.announce_end(self._services.store, self._services.log, ended)
        except ports.Busy:
            return
        log_line.info("swept: end announced", message_id=row.message_id, status=row.status)
        await closing.start_next(self._services.store, self._services.jobs, row.conversation_id)

    async def _announce_changes(self) -> None:
        store, log = self._services.store, self._services.log
        for row in await store.unannounced_rows(UNANNOUNCED_MS, BATCH):
            try:
                page = await log.read(row.conversation_id, None, 0, 0)
                view = message_view(row, page.epoch)
                await log.announce(row.conversation_id, row.id, row.rev, events.MessageEvent(view))
            except ports.Gone:
                log_line.info("nothing to announce in a deleted conversation", message_id=row.id)
            await store.mark_announced(row.id, row.rev)
        for conversation in await store.unannounced_titles(UNANNOUNCED_MS, BATCH):
            try:
                title = events.Title(conversation.title or "", conversation.rev)
                await log.announce(conversation.id, conversation.id, conversation.rev, title)
            except ports.Gone:
                log_line.info("nothing to announce in a deleted conversation", conversation_id=conversation.id)
            await store.mark_title_announced(conversation.id, conversation.rev)


async def _all(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Run everything to its end; then the first error, if any, is raised."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _clock() -> float:
    return asyncio.get_running_loop().time()
