"""How tests wait: for a condition, never for a time."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 20.0
"""Far more than anything takes, even on a busy machine."""


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
