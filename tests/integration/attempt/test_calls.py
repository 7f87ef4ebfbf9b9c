"""Tools in an answer: rounds, decisions, what a crash leaves, one run per permission."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.databases import sql
from tests.integration.worker_rig import NoJobs, Script, events_of, runner_over, services_over
from tests.waiting import until
from tokenwire.config.terms import ToolTerms
from tokenwire.models.call_states import Decision
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StatementFailed, Unstorable
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import CallRow
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.fold import Answer
from tokenwire.providers import base
from tokenwire.providers.history import ResultPart
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.tools import ToolContext, ToolError, tool
from tokenwire.worker import closing, schemas
from tokenwire.worker.attempt import calling
from tokenwire.worker.attempt.calling import READS_AT_A_TIME
from tokenwire.worker.runner import Runner
from tokenwire.worker.tools.definition import ServerTool, declared
from tokenwire.worker.tools.executor import CallUnknown
from tokenwire.worker.tools.schemas import NOT_CHECKED, SchemaReader
from tokenwire.worker.tools.toolbox import Toolbox

TERMS = ToolTerms(tool_unknown_seconds=900)


class Turns:
    """A provider that plays one script per request."""

    continuation = "turn"
    stall_seconds = 60.0

    def __init__(self, *turns: Sequence[base.Delta]) -> None:
        self.turns = list(turns)
        self.asked: list[base.Request] = []

    def stream(self, request: base.Request) -> AbstractAsyncContextManager[Any]:
        self.asked.append(request)
        turn = self.turns[min(len(self.asked), len(self.turns)) - 1]
        return Script([turn]).stream(request)


def calls(*named: tuple[str, str]) -> list[base.Delta]:
    """A turn that calls tools: pairs of a name and the JSON of the arguments."""
    deltas: list[base.Delta] = []
    for index, (name, arguments) in enumerate(named):
        deltas += [
            base.ToolCallStart(index, f"call_{index}", name),
            base.ToolCallArguments(index, arguments),
            base.ToolCallEnd(index),
        ]
    return [*deltas, base.Finish("tool_calls")]


def says(text: str) -> list[base.Delta]:
    return [base.TextDelta(text), base.Finish("stop")]


@dataclass
class World:
    """An answer, its log, and a process that makes it."""

    store: Store
    log: MemoryLog = field(default_factory=MemoryLog)
    jobs: NoJobs = field(default_factory=NoJobs)
    tools: dict[str, ServerTool] = field(default_factory=dict)
    terms: ToolTerms = TERMS
    boxes: list[Toolbox] = field(default_factory=list)

    async def posts(self, content: str = "hi") -> Row:
        conversation = await self.store.create_conversation("me")
        posted = await self.store.post(Post(conversation.id, "me", content, "m"))
        return posted.assistant_message

    def offers(self, *functions: Callable[..., Any]) -> None:
        for function in functions:
            found = declared(function)
            assert found is not None
            self.tools[found.name] = found

    def toolbox(self) -> Toolbox:
        self.boxes.append(Toolbox(self.tools, self.terms))
        return self.boxes[-1]

    def runner(self, provider: Turns) -> Runner:
        services = replace(
            services_over(self.store, self.log, self.jobs),
            toolbox=self.toolbox(),
        )
        return runner_over(services, provider)

    async def runs(self, provider: Turns, row: Row) -> Row:
        """One job, from its claim to its end."""
        async with asyncio.timeout(20):
            await self.runner(provider).generate(row.id)
        return await self.row(row)

    async def row(self, row: Row) -> Row:
        found = await self.store.message(row.id)
        assert found is not None
        return found

    async def calls(self, row: Row) -> list[CallRow]:
        return await self.store.calls_of(row.id)

    async def logged(self, row: Row) -> Answer:
        """The answer as the readers of its log hold it. It is also what the row holds."""
        answer = Answer(row.id)
        for event in await events_of(self.log, row):
            answer.apply(event)
        stored = answer_of(await self.row(row))
        assert [part.view() for part in answer.parts] == [part.view() for part in stored.parts]
        return answer


@pytest.fixture
async def world(sqlite_store: Store) -> AsyncIterator[World]:
    world = World(sqlite_store)
    yield world
    for box in world.boxes:
        await box.aclose()


def call_parts(answer: Answer) -> list[dict[str, Any]]:
    return [part.fields for part in answer.parts if part.type == "tool_call"]


async def test_a_round_of_parallel_calls(world: World) -> None:
    """Async and other tools run, their results are parts, and the model is asked with them."""
    seen: list[ToolContext] = []

    @tool
    async def weather(context: ToolContext, city: str) -> dict[str, Any]:
        """The weather."""
        seen.append(context)
        return {"city": city, "degrees": 7}

    @tool
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    world.offers(weather, add)
    provider = Turns(
        calls(("weather", '{"city": "Oslo"}'), ("add", '{"a": 1, "b": 2}')), says("Cold.")
    )
    row = await world.runs(provider, await world.posts())
    assert (row.status, row.content, row.rounds) == ("complete", "Cold.", 1)
    answer = await world.logged(row)
    assert [part.type for part in answer.parts] == ["tool_call", "tool_call", "step", "text"]
    assert [part["state"] for part in call_parts(answer)] == ["done", "done"]
    assert [part["result"] for part in call_parts(answer)] == [{"city": "Oslo", "degrees": 7}, 3]
    assert [each.name for each in provider.asked[0].tools] == ["weather", "add"]
    results = provider.asked[1].messages[-1]
    assert results.role == "assistant"
    assert "degrees" in repr(results)
    (context,) = seen
    assert (context.user_id, context.run, context.message_id) == ("me", 1, row.id)
    assert context.key == (await world.calls(row))[0].key


async def test_what_cannot_run_is_reported_to_the_model(world: World) -> None:
    """An unknown name, arguments that do not fit, a tool that says no: the model gets a sentence
    for each, and nothing runs.
    """

    @tool
    def add(a: int) -> int:
        """Add."""
        raise ToolError("No numbers today.")

    world.offers(add)
    turn = calls(("sub", "{}"), ("add", '{"a": "x"}'), ("add", "[1]"), ("add", '{"a": 1}'))
    provider = Turns(turn, says("Well."))
    answer = await world.logged(await world.runs(provider, await world.posts()))
    states = [(part["state"], part["error"]) for part in call_parts(answer)]
    assert [state for state, _ in states] == ["failed", "failed", "invalid", "failed"]
    assert states[0][1] == "There is no tool named sub."
    assert "a: must be an integer" in states[1][1]
    assert states[3][1] == "No numbers today."
    assert [each.runs for each in await world.calls(await world.row(Row(id=answer.id)))] == [
        *(0, 0, 0, 1)
    ]


async def test_many_calls_hold_nobody_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checks of an answer are under way at a time, in threads that nothing else waits for."""
    under_way, runs_in, lock = [0], list[str](), threading.Lock()

    def slow(_schema: Any, _text: str, _seconds: float) -> list[Any]:
        with lock:
            under_way.append(under_way[-1] + 1)
            runs_in.append(threading.current_thread().name)
        time.sleep(0.02)
        with lock:
            under_way.append(under_way[-1] - 1)
        return []

    monkeypatch.setattr(schemas, "mistakes", slow)

    orders(world)
    asked = [("order", f'{{"n": {n}}}') for n in range(20)]
    row = await world.runs(Turns(calls(*asked), says("Done.")), await world.posts())
    assert [call.result for call in await world.calls(row)] == [str(n) for n in range(20)]
    assert max(under_way) == READS_AT_A_TIME
    assert all(name.startswith("operators-schemas") for name in runs_in)


