"""Logs are packed beside the work: a moment after the end, once, and whatever happens nobody is
hurt.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tokenwire.protocol.events import Cancelled, Chunk
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import LogUnavailable, Lost
from tokenwire.worker.packing import MAX_WAITING, Packing


class Noting(MemoryLog):
    """Notes what was to be packed; `trouble` is raised for these."""

    def __init__(self, trouble: dict[str, Exception] | None = None) -> None:
        super().__init__()
        self.packed: list[str] = []
        self.noted = asyncio.Event()
        self.meanwhile: Callable[[], None] = lambda: None
        """Happens while the next one is packed."""
        self._trouble = trouble or {}

    async def pack(self, conversation_id: str) -> int:
        self.packed.append(conversation_id)
        self.noted.set()
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        if conversation_id in self._trouble:
            raise self._trouble[conversation_id]
        return 0

    async def until(self, packed: list[str]) -> None:
        async with asyncio.timeout(20):
            while self.packed != packed:
                self.noted.clear()
                await self.noted.wait()


@asynccontextmanager
async def running(log: MemoryLog) -> AsyncIterator[Packing]:
    packing = Packing(log, pause_seconds=0.01)
    task = asyncio.create_task(packing.run())
    yield packing
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_ends_that_come_together_are_packed_once() -> None:
    """And the next end packs again."""
    log = Noting()
    async with running(log) as packing:
        for name in ("a", "b", "a"):
            packing.ended(name)
        await log.until(["a", "b"])
        packing.ended("a")
        await log.until(["a", "b", "a"])


async def test_whoever_ends_an_answer_here_has_its_log_packed() -> None:
    """A worker, a cancel in its place, an end that was made good: all of them give the terminal
    event.
    """
    log = Noting()
    async with running(log):
        claim = await log.claim("a", "m", 0, 30)
        await log.append(claim, 0, 0, [Chunk("m", 1, 0, "text", 0)])
        await log.append(claim, 1, 0, [Cancelled("m", 1, "reader", None, 4, 0, 0, 0)])
        await log.until(["a"])


async def test_what_ends_while_others_are_packed_is_packed_next() -> None:
    """It does not wait for yet another end."""
    log = Noting()
    async with running(log) as packing:
        log.meanwhile = lambda: packing.ended("b")
        packing.ended("a")
        await log.until(["a", "b"])


async def test_a_log_that_cannot_be_packed_keeps_no_other_from_it() -> None:
    """Redis is away, or somebody else packs: the next end packs it."""
    log = Noting({"a": LogUnavailable("away"), "b": Lost()})
    async with running(log) as packing:
        for name in ("a", "b", "c"):
            packing.ended(name)
        await log.until(["a", "b", "c"])


async def test_no_more_than_so_many_wait() -> None:
    """Beyond that they cost memory in Redis rather than here."""
    log = Noting()
    packing = Packing(log, pause_seconds=0.0)
    for number in range(MAX_WAITING + 5):
        packing.ended(str(number))
    task = asyncio.create_task(packing.run())
    async with asyncio.timeout(20):
        while len(log.packed) < MAX_WAITING:
            await asyncio.sleep(0)
    assert "10001" not in log.packed
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
