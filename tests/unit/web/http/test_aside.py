"""web.http.aside: large work runs in one thread while the loop goes on."""

import asyncio
import threading

import pytest

from tokenwire.web.http.aside import SMALL_BYTES, aside


async def test_large_work_leaves_the_loop_free() -> None:
    """Large work waits its turn: more threads would only share the processor."""
    first, second, free = threading.Event(), threading.Event(), threading.Event()

    def wait(begun: threading.Event) -> str:
        begun.set()
        assert free.wait(20)
        return threading.current_thread().name

    tasks = [
        asyncio.create_task(aside(SMALL_BYTES + 1, lambda begun=begun: wait(begun)))
        for begun in (first, second)
    ]  # type: ignore[misc]
    async with asyncio.timeout(20):
        while not first.is_set():
            await asyncio.sleep(0.001)
    assert not second.is_set()
    free.set()
    names = await asyncio.gather(*tasks)
    assert second.is_set()
    assert threading.current_thread().name not in names
    assert len(set(names)) == 1


async def test_small_work_is_done_at_once() -> None:
    """A thread would cost more."""
    assert await aside(SMALL_BYTES, threading.current_thread) is threading.current_thread()


@pytest.mark.parametrize("size", [0, SMALL_BYTES + 1])
async def test_failures_are_raised_unchanged(size: int) -> None:
    """Exceptions keep their type."""
    with pytest.raises(ZeroDivisionError):
        await aside(size, lambda: 1 // 0)
