"""Executes calls of tools, away from the loop of the attempts.

Guarantees:

- A tool that blocks, loops or leaves by `sys.exit` costs no attempt its lease. An async tool runs
  on the loop of tools, any other in a daemon thread of its own.
- A tool begins at most once for each `Place.run`, and only if `may_begin` allows it, in the tool's
  thread, just before it begins. `NotBegun` is a proof that it did not, and never will.
- Who waits for a place has no call yet: first a place, then the claim, then the run. A thread that
  is left alone keeps its place until it ends, so there are never more than TOOL_THREADS. Users get
  places in turn (`places.py`).
- The end of the time, or a stop, cancels the call and waits shortly for what the tool has to
  report. If there is nothing, the outcome is unknown: a tool that does not end may take effect.

What cannot be helped: `os._exit`, a crash of the interpreter, and C code that keeps Python's lock.

Rejected: processes for tools (they share no connection pools with the application, and each call
would have to be pickled); a pool of threads that live on (a new one costs 0.1 ms, and cannot
inherit what a tool left behind in it).
"""

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import structlog

from tokenwire.config.terms import ToolTerms
from tokenwire.protocol.states import MAX_SENTENCE_CHARS
from tokenwire.protocol.text import storable
from tokenwire.worker.tools.context import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.loop import ToolLoop
from tokenwire.worker.tools.places import ThreadPlaces
from tokenwire.worker.tools.results import shown

log_line = structlog.get_logger(__name__)

GRACE_SECONDS = 0.2
"""How long a cancelled tool may take to report how far it came."""
APPROVAL_SECONDS = 5.0
"""The longest time to decide whether a person is asked."""

FAILED = "The tool failed, perhaps after it took effect."
NOT_STARTED = "The tool could not be started."
HIDDEN = "The tool ran and took effect, but its result cannot be shown."
LATE = "The tool did not end in time. It is not known whether it took effect."
STOPPED = "The call was stopped while the tool ran. It is not known whether it took effect."
UNSURE = "It is not known whether the tool took effect."


@dataclass(frozen=True, slots=True)
class CallDone:
    """The tool has a result: any JSON, of at most MAX_TOOL_RESULT_BYTES."""

    result: Any


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The tool failed. `error` is a sentence for the model, here and in `CallUnknown`."""

    error: str


@dataclass(frozen=True, slots=True)
class CallUnknown:
    """The tool may have taken effect, or may still do so."""

    error: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The tool did not begin, and never will by this run."""


CallOutcome: TypeAlias = CallDone | CallFailed | CallUnknown | NotBegun


class Executor:
    """Executes the calls of a process. Belongs to the loop that is running when it is made."""

    def __init__(self, terms: ToolTerms) -> None:
        self._terms = terms
        self._home = asyncio.get_running_loop()
        self._places = ThreadPlaces(terms.tool_threads)
        self._loop = ToolLoop()

    def keep(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run this work on the loop of tools until `close` cancels it."""
        self._loop.start(name, work)

    @contextlib.asynccontextmanager
    async def reserve(self, tool: ServerTool, user_id: str) -> AsyncIterator["Place"]:
        """Wait until the tool has room: then the call may be claimed and run."""
        async with self._lane(user_id, is_async=tool.is_async) as lane:
            yield Place(self._terms, tool, lane)

    async def needs_approval(
        self, tool: ServerTool, arguments: Mapping[str, Any], context: ToolContext
    ) -> bool:
        """Whether a person must allow the call. If the tool's function fails, has no place or does
        not decide in time, a person is asked.
        """
        decide = tool.approve
        if isinstance(decide, bool):
            return decide
        given, context = MappingProxyType(dict(arguments)), context.apart()
        run = _Execution(tool.name, lambda: decide(given, context), context, lambda: True, 64)
        run.what = "the approval rule of a tool"
        try:
            async with self._lane(
                context.user_id, is_async=False, seconds=APPROVAL_SECONDS
            ) as lane:
                outcome = await lane.run(run, APPROVAL_SECONDS)
        except TimeoutError:
            return True
        return not (isinstance(outcome, CallDone) and outcome.result is False)

    @contextlib.asynccontextmanager
    async def _lane(
        self, user_id: str, *, is_async: bool, seconds: float | None = None
    ) -> AsyncIterator["_Lane"]:
        """Raises TimeoutError if there is no place within this time."""
        if is_async:
            yield _Lane(self._home, self._loop, lambda: None)
            return
        async with asyncio.timeout(seconds):
            await self._places.take(user_id)
        lane = _Lane(self._home, None, lambda: self._places.give_back(user_id))
        try:
            yield lane
        finally:
            lane.leave()

    async def close(self) -> None:
        """End the loop of tools. Threads are left alone: they end with the process."""
        await asyncio.to_thread(self._loop.close)


class Place:
    """Room for one run of a tool."""

    def __init__(self, terms: ToolTerms, tool: ServerTool, lane: "_Lane") -> None:
        self._terms = terms
        self._tool = tool
        self._lane = lane

    async def run(
        self, arguments: Mapping[str, Any], context: ToolContext, may_begin: Callable[[], bool]
    ) -> CallOutcome:
        """Execute the tool, once for each place. If this task is cancelled, the call is cancelled,
        too, and nothing is waited for.
        """
        tool, most = self._tool, self._terms.max_tool_result_bytes
        run = _Execution(
            tool.name, lambda: tool.begin(arguments, context), context, may_begin, most
        )
        return await self._lane.run(run, tool.seconds or self._terms.tool_seconds)

    def stop(self) -> None:
        """Cancel the call: `run` returns within GRACE_SECONDS."""
        self._lane.stop()


class _Execution:
    """One run: the part that the tool's thread executes."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Any],
        context: ToolContext,
        may_begin: Callable[[], bool],
        max_bytes: int,
    ) -> None:
        self.name = name
        self.what = "a tool"  # for the log
        self.context = context
        self._work = work
        self._may_begin = may_begin
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._began_at: float | None = None
        self._given_up = False

    def age(self) -> float:
        """The seconds since the tool began; 0 before."""
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    def give_up(self) -> bool:
        """Prevent a run that has not begun. False: it has."""
        with self._lock:
            self._given_up = self._began_at is None
            return self._given_up

    def in_thread(self) -> CallOutcome:
        try:
            return self._done(self._work()) if self._begins() else NotBegun()
        except BaseException as error:  # noqa: BLE001 -- also SystemExit: the tool failed
            return self._judged(error)

    async def on_loop(self) -> CallOutcome:
        try:
            return self._done(await self._work()) if self._begins() else NotBegun()
        except BaseException as error:  # noqa: BLE001 -- also SystemExit: the tool failed
            return self._judged(error)

    def _begins(self) -> bool:
        # The lock is held meanwhile: who gives up gets a proof.
        with self._lock:
            if self._given_up or not self._may_begin():
                self._given_up = True
                return False
            self._began_at = time.monotonic()
            return True

    def _done(self, value: Any) -> CallOutcome:
        try:
            return CallDone(shown(value, self._max_bytes))
        except BaseException as error:  # the value's own code may raise anything
            what = f"the result of {self.what} is no JSON"
            log_line.warning(what, tool=self.name, exc_info=error)
            return CallFailed(HIDDEN)

    def _judged(self, error: BaseException) -> CallOutcome:
        if self._began_at is None:
            log_line.error("a tool may not begin", tool=self.name, exc_info=error)
            return NotBegun()
        match error:
            case ToolError():
                return CallFailed(_sentence(error, FAILED))
            case UnknownEffect():
                return CallUnknown(_sentence(error, UNSURE))
        if self.context.cancelled:  # then the error follows from that, and proves nothing
            return CallUnknown(UNSURE)
        log_line.error(f"{self.what} failed", tool=self.name, exc_info=error)
        return CallFailed(FAILED)


