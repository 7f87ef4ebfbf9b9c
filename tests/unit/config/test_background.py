"""config/background.py: a task that fails is restarted and its failure is reported. A task that
ends stops its process.
"""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import LogCapture

from tokenwire.config import background
from tokenwire.config.background import Background, supervise, supervise_thread
from tokenwire.config.metrics import TASK_FAILURES


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(background, "_report", background._FailureReport())


@pytest.fixture
def logged() -> Iterator[LogCapture]:
    """The log entries written during the test."""
    capture = LogCapture()
    structlog.configure(
        processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG)
    )
    background.log_line = structlog.get_logger("tests")
    yield capture
    structlog.reset_defaults()


def failures(name: str) -> float:
    """How many failures tasks of this name have had."""
    return TASK_FAILURES.labels(name)._value.get()


class Work:
    """Fails as many times as asked, then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    async def __call__(self) -> None:
        """One run of the task."""
        self.now()

    def now(self) -> None:
        """One run of the thread."""
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)


async def test_a_task_that_fails_is_run_again() -> None:
    """The kind of failure does not matter; each one is counted under the task's name."""
    before = failures("again")
    work = Work(ValueError("a hole"), KeyError("gone"), RuntimeError())
    await supervise("again", work)
    assert (work.runs, failures("again") - before) == (4, 3)


async def test_a_task_is_cancelled_by_its_owner_alone() -> None:
    """A cancelled future inside the task is a failure like any other: the task continues."""
    work = Work(asyncio.CancelledError())
    await supervise("stray", work)
    assert work.runs == 2


async def test_a_cancelled_task_ends() -> None:
    """Its work does not run again."""
    started = asyncio.Event()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(supervise("cancelled", work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert runs == 1


async def test_a_failure_is_logged_with_its_cause_and_not_a_thousand_times(
    logged: LogCapture,
) -> None:
    """The first failure is logged at once. The next line of that task comes later and counts the
    unlogged failures.
    """
    await supervise("noisy", Work(*(ValueError("a hole") for _ in range(1000))))
    await supervise("other", Work(ValueError("another")))
    assert [(line["task"], line["error"]) for line in logged.entries] == [
        ("noisy", "ValueError('a hole')"),
        ("other", "ValueError('another')"),
    ]
    background._report._logged["noisy"] -= background.LOG_SECONDS
    await supervise("noisy", Work(ValueError("a hole")))
    assert logged.entries[-1]["unlogged"] == 999
    background._report._logged["noisy"] -= background.LOG_SECONDS
    await supervise("noisy", Work(ValueError("a hole")))
    assert logged.entries[-1]["unlogged"] == 0  # the failures were logged


def test_a_thread_that_fails_goes_on() -> None:
    """Threads behave like tasks, without an event loop."""
    before = failures("thread")
    work = Work(ValueError("a hole"), OSError())
    supervise_thread("thread", work.now)
    assert (work.runs, failures("thread") - before) == (3, 2)


async def test_a_process_hears_of_a_task_that_ended() -> None:
    """Whether the task returned or was cancelled by mistake: the process stops and names the
    task.
    """
    tasks = Background()
    stop = asyncio.Event()
    tasks.when_ended(stop.set)
    tasks.start("returns", Work())
    await stop.wait()
    assert tasks.ended == "returns"
    await tasks.aclose()


async def test_a_task_that_somebody_cancels_has_ended() -> None:
    """A task that is cancelled from elsewhere does not restart; the process is notified."""
    tasks = Background()
    stop = asyncio.Event()
    tasks.when_ended(stop.set)
    tasks.start("cancelled", asyncio.Event().wait)  # type: ignore[arg-type]
    next(task for task in asyncio.all_tasks() if task.get_name() == "cancelled").cancel()
    await stop.wait()
    assert tasks.ended == "cancelled"


async def test_closing_ends_the_tasks_and_is_no_failure() -> None:
    """This is how a process shuts down."""
    tasks = Background()
    ended = asyncio.Event()
    tasks.when_ended(ended.set)
    tasks.start("waits", asyncio.Event().wait)  # type: ignore[arg-type]
    await asyncio.sleep(0)
    await tasks.aclose()
    assert tasks.ended is None
    assert not ended.is_set()
