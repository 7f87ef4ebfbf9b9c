"""How one call is executed, and what a tool cannot do to its worker."""

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.unit.worker.tools.test_definition import made
from tokenwire.config.terms import ToolTerms
from tokenwire.tools import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools import executor as module
from tokenwire.worker.tools import loop as tool_loop
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.executor import (
    FAILED,
    HIDDEN,
    LATE,
    NOT_STARTED,
    STOPPED,
    UNSURE,
    CallDone,
    CallFailed,
    CallOutcome,
    CallUnknown,
    Executor,
    NotBegun,
)

TERMS = ToolTerms(tool_seconds=5, tool_threads=2)


@pytest.fixture
async def executor() -> AsyncIterator[Executor]:
    opened = Executor(TERMS)
    yield opened
    await opened.close()


async def execute(
    executor: Executor,
    tool: ServerTool,
    arguments: Mapping[str, Any] | None = None,
    context: ToolContext | None = None,
    may_begin: Callable[[], bool] = lambda: True,
) -> CallOutcome:
    """One call."""
    async with executor.reserve(tool, "me") as place:
        return await place.run(arguments or {}, context or ToolContext("k"), may_begin)


def both(function: Callable[..., Any], **options: Any) -> list[ServerTool]:
    """The function as a tool, and as an async one."""

    async def plain() -> Any:
        return function()

    return [
        made(function, description="Do it.", **options),
        made(plain, description="Do it.", **options),
    ]


class Mute(ToolError):
    """Its text cannot be read."""

    def __str__(self) -> str:
        raise SystemExit(1)

    def __repr__(self) -> str:
        return "Mute"


def raises(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


async def test_a_tool_runs_away_from_this_loop(executor: Executor) -> None:
    def where(context: ToolContext, x: int) -> list[Any]:
        """Where."""
        return [threading.current_thread().name, context.key, context.run, x]

    async def there(context: ToolContext, x: int) -> list[Any]:
        """There."""
        await asyncio.sleep(0)
        return [threading.current_thread().name, context.key, context.run, x]

    context = ToolContext("key", run=2)
    assert await execute(executor, made(where), {"x": 1}, context) == CallDone(
        ["tool where", "key", 2, 1]
    )
    assert await execute(executor, made(there), {"x": 1}, context) == CallDone(
        ["tools", "key", 2, 1]
    )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ToolError("There is no\n such city."), CallFailed("There is no such city.")),
        (ToolError(), CallFailed(FAILED)),
        (ToolError("x" * 9999), CallFailed("x" * 2000)),
        (ToolError("\ud800\x00"), CallFailed("��")),
        (UnknownEffect("The bank did not answer."), CallUnknown("The bank did not answer.")),
        (UnknownEffect(), CallUnknown(UNSURE)),
        (Mute(), CallFailed(FAILED)),
        (ValueError("a secret"), CallFailed(FAILED)),
        (SystemExit(3), CallFailed(FAILED)),
        (KeyboardInterrupt(), CallFailed(FAILED)),
        (GeneratorExit(), CallFailed(FAILED)),
        (asyncio.CancelledError(), CallFailed(FAILED)),
        (RecursionError(), CallFailed(FAILED)),
        (StopIteration(), CallFailed(FAILED)),
    ],
    ids=repr,
)
async def test_what_a_tool_raises(
    executor: Executor, error: BaseException, outcome: CallOutcome
) -> None:
    """The model reads what the tool has for it, and nothing else; the next call works."""
    for tool in both(raises(error), name="t"):
        with capture_logs() as logs:
            assert await execute(executor, tool) == outcome
        unexpected = not isinstance(error, ToolError | UnknownEffect)
        assert [log["tool"] for log in logs] == ["t"] * unexpected
    for tool in both(lambda: 1, name="t"):
        assert await execute(executor, tool) == CallDone(1)