def _sentence(error: Exception, default: str) -> str:
    try:
        text = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001 -- the tool's own code may raise anything
        return default
    return storable(text[:MAX_SENTENCE_CHARS]) or default


class _Lane:
    """Where one run is executed: in a thread, or on the loop of tools."""

    def __init__(
        self, home: asyncio.AbstractEventLoop, loop: ToolLoop | None, release: Callable[[], None]
    ) -> None:
        self._home = home
        self._loop = loop
        self._release = release
        self._used = False
        self._ended: asyncio.Future[CallOutcome] = home.create_future()
        self._stopped: asyncio.Future[None] = home.create_future()

    def leave(self) -> None:
        """Free the place, unless a tool uses it: then its end frees it."""
        if not self._used:
            self._release()

    def stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def run(self, run: _Execution, seconds: float) -> CallOutcome:
        if self._used:
            raise RuntimeError("a place is for one run")
        try:
            cancel = self._start(run)
        except RuntimeError:
            log_line.exception("no thread for a tool", tool=run.name)
            return CallFailed(NOT_STARTED)
        try:
            return await self._outcome(run, cancel, seconds)
        except asyncio.CancelledError:
            self._cancel(run, cancel)
            raise

    def _start(self, run: _Execution) -> Callable[[], None]:
        """Start the run; the function that cancels it. Raises RuntimeError for want of threads."""
        if self._loop is not None:
            self._used = True
            return self._loop.start(run.name, lambda: self._on_loop(run))
        context = contextvars.copy_context()  # so that its log lines name the answer
        threading.Thread(
            target=context.run, args=(self._in_thread, run), name=f"tool {run.name}", daemon=True
        ).start()
        self._used = True
        return lambda: None

    def _in_thread(self, run: _Execution) -> None:
        outcome: CallOutcome = CallUnknown(UNSURE)
        try:
            outcome = run.in_thread()
        finally:  # whatever happens here, the place is free again
            self._end(outcome)

    def _on_loop(self, run: _Execution) -> Coroutine[Any, Any, None]:
        async def end() -> None:
            outcome: CallOutcome = CallUnknown(UNSURE)
            try:
                outcome = await run.on_loop()
            finally:
                self._end(outcome)

        return end()

    def _end(self, outcome: CallOutcome) -> None:
        def end() -> None:
            self._release()
            if not self._ended.done():
                self._ended.set_result(outcome)

        with contextlib.suppress(RuntimeError):  # the process ends
            self._home.call_soon_threadsafe(end)

    async def _outcome(
        self, run: _Execution, cancel: Callable[[], None], seconds: float
    ) -> CallOutcome:
        either: set[asyncio.Future[Any]] = {self._ended, self._stopped}
        left = seconds
        while left > 0:
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                return self._ended.result()
            if self._stopped.done() or run.give_up():
                break
            left = seconds - run.age()  # its time counts from its beginning
        return await self._cut_off(run, cancel, STOPPED if self._stopped.done() else LATE)

    async def _cut_off(
        self, run: _Execution, cancel: Callable[[], None], sentence: str
    ) -> CallOutcome:
        if self._loop is not None:
            self._loop.warn_if_blocked()
        if self._cancel(run, cancel):
            return NotBegun()
        await asyncio.wait({self._ended}, timeout=GRACE_SECONDS)
        if self._ended.done() and self._ended.result() != CallUnknown(UNSURE):
            return self._ended.result()
        return CallUnknown(sentence)

    def _cancel(self, run: _Execution, cancel: Callable[[], None]) -> bool:
        """Cancel the call. True: it has not begun, and will not."""
        run.context.cancel()
        if run.give_up():
            return True
        cancel()
        return False
