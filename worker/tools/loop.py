"""The event loop of tools, in a daemon thread of its own.

Guarantees: nothing that an async tool does ends the loop (`sys.exit` in a task, `loop.stop()`). If
a tool blocks it, other async tools wait, attempts do not, and a warning names the tools that ran.
What tools have opened on it is closed on it (`at_end`).
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from weakref import WeakKeyDictionary

import structlog

log_line = structlog.get_logger(__name__)

BEAT_SECONDS = 0.25
BLOCKED_SECONDS = 1.0
"""From this time on, a blocked loop is reported."""
CLOSE_SECONDS = 1.0
"""The longest wait for tools that are cancelled at the end."""

_at_end: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Callable[[], Awaitable[None]]]] = (
    WeakKeyDictionary()
)


def at_end(close: Callable[[], Awaitable[None]]) -> None:
    """Await this on the running loop of tools when it ends, behind its tools."""
    _at_end[asyncio.get_running_loop()].append(close)


class ToolLoop:
    """Runs the coroutines of tools."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        _at_end[self._loop] = []
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._beat_at: float | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="tools", daemon=True)
        self._thread.start()

    def start(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        """Run this work for the tool `name`; the function that cancels it. From any thread."""
        started: list[asyncio.Task[None]] = []

        def begin() -> None:
            task = self._loop.create_task(work())
            started.append(task)
            self._tasks[task] = name
            task.add_done_callback(lambda ended: self._tasks.pop(ended))
            if self._beat_at is None:
                self._beat()

        self._call(begin)
        return lambda: self._call(lambda: [task.cancel() for task in started])

    def warn_if_blocked(self) -> None:
        """Log which tools run if the loop stands still now. From any thread."""
        if (beat_at := self._beat_at) is not None:
            self._warn(time.monotonic() - beat_at)

    def close(self) -> None:
        """Cancel all tools and end the loop; a tool that blocks it is left alone."""
        self._closing = True
        self._call(lambda: [task.cancel() for task in self._tasks])
        self._call(lambda: self._loop.create_task(self._end()))
        self._thread.join(2 * CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                while self._tasks:
                    await asyncio.sleep(BEAT_SECONDS / 10)
                for close in _at_end[self._loop]:
                    await close()
        except TimeoutError:
            log_line.warning("tools did not end in time", tools=self._running())
        finally:
            self._loop.stop()

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # closed
            self._loop.call_soon_threadsafe(function)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while True:
            try:
                self._loop.run_forever()
            except BaseException:  # such as SystemExit in a task that a tool has started
                log_line.exception("a tool tried to end its loop")
            else:
                if self._closing:
                    return
                log_line.warning("a tool stopped its loop", tools=self._running())

    def _beat(self) -> None:
        now = time.monotonic()
        if self._beat_at is not None:
            self._warn(now - self._beat_at)
        self._beat_at = now if self._tasks else None
        if self._tasks:
            self._loop.call_later(BEAT_SECONDS, self._beat)

    def _warn(self, since: float) -> None:
        if since - BEAT_SECONDS > BLOCKED_SECONDS:
            log_line.warning(
                "an async tool blocks the loop of tools: others wait",
                tools=self._running(),
                seconds=round(since, 1),
            )

    def _running(self) -> list[str]:
        return sorted(set(self._tasks.values()))
