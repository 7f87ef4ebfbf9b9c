"""How tests wait: for what they look at, never for a time."""

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 20.0
"""Far more than anything takes, also on a busy machine."""


async def until(condition: Callable[[], object]) -> None:
    """Returns as soon as `condition` holds. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)
