"""The checks at a process's start: each service is checked until it works, and the log says why it
does not, and when it does.

Otherwise a wrong password shows with the first request, or in the middle of a task. Nothing waits
for the result: a process serves what it can meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import structlog

log_line = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
_LONGEST_REASON = 300

Check = Callable[[], Awaitable[str | None]]
"""Returns the problem, or None. Raises if that is unknown."""


@contextlib.asynccontextmanager
async def asking(services: Mapping[str, Sequence[Check]]) -> AsyncIterator[None]:
    """During the block, check each service (by its name) until it works."""
    tasks = [
        asyncio.create_task(_check_until_well(name, checks)) for name, checks in services.items()
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _check_until_well(name: str, checks: Sequence[Check]) -> None:
    reported: str | None = None
    while (wrong := await _first_problem(checks)) is not None:
        if wrong != reported:
            log_line.warning("cannot be used yet", service=name, reason=wrong)
        reported = wrong
        await asyncio.sleep(PAUSE_SECONDS)
    if reported is not None:
        log_line.info("can be used now", service=name)


async def _first_problem(checks: Sequence[Check]) -> str | None:
    try:
        for check in checks:
            if (wrong := await check()) is not None:
                return wrong
    except Exception as error:  # noqa: BLE001 -- any error is logged, and the check repeated
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """The cause of an error in one line: its innermost cause in the server's or system's words.
    (The log removes secrets.)
    """
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
