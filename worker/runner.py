"""Runs the attempts of one worker process: from a message id to an attempt, and the final drain.

Its caller supplies connections and providers: `runtime` real ones, tests others.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from tokenwire.config.background import keep
from tokenwire.models.errors import HistoryTooLong, NotFound, StatementFailed, StoreUnavailable
from tokenwire.models.parts import answer_of
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.models.unsaved import UnsavedParts
from tokenwire.protocol.events import INTERNAL_ERROR
from tokenwire.protocol.fold import Answer
from tokenwire.providers.base import (
    ContextLengthExceeded,
    Continuation,
    Interrupted,
    InvalidRequest,
    ModelNotFound,
    Provider,
    Request,
)
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.presets import rung_of
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log import ports
from tokenwire.worker import closing, context, probation
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.intake import NAMING_SECONDS, clock
from tokenwire.worker.attempt.lifecycle import HandedOver
from tokenwire.worker.attempt.run import Attempt
from tokenwire.worker.attempt.usage import Reported
from tokenwire.worker.deaths import MAX_DEATHS, MAX_FAILED_STARTS
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.outages import outlast
from tokenwire.worker.probation import Probation
from tokenwire.worker.resume.continuation import (
    Held,
    Plan,
    Run,
    is_attachable,
    is_paused,
    lost_in,
    plan,
)
from tokenwire.worker.resume.takeover import recover
from tokenwire.worker.retries import WorkersDied, deaths_in_a_row
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.sweeper.sweeps import wait_ms

log_line = structlog.get_logger(__name__)
OUTAGE_PAUSE_SECONDS = 1.0
PROBATION_CHECK_SECONDS = 0.25
MAX_ATTEMPTS = 50
"""Attempts of one answer, whatever they added. After that it ends as failed."""
MAX_ATTACHES = 500
"""The same while attempts attach to a run, which is free. An hour of silence needs fewer."""


@dataclass(frozen=True, slots=True)
class Models:
    """The models on offer. `open` returns the provider of an entry of the catalogue."""

    catalogue: Catalogue
    open: Callable[[ModelSpec], Provider]

    def provider(self, name: str) -> Provider:
        """The provider of a catalogue entry. Raises ProviderError if there is none."""
        spec = self.catalogue.models.get(name)
        if spec is None:
            raise ModelNotFound(f"{name} is not in the catalogue")
        return self.open(spec)


class Runner:
    """The attempts of one process."""

    def __init__(self, services: WorkerServices, models: Models) -> None:
        self._services = services
        self._models = models
        self._running: dict[str, Attempt] = {}
        self._waiting: set[str] = set()
        """Ids of messages whose job waits for the end of an outage."""
        self._probation = Probation()
        self._jobs = 0
        self._draining = False
        self._handing_over = False
        self._emptied = asyncio.Event()

    def running(self) -> Collection[Attempt]:
        """The attempts that run in this process now."""
        return list(self._running.values())

    async def generate(self, message_id: str) -> None:
        """The job: run one attempt if the answer needs one. Waits while a service is away."""
        self._jobs += 1
        try:
            await self._generate_through_outages(message_id)
        finally:
            self._jobs -= 1
            if not self._jobs:
                self._emptied.set()

    async def _generate_through_outages(self, message_id: str) -> None:
        if await self._tried_once(message_id):
            return
        if message_id in self._waiting:  # a waiting job occupies a thread of this process
            log_line.info("job not needed", message_id=message_id, reason="another one waits here")
            return
        self._waiting.add(message_id)
        try:
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            while not await self._tried_once(message_id):
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        finally:
            self._waiting.discard(message_id)

    async def _tried_once(self, message_id: str) -> bool:
        """Run the job once. Returns False if Redis or the database was away."""
        try:
            await self._generate(message_id)
        except (StoreUnavailable, ports.LogUnavailable, JobsUnavailable) as error:
            log_line.warning("job waits for a service", message_id=message_id, error=repr(error))
            if self._draining:
                raise  # this job is lost; the sweeper of another process finds the row
            return False
        except ports.Refused as refusal:
            # Busy: another worker runs it. Fenced: another one took it. Sealed: it has ended.
            # Gone: its conversation was deleted.
            log_line.info("job not needed", message_id=message_id, reason=type(refusal).__name__)
        return True

    async def _generate(self, message_id: str) -> None:
        store, log = self._services.store, self._services.log
        try:
            row = await store.message(message_id)
        except StatementFailed as error:
            await self._count_unreadable(message_id, error)
            raise
        if row is None or not unfinished(row) or await self._not_yet(row):
            return
        if row.cancel_by is not None:
            await closing.cancel(store, log, self._services.jobs, message_id, row.cancel_by)
            return
        if not self._probation.admits(message_id, row.deaths):
            log_line.info(
                "job not needed", message_id=message_id, reason="another suspect has its turn"
            )
            return  # nothing is held meanwhile; the sweeper enqueues the job again
        try:
            await self._claim_and_run(row)
        finally:
            self._probation.leave(message_id)

    async def _claim_and_run(self, row: Message) -> None:
        store, log, message_id = self._services.store, self._services.log, row.id
        try:
            claim = await log.claim(
                row.conversation_id, message_id, row.attempt, self._services.lease_seconds
            )
        except ports.LogError:
            raise
        except Exception as error:
            await self._count(row, await store.count_start(message_id), error)
            raise
        async with closing.released_on_failure(
            log, claim
        ):  # or the next try of this job would find the lease taken
            model = row.model or self._models.catalogue.default
            mine = await store.begin_attempt(
                message_id, claim.attempt, model, survived=message_id in self._waiting
            )
            if mine is None:
                await log.release(claim)
                return
            try:
                _not_deadly(mine)
                claim, held = await recover(log, mine, claim, self._services.lease_seconds)
                await self._attempt(mine, claim, held, crashed=mine.deaths > row.deaths)
            except (ports.LogError, StoreUnavailable, JobsUnavailable):
                raise
            except Exception as error:
                await closing.give_back(log, claim)
                await self._count(mine, mine.starts, error)
                raise

    async def _count(self, row: Message, starts: int, error: Exception) -> None:
        """Count an attempt that raised an unexpected error. After a few, the answer ends."""
        if starts <= MAX_FAILED_STARTS and not isinstance(error, WorkersDied):
            return
        now = await self._services.store.message(row.id)
        if now is None or not unfinished(now):
            return
        self._notify_operators(row, error)
        await closing.end_failed(self._services.store, self._services.log, now, INTERNAL_ERROR)
        await closing.start_next(self._services.store, self._services.jobs, row.conversation_id)

    async def _count_unreadable(self, message_id: str, error: Exception) -> None:
        """The same for a row that the database cannot read: the end is written without reading it.

        Operators are notified first: a row that cannot be read may refuse its end, too.
        """
        store = self._services.store
        if await store.count_start(message_id) <= MAX_FAILED_STARTS:
            return
        self._services.notify_operators(
            error, {"message_id": message_id, "code": "internal_error", "bug": True}
        )
        conversation_id = await store.end_unread(message_id, INTERNAL_ERROR)
        if conversation_id is not None:
            await closing.start_next(store, self._services.jobs, conversation_id)

    def _notify_operators(self, row: Message, error: Exception) -> None:
        self._services.notify_operators(
            error, {"message_id": row.id, "model": row.model, "code": "internal_error", "bug": True}
        )

    async def _not_yet(self, row: Message) -> bool:
        """Whether the job comes too early: draining, not due, or behind another answer.

        It is enqueued again later.
        """
        if self._draining:
            await self._services.jobs.generate(row.id)
            return True
        if row.due_at is not None and (
            left_ms := wait_ms(row.due_at, await self._services.store.now_ms())
        ):
            await self._services.jobs.generate(row.id, left_ms)
            return True
        return await self._services.store.blocked_by(row.id) is not None

    async def _attempt(
        self, row: Message, claim: ports.Claim, held: Held, *, crashed: bool
    ) -> None:
        spec = self._models.catalogue.models.get(row.model or "")
        best_rung = rung_of(spec) if spec else "none"
        saved = answer_of(row)
        run = _saved_run(row, saved)
        chosen = plan(
            best_rung,
            held.answer,
            must_be_json=row.response_schema is not None,
            attachable=is_attachable(run, saved, held.answer),
            paused=is_paused(held.answer),
        )
        if chosen.rung != "attach":
            run = None
        if claim.attempt > 1:
            await self._account(row, claim, held.answer, chosen, crashed=crashed)
        unsaved = UnsavedParts.following(row, saved, held.answer)
        going_on = _going_on(chosen, held.answer, run)
        draft = self._draft(row, claim, held, chosen, run, unsaved)
        attempt = Attempt(self._services, row, claim, draft, best_rung)
        self._running[row.id] = attempt
        if self._handing_over:
            attempt.stop(HandedOver())
        suspect = self._probation.holds(row.id)
        proving = (
            [asyncio.create_task(keep("probation", lambda: self._end_probation(attempt, row)))]
            if suspect
            else []
        )
        try:
            await self._run(attempt, row, spec, chosen, going_on)
        finally:
            for task in proving:
                task.cancel()
            await asyncio.gather(*proving, return_exceptions=True)
            if (
                self._running.get(row.id) is attempt
            ):  # a later attempt of the same answer may have begun here
                del self._running[row.id]

    async def _end_probation(self, attempt: Attempt, row: Message) -> None:
        """End a suspect's probation when it is over. Then another suspect may begin."""
        began = clock()
        while self._probation.holds(row.id):
            await asyncio.sleep(PROBATION_CHECK_SECONDS)
            lived = clock() - began
            if probation.outlived(lived):
                await outlast(
                    row.id,
                    lambda: self._services.store.note_attempt(
                        row.id, attempt.draft.attempt, 0, row.started_with
                    ),
                )
            if probation.over(attempt.draft.added, lived):
                self._probation.leave(row.id)

    def _draft(
        self,
        row: Message,
        claim: ports.Claim,
        held: Held,
        chosen: Plan,
        run: Run | None,
        unsaved: UnsavedParts,
    ) -> Draft:
        """The draft that the attempt begins with. Text that is not resumed is withdrawn."""
        seams, reported = list(row.seams or ()), Reported.of(row.reported)
        is_new_request = run is None and chosen.rung != "resume"
        if chosen.keeps and held.answer.content_units and is_new_request:
            seams.append(held.answer.content_units)
        draft = Draft(
            held,
            claim.attempt,
            unsaved,
            seams=seams if chosen.keeps else (),
            run=run,
            continues=chosen.rung in ("prefix", "turn"),
            reported=reported.next_request() if run is None else reported,
            terms=self._services.terms,
        )
        if chosen.keeps and run is None:  # a run repeats what is behind its offset
            for number in lost_in(held.answer):
                draft.drop(number)
        elif not chosen.keeps and chosen.rung != "fresh":
            draft.withdraw()
        return draft

    async def _account(
        self, row: Message, claim: ports.Claim, answer: Answer, chosen: Plan, *, crashed: bool
    ) -> None:
        """Forget deaths that were followed by progress, and note what this attempt begins with.

        Text that is withdrawn now was no progress.
        """
        kept = answer.units if chosen.keeps else 0
        row.deaths, row.started_with = deaths_in_a_row(row.deaths, kept - row.started_with), kept
        if crashed:
            facts = {
                "message_id": row.id,
                "attempt": claim.attempt,
                "characters": answer.units,
                "deaths": row.deaths,
            }
            log_line.warning("taken over from a worker that died", **facts)
        await self._services.store.note_attempt(row.id, claim.attempt, row.deaths, row.started_with)

    def check_cancel(self, message_id: str) -> None:
        """A cancel was requested for this message. Its attempt, if it runs here, asks the log."""
        if (attempt := self._running.get(message_id)) is not None:
            attempt.check_cancel()

    async def _run(
        self,
        attempt: Attempt,
        row: Message,
        spec: ModelSpec | None,
        chosen: Plan,
        going_on: Continuation | None,
    ) -> None:
        try:
            provider, request = await self._prepared(row, spec, chosen, going_on)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 -- the attempt says whose fault it is
            await attempt.give_up(error)
        else:
            await attempt.run(provider, request, row.model or "")
            await self._name_conversation(attempt, row)

    async def _prepared(
        self, row: Message, spec: ModelSpec | None, chosen: Plan, going_on: Continuation | None
    ) -> tuple[Provider, Request]:
        """The provider and the request. Raises ProviderError or WorkersDied if there is none."""
        if spec is None:
            raise ModelNotFound(f"{row.model} is not in the catalogue")
        if row.deaths >= MAX_DEATHS:
            raise WorkersDied(f"{row.deaths} workers died in a row, and none of them got on")
        if row.attempt > (MAX_ATTACHES if chosen.rung == "attach" else MAX_ATTEMPTS):
            raise BudgetExhausted(f"attempt {row.attempt}")
        if chosen.rung == "none":
            raise Interrupted("there is text, and no way to go on from it")
        return self._models.open(spec), await self._request(row, going_on)

    async def _name_conversation(self, attempt: Attempt, row: Message) -> None:
        """Enqueue the naming after the first answer. A lost title is made after a later answer."""
        if not attempt.completed:
            return
        conversation = await self._services.store.conversation_of(row.id)
        if conversation is not None and conversation.title is None:
            await self._services.jobs.title(row.id)

    async def _request(self, row: Message, going_on: Continuation | None) -> Request:
        conversation = await self._services.store.conversation_of(row.id)
        rows = await self._history(row)
        instructions = conversation.instructions if conversation else None
        names = {name: spec.model for name, spec in self._models.catalogue.models.items()}
        wanted = context.files_in(rows)
        files = await self._services.store.files(wanted) if wanted else {}
        messages = context.messages(rows, instructions, names, files)
        if not messages:
            raise InvalidRequest("nothing to answer")
        return Request(
            messages,
            schema=row.response_schema,
            continuation=going_on,
            tries=row.attempt - 1,
            **context.options(row),
        )

    async def _history(self, row: Message) -> list[Message]:
        """The earlier messages. Raises ProviderError if they are too long, or incomplete."""
        try:
            return await self._services.store.history(row.conversation_id, row.ordinal)
        except HistoryTooLong as error:
            raise ContextLengthExceeded(
                "there is more text before this answer than MAX_HISTORY_BYTES allows"
            ) from error
        except NotFound as error:
            raise InvalidRequest("a message before this answer was deleted") from error

    async def drain(self, seconds: float) -> None:
        """Take no new jobs. Let attempts run for `seconds`, then hand them to other workers."""
        self._draining = True
        if not await self._empty_within(seconds):
            self._handing_over = True
            for attempt in self.running():
                attempt.stop(HandedOver())
            await self._empty_within(self._services.lease_seconds + NAMING_SECONDS)

    async def _empty_within(self, seconds: float) -> bool:
        """Whether every job ends in time, including jobs that are no attempts yet."""
        self._emptied.clear()
        if not self._jobs:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._emptied.wait()
        except TimeoutError:
            return False
        return True


def _not_deadly(row: Message) -> None:
    """Raises WorkersDied if workers died before they began: this worker would die, too."""
    if row.deaths > MAX_DEATHS:
        raise WorkersDied(f"{row.deaths} workers died in a row, the last of them before it began")


def _saved_run(row: Message, saved: Answer) -> Run | None:
    """The run that the row names. If the row has no offset in it, the end of `saved` is used."""
    if row.run_id is None:
        return None
    if row.run_parts is None or row.run_text is None or row.run_reasoning is None:
        place = len(saved.parts), saved.content_units, saved.reasoning_units
    else:
        place = row.run_parts, row.run_text, row.run_reasoning
    return Run(row.run_id, row.run_cursor, *place)


def _going_on(chosen: Plan, answer: Answer, run: Run | None) -> Continuation | None:
    """The text that readers hold, for a request that continues it."""
    if run is not None:
        return Continuation("attach", answer.content, run.id, run.cursor)
    return Continuation(chosen.rung, answer.content) if chosen.rung in ("prefix", "turn") else None
