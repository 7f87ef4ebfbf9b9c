"""A hub over a log and pub/sub in memory, a reader of it, and helpers that wait."""

import asyncio
from collections.abc import Callable

from tests.waiting import PATIENCE_SECONDS
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Chunk, Reset
from tokenwire.streams.hub.hub import Hub, Tail
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import PAGE_BYTES, Claim, Limits, Page

LEASE = 60.0


class LossyPubSub(MemoryPubSub):
    """Loses, doubles or delays messages on request."""

    losing = 0
    doubling = 0

    def _flush(self) -> None:
        kept = []
        for message in self._arrived:
            if self.losing:
                self.losing -= 1
                continue
            kept.append(message)
            if self.doubling:
                self.doubling -= 1
                kept.append(message)
        self._arrived = kept
        super()._flush()


class CountingLog(MemoryLog):
    """Counts reads."""

    reads = 0

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        self.reads += 1
        await asyncio.sleep(0)  # as on a real network: other tasks run meanwhile
        page = await super().read(conversation_id, epoch, after, limit, max_bytes)
        await asyncio.sleep(0)
        return page


class Rig:
    """A log, a writer on it, pub/sub and a hub."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.log = CountingLog(limits)
        self.pubsub = LossyPubSub(self.log)
        self.hub = Hub(self.log, self.pubsub)
        self.claim = Claim("c", "m", "", 0)
        self.index = 0

    async def start(self) -> None:
        await self.hub.start()
        self.claim = await self.log.claim("c", "m", 0, LEASE)

    async def write(self, count: int = 1, content: str = "x") -> int:
        appended = await self.log.append(
            self.claim, self.index, 10**9, [Chunk("m", 1, 0, content, 0)] * count
        )
        self.index += 1
        return appended.last_seq

    async def new_epoch(self) -> None:
        self.log.restart(lose_data=True)
        page = await self.log.read("c", None, 0, 0)
        self.claim, _ = await self.log.adopt(
            self.claim, page.cursor, [Reset("m", 1, 0, 0, 0)], LEASE
        )
        self.index = 0

    async def fork(self) -> None:
        self.log.restart()
        self.claim = await self.log.rejoin(self.claim, self.index, LEASE)


class Reader:
    """Holds a cursor, takes from the ring, reads when it lags; starts over in a new epoch."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.epoch = tail.epoch
        self.first = self.cursor = tail.top
        self.seen: list[int] = []
        self.reading: asyncio.Task[None] | None = None
        self.stop = tail.listen(self.wake)

    def wake(self) -> None:
        if self.reading is not None:
            return
        if self.epoch != self.tail.epoch:
            self.epoch, self.first, self.cursor, self.seen = (
                self.tail.epoch,
                self.tail.top,
                self.tail.top,
                [],
            )
            return
        entries = self.tail.since(self.cursor)
        if entries is None:
            self.reading = asyncio.create_task(self.catch_up())
        else:
            self.take([entry.seq for entry in entries])

    async def catch_up(self) -> None:
        page = await self.tail.read(Cursor(self.epoch, self.cursor), 50, PAGE_BYTES)
        if page.epoch == self.epoch:
            self.take([entry.seq for entry in page.entries])
        self.reading = None
        if self.cursor < self.tail.top or self.epoch != self.tail.epoch:
            self.wake()

    def take(self, seqs: list[int]) -> None:
        self.seen += seqs
        self.cursor = self.seen[-1] if self.seen else self.cursor


async def turn(times: int = 12) -> None:
    """Run everything that is ready."""
    for _ in range(times):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until the condition is true. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0)
