"""An answer that kills its worker on each attempt, beside silently thinking answers: it ends, and
they do not.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tests.integration.sweeper.rig import DONE
from tests.integration.worker_rig import NoJobs, Script, Step, runner_over, services_over
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.states import UNFINISHED
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import runner as module
from tokenwire.worker.deaths import MAX_DEATHS
from tokenwire.worker.probation import PROBATION_SECONDS, SUSPECT_DEATHS
from tokenwire.worker.retries import PROGRESS_CHARS
from tokenwire.worker.runner import Runner

SILENT = 20
DEADLY = "deadly"


class Thinker(Script):
    """Silent until `spoken`, then sends `said`. A deadly request kills the process."""

    def __init__(self) -> None:
        super().__init__([])
        self.spoken, self.killed = asyncio.Event(), asyncio.Event()
        self.said: list[Step] = [DONE]
        self.thinking = 0

    @asynccontextmanager
    async def stream(self, request: base.Request) -> AsyncIterator[Script]:
        deadly = DEADLY in str(request.messages)
        async with Script([self._kill] if deadly else [self._think, *self.said]).stream(
            request
        ) as stream:
            yield stream

    async def _kill(self) -> None:
        self.killed.set()
        await asyncio.Event().wait()

    async def _think(self) -> None:
        self.thinking += 1
        try:
            await self.spoken.wait()
        finally:
            self.thinking -= 1


class World:
    """One process after another on one database, with a sweeper that enqueues each answer in any
    order.
    """

    def __init__(self, store: Store) -> None:
        self.store, self.log, self.provider = store, MemoryLog(), Thinker()
        self.services = services_over(store, self.log, NoJobs())
        self.told: list[object] = []
        object.__setattr__(
            self.services,
            "notify_operators",
            lambda _error, facts: self.told.append(facts["message_id"]),
        )
        self.jobs: dict[str, asyncio.Task[None]] = {}
        self.random = random.Random(6)
        self.runner: Runner = runner_over(self.services, self.provider)

    async def post(self, text: str) -> str:
        conversation = await self.store.create_conversation("me", title="t")
        return (await self.store.post(Post(conversation.id, "me", text, "m"))).assistant_message.id

    async def row(self, message_id: str) -> Row:
        row = await self.store.message(message_id)
        assert row is not None
        return row

    async def deaths(self, message_id: str, deaths: int) -> None:
        """Set the number of workers that died over a queued answer."""
        attempt = (await self.row(message_id)).attempt
        await self.store.note_attempt(message_id, attempt, deaths, 0)

    async def unfinished(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if (await self.row(name)).status in UNFINISHED]

    async def leaves_probation(self, name: str) -> None:
        await until(lambda: not self.runner._probation.holds(name))

    def bring(self, names: Sequence[str]) -> None:
        """A job for each answer that has none here."""
        for name in self.random.sample(names, len(names)):
            if name not in self.jobs or self.jobs[name].done():
                self.jobs[name] = asyncio.create_task(self.runner.generate(name))

    async def settled(self) -> None:
        """Every job is over or thinking; or the process is to be killed."""
        async with asyncio.timeout(60):
            while (
                not self.provider.killed.is_set()
                and sum(not job.done() for job in self.jobs.values()) > self.provider.thinking
            ):
                await asyncio.sleep(0.005)

    async def kill(self) -> None:
        """The process does nothing any more; another one begins."""
        for job in self.jobs.values():
            job.cancel()
        await asyncio.gather(*self.jobs.values(), return_exceptions=True)
        self.jobs.clear()
        self.provider.killed.clear()
        self.runner = runner_over(self.services, self.provider)


class Clock:
    """Stands still unless it is moved."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "clock", clock)
    monkeypatch.setattr(module, "PROBATION_CHECK_SECONDS", 0.005)
    return clock


@pytest.fixture
async def world(sqlite_store: Store, clock: Clock) -> AsyncIterator[World]:
    made = World(sqlite_store)
    yield made
    await made.kill()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_deadly_answer_ends_alone(world: World, clock: Clock) -> None:
    """After the usual number of deaths; all thinking answers continue and complete."""
    deadly = await world.post(DEADLY)
    silent = [await world.post("think") for _ in range(SILENT)]
    killed = 0
    while deadly in (names := await world.unfinished([deadly, *silent])):
        assert set(silent) < set(names), "a healthy answer was ended"
        world.bring(names)
        await world.settled()
        if world.provider.killed.is_set():
            killed += 1
            assert killed <= MAX_DEATHS
            await world.kill()
        else:
            on = world.runner._probation._taken_by
            clock.now += PROBATION_SECONDS
            if on is not None:
                await world.leaves_probation(on)
    ended = await world.row(deadly)
    assert ended.error is not None
    assert (killed, ended.status, ended.error["code"], world.told) == (
        MAX_DEATHS,
        "error",
        "internal_error",
        [deadly],
    )
    while world.provider.thinking < SILENT:
        world.bring(silent)
        await world.settled()
        clock.now += PROBATION_SECONDS
        await asyncio.sleep(0.02)
    assert max([(await world.row(name)).deaths for name in silent]) <= SUSPECT_DEATHS + 1
    world.provider.spoken.set()
    await asyncio.gather(*(world.jobs[name] for name in silent))
    assert {(await world.row(name)).status for name in silent} == {"complete"}


async def two_suspects(world: World) -> tuple[str, str]:
    """The first of them is on probation; the job of the second is over."""
    first, second = [await world.post("think") for _ in range(2)]
    for name in (first, second):
        await world.deaths(name, SUSPECT_DEATHS)
    world.bring([first])
    await until(lambda: world.provider.thinking == 1)
    await asyncio.wait_for(world.runner.generate(second), 20)
    return first, second


async def test_a_waiting_suspect_holds_nothing(world: World) -> None:
    """No thread, lease or attempt: a cancel ends it at once, and a stopping process need not wait
    for it.
    """
    _, second = await two_suspects(world)
    row = await world.row(second)
    assert (row.status, row.attempt, row.deaths) == ("queued", 0, SUSPECT_DEATHS)
    assert not await world.log.leased(row.conversation_id, second)
    assert world.runner._running._jobs == 1
    assert not await module.closing.cancel(
        world.store, world.log, world.services.jobs, second, "me"
    )
    assert (await world.row(second)).status == "cancelled"


async def test_a_suspect_runs_when_the_other_has_ended(world: World) -> None:
    """In any state."""
    first, second = await two_suspects(world)
    world.provider.spoken.set()
    await world.jobs[first]
    await world.runner.generate(second)
    assert [(await world.row(name)).status for name in (first, second)] == ["complete", "complete"]


async def test_a_suspect_runs_when_the_other_has_progress(world: World, clock: Clock) -> None:
    """Without proof: dropped text was no progress."""
    first, second = await two_suspects(world)

    more = asyncio.Event()

    async def hold() -> None:
        await more.wait()

    world.provider.said = [
        [base.TextDelta("x" * (PROGRESS_CHARS - 1))],
        hold,
        [base.TextDelta("x")],
        hold,
        DONE,
    ]
    await world.kill()
    world.bring([first])
    await until(lambda: world.provider.thinking == 1)
    world.provider.spoken.set()
    clock.now += PROBATION_SECONDS - 0.1
    await asyncio.wait_for(world.runner.generate(second), 20)
    assert (await world.row(second)).status == "queued"
    more.set()
    await asyncio.gather(*world.jobs.values())
    await world.runner.generate(second)
    assert {(await world.row(name)).status for name in (first, second)} == {"complete"}
