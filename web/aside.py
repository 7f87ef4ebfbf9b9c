"""Work that would keep the event loop from everybody else: done in one thread, one piece after the other.

It competes with the loop for Python's lock, so what is done there must be many short steps: a call into a library of C's keeps the lock to
its end. Small pieces are done at once, which costs less than handing them over.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

SMALL_BYTES = 32 * 1024
_thread = ThreadPoolExecutor(1, "aside")


async def aside(size: int, work: Callable[[], T]) -> T:
    """What `work` gives, or raises. `size`: bytes of what it works on."""
    if size <= SMALL_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
