"""Supervision of background tasks: a task that fails is logged, counted and run again; a task that
ends stops its process.

Otherwise a task with an unexpected error would end silently, and the process would continue without
it. A task handles the errors that it expects (such as an outage) itself; only what escapes it is a
failure.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import structlog

from tokenwire.config import logs
from tokenwire.config.metrics import TASK_FAILURES
from tokenwire.config.pauses import GrowingPause

log_line = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""The longest pause between a failure and the next run. It grows with each failure, and is short
again after the task has run for this long.
"""
LOG_SECONDS = 10.0
"""How often repeated failures of a task are logged; each line counts the failures in between."""
EXIT_TASK_ENDED = 70
"""Exit code of a process that has lost a task; its supervisor restarts it."""
EXIT_NOT_OPENED = 71
"""Exit code of a process that could not open what it needs; its supervisor restarts it."""

Work = Callable[[], Awaitable[None]]


async def supervise(
    name: str, work: Work, longest_pause_seconds: float = LONGEST_PAUSE_SECONDS
) -> None:
    """Run `work` until it returns, and again after each failure. `name` labels the metric: one per
    kind of task.

    Cancelling this task cancels `work`. A cancellation from elsewhere, such as a cancelled future
    inside `work`, is a failure.
    """
    loop = asyncio.get_running_loop()
    pause = GrowingPause(FIRST_PAUSE_SECONDS, longest_pause_seconds)
    while True:
        began = loop.time()
        try:
            await work()
        except asyncio.CancelledError as error:
            if _cancelled():
                raise
            _report.failure(name, error)
        except Exception as error:  # noqa: BLE001 -- whatever it is: counted and logged
            _report.failure(name, error)
        else:
            return
        pause.ran(loop.time() - began)
        await asyncio.sleep(pause.next())


def supervise_thread(name: str, work: Callable[[], None]) -> None:
    """`supervise` for a thread: run `work` until it returns, and again after each failure."""
    pause = GrowingPause(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
    while True:
        began = time.monotonic()
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- whatever it is: counted and logged
            _report.failure(name, error)
        else:
            return
        pause.ran(time.monotonic() - began)
        time.sleep(pause.next())


def failed(name: str, error: BaseException) -> None:
    """Count and log the failure of a task that is not run again, since its purpose ends with it."""
    _report.failure(name, error)


class Background:
    """The tasks that a process cannot do without. Belongs to one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._when_ended: list[Callable[[], None]] = []
        self.ended: str | None = None
        """Name of the task that ended by itself."""

    def start(self, name: str, work: Work) -> None:
        """Keep `work` running until `aclose`; `work` never returns."""
        task = asyncio.create_task(supervise(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call this once a task has ended by itself, to stop the process."""
        self._when_ended.append(call)

    async def aclose(self) -> None:
        """Cancel all tasks and wait for them."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        if task not in self._tasks or self.ended is not None:
            return
        self._tasks.discard(task)
        self.ended = task.get_name()
        error = None if task.cancelled() else task.exception()
        log_line.critical(
            "a task has ended, the process stops",
            task=self.ended,
            error=error and logs.name(error),
            cancelled=task.cancelled(),
        )
        for call in self._when_ended:
            call()


class _FailureReport:
    """Counts every failure and logs some: thousands of tasks may meet the same error at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def failure(self, name: str, error: BaseException) -> None:
        TASK_FAILURES.labels(name).inc()
        with self._lock:
            now = time.monotonic()
            if now - self._logged.get(name, -LOG_SECONDS) < LOG_SECONDS:
                self._silent[name] = self._silent.get(name, 0) + 1
                return
            self._logged[name] = now
            unlogged = self._silent.pop(name, 0)
        log_line.error(
            "a task failed", task=name, error=logs.name(error), unlogged=unlogged, exc_info=error
        )


_report = _FailureReport()


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