def orders(world: World) -> None:
    """A tool whose arguments have a schema."""

    @tool
    def order(arguments: dict[str, Any]) -> str:
        """Order."""
        return str(arguments["n"])

    world.offers(order)
    reader = SchemaReader({"type": "object"}, was_checked=True)
    reader.context_name = None
    world.tools["order"] = replace(world.tools["order"], reader=reader)


async def test_a_schema_that_takes_too_long_is_tried_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other calls of its tool fail at once."""
    checks: list[str] = []

    def slow(_schema: Any, text: str, seconds: float) -> list[Any]:
        if seconds == schemas.CPU_SECONDS:
            checks.append(text)
        raise schemas.TooDear("It could not be checked in the time allowed.")

    monkeypatch.setattr(schemas, "mistakes", slow)
    orders(world)
    asked = [("order", f'{{"n": {n}}}') for n in range(20)]
    row = await world.runs(Turns(calls(*asked), says("Done.")), await world.posts())
    assert {call.error for call in await world.calls(row)} == {NOT_CHECKED}
    assert len(checks) <= READS_AT_A_TIME


async def test_the_checks_of_a_turn_have_one_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing interrupts them. The calls behind it fail."""

    def slow(_schema: Any, _text: str, _seconds: float) -> list[Any]:
        time.sleep(0.1)
        return []

    monkeypatch.setattr(calling, "EXAMINING_SECONDS", 0.35)
    monkeypatch.setattr(schemas, "mistakes", slow)
    orders(world)
    asked = [("order", f'{{"n": {n}}}') for n in range(40)]
    row = await world.runs(Turns(calls(*asked), says("Done.")), await world.posts())
    found = await world.calls(row)
    assert [call.error for call in found if call.state == "failed"][-1] == NOT_CHECKED
    assert 0 < sum(call.state == "done" for call in found) < 20


