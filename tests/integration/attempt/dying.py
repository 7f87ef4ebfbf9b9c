"""An answer with two rounds of tools whose workers die after any number of effects, and people who
decide twice about each call that asks.

What the tools did outlives the workers, as it would outside of them (`Story.ran`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tests.databases import sql
from tests.integration.attempt.test_calls import TERMS, calls, says
from tests.integration.mortal import Life, Mortal
from tests.integration.worker_rig import NoJobs, Script, runner_over, services_over
from tests.waiting import PATIENCE_SECONDS
from tokenwire.models.call_states import Decision
from tokenwire.models.errors import AlreadyDecided
from tokenwire.models.store import Store
from tokenwire.models.tables import CallRow
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.states import UNFINISHED
from tokenwire.providers import base
from tokenwire.providers.history import CallPart, ResultPart
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.tools import ToolContext, tool
from tokenwire.worker.runner import Runner
from tokenwire.worker.sweeper.sweeper import Sweeper
from tokenwire.worker.tools.definition import ServerTool, declared
from tokenwire.worker.tools.toolbox import Toolbox

ROUNDS = (
    [
        base.TextDelta("Let me see. "),
        *calls(("note", '{"n": 1}'), ("send", '{"n": 2}'), ("pay", '{"n": 3}')),
    ],
    [base.TextDelta("More. "), *calls(("send", '{"n": 4}'), ("note", '{"n": 5}'))],
    says("Done."),
)
TURNS = {0: ROUNDS[0], 3: ROUNDS[1], 5: ROUNDS[2]}
"""Calls in the request -> what the model writes."""
CONTENT = "Let me see. More. Done."
MOST_JOBS = 20
SLOW_SECONDS = 0.05
"""One tool outlasts those beside it."""


@dataclass
class Story:
    """An answer, and all that happens to it. `go_on`, `deny`: what people decide first."""

    store: Store
    row: Row
    saves: bool
    go_on: bool
    deny: bool
    log: MemoryLog = field(init=False)
    now: float = 1000.0
    ran: list[tuple[str, int]] = field(default_factory=list)
    """The key and the number of each run of a tool that took effect."""
    asked: list[base.Request] = field(default_factory=list)
    refused: int = 0
    """Decisions about a question that somebody else had decided."""
    done: dict[int, Any] = field(default_factory=dict)
    """The results that were stored when a worker died."""

    def __post_init__(self) -> None:
        self.log = MemoryLog(clock=lambda: self.now)

    # --- workers ---

    async def job(self, life: Life) -> None:
        """One job of a worker with this life, until it ends or dies."""
        log, box = Mortal(self.log, life), Toolbox(self._tools(life), TERMS)
        services = replace(
            services_over(Mortal(self.store, life), log, NoJobs()),  # type: ignore[arg-type]
            toolbox=box,
        )

        async def settled() -> None:
            for attempt in runner.running():
                await attempt.work.writer.settle()
            if self.saves:
                await services.checkpointer.save(runner.running())

        runner = runner_over(services, _Model(self, life, settled), continuation="restart")
        await self._until_death(runner, life)
        if not life.dead.is_set():
            await Sweeper(services).sweep()
            await services.run_ender.settled()
        await box.aclose()

    async def _until_death(self, runner: Runner, life: Life) -> None:
        running = asyncio.create_task(runner.generate(self.row.id))
        death = asyncio.create_task(life.dead.wait())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait((running, death), return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if not life.dead.is_set():
            return await running
        life.kill()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        self.now += 60  # its lease expires, and the sweeper may act on what it left
        async with self.store.writing() as session:
            await session.execute(sql("UPDATE messages SET updated_at = updated_at - 60000"))
        self.done |= {call.number: call.result for call in await self.calls() if _is_done(call)}
        return None

    def _tools(self, life: Life) -> dict[str, ServerTool]:
        home = asyncio.get_running_loop()

        async def take_effect(context: ToolContext) -> None:
            await life.breathe()
            self.ran.append((context.key, context.run))
            await life.spend("tool")

        def here(context: ToolContext) -> "asyncio.Future[None]":
            return asyncio.wrap_future(_on(home, take_effect(context)))

        @tool(repeatable=True)
        async def note(context: ToolContext, n: int) -> str:
            """Note."""
            await here(context)
            return result("note", n, context.run)

        @tool
        async def send(context: ToolContext, n: int) -> str:
            """Send."""
            await here(context)
            await asyncio.sleep(SLOW_SECONDS)
            return result("send", n, context.run)

        @tool(approve=True)
        def pay(context: ToolContext, n: int) -> str:
            """Pay."""
            _on(home, take_effect(context)).result()
            return result("pay", n, context.run)

        found = [declared(function) for function in (note, send, pay)]
        return {each.name: each for each in found if each is not None}

    # --- people ---

    async def decide(self) -> None:
        """Two people decide about all that is awaited, at the same time."""
        for call in await self.calls():
            kinds = self._decisions(call)
            found = await asyncio.gather(
                *(self.store.decide(self.row.id, call.number, "me", kind) for kind in kinds),
                return_exceptions=True,
            )
            refusals = [each for each in found if isinstance(each, BaseException)]
            assert all(isinstance(each, AlreadyDecided) for each in refusals), refusals
            assert len(refusals) == len(kinds) // 2
            self.refused += len(refusals)

    def _decisions(self, call: CallRow) -> Sequence[Decision]:
        match call.state:
            case "awaiting_approval":
                both = Decision("approve"), Decision("deny")
                return both[::-1] if self.deny else both
            case "awaiting_outcome":
                both = Decision("repeat", runs=call.runs), Decision("go_on", runs=call.runs)
                return both[::-1] if self.go_on else both
        return ()

    async def decide_at_once(self) -> None:
        """A person who decides while an attempt still runs, for as long as nobody ends it."""
        while True:
            await self.decide()
            await asyncio.sleep(0.001)

    # --- the whole ---

    async def ends(self, lives: Sequence[Life]) -> Row:
        """Jobs of workers with these lives, one after another, then of healthy ones."""
        left = list(lives)
        for _ in range(MOST_JOBS):
            async with self.store.writing() as session:
                await session.execute(sql("UPDATE messages SET due_at = 0 WHERE due_at > 0"))
            await self.job(left[0] if left else Life())
            if left and left[0].dead.is_set():
                del left[0]
                continue
            row = await self.reread()
            if row.status not in UNFINISHED and row.terminal_announced:
                return row
            if row.status == "waiting":
                await self.decide()
        raise AssertionError(f"not ended: {await self.reread()}, {await self.calls()}")

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def calls(self) -> list[CallRow]:
        return await self.store.calls_of(self.row.id)


def result(name: str, n: int, run: int) -> str:
    """What a tool returns."""
    return f"{name} {n}, run {run}"


def results_in(request: base.Request) -> list[str]:
    """What the model gets back for its calls, in order."""
    parts = [part for message in request.messages for part in message.parts]
    return [part.text for part in parts if isinstance(part, ResultPart)]


def _is_done(call: CallRow) -> bool:
    return call.state == "done"


def _on(home: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, home)


class _Model:
    """Two rounds, and a last turn. A batch comes once everything before it has been taken."""

    continuation = "restart"
    stall_seconds = 60.0

    def __init__(self, story: Story, life: Life, settled: Callable[[], Any]) -> None:
        self._story, self._life, self._settled = story, life, settled

    @asynccontextmanager
    async def stream(self, request: base.Request) -> AsyncIterator[Script]:
        await self._life.breathe()
        self._story.asked.append(request)
        parts = [part for message in request.messages for part in message.parts]
        turn = TURNS[sum(isinstance(part, CallPart) for part in parts)]
        await self._life.spend("ask")
        steps = [step for delta in turn for step in ([delta], self._settled)]
        async with Script(steps).stream(request) as script:
            yield script
