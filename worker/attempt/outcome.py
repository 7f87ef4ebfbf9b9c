"""Carries out the verdict of an attempt: the answer ends, is retried later, or is handed over.

SQL comes first: an end is committed before its terminal event, a retry before its `retry` event, a
hand-over before the release of the lease. So the second proves the first.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import structlog

from tokenwire.config.clock import clock
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.errors import StatementFailed, Unstorable
from tokenwire.protocol import events
from tokenwire.protocol.states import EndedStatus
from tokenwire.providers.base import ProviderError
from tokenwire.worker import closing
from tokenwire.worker.attempt.failure import follow_up
from tokenwire.worker.attempt.keeper import Keeper
from tokenwire.worker.attempt.lifecycle import (
    CancelAsked,
    CarriedOut,
    Failed,
    Finished,
    HandedOver,
    Input,
    Released,
    Unwritable,
    Verdict,
)
from tokenwire.worker.attempt.rounds import differences
from tokenwire.worker.attempt.structured import INVALID_OUTPUT
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.discretion import remove_quotes, texts_in
from tokenwire.worker.ending import as_lossy_end, make_ending, smaller_checkpoints, usage_fields
from tokenwire.worker.outages import outlast
from tokenwire.worker.retries import MAX_TRIES, RetryLater

log_line = structlog.get_logger(__name__)
T = TypeVar("T")


class Outcome:
    """The outcome of one attempt. `give` takes inputs; `ended`: the end that was committed."""

    def __init__(self, work: AttemptWork, keeper: Keeper, give: Callable[[Input], None]) -> None:
        self._work, self._keeper, self._give = work, keeper, give
        self._begun = clock()
        self._delay_ms: int | None = None
        self.ended: Ending | None = None

    async def carry_out(self, verdict: Verdict | None) -> None:
        """Gives `CarriedOut`, or `Released` if another attempt goes on.

        Raises the error of a `Failed` that is a bug of ours.
        """
        self._warn_of_loss()
        match verdict:
            case Finished():
                await self._complete()
            case CancelAsked(by=by):
                await self._cancelled(by)
            case Failed(error=error) | Unwritable(error=error):
                await self._fail(error)
            case HandedOver():
                await self._hand_over()
        self._give(CarriedOut())

    def _warn_of_loss(self) -> None:
        """Warn operators: a turn that lost a value goes back without all of its values."""
        draft = self._work.draft
        if lost := draft.not_kept:
            log_line.warning(
                "what a provider sent beside parts cannot be kept: it does not go back",
                message_id=draft.message_id,
                attempt=draft.attempt,
                parts=list(lost),
                reasons=sorted(set(lost.values())),
            )

    # --- the answer ends ---

    async def _complete(self) -> None:
        work = self._work
        if work.is_misfit:
            await self._end("error", error=dict(INVALID_OUTPUT))
            return
        document = work.document.value if work.document is not None else None
        await self._end("complete", finish_reason=work.draft.finish_reason(), object=document)

    async def _cancelled(self, by: str) -> None:
        """End the answer as cancelled. The log takes nothing but the end from this attempt now. If
        it lacks something of the calls, such as a result, the answer ends like one without a
        worker: who claims it anew appends that first.
        """
        if await self._log_lacks_calls():
            await self._release()
            await self.cancel(by)
        else:
            await self._end("cancelled", cancel_by=by)

    async def _log_lacks_calls(self) -> bool:
        draft, store = self._work.draft, self._work.services.store
        if not draft.proven:
            return False
        _, calls = await self._outlast(lambda: store.calls_at(draft.message_id))
        return any(differences(draft.answer, calls))

    async def _end(self, status: EndedStatus, **facts: Any) -> None:
        """Commit, then append the terminal event. Wait while either is away: the text is safe."""
        work, services = self._work, self._work.services
        ending = self._ending(status, facts)
        try:
            committed = await self._outlast(lambda: services.store.finish(ending))
        except (Unstorable, StatementFailed) as error:
            work.notify_operators(error, "internal_error")
            ending = as_lossy_end(ending)
            committed = await self._outlast(lambda: services.store.finish(ending))
        if committed:
            self.ended = ending
            await self._outlast(lambda: self._announce(ending))
        await self._outlast(
            lambda: closing.start_next(services.store, services.jobs, work.row.conversation_id)
        )

    def _ending(self, status: EndedStatus, facts: dict[str, Any]) -> Ending:
        work, draft = self._work, self._work.draft
        usage = work.billing.usage(stopped=status != "complete" or draft.at_limit)
        return make_ending(
            status,
            draft.held,
            draft.attempt,
            work.writer.claim.epoch,
            usage=usage_fields(usage),
            seams=list(draft.seams),
            **facts,
        )

    async def _announce(self, ending: Ending) -> None:
        services, writer = self._work.services, self._work.writer
        await closing.append_end(services.store, services.log, writer.claim, writer.index, ending)

    # --- the attempt failed ---

    async def _fail(self, error: BaseException) -> None:
        work = self._work
        decision = follow_up(work, error, clock() - self._begun)
        self._remove_quotes(error)
        log_line.warning(
            "attempt failed",
            message_id=work.row.id,
            attempt=work.draft.attempt,
            decision=type(decision).__name__.lower(),
            code=decision.code,
            provider_code=getattr(error, "code", None),
            status=getattr(error, "status", None),
            error=str(error),
        )
        if decision.notify_operators:
            work.notify_operators(error, decision.code)
        if isinstance(decision, RetryLater):
            await self._retry(decision)
            return
        shown = {
            "code": decision.code,
            "error": decision.sentence,
            "retryable": decision.retryable,
        }
        await self._end("error", error=shown)
        if not isinstance(error, ProviderError):
            raise error  # our own bug: the job becomes a dead letter, with its traceback

    def _remove_quotes(self, error: BaseException) -> None:
        work = self._work
        texts = texts_in(work.question) if work.question is not None else ()
        remove_quotes(error, [*texts, *(part.text for part in work.draft.answer.parts)])

    # --- another attempt continues ---

    async def _retry(self, retry: RetryLater) -> None:
        """Arrange another attempt in `delay_ms`. Its `due_at` is committed before the event."""
        work, store, draft = self._work, self._work.services.store, self._work.draft
        message_id, attempt, billed = work.row.id, draft.attempt, work.billing.billed
        await self._save_what_can_be(lambda checkpoint: store.checkpoint([checkpoint]))
        silent = draft.run is not None and not draft.emitted
        scheduled = await self._outlast(
            lambda: store.schedule_retry(
                message_id,
                attempt,
                retry.delay_ms,
                retry.tries,
                billed,
                run_is_silent=silent,
                model=retry.model,
            )
        )
        if not scheduled:
            return
        after = retry.code, retry.delay_ms, retry.tries, MAX_TRIES
        draft.add(events.Retry(message_id, attempt, *after))
        await work.writer.settle()
        await self._release()
        self._delay_ms = retry.delay_ms
        self._give(Released())

    async def _hand_over(self) -> None:
        work, store = self._work, self._work.services.store
        if not await self._save_what_can_be(
            lambda checkpoint: store.hand_back(checkpoint, work.billing.billed)
        ):
            return
        await self._release()
        log_line.info("handed over", message_id=work.row.id, attempt=work.draft.attempt)
        self._give(Released())

    async def leave_waiting(self) -> None:
        """Release the lease of an answer that waits for a decision.

        If the decision came before, the answer is queued, and its job found the lease taken.
        """
        await self._release()
        services = self._work.services
        await self._outlast(
            lambda: closing.start_next(
                services.store, services.jobs, self._work.row.conversation_id
            )
        )

    async def requeue(self) -> None:
        """Enqueue the job of the next attempt for when it is due."""
        jobs, message_id = self._work.services.jobs, self._work.row.id
        await self._outlast(lambda: jobs.generate(message_id, self._delay_ms))

    async def cancel(self, by: str) -> None:
        """End the answer that was just released, like a cancel of an answer without a worker."""
        services = self._work.services
        await closing.cancel(services.store, services.log, services.jobs, self._work.row.id, by)

    async def _save_what_can_be(self, save: Callable[[Checkpoint], Awaitable[T]]) -> T:
        """The last save of an attempt before another one resumes.

        Raises Unstorable if the database refuses even the text.
        """
        for checkpoint in smaller_checkpoints(self._work.checkpoint()):
            try:
                return await self._outlast(functools.partial(save, checkpoint))
            except (Unstorable, StatementFailed) as error:
                self._work.notify_operators(error, "internal_error")
        raise Unstorable("not even the text of an answer")

    async def _release(self) -> None:
        """Release the lease, and never renew it: that would block the next attempt."""
        self._keeper.stop()
        work = self._work
        await self._outlast(lambda: work.services.log.release(work.writer.claim))

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        return await outlast(self._work.row.id, call)