async def test_the_rounds_are_limited(world: World) -> None:
    """After the last one the model is asked once more, without tools to choose.

    A call that it makes all the same is not executed.
    """
    ran = 0

    @tool
    def again() -> str:
        """Again."""
        nonlocal ran
        ran += 1
        return "more"

    world.offers(again)
    world.terms = TERMS.model_copy(update={"max_tool_rounds": 2})
    provider = Turns(calls(("again", "{}")), calls(("again", "{}")), says("Enough."))
    row = await world.runs(provider, await world.posts())
    assert (row.content, ran) == ("Enough.", 2)
    assert [each.tool_choice for each in provider.asked] == [None, None, "none"]
    stubborn = Turns(calls(("again", "{}")))
    row = await world.runs(stubborn, await world.posts())
    assert (row.status, row.finish_reason, ran) == ("complete", "tool_calls", 4)
    assert call_parts(await world.logged(row))[-1]["state"] == "proposed"


async def test_a_person_allows_a_call(world: World) -> None:
    """Meanwhile the answer waits, without a worker and a lease; the next job goes on."""
    ran: list[int] = []

    @tool(approve=lambda arguments, _context: arguments["amount"] > 10)
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    world.offers(pay)
    provider = Turns(calls(("pay", '{"amount": 50}')), says("Done."))
    row = await world.runs(provider, await world.posts())
    assert (row.status, row.waits, ran) == ("waiting", 1, [])
    waiting = await world.logged(row)
    assert waiting.status == "waiting"
    (part,) = call_parts(waiting)
    assert part["state"] == "awaiting_approval"
    assert part["expires_at"]
    await world.store.decide(row.id, 0, "me", Decision("approve"))
    assert (await world.row(row)).status == "queued"
    row = await world.runs(provider, row)
    assert (row.status, row.content, ran) == ("complete", "Done.", [50])
    (part,) = call_parts(await world.logged(row))
    assert part["approval"]["by"] == "me"


async def test_a_person_edits_the_arguments(world: World) -> None:
    """The tool gets the edited ones; what the model wrote stays. Edited ones must fit, too."""
    ran: list[int] = []

    @tool(approve=True)
    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    world.offers(pay)
    turn = calls(("pay", '{"amount": 50}'), ("pay", '{"amount": 60}'))
    row = await world.runs(Turns(turn, says("Done.")), await world.posts())
    await world.store.decide(row.id, 0, "me", Decision("approve", value='{"amount": 5}'))
    await world.store.decide(row.id, 1, "me", Decision("approve", value='{"amount": "all"}'))
    row = await world.runs(Turns(says("Done.")), row)
    first, second = call_parts(await world.logged(row))
    assert (ran, first["ran_with"], first["state"]) == ([5], '{"amount": 5}', "done")
    assert (second["state"], "amount: must be an integer" in second["error"]) == ("failed", True)


async def killed_process(*_: object) -> bool:
    raise asyncio.CancelledError


