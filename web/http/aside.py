"""Work that would block the event loop: done in one thread, one piece after another.

It competes with the loop for Python's lock, so it must consist of many short steps: a call into a C
library keeps the lock to its end. Small pieces are done at once, which is cheaper.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

SMALL_BYTES = 32 * 1024
_thread = ThreadPoolExecutor(1, "aside")


async def aside(size: int, work: Callable[[], T]) -> T:
    """Run `work` and return its result: here if its input is small, else in a thread. `size`: bytes
    of its input.
    """
    return work() if size <= SMALL_BYTES else await in_thread(work)


async def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread, and return its result."""
    return await asyncio.get_running_loop().run_in_executor(_thread, work)
