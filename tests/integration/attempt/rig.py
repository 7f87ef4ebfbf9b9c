"""One answer and attempts at it, for the tests of this folder."""

import asyncio
from dataclasses import dataclass
from typing import Any

from tests.integration.worker_rig import LEASE_SECONDS, NoJobs, Script, Step, events_of, kinds
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.providers import base
from tokenwire.providers.spec import Rung
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Claim
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.run import Attempt
from tokenwire.worker.resume.continuation import Held
from tokenwire.worker.services import WorkerServices

DONE = [base.UsageDelta(3, 2), base.Finish("stop", "stop")]


@dataclass
class Rig:
    """A conversation with a queued answer, and everything that an attempt needs."""

    store: Store
    log: MemoryLog
    jobs: NoJobs
    services: WorkerServices
    row: Row

    async def attempt(self, *, held: Held | None = None, best_rung: Rung = "restart") -> Attempt:
        row = await self.reread()
        claim = await self.log.claim(row.conversation_id, row.id, row.attempt, LEASE_SECONDS)
        mine = await self.store.begin_attempt(row.id, claim.attempt, "m")
        assert mine is not None
        self.claim: Claim = claim
        return Attempt(
            self.services,
            mine,
            claim,
            Draft(held or Held(Answer(row.id)), claim.attempt),
            best_rung,
        )

    async def run(self, *steps: Step, **options: Any) -> Script:
        script = Script(steps)
        await (await self.attempt(**options)).run(
            script, base.Request([base.HistoryMessage("user", "hi")]), "m"
        )
        return script

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def said(self) -> None:
        """Wait until the log holds text."""
        while "Chunk" not in kinds(await self.events()):
            await asyncio.sleep(0)

    async def events(self) -> list[events.AnyEvent]:
        return await events_of(self.log, self.row)


@dataclass
class Clock:
    """The attempt's clock: it moves only when a test moves it, however slow the machine is."""

    now: float = 1000.0
