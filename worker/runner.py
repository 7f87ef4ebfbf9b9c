"""Runs the jobs of one worker process: from a message id to an attempt.

Its caller supplies connections and providers: `runtime` real ones, tests others.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

import structlog

from tokenwire.config.background import supervise
from tokenwire.config.clock import clock
from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.providers.cost import prices_of
from tokenwire.providers.presets import rung_of
from tokenwire.streams.log import ports
from tokenwire.worker import closing, context, probation
from tokenwire.worker.asking import ask
from tokenwire.worker.attempt.run import Attempt
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.fallbacks import next_model
from tokenwire.worker.outages import outlast
from tokenwire.worker.planning import PlannedAttempt, plan_attempt
from tokenwire.worker.probation import Probation
from tokenwire.worker.resume.continuation import Held
from tokenwire.worker.resume.takeover import recover
from tokenwire.worker.retries import deaths_in_a_row
from tokenwire.worker.running import Running
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.starts import fail_start, fail_to_read, require_not_deadly
from tokenwire.worker.sweeper.sweeps import wait_ms

log_line = structlog.get_logger(__name__)
JOB_RETRY_SECONDS = 1.0
PROBATION_CHECK_SECONDS = 0.25


class Runner:
    """The jobs of one process."""

    def __init__(self, services: WorkerServices, models: Models) -> None:
        self._services = services
        self._models = models
        self._running = Running(services.lease_seconds)
        self._waiting: set[str] = set()
        """Ids of messages whose job waits for the end of an outage."""
        self._probation = Probation()

    def running(self) -> Collection[Attempt]:
        """The attempts that run in this process now."""
        return self._running.attempts

    def check_cancel(self, message_id: str) -> None:
        """A cancel was requested for this message. Its attempt, if it runs here, asks the log."""
        self._running.check_cancel(message_id)

    async def drain(self, seconds: float) -> None:
        """Take no new jobs. Let attempts run for `seconds`, then hand them to other workers."""
        await self._running.drain(seconds)

    async def generate(self, message_id: str) -> None:
        """The job: run one attempt if the answer needs one. Waits while a service is away."""
        with self._running.job():
            await self._generate_through_outages(message_id)

    # --- which jobs run now ---

    async def _generate_through_outages(self, message_id: str) -> None:
        if await self._tried_once(message_id):
            return
        if message_id in self._waiting:  # a waiting job occupies a thread of this process
            _not_needed(message_id, "another one waits here")
            return
        self._waiting.add(message_id)
        try:
            await asyncio.sleep(JOB_RETRY_SECONDS)
            while not await self._tried_once(message_id):
                await asyncio.sleep(JOB_RETRY_SECONDS)
        finally:
            self._waiting.discard(message_id)

    async def _tried_once(self, message_id: str) -> bool:
        """Run the job once. Returns False if Redis or the database was away."""
        try:
            await self._generate(message_id)
        except (StoreUnavailable, ports.LogUnavailable, JobsUnavailable) as error:
            log_line.warning("job waits for a service", message_id=message_id, error=repr(error))
            if self._running.draining:
                raise  # this job is lost; the sweeper of another process finds the row
            return False
        except ports.Refused as refusal:
            # Busy: another worker runs it. Fenced: another one took it. Sealed: it has ended.
            # Gone: its conversation was deleted.
            _not_needed(message_id, type(refusal).__name__)
        return True

    async def _generate(self, message_id: str) -> None:
        services = self._services
        row = await self._read(message_id)
        if row is None or not unfinished(row) or await self._not_yet(row):
            return
        if row.cancel_by is not None:
            await closing.cancel(
                services.store, services.log, services.jobs, message_id, row.cancel_by
            )
            return
        if row.status == "waiting":
            _not_needed(message_id, "it waits for a decision")
            return
        if not self._probation.admits(message_id, row.deaths):
            # Nothing is held meanwhile; the sweeper enqueues the job again.
            _not_needed(message_id, "another suspect has its turn")
            return
        try:
            await self._claim_and_run(row)
        finally:
            self._probation.leave(message_id)

    async def _read(self, message_id: str) -> Message | None:
        try:
            return await self._services.store.message(message_id)
        except StatementFailed as error:
            await fail_to_read(self._services, message_id, error)
            raise

    async def _not_yet(self, row: Message) -> bool:
        """Whether the job comes too early: draining, not due, or behind another answer.

        It is enqueued again later.
        """
        if self._running.draining:
            await self._services.jobs.generate(row.id)
            return True
        if row.due_at is not None and (
            left_ms := wait_ms(row.due_at, await self._services.store.now_ms())
        ):
            await self._services.jobs.generate(row.id, left_ms)
            return True
        return await self._services.store.blocked_by(row.id) is not None

    # --- the attempt ---

    async def _claim_and_run(self, row: Message) -> None:
        claim = await self._claim(row)
        # Or the next try of this job would find the lease taken.
        async with closing.released_on_failure(self._services.log, claim):
            model = row.model or self._models.catalogue.default
            mine = await self._services.store.begin_attempt(
                row.id, claim.attempt, model, survived=row.id in self._waiting
            )
            if mine is None:
                await self._services.log.release(claim)
                return
            try:
                await self._take_over(mine, claim, crashed=mine.deaths > row.deaths)
            except (ports.LogError, StoreUnavailable, JobsUnavailable):
                raise
            except Exception as error:
                await closing.give_back(self._services.log, claim)
                await fail_start(self._services, mine, mine.starts, error)
                raise

    async def _claim(self, row: Message) -> ports.Claim:
        services = self._services
        try:
            return await services.log.claim(
                row.conversation_id, row.id, row.attempt, services.lease_seconds
            )
        except ports.LogError:
            raise
        except Exception as error:
            await fail_start(services, row, await services.store.count_start(row.id), error)
            raise

    async def _take_over(self, row: Message, claim: ports.Claim, *, crashed: bool) -> None:
        require_not_deadly(row)
        services = self._services
        claim, held = await recover(services.log, row, claim, services.lease_seconds)
        await self._attempt(row, claim, held, crashed=crashed)

    async def _attempt(
        self, row: Message, claim: ports.Claim, held: Held, *, crashed: bool
    ) -> None:
        model, models = row.model or "", self._models.catalogue.models
        spec = models.get(model)
        best_rung = rung_of(spec) if spec else "none"
        planned = plan_attempt(row, held, best_rung)
        if claim.attempt > 1:
            await self._account(planned, claim, crashed=crashed)
        if lost := planned.newly_lost:
            log_line.warning(
                "what a provider sent beside parts may be lost with the previous worker: it does "
                "not go back",
                message_id=row.id,
                attempt=claim.attempt,
                parts=lost,
            )
        prices = prices_of(spec) if spec else None
        draft = planned.draft(claim.attempt, self._services.terms, prices)
        other = next_model(models, row.first_model or model, model, context.options(row))
        attempt = Attempt(self._services, row, claim, draft, best_rung, other)
        with self._running.attempt(attempt):
            async with self._on_probation(attempt, row):
                await self._run(attempt, planned)

    async def _account(self, planned: PlannedAttempt, claim: ports.Claim, *, crashed: bool) -> None:
        """Forget deaths that were followed by progress, and note what this attempt begins with."""
        row, kept = planned.row, planned.kept_units
        row.deaths, row.started_with = deaths_in_a_row(row.deaths, kept - row.started_with), kept
        if crashed:
            log_line.warning(
                "taken over from a worker that died",
                message_id=row.id,
                attempt=claim.attempt,
                characters=planned.held.answer.units,
                deaths=row.deaths,
            )
        await self._services.store.note_attempt(row.id, claim.attempt, row.deaths, row.started_with)

    async def _run(self, attempt: Attempt, planned: PlannedAttempt) -> None:
        try:
            services = self._services
            asked = await ask(services.store, self._models, services.toolbox.tools, planned)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- the attempt says whose fault it is
            await attempt.give_up(error)
        else:
            model = planned.row.model or ""
            await attempt.run(asked.provider, asked.request, model, asked.tools)
            await self._name_conversation(attempt)

    async def _name_conversation(self, attempt: Attempt) -> None:
        """Enqueue the naming after the first answer. A lost title is made after a later answer."""
        if not attempt.completed:
            return
        conversation = await self._services.store.conversation_of(attempt.message_id)
        if conversation is not None and conversation.title is None:
            await self._services.jobs.title(attempt.message_id)

    # --- suspects ---

    @contextlib.asynccontextmanager
    async def _on_probation(self, attempt: Attempt, row: Message) -> AsyncIterator[None]:
        """A suspect is watched meanwhile; others are not."""
        if not self._probation.holds(row.id):
            yield
            return
        proving = asyncio.create_task(
            supervise("probation", lambda: self._end_probation(attempt, row))
        )
        try:
            yield
        finally:
            proving.cancel()
            await asyncio.gather(proving, return_exceptions=True)

    async def _end_probation(self, attempt: Attempt, row: Message) -> None:
        """End a suspect's probation when it is over. Then another suspect may begin."""
        began = clock()
        while self._probation.holds(row.id):
            await asyncio.sleep(PROBATION_CHECK_SECONDS)
            lived = clock() - began
            if probation.outlived(lived):
                await self._forget_deaths(attempt, row)
            if probation.over(attempt.draft.added, lived):
                self._probation.leave(row.id)

    async def _forget_deaths(self, attempt: Attempt, row: Message) -> None:
        store, number = self._services.store, attempt.draft.attempt
        await outlast(row.id, lambda: store.note_attempt(row.id, number, 0, row.started_with))


def _not_needed(message_id: str, reason: str) -> None:
    log_line.info("a job is not needed", message_id=message_id, reason=reason)