async def test_a_call_whose_worker_dies_is_not_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome is unknown, and a person is asked. A repeatable call runs again, with its key."""
    begun: list[str] = []

    @tool
    async def send(context: ToolContext) -> str:
        """Send."""
        begun.append(context.key)
        await asyncio.sleep(60)
        return "never"

    @tool(repeatable=True)
    async def read(context: ToolContext) -> str:
        """Read."""
        begun.append(context.key)
        if context.run == 1:
            await asyncio.sleep(60)
        return "text"

    world.offers(send, read)
    provider = Turns(calls(("send", "{}"), ("read", "{}")), says("Hm."))
    row = await world.posts()
    job = asyncio.create_task(world.runner(provider).generate(row.id))
    await until(lambda: len(begun) == 2)
    with monkeypatch.context() as killed:  # nothing of it is stored any more
        killed.setattr(type(world.store), "finish_call", killed_process)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    await asyncio.sleep(0.3)  # its lease expires
    row = await world.runs(provider, row)
    assert row.status == "waiting"
    answer = await world.logged(row)
    assert [part["state"] for part in call_parts(answer)] == ["awaiting_outcome", "done"]
    assert sorted(map(begun.count, set(begun))) == [1, 2]
    await world.store.decide(row.id, 0, "me", Decision("go_on"))
    row = await world.runs(provider, row)
    assert row.status == "complete"
    assert call_parts(await world.logged(row))[0]["state"] == "unknown"
    assert sorted(map(begun.count, set(begun))) == [1, 2]


async def test_a_turn_that_was_not_proven_runs_nothing(world: World) -> None:
    """It broke off behind a whole call."""
    ran = 0

    @tool
    def count() -> int:
        """Count."""
        nonlocal ran
        ran += 1
        return ran

    world.offers(count)
    broken = [*calls(("count", "{}"))[:-1]]
    row = await world.runs(Turns(broken), await world.posts())
    assert (row.status, ran) == ("retrying", 0)
    assert await world.calls(row) == []


async def test_a_new_message_takes_the_question_back(world: World) -> None:
    """The answer waits no more: the model learns that the call was withdrawn."""

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        raise AssertionError

    world.offers(pay)
    provider = Turns(calls(("pay", "{}")), says("Fine."))
    row = await world.runs(provider, await world.posts())
    assert row.status == "waiting"
    posted = await world.store.post(Post(row.conversation_id, "me", "No, wait", "m"))
    assert posted.resumed == row.id
    row = await world.runs(provider, row)
    assert (row.status, row.content) == ("complete", "Fine.")
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["withdrawn"]
    assert "withdrawn" in repr(provider.asked[1]) or "did not run" in repr(provider.asked[1])


async def test_a_message_that_came_before_the_question_takes_it_back(world: World) -> None:
    """It waits behind the answer, which therefore does not wait for a decision."""

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        raise AssertionError

    world.offers(pay)
    row = await world.posts()
    await world.store.post(Post(row.conversation_id, "me", "And then?", "m"))
    provider = Turns(calls(("pay", "{}")), says("Fine."))
    row = await world.runs(provider, row)
    assert (row.status, row.content, row.waits) == ("complete", "Fine.", 0)
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["withdrawn"]


async def test_an_unlisted_answer_uses_no_tools(world: World) -> None:
    """Nobody could approve its calls."""

    @tool
    def count() -> int:
        """Count."""
        raise AssertionError

    world.offers(count)
    row = await world.posts()
    async with world.store.writing() as session:
        await session.execute(sql("UPDATE conversations SET listed = false"))
    provider = Turns(calls(("count", "{}")))
    row = await world.runs(provider, row)
    assert (row.status, row.finish_reason) == ("complete", "tool_calls")
    assert provider.asked[0].tools == ()


async def test_a_cancel_shows_what_a_tool_has_done(world: World) -> None:
    """The log takes no outcome after a cancel. The end brings it nevertheless."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    @tool
    def send(context: ToolContext) -> str:
        """Send."""
        loop.call_soon_threadsafe(begun.set)
        return "half" if context.sleep(10) else "all"

    world.offers(send)
    row = await world.posts()
    job = asyncio.create_task(world.runs(Turns(calls(("send", "{}"))), row))
    await asyncio.wait_for(begun.wait(), 10)
    await closing.cancel(world.store, world.log, world.jobs, row.id, "me")
    row = await job
    assert row.status == "cancelled"
    (call,) = await world.calls(row)
    assert (call.state, call.result) == ("done", "half")
    (part,) = call_parts(await world.logged(row))
    assert (part["state"], part["result"]) == ("done", "half")


@pytest.mark.parametrize("error", [StatementFailed("22001"), Unstorable("x")], ids=repr)
@pytest.mark.parametrize("method", ["prove_turn", "begin_repair"])
async def test_a_turn_that_cannot_be_stored_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception
) -> None:
    """The model is not asked again and again, and no death is counted."""

    @tool
    async def look() -> str:
        """Look."""
        return "x"

    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.store, method, fails)
    conversation = await world.store.create_conversation("me")
    post = Post(conversation.id, "me", "hi", "m")
    if method == "prove_turn":
        world.offers(look)
        provider = Turns(calls(("look", "{}")))
    else:
        post = replace(post, response_schema={"type": "array"})
        provider = Turns(says("{}"))
    row = (await world.store.post(post)).assistant_message
    with capture_logs(), pytest.raises(type(error)):  # it is a bug of ours: the log has it
        await world.runs(provider, row)
    row = await world.row(row)
    assert (row.status, row.error and row.error["code"]) == ("error", "internal_error")
    assert (len(provider.asked), row.deaths) == (1, 0)


