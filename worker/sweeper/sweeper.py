"""Does work that was left undone. SQL lists it, `sweeps` decides when it is due.

Every worker process runs a sweeper. They elect one leader through Redis, and only the leader acts.

What it guarantees
- No living worker loses its answer. After an outage of Redis, or a pause of this process, healthy
  workers may have been unable to renew their leases. So the sweeper waits for one lease then.
- A bad row harms itself alone. A row that fails with an unexpected error is counted and logged. A
  locked row is left to the next round.
- A slow step delays no other. After a failover there are thousands of rows to announce, while
  people wait for a dead worker's answers. So a round asks once what is outstanding, begins the
  steps that have something to do, unless they are under way, and waits for none. A step goes
  through its rows in pages.
- A leader whose database is away stands back, so that another process leads that may reach it.

Rejected: a sweeper that acts in every process (each would ask the same queries and race for the
same rows); a round that waits for its slowest step.
"""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import structlog

from tokenwire.config.background import failed, supervise
from tokenwire.config.clock import clock
from tokenwire.models.errors import GivenUp, StatementFailed, StoreUnavailable
from tokenwire.models.sweeps import Outstanding, Unannounced
from tokenwire.models.tables import Conversation, Revocation
from tokenwire.streams.log import ports
from tokenwire.worker import announcing, closing
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.halves import by_halves
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.sweeper import revocations
from tokenwire.worker.sweeper.repeats import Repeats
from tokenwire.worker.sweeper.run_ender import LONGEST_PAUSE_MS
from tokenwire.worker.sweeper.sweeps import DUE, Job, judge

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
SweepStep = Callable[[], Awaitable[None]]
INTERVAL_SECONDS = 0.5
LEADERSHIP_SECONDS = 1.5
STAND_BACK_SECONDS = LEADERSHIP_SECONDS + 2 * INTERVAL_SECONDS
"""How long a process without a database does not try to lead, so that every other one can."""
PAUSE_SECONDS = 2.0
"""A process that did not run for longer than this was paused; so was a Redis that did not answer.
A lease that was renewed in time outlives a shorter pause."""
SWEEP_PAGE = 200
SIDE_BY_SIDE = 16
"""Rows at a time. All answers of a dead worker are due at once, and people wait for each."""
BULK_SIDE_BY_SIDE = 8
"""Rows at a time for late announcements and deletions: answers need the database more."""
APART_SECONDS = 10.0
"""The time between two jobs of an answer whose row cannot be written."""
_OUTAGES = (StoreUnavailable, ports.LogUnavailable, JobsUnavailable)


class Deposed(Exception):
    """Another process's sweeper is the active one, or may be."""


