"""Sees to the calls of a turn that is whole: claims each one, runs its tool, stores the outcome and
announces it. Parks the answer when nothing but decisions is missing.

Guarantees: a tool begins only after its claim is committed, and only while the lease holds. Its
outcome is stored before any reader or the model gets it. Whatever a crash interrupts, the next
attempt finds in the rows of the calls.

Why it works this way: after each act the rows are read again, and what the log lacks of them is
appended (`rounds.differences`). So an outcome, a decision of a person and what an earlier worker
left behind take one way.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import structlog

from tokenwire.models.calls import EndedRun, NewCall
from tokenwire.models.tables import CallRow
from tokenwire.protocol import events
from tokenwire.protocol.fold import Part
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.providers.base import Request
from tokenwire.worker import schemas
from tokenwire.worker.attempt.keeper import Keeper
from tokenwire.worker.attempt.rounds import RoundCalls, differences
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.outages import outlast
from tokenwire.worker.resume.continuation import last_round
from tokenwire.worker.tools.arguments import BadArguments
from tokenwire.worker.tools.context import ToolContext
from tokenwire.worker.tools.definition import Accepted, AnyTool, ClientTool, ServerTool
from tokenwire.worker.tools.executor import (
    CallDone,
    CallFailed,
    CallOutcome,
    NotBegun,
    Place,
)
from tokenwire.worker.tools.schemas import NOT_CHECKED, NotChecked, SchemaReader

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
CHECK_SECONDS = 1.0
"""How often decisions are read while other calls run."""
PAUSE_SECONDS = 0.05
READS_AT_A_TIME = 2
"""Checks of arguments that an answer has under way. A schema's takes a process: a model that makes
a thousand calls must not delay the tools of other answers.
"""
EXAMINING_SECONDS = 10.0
"""The longest check of all arguments of a turn: nothing interrupts it. Then the others fail."""
MAX_RUNS = 3
"""Runs of a repeatable call whose outcome stays unknown."""
TOO_MANY_CALLS = "This answer may make no more calls."
UNATTENDED = "This call needs an approval, and nobody can give one."
INVALID = "The arguments are no JSON object, hold a name twice, or were cut off."


class Calling:
    """The calls of one attempt. A tool begins only while the keeper's lease holds."""

    def __init__(self, work: AttemptWork, keeper: Keeper) -> None:
        self._work, self._keeper = work, keeper
        self._store, self._toolbox = work.services.store, work.services.toolbox
        self._terms = self._toolbox.terms
        self._rounds = work.row.rounds
        self._reads = asyncio.Semaphore(READS_AT_A_TIME)
        self._slow: set[str] = set()
        self._examines_until = 0.0
        self._running: dict[int, asyncio.Task[None]] = {}
        self._announcing = asyncio.Lock()
        self._unclaimed: set[int] = set()
        self._places: dict[int, Place] = {}
        self._stopped = asyncio.Event()

    # --- between two turns ---

    async def are_left(self) -> bool:
        """Whether an earlier attempt left calls of the last proven turn, with no step behind it."""
        draft, parts = self._work.draft, self._work.draft.answer.parts
        if not self._rounds or draft.proven < len(parts):
            return False
        return any(part.type == "tool_call" for part in parts[last_round(parts) :])

    async def prove(self) -> bool:
        """Store the turn that has ended as proven, with its calls, if they are ours to see to."""
        work, draft = self._work, self._work.draft
        if not work.tools.tools or work.tools.choice == "none" or self._was_last_round:
            return False
        calls = await self._examined_in(range(draft.held.turn_start, len(draft.answer.parts)))
        if not calls:
            return False
        draft.prove()
        checkpoint = work.checkpoint()
        if not await self._outlast(lambda: self._store.prove_turn(checkpoint, calls)):
            work.writer.disown()
            return False
        work.saved(checkpoint)
        self._rounds += 1
        return True

    def within_rounds(self, request: Request) -> Request:
        """The request. After the last round allowed, the model must answer without tools."""
        if not self._was_last_round or not request.tools:
            return request
        return replace(request, tool_choice="none")

    @property
    def _was_last_round(self) -> bool:
        return self._rounds >= self._terms.max_tool_rounds

    async def _examined_in(self, numbers: range) -> list[NewCall]:
        """The calls among these parts, each in its first state. Nothing has run yet."""
        parts = self._work.draft.answer.parts
        self._examines_until = asyncio.get_running_loop().time() + EXAMINING_SECONDS
        calls = [number for number in numbers if parts[number].type == "tool_call"]
        found = await asyncio.gather(*(self._examined(number, parts[number]) for number in calls))
        return self._limited(found, parts[: numbers.start])

    def _limited(self, calls: Sequence[NewCall], before: Sequence[Part]) -> list[NewCall]:
        """The calls, of which no more may run than the request wants. Those that fail by themselves
        count, too, as at OpenAI. `before`: the parts of earlier turns.
        """
        tools = self._work.tools
        most, found = tools.choices.max_calls, list[NewCall]()
        count = sum(tools.on_server(part.fields.get("name", "")) is not None for part in before)
        for call in calls:
            count += tools.on_server(call.name) is not None
            is_too_many = most is not None and count > most and tools.on_server(call.name)
            if is_too_many and call.state not in CALL_ENDED:
                call = replace(
                    call,
                    runs_at="server",
                    state="failed",
                    error=TOO_MANY_CALLS,
                    expires_in_ms=None,
                )
            found.append(call)
        return found

    async def _examined(self, number: int, part: Part) -> NewCall:
        tool = self._work.tools.tools.get(part.fields["name"])
        call = NewCall(
            number=number,
            id=part.fields["id"],
            name=part.fields["name"],
            input=part.text,
            runs_at=tool.runs_at if isinstance(tool, ClientTool) else "server",
            state="proposed",
            repeatable=isinstance(tool, ServerTool) and tool.repeatable,
            title=tool.title if tool else None,
        )
        if part.fields["state"] != "proposed":
            return replace(call, state="invalid", error=INVALID)
        if tool is None:
            return replace(call, state="failed", error=no_tool(call.name))
        if call.runs_at == "caller":
            # It checks the arguments itself, as with OpenAI: a round of ours would be hidden from
            # the program, and billed.
            return call
        try:
            async with asyncio.timeout_at(self._examines_until):
                arguments = await self._read(call.name, self._reader(tool), part.text)
        except BadArguments as error:
            return replace(call, state="failed", error=str(error))
        except TimeoutError:
            return replace(call, state="failed", error=NOT_CHECKED)
        if isinstance(tool, ClientTool):
            wait_ms = int(self._terms.tool_client_seconds * 1000)
            return replace(call, state="awaiting_client", expires_in_ms=wait_ms)
        return await self._approved(call, tool, arguments)

    async def _read(self, name: str, reader: Accepted, text: str) -> dict[str, Any]:
        """The arguments of a call. Raises BadArguments. A tool whose schema took too long once is
        not tried again by this attempt.
        """
        async with self._reads:
            if not isinstance(reader, SchemaReader):
                return await asyncio.to_thread(reader.read, text)

            def read(cpu_seconds: float) -> dict[str, Any]:
                if name in self._slow:
                    raise NotChecked
                return reader.read(text, cpu_seconds)

            try:
                return await schemas.in_turn(reader.asker, read)
            except schemas.BadSchema:
                self._slow.add(name)
                raise NotChecked from None

    async def _approved(
        self, call: NewCall, tool: ServerTool, arguments: Mapping[str, Any]
    ) -> NewCall:
        """The call as it is, or waiting for the person who must allow it. A request can only add to
        the tool's own rule.
        """
        choices, context = self._work.tools.choices, self._context("", 1)
        by_rule = await self._toolbox.executor.needs_approval(tool, arguments, context)
        if not (by_rule or choices.needs_approval(call.name)):
            return call
        wait_ms = int(self._terms.tool_approval_seconds * 1000)
        match choices.decider(call.name):
            case "nobody":
                return replace(call, state="denied", error=UNATTENDED)
            case "caller":  # the answer ends, and the next request brings the decision
                return replace(call, runs_at="caller", keep_ms=wait_ms)
        return replace(call, state="awaiting_approval", expires_in_ms=wait_ms)

    # --- until all calls have ended, or wait ---

    async def run(self) -> Literal["ended", "left", "waits", "stopped"]:
        """See to all calls until they have ended, or the answer is parked, or `stop`.

        `left`: the rest is for the program that asked.
        """
        if not await self._outlast(lambda: self._store.lose_calls(*self._who, self._unknown_ms)):
            self._work.writer.disown()
            return "stopped"
        try:
            while not self._stopped.is_set():
                calls = await self._announce()
                if not calls.rows:  # the conversation was deleted
                    self._work.writer.disown()
                    return "stopped"
                if calls.have_ended:
                    await self._work.writer.settle()
                    return "left" if calls.are_left else "ended"
                await self._begin(calls)
                if self._running:
                    await self._until_change()
                elif not calls.are_awaited:
                    await self._pause()  # the lease must be renewed before a tool begins
                elif await self._park(calls):
                    return "waits"
        finally:
            await self._end_runs()
        return "stopped"

    def stop(self) -> None:
        """Begin no further call, and stop those that run."""
        self._stopped.set()
        self._stop_runs()

    def _stop_runs(self) -> None:
        for place in self._places.values():
            place.stop()
        for number in self._unclaimed:
            self._running[number].cancel()

    async def _announce(self) -> RoundCalls[CallRow]:
        """Read the calls, and append what the log lacks of them. One at a time: rows that were read
        earlier and came later would take an outcome back.
        """
        work = self._work
        async with self._announcing:
            rev, rows = await self._outlast(lambda: self._store.calls_at(work.row.id))
            calls = RoundCalls(rows, rev)
            for part, fields in differences(work.draft.taken, calls.rows):
                work.draft.set_fields(part, fields)
        work.writer.wake()
        return calls

    async def _begin(self, calls: RoundCalls[CallRow]) -> None:
        """Begin the calls that may run."""
        for call in calls.rows:
            claimed = call.state == "running" and call.attempt == self._who[1]
            if claimed and call.number not in self._running:
                # The claim came to be known too late, and the tool has not begun.
                await self._finish(call, EndedRun("proposed"))
        if not self._keeper.holds:
            self._keeper.check_cancel()  # renews at once
            return
        for call in calls.next(self._running, self._terms.max_parallel_calls):
            self._running[call.number] = asyncio.create_task(self._run(call))

    async def _until_change(self) -> None:
        """Wait until a call has ended, or for a moment: a person may have decided about another."""
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            done, _ = await asyncio.wait(
                (stopped, *self._running.values()),
                timeout=CHECK_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopped.cancel()
        for number, task in list(self._running.items()):
            if task in done:
                del self._running[number]
                if not (self._stopped.is_set() and task.cancelled()):  # it was stopped in time
                    task.result()  # raises errors that are our own bugs

    async def _end_runs(self) -> None:
        """Wait for calls that were stopped: their outcomes are stored."""
        self._stop_runs()
        for error in await asyncio.gather(*self._running.values(), return_exceptions=True):
            if isinstance(error, Exception):
                log_line.error("the end of a call was lost", exc_info=error)
        self._running.clear()

    # --- one call ---

    async def _run(self, call: CallRow) -> None:
        tool = self._work.tools.on_server(call.name)
        if tool is None:  # it was allowed before, or in a process with other tools
            return await self._refuse(call, no_tool(call.name))
        try:
            with self._unclaimed_yet(call):
                arguments = await self._read(call.name, tool.reader, call.ran_with or call.input)
        except BadArguments as error:
            return await self._refuse(call, str(error))
        async with contextlib.AsyncExitStack() as until_its_end:
            with self._unclaimed_yet(call):
                reserved = self._toolbox.executor.reserve(tool, self._work.user_id)
                place = await until_its_end.enter_async_context(reserved)
            if self._stopped.is_set():
                return None
            if (mine := await self._claim(call)) is None:  # a cancel, or the answer is lost
                self._keeper.check_cancel()
                return await self._pause()
            self._places[call.number] = place
            try:
                await self._announce()
                context = self._context(mine.key, mine.runs)
                ran = await place.run(arguments, context, self._may_begin)
            finally:
                del self._places[call.number]
        return await self._finish(mine, self._outcome(tool, mine, ran))

    @contextlib.contextmanager
    def _unclaimed_yet(self, call: CallRow) -> Iterator[None]:
        """The call waits for a place, perhaps for as long as other tools hang. Nothing is claimed:
        a stop ends its task at once.
        """
        self._unclaimed.add(call.number)
        try:
            yield
        finally:
            self._unclaimed.discard(call.number)

    def _may_begin(self) -> bool:
        return self._keeper.holds and not self._stopped.is_set()

    async def _claim(self, call: CallRow) -> CallRow | None:
        return await self._outlast(
            lambda: self._store.claim_call(*self._who, call.number, call.runs)
        )

    async def _refuse(self, call: CallRow, error: str) -> None:
        """A call that can never begin fails."""
        if (mine := await self._claim(call)) is not None:
            await self._finish(mine, EndedRun("failed", error=error))

    async def _finish(self, call: CallRow, outcome: EndedRun) -> None:
        await self._outlast(
            lambda: self._store.finish_call(*self._who, call.number, call.runs, outcome)
        )

    def _outcome(self, tool: ServerTool, call: CallRow, ran: CallOutcome) -> EndedRun:
        match ran:
            case CallDone(result):
                return EndedRun("done", result=result)
            case CallFailed(error):
                return EndedRun("failed", error=error)
            case NotBegun():
                return EndedRun("proposed")
        log_line.warning("the outcome of a call is unknown", tool=tool.name, key=call.key)
        if tool.repeatable and call.runs < MAX_RUNS:
            return EndedRun("proposed")
        if wait_ms := self._unknown_ms:
            return EndedRun("awaiting_outcome", error=ran.error, expires_in_ms=wait_ms)
        return EndedRun("unknown", error=ran.error)

    @property
    def _unknown_ms(self) -> int:
        """How long a person is asked what became of a call; 0: nobody is, or can be."""
        is_asked = not self._work.tools.choices.unattended
        return int(self._terms.tool_unknown_seconds * 1000) if is_asked else 0

    def _context(self, key: str, run: int) -> ToolContext:
        work = self._work
        return ToolContext(key, work.user_id, work.row.conversation_id, work.row.id, run)

    # --- waiting ---

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_SECONDS):
                await self._stopped.wait()

    async def _park(self, calls: RoundCalls[CallRow]) -> bool:
        """Announce that the answer waits, then let it wait. False: something has changed.

        If a person has written something else meanwhile, the questions are taken back instead:
        otherwise the conversation would stand still behind them.
        """
        work = self._work
        if await self._outlast(lambda: self._store.is_followed(work.row.id)):
            await self._outlast(lambda: self._store.withdraw_calls(*self._who))
            return False
        if work.draft.answer.status != "waiting":
            work.draft.add(events.Wait(work.row.id, work.draft.attempt))
            work.writer.wake()
        await work.writer.settle()
        if self._stopped.is_set():
            return False
        checkpoint, billed = work.checkpoint(), work.billing.billed
        parked = await self._outlast(lambda: self._store.park(checkpoint, billed, calls.rev))
        if parked == "parked":
            work.saved(checkpoint)
            return True
        work.draft.not_saved()
        if parked == "lost":
            work.writer.disown()
        return False

    def _reader(self, tool: AnyTool) -> Accepted:
        """What reads the arguments of a call."""
        if isinstance(tool, ServerTool):
            return tool.reader
        return SchemaReader(tool.parameters, asker=self._work.user_id, was_checked=True)

    @property
    def _who(self) -> tuple[str, int]:
        return self._work.row.id, self._work.draft.attempt

    async def _outlast(self, call: Callable[[], Awaitable[T]]) -> T:
        return await outlast(self._work.row.id, call)


def no_tool(name: str) -> str:
    """The sentence for the model if there is no such tool."""
    return f"There is no tool named {name}."
