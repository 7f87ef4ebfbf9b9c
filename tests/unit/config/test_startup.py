"""config/startup.py: a reason for waiting is logged in one line whenever it changes; so is its
end.
"""

import asyncio
import itertools
import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import LogCapture

from tokenwire.config import startup
from tokenwire.config.startup import asking, reason


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[LogCapture]:
    """The log entries, without pauses between checks."""
    monkeypatch.setattr(startup, "PAUSE_SECONDS", 0.0)
    capture = LogCapture()
    structlog.configure(
        processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG)
    )
    monkeypatch.setattr(startup, "log_line", structlog.get_logger("tests"))
    yield capture
    structlog.reset_defaults()


class Service:
    """Gives these reasons, one for each check, then reports that all is well."""

    def __init__(self, *says: str | Exception) -> None:
        self._says = list(says)
        self.well = asyncio.Event()

    async def check(self) -> str | None:
        if not self._says:
            self.well.set()
            return None
        said = self._says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


async def lines(logged: LogCapture, service: Service) -> list[tuple[str, str | None]]:
    """Levels and reasons that are logged until the service is ready."""

    async def well() -> None:
        return None

    async with asking({"database": (well, service.check)}), asyncio.timeout(20):
        await service.well.wait()
        await asyncio.sleep(0)
    assert {entry["service"] for entry in logged.entries} <= {"database"}
    return [(entry["log_level"], entry.get("reason")) for entry in logged.entries]


async def test_a_service_that_works_is_not_logged(logged: LogCapture) -> None:
    """A start without trouble writes no line."""
    assert await lines(logged, Service()) == []


async def test_each_reason_and_its_end_are_logged_once(logged: LogCapture) -> None:
    """However often the service is checked, and whatever the check raises."""
    service = Service(
        "at revision None",
        "at revision None",
        ValueError("a bug"),
        ValueError("a bug"),
        "at revision None",
    )
    said = [
        ("warning", "at revision None"),
        ("warning", "a bug"),
        ("warning", "at revision None"),
        ("info", None),
    ]
    assert await lines(logged, service) == said


async def test_it_ends_with_the_process(logged: LogCapture) -> None:
    """A check that never succeeds does not delay the end of the process."""
    service = Service(*["away"] * 1_000_000)
    async with asyncio.timeout(20), asking({"database": (service.check,)}):
        while not logged.entries:
            await asyncio.sleep(0)
    asked = len(service._says)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(service._says) == asked


def test_the_innermost_cause_is_logged() -> None:
    """In one line. A cancellation on the way is not the cause."""

    def raised(*errors: BaseException) -> BaseException:
        for outer, inner in itertools.pairwise(errors):
            outer.__cause__ = inner
        return errors[0]

    assert (
        reason(
            raised(RuntimeError("away"), OSError("several"), ValueError("FATAL:  no\n  such user"))
        )
        == "FATAL: no such user"
    )
    assert (
        reason(raised(RuntimeError("away"), TimeoutError(), asyncio.CancelledError()))
        == "TimeoutError"
    )
    assert len(reason(ValueError("x" * 1000))) == 300
