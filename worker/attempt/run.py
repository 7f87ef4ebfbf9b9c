"""One attempt: from a provider, through the draft, into the log and SQL.

Three loops run in tasks of their own: the intake takes deltas from the provider, the writer appends
batches to the log, the keeper renews the lease. Their reports go to `lifecycle`, which decides what
to do. Acts that need no wait are done at once. The others are done one after the other.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import structlog

from tokenwire.models.answers import Checkpoint
from tokenwire.models.errors import StatementFailed, Unstorable
from tokenwire.models.tables import Message as Message
from tokenwire.protocol import events
from tokenwire.providers.base import Continuation, Provider, ProviderError, Request
from tokenwire.providers.spec import Rung
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.billing import Billing
from tokenwire.worker.attempt.calling import Calling
from tokenwire.worker.attempt.checking import Checking
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.intake import Intake
from tokenwire.worker.attempt.keeper import Keeper
from tokenwire.worker.attempt.lifecycle import (
    AT_ONCE,
    Act,
    Answered,
    AttemptState,
    Begin,
    Called,
    CallsLeft,
    CancelAsked,
    Disowned,
    Failed,
    Finished,
    Input,
    Lifecycle,
    Misfit,
    Parked,
    Paused,
    Settled,
    Unwritable,
    Verdict,
)
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.outcome import Outcome
from tokenwire.worker.attempt.steering import TakingIn
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.outages import outlast
from tokenwire.worker.resume.continuation import last_round, may_resume
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.tools.toolbox import NO_TOOLS, AnswerTools

log_line = structlog.get_logger(__name__)
T = TypeVar("T")


class Attempt:
    """A claimed attempt, until its answer has ended or belongs to another attempt.

    `best_rung`: the best rung on which a later attempt may resume the answer. `next_model`: answers
    if its model cannot.
    """

    def __init__(
        self,
        services: WorkerServices,
        row: Message,
        claim: ports.Claim,
        draft: Draft,
        best_rung: Rung,
        next_model: str | None = None,
    ) -> None:
        self.draft = draft
        self._life = Lifecycle()
        self._to_do: deque[Act] = deque()
        writer = LogWriter(
            services, row, claim, draft, self.stop, lambda: services.checkpointer.grown(self)
        )
        run = NamedRun(services.store, row.id, row.model or "", claim.attempt, draft)
        billing = Billing(services.terms, draft, row.billed_input, row.requests)
        self.work = AttemptWork(services, row, best_rung, draft, writer, run, billing, next_model)
        self._keeper = Keeper(services, row, writer, self.stop, self._stall)
        self._outcome = Outcome(self.work, self._keeper, self._give)
        self._calling = Calling(self.work, self._keeper)
        self._checking = Checking(self.work)
        self._steering = TakingIn(self.work)
        self._intake: Intake | None = None

    # --- what others call ---

    @property
    def message_id(self) -> str:
        """The id of the answer."""
        return self.draft.message_id

    @property
    def completed(self) -> bool:
        """Whether the answer is complete and stored."""
        ended = self._outcome.ended
        return ended is not None and ended.status == "complete"

    @property
    def uncheckpointed(self) -> int:
        """Characters acknowledged and not yet saved. 0 once the attempt saves its own end.

        Also while it parks: a row that has the `wait` event in its seq, and does not wait yet,
        would hide the event from readers.
        """
        ends = self._life.state in (AttemptState.CARRYING_OUT, AttemptState.OVER)
        parks = self.draft.answer.status == "waiting"
        return 0 if ends or parks else self.draft.uncheckpointed

    def checkpoint(self) -> Checkpoint:
        """The state that SQL should hold now."""
        return self.work.checkpoint()

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint."""
        self.work.saved(checkpoint)

    def not_saved(self) -> None:
        """The last checkpoint failed: its changes are unsaved again."""
        self.draft.not_saved()

    def check_cancel(self) -> None:
        """Renew the lease now, because somebody may have requested a cancel."""
        self._keeper.check_cancel()

    def stop(self, verdict: Verdict) -> None:
        """End the attempt for this reason, unless another reason outranks it (`lifecycle`)."""
        self._give(verdict)

    async def run(
        self, provider: Provider, request: Request, model: str, tools: AnswerTools = NO_TOOLS
    ) -> None:
        """Ask the provider, and carry out the verdict. Raises errors that are our own bugs.

        `request`: the conversation before the answer, and how to continue the present turn.
        `tools`: those that the answer may use.
        """
        self.work.question, self._provider = replace(request, continuation=None), provider
        self.work.tools = tools
        await self._steering.take_in()  # what a crash left of it
        calls_are_left = await self._calling.are_left()
        if not calls_are_left:
            start = self.draft.held.turn_start
            self._request = await self._request_behind(start, request.continuation)
            try:
                self.work.billing.count(self._request)
            except BudgetExhausted as error:
                await self.give_up(error)
                return
        self.draft.add(events.Start(self.message_id, self.draft.attempt, model))
        self._give(CallsLeft() if calls_are_left else Begin())
        await self._live()

    async def give_up(self, error: BaseException) -> None:
        """End the answer as failed without asking any provider. Readers keep what they hold."""
        self.draft.abandon_unacknowledged()
        self._give(Failed(error))
        await self._live()

    # --- life ---

    def _give(self, given: Input) -> None:
        acts = self._life.take(given)
        if acts and self._life.state is AttemptState.OVER:
            self._to_do.clear()
        for act in acts:
            if act in AT_ONCE:
                self._do_at_once(act)
            else:
                self._to_do.append(act)

    async def _live(self) -> None:
        writer = self.work.writer
        writer.wake()
        helpers = [asyncio.create_task(writer.run()), self._keeper.start()]
        try:
            while self._to_do:
                await self._do(self._to_do.popleft())
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        if self._intake is not None:
            # Readers have the end. It remains to learn the name of a run that must be ended.
            await self._intake.closed()
            await self.work.named_run.leave()

    def _do_at_once(self, act: Act) -> None:
        match act:
            case Act.LEAVE_PROVIDER:
                self._leave_provider()
            case Act.STOP_CALLS:
                self._calling.stop()
            case Act.FLUSH:
                self.draft.flush()
            case Act.ABANDON_WAITING:
                self.draft.abandon_waiting()
            case Act.ABANDON_ALL:
                self._abandon()

    async def _do(self, act: Act) -> None:
        match act:
            case Act.ASK:
                await self._ask()
            case Act.AWAIT_PROVIDER:
                await self._await_provider()
            case Act.SETTLE:
                await self._settle()
            case Act.CALL:
                await self._call()
            case Act.RELEASE:
                await self._outcome.leave_waiting()
            case Act.LEAVE_RUN:
                await self.work.named_run.leave()
            case Act.CARRY_OUT:
                await self._outcome.carry_out(self._life.verdict)
            case Act.REQUEUE:
                await self._outcome.requeue()
            case Act.CANCEL:
                await self._cancel()

    # --- acts ---

    async def _ask(self) -> None:
        work = self.work
        self._intake = Intake(
            self.draft, work.writer, work.named_run, self._give, self._note_bill, self._save_run
        )
        await self._intake.read(self._provider, self._request)
        if self._life.state is AttemptState.ANSWERING:  # the stream was cancelled from within
            self._give(Disowned())

    def _leave_provider(self) -> None:
        if self._intake is not None:
            self._intake.leave()
        self.work.writer.give_way()

    async def _await_provider(self) -> None:
        if self._intake is not None:
            await self._intake.closed()

    async def _settle(self) -> None:
        await self.work.writer.settle()
        try:
            self._give(await self._after_settling())
        except (ProviderError, StatementFailed, Unstorable) as error:
            self._give(Unwritable(error))
            self._give(Settled())

    async def _after_settling(self) -> Input:
        if not isinstance(self._life.verdict, Finished):
            return Settled()
        return Paused() if await self._resumes() else await self._after_turn()

    async def _after_turn(self) -> Input:
        """What follows a turn that has ended, and was not paused."""
        if await self._calls():
            return Called()
        return Misfit() if await self._checking.repairs(self._repair) else Settled()

    def _repair(self, request: Request) -> bool:
        """The model is asked again: readers lose the text that it replaces. False: the attempt ends
        for another reason by now.
        """
        if not isinstance(self._life.verdict, Finished):
            return False
        self.draft.withdraw()
        self._ask_next(request)
        return True

    async def _resumes(self) -> bool:
        """Whether the turn was paused and can be sent back. Prepares that."""
        finish, parts = self.draft.finish, self.draft.answer.parts
        if finish is None or finish.reason != "paused":
            return False
        if not may_resume(parts[last_round(parts) :]):
            return False
        resumed = await self._outlast(lambda: self._request_behind(len(parts)))
        if not isinstance(self._life.verdict, Finished):
            return False
        try:
            self.work.billing.count(resumed)
        except BudgetExhausted:
            return False  # it ends as `paused`
        self.draft.prove()
        self._step(resumed)
        return True

    async def _calls(self) -> bool:
        """Whether the turn has calls that are ours to see to. Proves the turn."""
        finish = self.draft.finish
        return (
            finish is not None
            and finish.reason in ("tool_calls", "stop")
            and not self.draft.at_limit
            and await self._calling.prove()
        )

    async def _call(self) -> None:
        """See to the calls. Then ask the provider with their results, or wait for decisions."""
        try:
            seen_to = await self._calling.run()
            if self._life.state is not AttemptState.CALLING:
                return
            if seen_to == "waits":
                self._give(Parked())
                return
            if seen_to == "left":
                self.draft.leave_calls()
                self._give(Finished())
                return
            parts, steering = self.draft.answer.parts, await self._steering.waiting()
            request = await self._outlast(
                lambda: self._request_behind(len(parts), steering=steering)
            )
            if self._life.state is not AttemptState.CALLING:  # it will not be sent
                return
            self.work.billing.count(request)
        except (ProviderError, StatementFailed, Unstorable) as error:
            self._give(Failed(error))
            return
        self._step(request, steering)
        if steering:
            await self.work.writer.settle()
            await self._steering.take_in()
        if self._life.state is AttemptState.CALLING:
            self._give(Answered())

    async def _request_behind(
        self, start: int, continuation: Continuation | None = None, steering: Sequence[str] = ()
    ) -> Request:
        """The request for the turn that begins at this part. Raises StoreUnavailable."""
        request = await self.work.request(start, continuation, steering=steering)
        return self._calling.within_rounds(request)

    def _step(self, request: Request, steering: Sequence[str] = ()) -> None:
        """The model is asked again: readers see a step, and the messages that come with it."""
        self.draft.step(steering)
        self._ask_next(request)

    def _ask_next(self, request: Request) -> None:
        self.work.writer.wake()
        self._request = request

    async def _cancel(self) -> None:
        if isinstance(self._life.behind, CancelAsked):
            await self._outcome.cancel(self._life.behind.by)

    def _abandon(self) -> None:
        self.work.writer.abandon()
        log_line.info(
            "attempt ended: it has lost the answer",
            message_id=self.message_id,
            attempt=self.draft.attempt,
        )

    # --- what the loops ask for ---

    def _stall(self) -> ProviderError | None:
        return None if self._intake is None else self._intake.stall()

    async def _note_bill(self) -> None:
        bill = self.work.billing.to_note
        if bill is not None:
            store, attempt = self.work.services.store, self.draft.attempt
            await self._outlast(
                lambda: store.note_bill(self.message_id, attempt, bill.begun, bill.number)
            )

    async def _save_run(self) -> None:
        await self.work.writer.settle()
        saved = self.work.checkpoint()
        if await self.work.named_run.begin(saved):
            self.work.saved(saved)
        else:
            self.work.writer.disown()

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        return await outlast(self.message_id, call)
