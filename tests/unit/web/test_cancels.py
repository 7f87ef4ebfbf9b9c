"""web.cancels: a cancelled answer ends, whatever its worker does."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.web.conftest import MakeApp, RecordedJobs
from tokenwire.config.metrics import TASK_FAILURES
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import HEARD_SECONDS, CancelPending, Claim, Fenced
from tokenwire.web import cancels as module
from tokenwire.web.cancels import Cancels

LEASE_SECONDS = 30.0


class Clock:
    """Time that passes only while the follow-up sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.runs = asyncio.Event()
        self.runs.set()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await self.runs.wait()
        self.slept.append(seconds)
        self.now += seconds


class Rig:
    """One answer that a worker has claimed."""

    def __init__(self, store: Store, row: Message, clock: Clock) -> None:
        self.store, self.row, self.clock = store, row, clock
        self.log, self.jobs = MemoryLog(clock=clock), RecordedJobs()
        # The recorder stands in.
        self.cancels = Cancels(store, self.log, self.jobs)  # type: ignore[arg-type]

    async def work(self) -> Claim:
        claim = await self.log.claim(self.row.conversation_id, self.row.id, 0, LEASE_SECONDS)
        assert await self.store.begin_attempt(self.row.id, claim.attempt, "demo")
        await self.log.append(claim, 0, 0, [events.Chunk(self.row.id, claim.attempt, 0, "Seen", 0)])
        return claim

    async def reread(self) -> Message:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def followed(self) -> None:
        """Returns when nothing is followed up any more."""
        while self.cancels._followed:
            await asyncio.wait(set(self.cancels._followed.values()))

    async def last(self) -> events.AnyEvent | None:
        page = await self.log.read(self.row.conversation_id, None, 0, 100)
        return events.decode(page.entries[-1].data)[1]


@pytest.fixture
async def rig(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    conversation = await store.create_conversation("me")
    row = (await store.post(Post(conversation.id, "me", "hi", "demo"))).assistant_message
    clock = Clock()
    monkeypatch.setattr(module, "_sleep", clock.sleep)
    made = Rig(store, row, clock)
    yield made
    await made.cancels.aclose()


async def test_a_frozen_worker_does_not_delay_the_end(rig: Rig) -> None:
    """The answer ends within a second of the cancel with the text that readers saw. The worker
    changes nothing when it wakes up.
    """
    frozen = await rig.work()
    await rig.cancels.cancel(rig.row.id, "me")
    assert (await rig.reread()).status == "streaming"
    await rig.followed()
    row = await rig.reread()
    assert (row.status, row.content, row.cancel_by) == ("cancelled", "Seen", "me")
    assert isinstance(await rig.last(), events.Cancelled)
    assert sum(rig.clock.slept) < 1.0
    with pytest.raises(Fenced):
        await rig.log.append(frozen, 1, 0, [events.Chunk(rig.row.id, frozen.attempt, 4, "late", 0)])


async def test_a_worker_that_freezes_after_the_notice(rig: Rig) -> None:
    """It gets a little more time. Readers still have the end within a second of the cancel."""
    claim = await rig.work()
    await rig.cancels.cancel(rig.row.id, "me")
    with pytest.raises(CancelPending):
        await rig.log.append(claim, 1, 0, [events.Chunk(rig.row.id, claim.attempt, 4, "more", 0)])
    await rig.followed()
    assert (await rig.reread()).status == "cancelled"
    assert (
        HEARD_SECONDS < sum(rig.clock.slept) < 0.8
    )  # the rest of the second is for ending the answer


async def test_an_answer_that_no_worker_has_needs_no_follow_up(rig: Rig) -> None:
    """It ends within the request."""
    await rig.cancels.cancel(rig.row.id, "me")
    assert ((await rig.reread()).status, rig.clock.slept) == ("cancelled", [])


async def test_a_conversation_is_cancelled_from_its_end(rig: Rig) -> None:
    """Or the end of the first answer would start the second."""
    again = Post(rig.row.conversation_id, "me", "and", "demo")
    waiting = (await rig.store.post(again)).assistant_message
    cancelled = await rig.cancels.cancel_all(rig.row.conversation_id, "me")
    assert cancelled == [rig.row.id, waiting.id]
    rows = [await rig.store.message(message_id) for message_id in cancelled]
    assert [row and row.status for row in rows] == ["cancelled", "cancelled"]
    assert waiting.id not in rig.jobs.enqueued


async def test_a_worker_that_freezes_between_commit_and_event(rig: Rig) -> None:
    """What it stored stands, and this process announces it."""
    claim = await rig.work()
    await rig.cancels.cancel(rig.row.id, "me")
    ending = Ending(rig.row.id, claim.attempt, "complete", "Seen", "", claim.epoch, 1, "stop")
    assert await rig.store.finish(ending)
    await rig.followed()
    assert (await rig.reread()).terminal_announced
    assert isinstance(await rig.last(), events.Complete)
    assert sum(rig.clock.slept) < 1.0


async def test_one_answer_is_followed_up_once(rig: Rig) -> None:
    """However often its cancel is requested."""
    await rig.work()
    rig.clock.runs.clear()
    for _ in range(5):
        await rig.cancels.cancel(rig.row.id, "me")
    rig.clock.runs.set()
    await rig.followed()
    assert rig.clock.slept == [module.PAUSES_SECONDS[0]]


async def test_the_number_of_follow_ups_is_limited(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper follows up the others."""
    monkeypatch.setattr(module, "MAX_FOLLOWED", 0)
    await rig.work()
    await rig.cancels.cancel(rig.row.id, "me")
    await rig.followed()
    assert rig.clock.slept == []
    assert (await rig.reread()).cancel_by == "me"


async def test_a_follow_up_that_fails_is_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweeper takes over."""
    before = TASK_FAILURES.labels("cancel")._value.get()
    await rig.work()
    await rig.cancels.cancel(rig.row.id, "me")

    async def broken(*_arguments: object) -> bool:
        raise ValueError("a bug")

    monkeypatch.setattr(module.closing, "cancel", broken)
    await rig.followed()
    assert TASK_FAILURES.labels("cancel")._value.get() == before + 1


async def test_an_answer_that_ends_here_is_packed(
    make_app: MakeApp, store: Store, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No worker sees its end, so this process packs its log."""
    packed: asyncio.Queue[str] = asyncio.Queue()

    async def pack(conversation_id: str) -> int:
        await packed.put(conversation_id)
        return 0

    monkeypatch.setattr(log, "pack", pack)
    conversation = await store.create_conversation("local")
    row = (await store.post(Post(conversation.id, "local", "hi", "demo"))).assistant_message
    app = make_app()
    async with app.router.lifespan_context(app), asyncio.timeout(10):
        await app.state.services.cancels.cancel(row.id, "local")
        assert await packed.get() == conversation.id