async def test_real_recursion_and_a_subtask_that_exits(executor: Executor) -> None:
    """The loop of tools goes on."""

    def endless() -> Any:
        return endless()

    async def exits() -> int:
        """Exit in a task of its own."""

        async def leave() -> None:
            sys.exit(1)

        task = asyncio.create_task(leave())
        await asyncio.wait({task})
        assert isinstance(task.exception(), SystemExit)
        return 1

    async def stops() -> int:
        """Stop the loop, and try to close it."""
        asyncio.get_running_loop().stop()
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop().close()
        return 2

    with capture_logs() as logs:
        for tool in both(endless, name="t"):
            assert await execute(executor, tool) == CallFailed(FAILED)
        assert await execute(executor, made(exits)) == CallDone(1)
        assert await execute(executor, made(stops)) == CallDone(2)
    assert [log["event"] for log in logs][2:] == [
        "a tool tried to end its loop",
        "a tool stopped its loop",
    ]


async def test_a_result_that_is_no_json(executor: Executor) -> None:
    """The tool took effect, so the model must not call it again for want of a result."""

    class Bad(dict[str, Any]):
        def items(self) -> Any:
            raise SystemExit

    for value in (b"x", object(), Bad()):
        for tool in both(_returning(value), name="t"):
            assert await execute(executor, tool) == CallFailed(HIDDEN)


def _returning(value: Any) -> Callable[[], Any]:
    def give() -> Any:
        """Give."""
        return value

    return give


async def test_a_large_result_is_cut(executor: Executor) -> None:
    outcome = await execute(executor, made(_returning("x" * 100_000)))
    assert isinstance(outcome, CallDone)
    assert outcome.result["truncated"] is True


async def test_what_may_not_begin_does_not(executor: Executor) -> None:
    """It is asked in the tool's own thread. A question that fails is a no."""
    ran, threads = [], []

    def no() -> bool:
        threads.append(threading.current_thread().name)
        return False

    for tool in both(lambda: ran.append(1), name="t"):
        assert await execute(executor, tool, may_begin=no) == NotBegun()
        with capture_logs():
            assert await execute(executor, tool, may_begin=raises(ToolError("x"))) == NotBegun()
    assert ran == []
    assert threads == ["tool t", "tools"]


# --- time and stops -----------------------------------------------------------------------------


