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
    return work() if size <= SMALL_BYTES else await in_thread(work)


async def in_thread(work: Callable[[], T]) -> T:
    """The same, of work that is not small whatever it works on."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