@pytest.mark.parametrize("kind", ["result", "repeat"])
async def test_a_decision_takes_the_place_of_what_the_tool_said(world: World, kind: Any) -> None:
    """A person knows what became of a tool that did not end in time. The model reads that."""
    runs: list[int] = []

    @tool(seconds=0.2)
    async def send(context: ToolContext) -> str:
        """Send."""
        runs.append(context.run)
        if context.run == 1:
            await asyncio.sleep(60)
        return "sent"

    world.offers(send)
    provider = Turns(calls(("send", "{}")), says("Done."))
    row = await world.runs(provider, await world.posts())
    assert row.status == "waiting"
    (part,) = call_parts(await world.logged(row))
    assert part["error"].startswith("The tool did not end in time.")
    value = "sent" if kind == "result" else None
    await world.store.decide(row.id, 0, "me", Decision(kind, value=value, runs=1))
    assert [call.error for call in await world.calls(row)] == [None]
    row = await world.runs(provider, row)
    assert runs == ([1] if kind == "result" else [1, 2])
    (part,) = call_parts(await world.logged(row))
    assert (part["state"], part["result"], part.get("error")) == ("done", "sent", None)
    [read] = [
        each for each in provider.asked[-1].messages[-1].parts if isinstance(each, ResultPart)
    ]
    assert (read.text, read.error) == ("sent", False)


async def test_an_outcome_is_never_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that were read while a call ran come after those in which it has ended."""
    goes_on, read = asyncio.Event(), world.store.calls_at
    delayed: list[str] = []

    async def late(message_id: str) -> Any:
        rev, rows = await read(message_id)
        if [row.state for row in rows] == ["running", "running"] and not delayed:
            delayed.append(message_id)
            goes_on.set()
            await asyncio.sleep(0.3)
        return rev, rows

    @tool
    async def first() -> str:
        """Be first."""
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
        return "1"

    @tool
    async def second() -> str:
        """Be second."""
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.6)
        return "2"

    monkeypatch.setattr(world.store, "calls_at", late)
    world.offers(first, second)
    row = await world.posts()
    await world.runs(Turns(calls(("first", "{}"), ("second", "{}")), says("Done.")), row)
    answer, shown = Answer(row.id), list[str]()
    for event in await events_of(world.log, row):
        answer.apply(event)
        shown += [part["state"] for part in call_parts(answer)[:1]]
    assert delayed
    assert "running" not in shown[shown.index("done") :]


async def test_a_call_that_waits_for_hung_tools_can_be_cancelled(world: World) -> None:
    """The threads of other answers never end, so the call never gets a place."""
    world.terms = ToolTerms(tool_threads=1, tool_seconds=0.2)
    goes_on = threading.Event()

    @tool
    def hangs() -> str:
        """Hang."""
        goes_on.wait(60)
        return "late"

    world.offers(hangs)
    row = await world.posts()
    runner = world.runner(Turns(calls(("hangs", "{}"))))
    async with world.boxes[0].executor.reserve(world.tools["hangs"], "me") as place:
        outcome = await place.run({}, ToolContext("k"), lambda: True)
        assert isinstance(outcome, CallUnknown)
    try:
        job = asyncio.create_task(runner.generate(row.id))
        while not await world.calls(row):
            await asyncio.sleep(0.01)
        await closing.cancel(world.store, world.log, world.jobs, row.id, "me")
        async with asyncio.timeout(10):
            await job
    finally:
        goes_on.set()
    assert (await world.row(row)).status == "cancelled"
    (call,) = await world.calls(row)
    assert (call.state, call.runs) == ("withdrawn", 0)


async def test_nothing_is_asked_for_a_deleted_answer(world: World) -> None:
    """It was deleted while its tool ran: without its calls nothing can go on."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    @tool
    def send(context: ToolContext) -> str:
        """Send."""
        loop.call_soon_threadsafe(begun.set)
        context.sleep(0.3)
        return "sent"

    world.offers(send)
    row, provider = await world.posts(), Turns(calls(("send", "{}")), says("done"))
    job = asyncio.create_task(world.runner(provider).generate(row.id))
    await asyncio.wait_for(begun.wait(), 10)
    await world.store.delete_conversation(row.conversation_id)
    await asyncio.wait_for(job, 10)
    assert len(provider.asked) == 1
