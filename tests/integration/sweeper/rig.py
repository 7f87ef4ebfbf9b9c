"""One answer that may be old, dead or due, and a sweeper, for the tests of this folder."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from sqlalchemy import text

from tests.integration.worker_rig import NoJobs, services_over
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.sweeper.sweeper import Sweeper

DONE = [base.Finish("stop", "stop")]
LONG_AGO = 60_000


class Rig:
    """One queued answer, and a sweeper."""

    def __init__(self, store: Store, row: Row) -> None:
        self.store, self.log, self.jobs, self.row = store, MemoryLog(), NoJobs(), row
        self.services: WorkerServices = services_over(store, self.log, self.jobs)
        self.sweeper = Sweeper(self.services)

    async def age(self, **values: object) -> None:
        """Make the row a minute old, with other columns as given."""
        columns = "".join(f", {name} = :{name}" for name in values)
        async with self.store.writing() as session:
            await session.execute(
                text(f"UPDATE messages SET updated_at = updated_at - {LONG_AGO}{columns}"), values
            )

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def expire(self) -> None:
        """The lease of a dead attempt runs out."""
        while await self.log.leased(self.row.conversation_id, self.row.id):
            await asyncio.sleep(0.02)

    async def die(self, content: str, appended: str = "") -> None:
        """An attempt that appended this much and was killed; its lease has expired."""
        row = await self.reread()
        claim = await self.log.claim(row.conversation_id, row.id, row.attempt, 0.0)
        assert await self.store.begin_attempt(row.id, claim.attempt, "m")
        if appended:
            await self.log.append(
                claim, 0, 0, [events.Chunk(row.id, claim.attempt, len(content), appended, 0)]
            )
        await self.age()


@contextlib.asynccontextmanager
async def sweeping(rig: Rig) -> AsyncIterator[None]:
    """The sweeper of a process, during the block."""
    running = asyncio.create_task(rig.sweeper.run())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(question: Callable[[], bool]) -> None:
    """Wait until the condition is true."""
    while not question():
        await asyncio.sleep(0.01)
