"""The sweeper: which of several processes leads."""

import asyncio
from collections.abc import Callable
from typing import Any

from tests.integration.sweeper.rig import Rig
from tests.integration.worker_rig import NoJobs, services_over
from tokenwire.models.errors import StoreUnavailable
from tokenwire.worker.sweeper.sweeper import LEADERSHIP_SECONDS, STAND_BACK_SECONDS, Sweeper


class Election:
    """Who leads until when, as in the broker's script."""

    def __init__(self) -> None:
        self.leader, self.until = "", 0.0

    def lead(self, name: str, seconds: float) -> bool:
        now = asyncio.get_running_loop().time()
        if self.leader not in ("", name) and now < self.until:
            return False
        self.leader, self.until = name, now + seconds
        return True


class Candidate(NoJobs):
    """The jobs of a process that takes part in the election."""

    def __init__(self, election: Election) -> None:
        super().__init__()
        self.election = election

    async def lead(self, name: str, seconds: float) -> bool:
        return self.election.lead(name, seconds)


class CutOff:
    """A store that cannot reach its database."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*_arguments: object, **_options: object) -> None:
            raise StoreUnavailable(name)

        return call


async def test_a_leader_without_a_database_steps_down(rig: Rig) -> None:
    """It reaches Redis and would lead for ever, while a dead worker's answer waits for a process
    that can read rows.
    """
    await rig.die("", "Held ")
    election = Election()
    away: Any = CutOff()
    cut_off = Sweeper(services_over(away, rig.log, Candidate(election)))
    jobs = Candidate(election)
    running = [asyncio.create_task(cut_off.run())]
    try:
        async with asyncio.timeout(20):
            while election.leader != cut_off._name or not cut_off.holds_back:
                await asyncio.sleep(0.01)
        running.append(asyncio.create_task(Sweeper(services_over(rig.store, rig.log, jobs)).run()))
        async with asyncio.timeout(2 * LEADERSHIP_SECONDS + STAND_BACK_SECONDS):
            while not jobs.sent:
                await asyncio.sleep(0.01)
        assert jobs.sent == [(rig.row.id, None)]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_a_leader_returns_with_its_database(rig: Rig) -> None:
    """A single process must not step down for ever."""
    await rig.die("", "Held ")
    outstanding, failures = rig.store.outstanding, [StoreUnavailable("away")]

    async def away_once(*arguments: Any) -> set[str]:
        if failures:
            raise failures.pop()
        return await outstanding(*arguments)

    rig.store.outstanding = away_once  # type: ignore[method-assign]
    running = asyncio.create_task(rig.sweeper.run())
    try:
        async with asyncio.timeout(20):
            while not rig.jobs.sent:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
