"""Waits for the end of an outage, so that running work survives it.

The text is safe in the log and in memory, and the database and Redis come back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from tokenwire.models.errors import StoreUnavailable
from tokenwire.streams.log import ports
from tokenwire.worker.enqueue import JobsUnavailable

log_line = structlog.get_logger(__name__)
T = TypeVar("T")
OUTAGE_PAUSE_SECONDS = 0.5


async def outlast(message_id: str, call: Callable[[], Awaitable[T]]) -> T:
    """Repeat the call until the database or Redis answers, and return its result."""
    while True:
        try:
            return await call()
        except (StoreUnavailable, ports.LogUnavailable, JobsUnavailable) as error:
            log_line.warning("waiting for a service", message_id=message_id, error=repr(error))
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
