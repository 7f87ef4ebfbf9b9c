"""At its start a process asks what it needs whether it can be used, and goes on asking until it can: the log says why not, and when.

Without this a wrong password shows with the first request, or in the middle of what a task was about. Nothing waits for the answer: a
process serves what it can meanwhile.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

import structlog

log_line = structlog.get_logger(__name__)

PAUSE_SECONDS = 1.0
_LONGEST_REASON = 300

Check = Callable[[], Awaitable[str | None]]
"""What is wrong, or None. Raises what keeps it from finding out."""


@contextlib.asynccontextmanager
async def asking(services: Mapping[str, Sequence[Check]]) -> AsyncIterator[None]:
    """Meanwhile, ask each service (by its name) until it can be used."""
    tasks = [asyncio.create_task(_ask(name, checks)) for name, checks in services.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask(name: str, checks: Sequence[Check]) -> None:
    reported: str | None = None
    while (wrong := await _wrong(checks)) is not None:
        if wrong != reported:
            log_line.warning("cannot be used yet", service=name, reason=wrong)
        reported = wrong
        await asyncio.sleep(PAUSE_SECONDS)
    if reported is not None:
        log_line.info("can be used now", service=name)


async def _wrong(checks: Sequence[Check]) -> str | None:
    try:
        for check in checks:
            if (wrong := await check()) is not None:
                return wrong
    except Exception as error:  # noqa: BLE001 -- whatever it is: it is said, and asked again
        return reason(error)
    return None


def reason(error: BaseException) -> str:
    """What is behind an error, in one line: its innermost cause, as the server or the system put it. (Secrets are cut out by the log.)"""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
