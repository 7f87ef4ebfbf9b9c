"""One attempt: provider -> generation -> log and store. I/O only; what to do is decided in generation, retries and continuation.

Three tasks: the reader (`reading`) takes deltas from the provider, the writer (`writing`) appends batches, the keeper renews the lease and
watches for silence. Whatever ends the attempt is recorded once as its verdict (`stop`), which makes the reader leave the provider's
stream and close its connection. Then what may still be written is written, and the verdict is carried out.
"""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TypeVar

import msgspec
import structlog

from tokenwire.config.background import keep
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.errors import StatementFailed, Unstorable
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.protocol.states import Ended
from tokenwire.providers.base import (
    RUN_GONE,
    Interrupted,
    Provider,
    ProviderError,
    Request,
    Unavailable,
)
from tokenwire.streams.log import ports
from tokenwire.worker import closing, context
from tokenwire.worker.attempt.costs import Bill, BudgetExhausted
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.intake import Intake, clock
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.verdicts import (
    CancelAsked,
    Disowned,
    Failed,
    Finished,
    HandedOver,
    Verdict,
)
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.discretion import keep_back, said_in, written
from tokenwire.worker.internal import INTERNAL_ERROR
from tokenwire.worker.outages import outlast
from tokenwire.worker.resume.continuation import KEEPING, is_paused, plan
from tokenwire.worker.retries import (
    LONGEST_SEARCH_SECONDS,
    LONGEST_SILENCE_SECONDS,
    MAX_TRIES,
    Discard,
    RetryLater,
    decide,
    unheard,
)
from tokenwire.worker.services import AttemptTerms, WorkerServices

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
STALL_GRACE_SECONDS = 1.0
"""Providers watch their own silence; this is the second watch, for one whose adapter hangs."""


