"""Time and scheduling: an asyncio event loop with a jumping clock, and processes that can be killed
and paused.

Decides which callback runs next. Callbacks of one process run in their scheduled order, as asyncio
promises; between processes chance decides, so that every seed is another interleaving. Nothing here
waits or reads a real clock.
"""

import asyncio
import heapq
import inspect
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any

_owner: "ContextVar[Node]" = ContextVar("node")


def owner() -> "Node":
    """The process that is running now."""
    return _owner.get()


class Node:
    """A process: its callbacks, and whether they run. Tasks and timers belong to the node that
    created them.
    """

    def __init__(self, loop: "VirtualLoop", name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.fuse = 0
        """Counts down with every callback; at zero the node is killed right there (0: no fuse)."""
        self.on_death: list[Callable[[], None]] = []
        self.waiting: deque[asyncio.Handle] = deque()
        self.context = copy_context()
        self.context.run(_owner.set, self)
        self._loop = loop

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Run a coroutine as this process."""
        return self._loop.create_task(coroutine, context=self.context.copy())

    def kill(self) -> None:
        """As by SIGKILL: nothing of it runs ever again, no `finally` either."""
        if self.alive:
            self.alive = False
            self.waiting.clear()
            for tell in self.on_death:
                tell()

    def pause(self) -> None:
        """As by SIGSTOP: timers run out and answers arrive meanwhile, and nothing happens."""
        self.paused = True

    def resume(self) -> None:
        """As by SIGCONT."""
        self.paused = False
        if self.waiting:
            self._loop.runnable(self)


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one schedule. `run` gives the result of a coroutine; `close` silently drops what is
    unfinished.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng
        self._now = 0.0
        self._runnable: list[Node] = []
        self._kept: list[tuple[asyncio.Task[Any], Node]] = []
        self.world = Node(self, "world")
        self.turns = 0
        self.set_task_factory(self._make_task)
        self._scheduled: list[asyncio.TimerHandle]

    def time(self) -> float:
        """Virtual seconds since the beginning."""
        return self._now

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run as the world, in which faults happen, until done."""
        return self.run_until_complete(self.world.spawn(coroutine))

    def close(self) -> None:
        """Close every unfinished coroutine; the effects of their `finally` blocks no longer
        matter.
        """
        for task, _ in self._kept:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                coroutine = task.get_coro()
                if coroutine is not None:
                    _close(coroutine)
            elif not task.cancelled():
                task.exception()  # seen, or it would be reported when the task is collected
        self._kept.clear()
        super().close()

    def unseen(self) -> list[BaseException]:
        """What tasks of living processes failed with that nobody has asked about."""
        failed = [
            task for task, node in self._kept if node.alive and task.done() and task._log_traceback
        ]  # type: ignore[attr-defined]
        return [error for task in failed if (error := task.exception()) is not None]

    def runnable(self, node: Node) -> None:
        """The node has something to run."""
        self._runnable.append(node)

    # --- what BaseEventLoop asks for ---

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Any, context: Context | None = None
    ) -> "asyncio.Task[Any]":
        # Kept until the end: collected earlier, the coroutines of a killed process would run their
        # `finally` blocks.
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, context=context)
        self._kept.append(
            (
                task,
                context.get(_owner, self.world) if context is not None else _owner.get(self.world),
            )
        )
        return task

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._queue(handle)
        return handle

    def _queue(self, handle: asyncio.Handle) -> None:
        node = handle._context.get(_owner, self.world)  # type: ignore[attr-defined]
        if node.alive:
            if not node.waiting and not node.paused:
                self._runnable.append(node)
            node.waiting.append(handle)

    def _run_once(self) -> None:
        if not self._runnable:
            self._jump()
        self._fire()
        nodes = self._runnable
        if not nodes:
            return
        index = int(self._rng.random() * len(nodes)) if len(nodes) > 1 else 0
        node = nodes[index]
        if node.paused or not node.waiting:  # stopped or killed since it was entered
            nodes[index] = nodes[-1]
            nodes.pop()
            return
        handle = node.waiting.popleft()
        if not node.waiting:
            nodes[index] = nodes[-1]
            nodes.pop()
        if not handle._cancelled:  # type: ignore[attr-defined]
            self.turns += 1
            handle._run()
            if node.fuse:
                node.fuse -= 1
                if not node.fuse:
                    node.kill()

    def _jump(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:  # type: ignore[attr-defined]
            self._drop()
        if self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())
        elif not self._stopping:  # type: ignore[attr-defined]
            raise RuntimeError("nothing will ever happen again")

    def _fire(self) -> None:
        while self._scheduled and (
            self._scheduled[0]._cancelled or self._scheduled[0].when() <= self._now
        ):  # type: ignore[attr-defined]
            handle = self._drop()
            if not handle._cancelled:  # type: ignore[attr-defined]
                self._queue(handle)

    def _drop(self) -> asyncio.TimerHandle:
        handle = heapq.heappop(self._scheduled)
        handle._scheduled = False
        if handle._cancelled:  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1
        return handle

    def _process_events(self, event_list: Any) -> None:
        raise RuntimeError("there is no real I/O here")

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """In place of a thread, whose timing is nobody's seed: one step of the process, later."""
        future = self.create_future()
        self.call_soon(_do, future, func, args)
        return future


def _do(future: "asyncio.Future[Any]", work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = work(*args)
    except Exception as error:  # noqa: BLE001 - whatever the work raises is the caller's
        _settle(future, error, None)
    else:
        _settle(future, None, result)


def _settle(future: "asyncio.Future[Any]", error: Exception | None, result: Any) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _close(coroutine: Any) -> None:
    """Close a coroutine, and first the unstarted coroutine that it awaits: Python warns about those
    that nobody awaited.
    """
    for given in inspect.getcoroutinelocals(coroutine).values():
        if inspect.iscoroutine(given) and inspect.getcoroutinestate(given) == inspect.CORO_CREATED:
            _close(given)
    with suppress(BaseException):
        coroutine.close()