async def test_a_tool_that_does_not_end_in_time(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome is unknown; its context, and the task of an async tool, are cancelled."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 1)
    seen: list[str] = []
    go_on = threading.Event()

    def stubborn(context: ToolContext) -> None:
        """Wait."""
        assert context.sleep(9)
        seen.append("sync")
        go_on.wait(9)

    async def patient() -> None:
        """Wait."""
        try:
            await asyncio.sleep(9)
        finally:
            seen.append("async")

    for function in (stubborn, patient):
        began = time.monotonic()
        assert await execute(executor, made(function, seconds=0.1)) == CallUnknown(LATE)
        assert 0.1 <= time.monotonic() - began < 5
    go_on.set()
    assert seen == ["sync", "async"]


async def test_what_a_tool_reports_within_the_grace_counts(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result, and that it failed without effect; but no error that the end of the time caused."""
    monkeypatch.setattr(module, "GRACE_SECONDS", 5)

    def returns(context: ToolContext) -> str:
        """Return."""
        context.sleep(9)
        time.sleep(0.1)
        return "half"

    async def undoes() -> None:
        """Undo."""
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            raise ToolError("It was undone.") from None

    def breaks(context: ToolContext) -> None:
        """Break."""
        context.sleep(9)
        raise OSError("interrupted")

    assert await execute(executor, made(returns, seconds=0.1)) == CallDone("half")
    assert await execute(executor, made(undoes, seconds=0.1)) == CallFailed("It was undone.")
    assert await execute(executor, made(breaks, seconds=0.1)) == CallUnknown(LATE)


async def test_a_stop(executor: Executor) -> None:
    """The run returns at once, with what is known."""

    go_on = threading.Event()

    def works(context: ToolContext) -> None:
        """Work."""
        go_on.wait(9)

    async def waits(context: ToolContext) -> None:
        """Wait."""
        await context.wait_cancelled()

    for function in (works, waits):
        tool, context = made(function), ToolContext("k")
        async with executor.reserve(tool, "me") as place:
            running = asyncio.create_task(place.run({}, context, lambda: True))
            await asyncio.sleep(0.05)
            began = time.monotonic()
            place.stop()
            place.stop()
            assert await running in (CallUnknown(STOPPED), CallDone(None))
            assert time.monotonic() - began < 5
            assert context.cancelled
            with pytest.raises(RuntimeError, match="a place is for one run"):
                await place.run({}, context, lambda: True)
    go_on.set()


async def test_a_stop_before_the_beginning_prevents_it(executor: Executor) -> None:
    ran: list[int] = []
    for tool in both(lambda: ran.append(1), name="t"):
        async with executor.reserve(tool, "me") as place:
            place.stop()
            outcome = await place.run({}, ToolContext("k"), lambda: True)
        assert outcome in (NotBegun(), CallDone(None))
        assert (outcome == CallDone(None)) == bool(ran)
        ran.clear()


async def test_a_cancelled_task_cancels_the_call(executor: Executor) -> None:
    ended = threading.Event()

    def works(context: ToolContext) -> None:
        """Work."""
        assert context.sleep(9)
        ended.set()

    running = asyncio.create_task(execute(executor, made(works)))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(ended.wait, 5)


# --- room ---------------------------------------------------------------------------------------


async def test_a_thread_that_is_left_alone_keeps_its_place(executor: Executor) -> None:
    """Who has no room waits, and has not begun; async tools need no thread."""
    go_on = threading.Event()

    def blocks() -> None:
        """Block."""
        go_on.wait(9)

    for _ in range(TERMS.tool_threads):
        assert await execute(executor, made(blocks, seconds=0.05)) == CallUnknown(LATE)
    waiting = asyncio.create_task(execute(executor, made(_returning(1))))
    for tool in both(lambda: 2, name="t")[1:]:
        assert await execute(executor, tool) == CallDone(2)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    go_on.set()
    async with asyncio.timeout(5):
        assert await waiting == CallDone(1)
        await _has_all_its_room(executor)


async def _has_all_its_room(executor: Executor) -> None:
    tool = made(_returning(1))
    async with executor.reserve(tool, "me"), executor.reserve(tool, "me"):
        pass


async def test_no_way_loses_a_place(executor: Executor) -> None:
    """Nor frees one twice."""
    tool = made(_returning(1))
    for _ in range(3):
        async with executor.reserve(tool, "me"):
            pass  # the claim was lost
        with pytest.raises(ZeroDivisionError):
            async with executor.reserve(tool, "me"):
                raise ZeroDivisionError
        assert await execute(executor, tool, may_begin=lambda: False) == NotBegun()
        assert await execute(executor, tool) == CallDone(1)
    await asyncio.sleep(0)
    assert executor._places.free == TERMS.tool_threads


async def test_without_a_thread_the_call_has_failed(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with capture_logs():
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for _ in range(TERMS.tool_threads + 1):
            assert await execute(executor, made(_returning(1))) == CallFailed(NOT_STARTED)
        monkeypatch.undo()
    assert await execute(executor, made(_returning(1))) == CallDone(1)


async def test_an_async_tool_that_blocks_its_loop(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others of that loop wait, and provably do not begin; this loop does not. A warning names
    it.
    """
    monkeypatch.setattr(tool_loop, "BLOCKED_SECONDS", 0.2)

    async def blocks() -> None:
        """Block."""
        time.sleep(2)  # noqa: ASYNC251

    ran: list[int] = []

    async def gentle() -> int:
        """Do not block."""
        ran.append(1)
        return 1

    with capture_logs() as logs:
        blocking = asyncio.create_task(execute(executor, made(blocks)))
        await asyncio.sleep(0.1)
        assert await execute(executor, made(gentle, seconds=0.8)) == NotBegun()
        assert not blocking.done()
        assert ("blocks", "an async tool blocks the loop of tools: others wait") in [
            (*log["tools"], log["event"]) for log in logs
        ]
        assert await blocking == CallDone(None)
    assert await execute(executor, made(gentle)) == CallDone(1)
    assert ran == [1]


async def test_the_end_cancels_async_tools_and_waits_for_no_thread() -> None:
    executor, seen = Executor(TERMS), []

    async def patient() -> None:
        """Wait."""
        try:
            await asyncio.sleep(9)
        finally:
            seen.append(1)

    def blocks(context: ToolContext) -> None:
        """Block."""
        context.sleep(9)

    context = ToolContext("k")
    running = [
        asyncio.create_task(execute(executor, made(patient))),
        asyncio.create_task(execute(executor, made(blocks), context=context)),
    ]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    with capture_logs():
        await executor.close()
    assert time.monotonic() - began < 5
    assert seen == [1]
    context.cancel()
    await asyncio.wait(running, timeout=5)


# --- approval -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "asked"),
    [(False, False), (True, True), (None, True), (0, True), ("", True), (b"", True)],
)
async def test_a_function_decides_about_approval(
    executor: Executor, answer: Any, asked: bool
) -> None:
    """Only False lets a call run without a person."""
    seen: list[Any] = []

    def decide(arguments: Mapping[str, Any], context: ToolContext) -> Any:
        seen.append((arguments["x"], context.key, threading.current_thread().name))
        return answer

    tool = made(_returning(1), name="t", approve=decide)
    with capture_logs():
        assert await executor.needs_approval(tool, {"x": 5}, ToolContext("k")) is asked
    assert seen == [(5, "k", "tool t")]


async def test_approval_is_asked_when_in_doubt(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the function fails, blocks, or changes the arguments."""
    monkeypatch.setattr(module, "APPROVAL_SECONDS", 0.05)

    def fails(arguments: Mapping[str, Any], context: ToolContext) -> bool:
        raise SystemExit

    def blocks(arguments: Mapping[str, Any], context: ToolContext) -> bool:
        time.sleep(0.5)
        return False

    def changes(arguments: Any, context: ToolContext) -> bool:
        arguments["x"] = 1
        return False

    context = ToolContext("k")
    for decide in (fails, blocks, changes):
        tool = made(_returning(1), approve=decide)
        with capture_logs():
            assert await executor.needs_approval(tool, {"x": 5}, context) is True
    assert not context.cancelled
    for plain in (True, False):
        tool = made(_returning(1), approve=plain)
        assert await executor.needs_approval(tool, {}, ToolContext("k")) is plain


async def test_the_log_blames_the_rule_not_the_tool(executor: Executor) -> None:
    """Nobody ran the tool when its approval rule fails or gives nonsense."""

    def fails(_arguments: Mapping[str, Any], _context: ToolContext) -> bool:
        raise ValueError

    def gives_bytes(_arguments: Mapping[str, Any], _context: ToolContext) -> Any:
        return b""

    with capture_logs() as lines:
        for decide in (fails, gives_bytes):
            tool = made(_returning(1), name="t", approve=decide)
            assert await executor.needs_approval(tool, {}, ToolContext("k")) is True
    assert [(line["event"], line["tool"]) for line in lines] == [
        ("the approval rule of a tool failed", "t"),
        ("the result of the approval rule of a tool is no JSON", "t"),
    ]


async def test_approval_is_asked_when_all_threads_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function has no place. The answer does not wait for one without end."""
    monkeypatch.setattr(module, "APPROVAL_SECONDS", 0.05)
    goes_on = threading.Event()

    def hangs() -> None:
        """Hang."""
        goes_on.wait(20)

    def never(_arguments: Mapping[str, Any], _context: ToolContext) -> bool:
        return False

    executor = Executor(ToolTerms(tool_threads=1, tool_seconds=0.05))
    try:
        assert isinstance(await execute(executor, made(hangs)), CallUnknown)
        async with asyncio.timeout(10):
            asked = made(_returning(1), approve=never)
            assert await executor.needs_approval(asked, {}, ToolContext("k")) is True
    finally:
        goes_on.set()
        await executor.close()