class Attempt:
    """A claimed attempt, from `start` to its verdict."""

    def __init__(
        self,
        services: WorkerServices,
        row: Row,
        claim: ports.Claim,
        generation: Draft,
        terms: AttemptTerms,
    ) -> None:
        self.generation = generation
        self._services = services
        self._row = row
        self._terms = terms
        self._writer = LogWriter(
            services, row, claim, generation, self.stop, lambda: services.checkpointer.grown(self)
        )
        self._verdict: Verdict | None = None
        self._request: Request | None = None
        self._reader: Intake | None = None
        self._keeper: asyncio.Task[None]
        self._looked_for = asyncio.Event()
        self._begun = self._watched = clock()
        self._ending = self._completed = False
        self._bill = Bill(0, 0, row.billed_input or 0, 0)
        self._run = NamedRun(services.store, row.id, row.model or "", claim.attempt, generation)
        self._stall_seconds = 0.0

    # --- what others call ---

    @property
    def completed(self) -> bool:
        """Whether the answer is whole and stored."""
        return self._completed

    @property
    def message_id(self) -> str:
        """Whose answer it is."""
        return self._row.id

    @property
    def uncheckpointed(self) -> int:
        """Characters acknowledged and not yet saved; 0 once the attempt saves its own end."""
        return 0 if self._ending else self.generation.uncheckpointed

    def checkpoint(self) -> Checkpoint:
        """What SQL should hold now."""
        held, run = self.generation.checkpoint(), self.generation.run
        return Checkpoint(
            message_id=self._row.id,
            attempt=self.generation.attempt,
            content=held.text,
            reasoning=held.reasoning,
            tool_calls=list(held.tool_calls) or None,
            epoch=self._writer.claim.epoch,
            seq=held.seq,
            run_id=run.id if run else None,
            run_cursor=run.cursor if run else None,
            run_text=run.text if run else None,
            run_reasoning=run.reasoning if run else None,
            run_silent_since=None if self.generation.emitted else self._row.run_silent_since,
            kept=self.generation.checkpoint_kept(),
            reported=self.generation.reported.stored(),
            saves=self.generation.saves,
        )

    def not_saved(self) -> None:
        """The last checkpoint did not reach the database: it is due again."""
        self.generation.not_saved()

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint."""
        self.generation.saved(checkpoint.kept)
        self._writer.saved(checkpoint)

    def look(self) -> None:
        """Somebody may have asked for a cancel: ask the log now instead of at the next renewal."""
        self._looked_for.set()

    def stop(self, verdict: Verdict) -> None:
        """End the attempt for this reason; the first reason counts, save that a cancel outranks it, and a lost ownership all.

        After a cancel nothing can be appended: a hand-over that was asked for before it would end with less than the whole answer.
        """
        if (
            self._verdict is None
            or isinstance(verdict, Disowned)
            or (isinstance(verdict, CancelAsked) and not self._disowned)
        ):
            self._verdict = verdict
        if self._reader is not None:
            self._reader.leave()
        self._writer.give_way()

    async def run(self, provider: Provider, request: Request, model: str) -> None:
        """Stream, then carry the verdict out."""
        self._stall_seconds = provider.stall_seconds + STALL_GRACE_SECONDS
        self._request = request
        first = self._resuming(request) if self._paused else request
        self._bill = bill = Bill.of(first, self._earlier_requests, self._row.billed_input)
        if self._terms.bounds.forbid(bill.number, bill.before, bill.cost):
            await self.give_up(
                BudgetExhausted(f"request {bill.number}, {bill.before} input tokens billed")
            )
            return
        self.generation.add(events.Start(self._row.id, self.generation.attempt, model))
        await self._live(self._answer(provider, request, first))

    async def give_up(self, error: BaseException) -> None:
        """End as failed without asking any provider. What viewers hold stays."""
        self.generation.abandon_unacknowledged()

        async def failed() -> Verdict:
            await self._writer.settle()
            return self._verdict or Failed(error)

        await self._live(failed())

    async def _live(self, life: Coroutine[None, None, Verdict]) -> None:
        self._writer.wake()
        self._keeper = asyncio.create_task(
            keep("keeper", self._keep, longest_pause_seconds=self._services.lease_seconds / 4)
        )
        helpers = [asyncio.create_task(self._writer.run()), self._keeper]
        try:
            await self._carry_out(await life)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        if (
            self._reader is not None
        ):  # viewers have the end: what is left is to hear what to end at the provider
            await self._reader.closed()
            await self._run.leave()

    # --- the answer ---

    async def _answer(self, provider: Provider, request: Request, first: Request) -> Verdict:
        """To the end of the answer: a turn that its provider has paused is resumed, in the same message."""
        verdict = await self._stream(provider, first)
        while isinstance(verdict, Finished) and self.generation.pause():
            resumed = self._resuming(request)
            bill = self._bill.following(resumed, self.generation.reported.now.get("input_tokens"))
            if self._terms.bounds.forbid(bill.number, bill.before, bill.cost):
                break  # it ends as `paused`
            self._bill = bill
            self.generation.next_request()
            verdict = await self._stream(provider, resumed)
        return verdict

    @property
    def _paused(self) -> bool:
        return is_paused(self.generation.kept() or (), self.generation.held())

    def _resuming(self, request: Request) -> Request:
        return context.resuming(request, self.generation.held().text, self.generation.kept() or ())

    async def _stream(self, provider: Provider, request: Request) -> Verdict:
        self._reader = Intake(
            self.generation, self._writer, self._run, self._note_bill, self._save_run
        )
        if self._verdict is not None:
            self._reader.leave()
        ended = await self._reader.read(provider, request)
        verdict = ended or self._verdict or Disowned()
        if isinstance(verdict, Finished):
            self.generation.flush()  # half a character of a broken stream is not shown: whoever goes on gives it whole
        if not isinstance(verdict, Disowned | CancelAsked):
            await self._reader.closed()
            await self._writer.settle()
        # What came in the meantime counts only where it forbids to go on: a finished answer is not handed over.
        return self._verdict if isinstance(self._verdict, Disowned | CancelAsked) else verdict

    async def _note_bill(self) -> None:
        """Of a first request nothing is noted: that an attempt was begun says enough."""
        bill, attempt = self._bill, self.generation.attempt
        if bill.number > 1 and bill.cost:
            await self._outlast(
                lambda: self._services.store.note_bill(
                    self._row.id, attempt, bill.begun, bill.number
                )
            )

    async def _save_run(self) -> None:
        await self._writer.settle()
        saved = self.checkpoint()
        if await self._run.begin(saved):
            self.saved(saved)
        else:
            self._writer.disown()

    # --- keeper ---

    async def _keep(self) -> None:
        while True:
            await self._until_renewal()
            self._check_stall()
            try:
                await self._check_viewers()
                await self._renew()
            except ports.LogUnavailable:
                continue

    async def _renew(self) -> None:
        try:
            by = await self._services.log.renew(self._writer.claim, self._services.lease_seconds)
        except ports.Lost:
            self._writer.lose()
        except ports.Refused:
            self._writer.disown()
        else:
            if by is not None:
                self.stop(CancelAsked(by))

    async def _check_viewers(self) -> None:
        if not self._terms.alone_seconds or await self._services.log.watched(
            self._row.conversation_id
        ):
            self._watched = clock()
        elif clock() - self._watched > self._terms.alone_seconds:
            self.stop(CancelAsked("no_viewers"))

    async def _until_renewal(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._services.lease_seconds / 4):
                await self._looked_for.wait()
        self._looked_for.clear()

    def _check_stall(self) -> None:
        silent = 0.0 if self._reader is None else self._reader.silent_seconds
        if silent > self._stall_seconds:
            kind = Interrupted if self.generation.emitted else Unavailable
            self.stop(Failed(kind(f"nothing heard for {silent:.0f} s", code="stalled")))

    # --- carrying out ---

    async def _carry_out(self, verdict: Verdict) -> None:
        await self._run.leave()
        match verdict:
            case Finished():
                await self._finish(self._ended("complete"))
            case CancelAsked(by=by):
                await self._cancel(by)
            case Failed(error=error):
                await self._fail(error)
            case HandedOver():
                await self._hand_over()
            case Disowned():
                log_line.info(
                    "attempt ended: not the owner any more",
                    message_id=self._row.id,
                    attempt=self.generation.attempt,
                )

    @property
    def _disowned(self) -> bool:
        return isinstance(self._verdict, Disowned)

    async def _cancel(self, by: str) -> None:
        """A batch that is out may have been appended and seen: the text ends where the log says."""
        self.generation.abandon_waiting()
        await self._writer.settle()
        if not self._disowned:
            await self._finish(self._ended("cancelled", cancel_by=by))

    def _ended(
        self,
        status: Ended,
        *,
        error: dict[str, object] | None = None,
        cancel_by: str | None = None,
    ) -> Ending:
        self._ending = True
        if (kept := self.generation.kept()) is None:
            log_line.warning(
                "what the answer held beside its text is more than is kept", message_id=self._row.id
            )
        held = self.generation.held()
        return Ending(
            message_id=self._row.id,
            attempt=self.generation.attempt,
            status=status,
            content=held.text,
            reasoning=held.reasoning,
            tool_calls=list(held.tool_calls) or None,
            epoch=self._writer.claim.epoch,
            seq=held.seq,
            finish_reason=self.generation.finish_reason() if status == "complete" else None,
            error=error,
            usage=msgspec.to_builtins(
                self._usage(stopped=status != "complete" or self.generation.full)
            ),
            seams=list(self.generation.seams),
            cancel_by=cancel_by,
            kept=kept or None,
        )

    def _usage(self, *, stopped: bool) -> events.Usage | None:
        generation, held = self.generation, self.generation.held()
        if not (stopped and generation.emitted):
            return generation.reported.total()
        told = bool(generation.reported.before)  # of the text before this attempt, too
        return generation.reported.with_estimate(
            self._bill.asked, generation.added if told else len(held.text) + len(held.reasoning)
        )

    async def _finish(self, ending: Ending) -> None:
        """Commit, then the terminal event. While either side is away, wait: the text is safe in the log and in memory."""
        try:
            committed = await self._outlast(lambda: self._services.store.finish(ending))
        except (Unstorable, StatementFailed) as error:
            ending = self._reduced(ending, error)
            committed = await self._outlast(lambda: self._services.store.finish(ending))
        if committed:
            self._completed = ending.status == "complete"
            await self._outlast(lambda: self._announce(ending))
        await self._outlast(
            lambda: closing.start_next(
                self._services.store, self._services.jobs, self._row.conversation_id
            )
        )

    async def _announce(self, ending: Ending) -> None:
        await closing.announce(
            self._services.store, self._services.log, self._writer.claim, self._writer.index, ending
        )

    def _reduced(self, ending: Ending, error: Exception) -> Ending:
        """What can be stored of an ending that the database refuses: an answer that has lost a part is not called complete."""
        self._tell_operators(error, "internal_error")
        if ending.status == "complete":
            ending = replace(ending, status="error", error=INTERNAL_ERROR)
        return closing.bare(ending)

    def _tell_operators(self, error: BaseException, code: str) -> None:
        bug = not isinstance(error, ProviderError)
        self._services.tell_operators(
            error, {"message_id": self._row.id, "model": self._row.model, "code": code, "bug": bug}
        )

    async def _fail(self, error: BaseException) -> None:
        verdict = self._decided(error)
        self._keep_back(error)
        log_line.warning(
            "attempt failed",
            message_id=self._row.id,
            attempt=self.generation.attempt,
            verdict=type(verdict).__name__.lower(),
            code=verdict.code,
            provider_code=getattr(error, "code", None),
            status=getattr(error, "status", None),
            error=str(error),
        )
        if isinstance(verdict, RetryLater):
            await self._retry(verdict)
            return
        if verdict.tell_operators:
            self._tell_operators(error, verdict.code)
        shown: dict[str, object] = {
            "code": verdict.code,
            "error": verdict.sentence,
            "retryable": verdict.retryable,
        }
        await self._finish(self._ended("error", error=shown))
        if not isinstance(error, ProviderError):
            raise error  # a bug of ours: the job becomes a dead letter, with its traceback

    def _keep_back(self, error: BaseException) -> None:
        held = self.generation.held()
        said = said_in(self._request) if self._request is not None else ()
        keep_back(error, [*said, held.text, held.reasoning, written(list(held.tool_calls))])

    def _decided(self, error: BaseException) -> RetryLater | Discard:
        """What follows from a failure. A run is attached to for as long as it may go on: until its provider says that it is over or gone,
        it is silent for too long, or what it says fails time and again."""
        generation, best = self.generation, self._terms.best
        gone = getattr(error, "code", None) == RUN_GONE
        silent_s = self._silent_seconds if self._can_attach and unheard(error) else None
        if (
            gone
            or self._run.over
            or self._attached_in_vain(error, silent_s)
            or self._never_begun(error)
        ):
            generation.forget_run()
        if generation.run is None:
            silent_s = None
        stuck = plan(best, generation.held(), paused=self._paused).rung == "none"
        added, longest = (
            generation.added if best in KEEPING else 0,
            self._terms.longest_wait_seconds,
        )
        free = (
            gone and self._row.run_silent_since is None
        )  # else a connection to it broke, and it had never begun: that was a try
        verdict = decide(
            error,
            self._row.tries,
            added=added,
            stuck=stuck,
            free=free,
            silent_s=silent_s,
            longest_wait_s=longest,
        )
        cost = 0 if best == "attach" and generation.run is not None else self._bill.asked
        if isinstance(verdict, RetryLater) and self._terms.bounds.forbid(
            self._bill.number + 1, self._billed, cost
        ):
            return decide(BudgetExhausted("no further request"), self._row.tries)
        return verdict

    @property
    def _can_attach(self) -> bool:
        generation, held = self.generation, self.generation.held()
        attachable = generation.run is not None and not held.tool_calls
        return (
            plan(self._terms.best, held, attachable=attachable, paused=self._paused).rung
            == "attach"
        )

    @property
    def _silent_seconds(self) -> float:
        """For how long the run has given nothing, in this attempt and those before it."""
        since = self._row.run_silent_since
        before = 0 if since is None else max(0, self._row.updated_at - since) / 1000
        return 0.0 if self.generation.emitted else before + clock() - self._begun

    def _attached_in_vain(self, error: BaseException, silent_s: float | None) -> bool:
        """`silent_s`: only the connection failed, and the run goes on. What the run itself says may be worth nothing, every time."""
        if silent_s is not None:
            heard = self.generation.run is not None and bool(
                self.generation.run.cursor
            )  # 0: nothing behind its beginning
            away = getattr(error, "status", None) is not None
            return silent_s > (
                LONGEST_SEARCH_SECONDS if away and not heard else LONGEST_SILENCE_SECONDS
            )
        return self._bill.cost == 0 and self._row.tries > 0 and not self.generation.emitted

    def _never_begun(self, error: BaseException) -> bool:
        """A run whose name is our own choice has it before it is asked for. It may go on unless the error proves that it does not."""
        return (
            self._bill.cost > 0 and not self.generation.answered and getattr(error, "no_run", False)
        )

    @property
    def _billed(self) -> int:
        """Input tokens of the answer, as far as is known."""
        return self._bill.settled(
            self.generation.reported.now.get("input_tokens"), answered=self.generation.answered
        )

    @property
    def _earlier_requests(self) -> int:
        """Requests of the answer before this attempt. A first one is not noted: its attempt was begun."""
        return max(self._row.requests, min(self.generation.attempt - 1, 1))

    async def _retry(self, retry: RetryLater) -> None:
        """`due_at` is committed before the event, so that whoever sees the event can rely on the next attempt."""
        store, jobs = self._services.store, self._services.jobs
        await self._save_what_can_be(lambda held: store.checkpoint([held]))
        self._ending = True
        attempt, billed = self.generation.attempt, self._billed
        silent = self.generation.run is not None and not self.generation.emitted
        if not await self._outlast(
            lambda: store.schedule_retry(
                self._row.id, attempt, retry.delay_ms, retry.tries, billed, run_is_silent=silent
            )
        ):
            return
        self.generation.add(
            events.Retry(
                self._row.id,
                self.generation.attempt,
                retry.code,
                retry.delay_ms,
                retry.tries,
                MAX_TRIES,
            )
        )
        await self._writer.settle()
        await self._release()
        if isinstance(self._verdict, CancelAsked):
            await closing.cancel(store, self._services.log, jobs, self._row.id, self._verdict.by)
            return
        await self._outlast(lambda: jobs.generate(self._row.id, retry.delay_ms))

    async def _hand_over(self) -> None:
        self._ending = True
        if not await self._save_what_can_be(
            lambda held: self._services.store.hand_back(held, self._billed)
        ):
            return
        await self._release()
        await self._outlast(lambda: self._services.jobs.generate(self._row.id))
        log_line.info("handed over", message_id=self._row.id, attempt=self.generation.attempt)

    async def _save_what_can_be(self, save: Callable[[Checkpoint], Awaitable[T]]) -> T:
        """The last save of an attempt that others go on from. Raises Unstorable where the database does not even take the text."""
        for held in closing.lesser(self.checkpoint()):
            try:
                return await self._outlast(functools.partial(save, held))
            except (Unstorable, StatementFailed) as error:
                self._tell_operators(error, "internal_error")
        raise Unstorable("not even the text of an answer")

    async def _release(self) -> None:
        """Give the lease up for good: a renewal after this one would keep the successor out for as long as the lease."""
        self._keeper.cancel()
        await self._outlast(lambda: self._services.log.release(self._writer.claim))

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        return await outlast(self._row.id, call)