class Sweeper:
    """The sweeper of one worker process."""

    def __init__(self, services: WorkerServices) -> None:
        self._services = services
        self._name = uuid.uuid4().hex
        self._not_before = 0.0
        self._leads_from = 0.0
        self._repeats = Repeats(services.store, services.log)
        self._under_way: dict[str, asyncio.Task[Exception | None]] = {}
        """Steps by name."""
        self._bulk = asyncio.Semaphore(BULK_SIDE_BY_SIDE)
        self._apart: dict[str, float] = {}
        """Answers whose rows cannot be written, and until when their jobs are not enqueued."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        ticking = asyncio.create_task(supervise("sweeper_clock", self._notice_pauses))
        try:
            await self._sweep_on()
        finally:
            ticking.cancel()
            for task in self._under_way.values():
                task.cancel()
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _sweep_on(self) -> None:
        while True:
            try:
                if await self._promptly(self._leads()):
                    self._begin("server", self._check_server)
                    if not self.holds_back:
                        self._begin("round", self._begin_due)
            except _OUTAGES as error:
                self._put_off(error)
            except Deposed:
                log_line.info("sweep broken off")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _check_server(self) -> None:
        """Check for another Redis server. An outage here says nothing about leases."""
        try:
            await self._repeats.check_server(self._go_on)
        except _OUTAGES as error:
            log_line.warning("recent changes are not announced again yet", error=repr(error))

    async def _begin_due(self) -> None:
        for name in await self._due():
            self._begin(name, self._steps[name])

    async def _due(self) -> Sequence[str]:
        """The steps that have something to do. All steps if that is unknown (a bug, a timeout).

        Raises StoreUnavailable.
        """
        try:
            found = await self._services.store.outstanding(DUE, LONGEST_PAUSE_MS)
        except GivenUp as error:
            log_line.warning(
                "outstanding work is unknown: all steps run",
                error=repr(error.__cause__),
            )
            return list(self._steps)
        except _OUTAGES:
            raise
        except Exception as error:  # noqa: BLE001 -- a bug in one query must not stop the others
            failed("sweep", error)
            return list(self._steps)
        return [name for name in self._steps if name in found]

    def _begin(self, name: str, step: SweepStep) -> "asyncio.Task[Exception | None]":
        """Begin a step, unless it is under way."""
        if name not in self._under_way:
            self._under_way[name] = task = asyncio.create_task(self._carry_out(step))
            task.add_done_callback(lambda _task: self._under_way.pop(name, None))
        return self._under_way[name]

    async def _carry_out(self, step: SweepStep) -> Exception | None:
        """Run a step. Returns its outage or cancellation, if any. A bug is counted and logged."""
        try:
            error = await _guarded(step())
        except Deposed as deposed:
            log_line.info("sweep broken off")
            return deposed
        if error is not None:
            self._put_off(error)
        return error

    def _put_off(self, error: Exception) -> None:
        log_line.warning("sweep put off", error=repr(error))
        self._wait_one_lease()
        if isinstance(error, StoreUnavailable):
            self._leads_from = clock() + STAND_BACK_SECONDS

    async def _notice_pauses(self) -> None:
        """Notice pauses of this process or the machine: time that passes while nothing runs."""
        while True:
            before = clock()
            await asyncio.sleep(INTERVAL_SECONDS)
            if clock() - before > INTERVAL_SECONDS + PAUSE_SECONDS:
                self._wait_one_lease()

    async def _promptly(self, question: Awaitable[T]) -> T:
        """Wait for a reply of Redis. Raises Deposed if it was late: a paused Redis may be wrong."""
        began = clock()
        answer = await question
        if clock() - began > PAUSE_SECONDS:
            self._wait_one_lease()
            raise Deposed
        return answer

    async def _leads(self) -> bool:
        if clock() < self._leads_from:
            return False
        try:
            return await self._services.jobs.lead(self._name, LEADERSHIP_SECONDS)
        except (
            JobsUnavailable
        ):  # one broken connection is no outage: only a second failure shows that Redis was away
            return await self._services.jobs.lead(self._name, LEADERSHIP_SECONDS)

    @property
    def holds_back(self) -> bool:
        """Whether leases are not judged yet, after an outage or a pause."""
        return clock() < self._not_before

    def _wait_one_lease(self) -> None:
        self._not_before = clock() + self._services.lease_seconds

    @property
    def _steps(self) -> dict[str, SweepStep]:
        """The steps, by the names of the queries that find their rows."""
        return {
            "to_cancel": self._cancel,
            "begun": self._take_over,
            "heads": self._enqueue_heads,
            "expired_calls": self._expire_calls,
            "ended": self._announce_ends,
            "unannounced_rows": self._announce_rows,
            "unannounced_titles": self._announce_titles,
            "undeleted_logs": self._delete_logs,
            "unannounced_revocations": self._revoke,
            "runs_to_end": self._services.run_ender.carry_out,
        }

    async def sweep(self) -> None:
        """Run one round to its end. Then raise the first outage of a step, or Deposed."""
        for error in await asyncio.gather(
            *[self._begin(name, self._steps[name]) for name in await self._due()]
        ):
            if error is not None:
                raise error

    async def _pages(
        self,
        query: Callable[[Any, int], Awaitable[Sequence[T]]],
        key: Callable[[T], Any],
        after: Any = "",
    ) -> AsyncIterator[Sequence[T]]:
        """All due rows, a page at a time. The leadership is renewed between pages."""
        while True:
            page = await query(after, SWEEP_PAGE)
            if page:
                yield page
            if len(page) < SWEEP_PAGE:
                return
            after = key(page[-1])
            if self.holds_back:
                raise Deposed
            await self._go_on()

    async def _go_on(self) -> None:
        """Stay the leader. Raises Deposed."""
        if not await self._promptly(self._leads()):
            raise Deposed

    # --- steps ---

    async def _cancel(self) -> None:
        async for page in self._pages(self._services.store.to_cancel, _key):
            await _all(asyncio.Semaphore(SIDE_BY_SIDE), self._cancel_one, page)

    async def _cancel_one(self, row: Outstanding) -> None:
        services = self._services
        try:
            await closing.cancel(
                services.store,
                services.log,
                services.jobs,
                row.message_id,
                row.cancel_by or "unknown",
            )
        except StatementFailed:
            await self._enqueue(
                [row]
            )  # the job counts how often the row fails, and finally ends the answer
            raise

    async def _take_over(self) -> None:
        """Take over answers without a live lease: they have no worker."""
        async for page in self._pages(lambda *place: self._services.store.begun(DUE, *place), _key):
            leased = await self._promptly(asyncio.gather(*(self._leased(row) for row in page)))
            if self.holds_back:
                raise Deposed
            await self._enqueue([row for row, taken in zip(page, leased, strict=True) if not taken])

    async def _leased(self, row: Outstanding) -> bool:
        try:
            return row.status == "streaming" and await self._services.log.leased(
                row.conversation_id, row.message_id
            )
        except ports.Gone:
            return True

    async def _enqueue_heads(self) -> None:
        async for page in self._pages(lambda *place: self._services.store.heads(DUE, *place), _key):
            await self._enqueue(await self._without_job([row for row in page if row.due]))

    async def _without_job(self, rows: Sequence[Outstanding]) -> list[Outstanding]:
        """The answers without a job. The broker is asked twice about jobs that wait for long."""
        jobs = self._services.jobs
        since = await jobs.waiting([row.message_id for row in rows])
        now = jobs.now_ms()
        verdicts = {row.message_id: judge(since.get(row.message_id), now) for row in rows}
        held = await jobs.held(
            [name for name, verdict in verdicts.items() if verdict is Job.DOUBTFUL]
        )
        return [
            row
            for row in rows
            if verdicts[row.message_id] is not Job.WAITS and row.message_id not in held
        ]

    async def _enqueue(self, rows: Sequence[Outstanding]) -> None:
        sent: list[str] = []
        self._apart = {name: until for name, until in self._apart.items() if clock() < until}
        try:
            await _all(
                asyncio.Semaphore(SIDE_BY_SIDE),
                lambda row: self._send(row, sent),
                [row for row in rows if row.message_id not in self._apart],
            )
        finally:
            await by_halves(
                sent, lambda ids: self._services.store.mark_enqueued(*ids), self._leave_alone
            )

    def _leave_alone(self, message_id: str, error: Exception) -> None:
        """Enqueue no job of this answer for a while: the database fails at its row."""
        self._apart[message_id] = clock() + APART_SECONDS
        failed("sweep", error)

    async def _send(self, row: Outstanding, sent: list[str]) -> None:
        await self._services.jobs.generate(row.message_id)
        sent.append(row.message_id)
        log_line.info("swept: enqueued again", message_id=row.message_id, status=row.status)

    async def _expire_calls(self) -> None:
        """Decide what nobody has decided in time. The answer's next attempt announces it."""
        async for page in self._pages(self._services.store.expired_calls, lambda call: call, None):
            answers = dict.fromkeys(call.message_id for call in page)
            await _all(asyncio.Semaphore(SIDE_BY_SIDE), self._expire_calls_of, answers)

    async def _expire_calls_of(self, message_id: str) -> None:
        services = self._services
        if await services.store.expire_calls(message_id):
            await services.jobs.generate(message_id)
            await services.store.mark_enqueued(message_id)
            log_line.info("swept: the time for a decision is over", message_id=message_id)

    async def _announce_ends(self) -> None:
        async for page in self._pages(lambda *place: self._services.store.ended(DUE, *place), _key):
            await _all(self._bulk, self._announce_end, page)

    async def _announce_end(self, row: Outstanding) -> None:
        """Append the terminal event that was lost in a crash."""
        ended = await self._services.store.message(row.message_id)
        if ended is None:
            return
        try:
            lacked = await closing.announce_end(self._services.store, self._services.log, ended)
        except ports.Busy:
            return
        self._services.packing.ended(row.conversation_id)
        if lacked:
            log_line.info("swept: end announced", message_id=row.message_id, status=row.status)
        await closing.start_next(self._services.store, self._services.jobs, row.conversation_id)

    async def _announce_rows(self) -> None:
        async for page in self._pages(
            lambda *place: self._services.store.unannounced_rows(DUE, *place), _id
        ):
            rows = itertools.groupby(
                sorted(page, key=lambda row: (row.conversation_id, row.ordinal)),
                lambda row: row.conversation_id,
            )
            await _all(self._bulk, self._announce_in_order, [list(group) for _, group in rows])

    async def _announce_in_order(self, rows: Sequence[Unannounced]) -> None:
        for row in rows:
            if error := await _guarded(self._announce_row(row)):
                raise error

    async def _announce_row(self, found: Unannounced) -> None:
        row = await self._services.store.message(found.id)
        if row is not None:
            await announcing.announce_message(self._services.store, self._services.log, row)

    async def _announce_titles(self) -> None:
        async for page in self._pages(
            lambda *place: self._services.store.unannounced_titles(DUE, *place), _id
        ):
            await _all(self._bulk, self._announce_title, page)

    async def _announce_title(self, row: Conversation) -> None:
        await announcing.announce_title(self._services.store, self._services.log, row)

    async def _delete_logs(self) -> None:
        async for page in self._pages(
            lambda *place: self._services.store.undeleted_logs(DUE, *place), str
        ):
            await _all(self._bulk, self._delete_log, page)

    async def _delete_log(self, conversation_id: str) -> None:
        await self._services.log.delete(conversation_id)
        await self._services.store.log_deleted(conversation_id)

    async def _revoke(self) -> None:
        async for page in self._pages(
            lambda *place: self._services.store.unannounced_revocations(DUE, *place), _id
        ):
            await _all(self._bulk, self._revoke_one, page)

    async def _revoke_one(self, row: Revocation) -> None:
        services = self._services
        await revocations.revoke(services.store, services.log, row.conversation_id, row.user_id)


async def _all(
    places: asyncio.Semaphore, work: Callable[[T], Awaitable[None]], items: Iterable[T]
) -> None:
    """Do this work for all items, `places` at a time, even if some fails. Then raise the first
    outage.

    The work of an item is created once it has its place: a cancellation leaves none unawaited.
    """

    async def one(item: T) -> Exception | None:
        async with places:
            return await _guarded(work(item))

    for error in await asyncio.gather(*(one(item) for item in items)):
        if error is not None:
            raise error


async def _guarded(piece: Awaitable[None]) -> Exception | None:
    """Run one piece of work. Returns its outage, if any. Another error is counted and logged.

    Raises Deposed.
    """
    try:
        await piece
    except Deposed:
        raise
    except GivenUp as error:
        log_line.warning(
            "left to the next round: the database aborted it", error=repr(error.__cause__)
        )
    except _OUTAGES as error:
        return error
    except Exception as error:  # noqa: BLE001 -- a bug, or one row's own
        failed("sweep", error)
    return None


def _key(row: Outstanding) -> str:
    return row.key


def _id(row: Any) -> str:
    return str(row.id)
