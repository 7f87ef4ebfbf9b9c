"""One attempt: provider -> generation -> log and store. I/O only; what to do is decided in generation, retries and continuation.

Three tasks: the reader takes deltas from the provider, the writer appends batches (one in flight), the keeper renews the lease and
watches for silence. Whatever ends the attempt is recorded once as its verdict (`stop`), which cancels the reader, and leaving the
provider's stream closes the connection at once. Then what may still be written is written, and the verdict is carried out.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import msgspec
import structlog

from config.background import keep
from models.errors import StoreUnavailable, Unstorable
from models.generations import Checkpoint, Ending
from models.tables import Message as Row
from providers.base import RUN_GONE, Delta, DeltaStream, Interrupted, Provider, ProviderError, Request, Unavailable
from streams import events, ports
from worker import closing
from worker.continuation import KEEPING, plan
from worker.costs import Bill, BudgetExhausted
from worker.estimates import estimated_usage
from worker.generation import Generation
from worker.named_run import NamedRun
from worker.outages import OUTAGE_PAUSE_SECONDS, outlast
from worker.retries import INTERNAL, MAX_TRIES, Discard, Retry, decide
from worker.services import Services, Terms
from worker.takeover import Known, restore
from worker.verdicts import Disowned, Failed, Finished, HandedOver, Stopped, Verdict

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
MAX_UNACKNOWLEDGED_CHARS = 256 * 1024
"""How far a provider may run ahead of the log before it is no longer read."""
STALL_GRACE_SECONDS = 1.0
"""Providers watch their own silence; this is the second watch, for one whose adapter hangs."""


def _clock() -> float:
    return asyncio.get_running_loop().time()


class Attempt:
    """A claimed attempt, from `start` to its verdict."""

    def __init__(self, services: Services, row: Row, claim: ports.Claim, generation: Generation, terms: Terms) -> None:
        self.generation = generation
        self._services = services
        self._row = row
        self._claim = claim
        self._terms = terms
        self._index = self._covered = 0
        self._verdict: Verdict | None = None
        self._reader: asyncio.Task[Verdict] | None = None
        self._keeper: asyncio.Task[None]
        self._dirty = asyncio.Event()
        self._settled = asyncio.Event()
        self._room = asyncio.Event()
        self._looked_for = asyncio.Event()
        self._heard = self._watched = _clock()
        self._lost = self._unwritable = self._ending = self._completed = False
        self._bill = Bill(0, row.billed_input or 0, 0)
        self._model = row.model or ""
        self._run = NamedRun(services.store, row.id, claim.attempt, generation)
        self._listening = True
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
            attempt=self._claim.attempt,
            content=held.text,
            reasoning=held.reasoning,
            tool_calls=list(held.tool_calls) or None,
            epoch=self._claim.epoch,
            seq=held.seq,
            run_id=run.id if run else None,
            run_cursor=run.cursor if run else None,
            run_text=run.text if run else None,
            run_reasoning=run.reasoning if run else None,
            kept=self.generation.checkpoint_kept(self._terms.max_kept_bytes),
        )

    def not_saved(self) -> None:
        """The last checkpoint did not reach the database: it is due again."""
        self.generation.not_saved()

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint. In a log that began again meanwhile, its seq means nothing."""
        if checkpoint.epoch == self._claim.epoch:
            self._covered = max(self._covered, checkpoint.seq)

    def look(self) -> None:
        """Somebody may have asked for a cancel: ask the log now instead of at the next renewal."""
        self._looked_for.set()

    def stop(self, verdict: Verdict) -> None:
        """End the attempt for this reason; the first reason counts, save that a cancel outranks it, and a lost ownership all.

        After a cancel nothing can be appended: a hand-over that was asked for before it would end with less than the whole answer.
        """
        if self._verdict is None or isinstance(verdict, Disowned) or (isinstance(verdict, Stopped) and not self._disowned):
            self._verdict = verdict
        if self._reader is not None:
            self._reader.cancel()
        self._room.set()

    async def run(self, provider: Provider, request: Request, model: str) -> None:
        """Stream, then carry the verdict out."""
        self._stall_seconds = provider.stall_seconds + STALL_GRACE_SECONDS
        self._model = model
        self._bill = bill = Bill.of(request, self._claim.attempt, self._row.billed_input)
        if self._terms.bounds.forbid(self._claim.attempt, bill.before, bill.cost):
            await self.give_up(BudgetExhausted(f"request {self._claim.attempt}, {bill.before} input tokens billed"))
            return
        self.generation.add(events.Start(self._row.id, self._claim.attempt, model))
        await self._live(self._stream(provider, request))

    async def give_up(self, error: BaseException) -> None:
        """End as failed without asking any provider. What viewers hold stays."""
        self.generation.abandon_unacknowledged()

        async def failed() -> Verdict:
            await self._settle()
            return self._verdict or Failed(error)

        await self._live(failed())

    async def _live(self, life: Coroutine[None, None, Verdict]) -> None:
        self._dirty.set()
        self._keeper = asyncio.create_task(keep("keeper", self._keep, longest_pause_seconds=self._services.lease_seconds / 4))
        helpers = [asyncio.create_task(self._write()), self._keeper]
        try:
            await self._carry_out(await life)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    # --- reader ---

    async def _stream(self, provider: Provider, request: Request) -> Verdict:
        self._reader = asyncio.create_task(self._read(provider, request))
        if self._verdict is not None:
            self._reader.cancel()
        try:
            verdict = await self._reader
        except asyncio.CancelledError:
            if self._verdict is None:
                self._reader.cancel()
                raise
            verdict = self._verdict
        if isinstance(verdict, Finished):
            self.generation.flush()  # half a character of a broken stream is not shown: whoever goes on gives it whole
        if not isinstance(verdict, Disowned | Stopped):
            await self._settle()
        # What came in the meantime counts only where it forbids to go on: a finished answer is not handed over.
        return self._verdict if isinstance(self._verdict, Disowned | Stopped) else verdict

    async def _read(self, provider: Provider, request: Request) -> Verdict:
        try:
            if self._claim.attempt > 1 and self._bill.cost:
                store, bill = self._services.store, self._bill.begun
                await self._deaf(self._outlast(lambda: store.note_bill(self._row.id, self._claim.attempt, bill)))
            async with provider.stream(request) as stream:
                stream.keep()  # a run of the provider's is ended by what SQL says of it (`endings`), not by who leaves it
                try:
                    await self._listen(stream)
                finally:
                    self._run.over = stream.run_over
        except ProviderError as error:
            return Failed(error)
        except Exception as error:  # a bug in an adapter must end as an error event, not as a hanging answer
            log_line.exception("provider adapter failed", message_id=self._row.id)
            return Failed(error)
        if self.generation.finish is None:
            return Failed(Interrupted("the stream ended without a proof of completion"))
        return Finished()

    async def _listen(self, stream: DeltaStream) -> None:
        await self._note_run(stream, stream.cursor)
        async for batch in stream:
            await self._note_run(stream, None)
            self._take(batch, stream)
            if self.generation.pending_chars > MAX_UNACKNOWLEDGED_CHARS:
                self._room.clear()
                await self._deaf(self._room.wait())

    def _take(self, batch: Sequence[Delta], stream: DeltaStream) -> None:
        self._heard = _clock()
        self.generation.take(batch)
        self._run.reached(stream)
        self._dirty.set()

    async def _note_run(self, stream: DeltaStream, cursor: int | None) -> None:
        """Save the name of a run before any text. One of our own choice is known before the request is sent."""
        if self._run.learn(stream, cursor):
            await self._deaf(self._save_run())

    async def _save_run(self) -> None:
        await self._settle()
        saved = self.checkpoint()
        if await self._run.begin(self._model, saved):
            self.saved(saved)
        else:
            self._disown()

    async def _deaf(self, work: Awaitable[object]) -> None:
        """Do something else than listen to the provider, whose silence does not count meanwhile."""
        self._listening = False
        await work
        self._listening, self._heard = True, _clock()

    # --- writer ---

    async def _write(self) -> None:
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                while self._lost or not self.generation.idle:
                    await self._append()
                self._settled.set()
        except Exception as error:
            log_line.exception("the log cannot be written", message_id=self._row.id)
            self._unwritable = True
            self.generation.abandon_unacknowledged()
            self.stop(Failed(error))
            self._settled.set()

    async def _append(self) -> None:
        try:
            if self._lost:
                await self._adopt()
                return
            done = await self._services.log.append(self._claim, self._index, self._covered, self.generation.batch())
        except ports.Lost:
            self._lost = True
        except ports.CancelRequested as request:
            self.generation.abandon_unacknowledged()
            self.stop(Stopped(request.by))
        except ports.Unavailable:
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        except ports.Refused:
            self._disown()
        else:
            self._index += 1
            self.generation.acknowledged(done.last_seq)
            self._services.checkpointer.grown(self)
            self._room.set()

    def _disown(self) -> None:
        self._lost = False
        self.generation.abandon_unacknowledged()
        self.stop(Disowned())

    async def _adopt(self) -> None:
        """Redis does not know this attempt any more. If SQL says that it still is the current one, it goes on in the log as it is now."""
        try:
            row = await self._services.store.message(self._row.id)
        except StoreUnavailable:
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            return
        if row is None or row.attempt != self._claim.attempt or not closing.unfinished(row):
            self._disown()
            return
        try:
            self._claim = await self._services.log.rejoin(self._claim, self._index, self._services.lease_seconds)
        except ports.Lost:
            await self._restore()
        self._lost = False

    async def _restore(self) -> None:
        """Some of what was acknowledged is gone. The batch that was out came after it, and is sent again, unchanged."""
        known = Known(self.generation.held(), self._claim.epoch)
        self._claim, held = await restore(self._services.log, self._claim, known, self._services.lease_seconds)
        self._index, self._covered = 0, 0
        self.generation.adopted(held.seq)

    async def _settle(self) -> None:
        """Wait until everything taken was acknowledged, or may not be written any more."""
        while not self._unwritable and (self._lost or not self.generation.idle):
            self._settled.clear()
            self._dirty.set()
            await self._settled.wait()

    # --- keeper ---

    async def _keep(self) -> None:
        while True:
            await self._until_renewal()
            if self._reader is not None and not self._reader.done():
                self._check_stall()
            try:
                await self._check_viewers()
                await self._renew()
            except ports.Unavailable:
                continue

    async def _renew(self) -> None:
        try:
            by = await self._services.log.renew(self._claim, self._services.lease_seconds)
        except ports.Lost:
            self._lost = True
            self._dirty.set()
        except ports.Refused:
            self._disown()
        else:
            if by is not None:
                self.stop(Stopped(by))

    async def _check_viewers(self) -> None:
        if not self._terms.alone_seconds or await self._services.log.watched(self._row.conversation_id):
            self._watched = _clock()
        elif _clock() - self._watched > self._terms.alone_seconds:
            self.stop(Stopped("no_viewers"))

    async def _until_renewal(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._services.lease_seconds / 4):
                await self._looked_for.wait()
        self._looked_for.clear()

    def _check_stall(self) -> None:
        silent = _clock() - self._heard
        if silent > self._stall_seconds and self._listening:
            kind = Interrupted if self.generation.emitted else Unavailable
            self.stop(Failed(kind(f"nothing heard for {silent:.0f} s", code="stalled")))

    # --- carrying out ---

    async def _carry_out(self, verdict: Verdict) -> None:
        await self._run.leave()
        match verdict:
            case Finished():
                await self._finish(self._ended("complete"))
            case Stopped(by=by):
                await self._cancel(by)
            case Failed(error=error):
                await self._fail(error)
            case HandedOver():
                await self._hand_over()
            case Disowned():
                log_line.info("attempt ended: not the owner any more", message_id=self._row.id, attempt=self._claim.attempt)

    @property
    def _disowned(self) -> bool:
        return isinstance(self._verdict, Disowned)

    async def _cancel(self, by: str) -> None:
        """A batch that is out may have been appended and seen: the text ends where the log says."""
        self.generation.abandon_waiting()
        await self._settle()
        if not self._disowned:
            await self._finish(self._ended("cancelled", cancel_by=by))

    def _ended(
        self, status: Literal["complete", "error", "cancelled"], *, error: dict[str, object] | None = None, cancel_by: str | None = None
    ) -> Ending:
        self._ending = True
        if (kept := self.generation.kept(self._terms.max_kept_bytes)) is None:
            log_line.warning("what the answer held beside its text is more than is kept", message_id=self._row.id)
        held, usage = self.generation.held(), self.generation.final_usage()
        if usage is None and status != "complete" and self.generation.emitted:
            usage = estimated_usage(self._bill.asked, len(held.text) + len(held.reasoning))
        return Ending(
            message_id=self._row.id,
            attempt=self._claim.attempt,
            status=status,
            content=held.text,
            reasoning=held.reasoning,
            tool_calls=list(held.tool_calls) or None,
            epoch=self._claim.epoch,
            seq=held.seq,
            finish_reason=self.generation.finish_reason() if status == "complete" else None,
            error=error,
            usage=msgspec.to_builtins(usage),
            seams=list(self.generation.seams),
            cancel_by=cancel_by,
            kept=kept or None,
        )

    async def _finish(self, ending: Ending) -> None:
        """Commit, then the terminal event. While either side is away, wait: the text is safe in the log and in memory."""
        try:
            committed = await self._outlast(lambda: self._services.store.finish(ending))
        except Unstorable as error:
            ending = self._reduced(ending, error)
            committed = await self._outlast(lambda: self._services.store.finish(ending))
        if committed:
            self._completed = ending.status == "complete"
            await self._outlast(lambda: closing.announce(self._services.store, self._services.log, self._claim, self._index, ending))
            self._services.packing.ended(self._row.conversation_id)
        await self._outlast(lambda: closing.start_next(self._services.store, self._services.jobs, self._row.conversation_id))

    def _reduced(self, ending: Ending, error: Unstorable) -> Ending:
        """What can be stored of an ending that the database refuses: an answer that has lost a part is not called complete."""
        self._tell_operators(error, "internal_error")
        if ending.status == "complete":
            ending = replace(ending, status="error", error={"code": "internal_error", "error": INTERNAL, "retryable": False})
        return closing.bare(ending)

    def _tell_operators(self, error: BaseException, code: str) -> None:
        bug = not isinstance(error, ProviderError)
        self._services.tell_operators(error, {"message_id": self._row.id, "model": self._row.model, "code": code, "bug": bug})

    async def _fail(self, error: BaseException) -> None:
        verdict = self._decided(error)
        log_line.warning(
            "attempt failed",
            message_id=self._row.id,
            attempt=self._claim.attempt,
            verdict=type(verdict).__name__.lower(),
            code=verdict.code,
            provider_code=getattr(error, "code", None),
            status=getattr(error, "status", None),
            error=str(error),
        )
        if isinstance(verdict, Retry):
            await self._retry(verdict)
            return
        if verdict.tell_operators:
            self._tell_operators(error, verdict.code)
        shown: dict[str, object] = {"code": verdict.code, "error": verdict.sentence, "retryable": verdict.retryable}
        await self._finish(self._ended("error", error=shown))
        if not isinstance(error, ProviderError):
            raise error  # a bug of ours: the job becomes a dead letter, with its traceback

    def _decided(self, error: BaseException) -> Retry | Discard:
        """What follows from a failure. A run that is over, gone, or was twice attached to in vain is not attached to again."""
        generation, best = self.generation, self._terms.best
        gone = getattr(error, "code", None) == RUN_GONE
        in_vain = self._bill.cost == 0 and self._row.tries > 0 and not generation.emitted
        if gone or self._run.over or in_vain:
            generation.forget_run()
        stuck = plan(best, generation.held()).rung == "none"
        added, longest = generation.added if best in KEEPING else 0, self._terms.longest_wait_seconds
        verdict = decide(error, self._row.tries, added=added, stuck=stuck, free=gone, longest_wait_s=longest)
        cost = 0 if best == "attach" and generation.run is not None else self._bill.asked
        if isinstance(verdict, Retry) and self._terms.bounds.forbid(self._claim.attempt + 1, self._billed, cost):
            return decide(BudgetExhausted("no further request"), self._row.tries)
        return verdict

    @property
    def _billed(self) -> int:
        """Input tokens of the answer, as far as is known."""
        return self._bill.settled(self.generation.usage, answered=self.generation.answered)

    async def _retry(self, retry: Retry) -> None:
        """`due_at` is committed before the event, so that whoever sees the event can rely on the next attempt."""
        store, jobs = self._services.store, self._services.jobs
        await self._outlast(lambda: store.checkpoint([self.checkpoint()]))
        self._ending = True
        attempt, billed = self._claim.attempt, self._billed
        if not await self._outlast(lambda: store.schedule_retry(self._row.id, attempt, retry.delay_ms, retry.tries, billed)):
            return
        self.generation.add(events.Retry(self._row.id, self._claim.attempt, retry.code, retry.delay_ms, retry.tries, MAX_TRIES))
        await self._settle()
        await self._release()
        if isinstance(self._verdict, Stopped):
            await closing.cancel(store, self._services.log, jobs, self._row.id, self._verdict.by)
            return
        await self._outlast(lambda: jobs.generate(self._row.id, retry.delay_ms))

    async def _hand_over(self) -> None:
        self._ending = True
        if not await self._outlast(lambda: self._services.store.hand_back(self.checkpoint(), self._billed)):
            return
        await self._release()
        await self._outlast(lambda: self._services.jobs.generate(self._row.id))
        log_line.info("handed over", message_id=self._row.id, attempt=self._claim.attempt)

    async def _release(self) -> None:
        """Give the lease up for good: a renewal after this one would keep the successor out for as long as the lease."""
        self._keeper.cancel()
        await self._outlast(lambda: self._services.log.release(self._claim))

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        return await outlast(self._row.id, call)
