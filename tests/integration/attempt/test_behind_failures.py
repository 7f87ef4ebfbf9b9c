"""What waits behind an answer that ends badly, on both databases: the next answer starts, and gets
each message once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.databases import sql
from tests.integration.attempt.test_calls import Turns, calls, says
from tests.integration.attempt.test_steering import Steered, sent
from tokenwire.models.conversations import Policy
from tokenwire.models.errors import StatementFailed
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import AuthenticationFailed
from tokenwire.tools import tool
from tokenwire.worker import closing
from tokenwire.worker.attempt.steering import TakingIn
from tokenwire.worker.deaths import MAX_DEATHS, MAX_FAILED_STARTS
from tokenwire.worker.retries import WorkersDied

Ends = Callable[[Steered, Row, pytest.MonkeyPatch], Awaitable[None]]
WORKS = calls(("work", "{}"))


@pytest.fixture
async def world(store: Store) -> AsyncIterator[Steered]:
    world = Steered(store)

    @tool
    async def work() -> str:
        """Work."""
        return "worked"

    world.offers(work)
    yield world
    for box in world.boxes:
        await box.aclose()


async def dies(world: Steered, row: Row, patch: pytest.MonkeyPatch) -> None:
    """The worker dies behind the round, before it has read what steers."""

    async def dead(_: TakingIn) -> None:
        raise asyncio.CancelledError

    with patch.context() as dying:
        dying.setattr(TakingIn, "waiting", dead)
        job = asyncio.create_task(world.runner(Turns(WORKS)).generate(row.id))
        await asyncio.gather(job, return_exceptions=True)
    await asyncio.sleep(0.3)  # its lease expires


async def change(world: Steered, what: str) -> None:
    async with world.store.writing() as session:
        await session.execute(sql(f"UPDATE messages SET {what}"))


async def deaths(world: Steered, row: Row, patch: pytest.MonkeyPatch) -> None:
    """Worker after worker died over the answer."""
    await dies(world, row, patch)
    await change(world, f"deaths = {MAX_DEATHS} WHERE status = 'streaming'")
    with pytest.raises(WorkersDied):
        await world.runs(Turns(WORKS), row)


async def bug(world: Steered, row: Row, patch: pytest.MonkeyPatch) -> None:
    """Each attempt meets a bug behind the round."""

    async def broken(_: TakingIn) -> None:
        raise RuntimeError("a bug")

    with patch.context() as found:
        found.setattr(TakingIn, "waiting", broken)
        while (await world.row(row)).status not in ("complete", "error"):
            job = world.runner(Turns(WORKS)).generate(row.id)
            await asyncio.gather(job, return_exceptions=True)
            await change(world, "due_at = 0 WHERE due_at > 0")


async def unread(world: Steered, row: Row, patch: pytest.MonkeyPatch) -> None:
    """The database cannot read the row any more: it ends without being read."""
    await dies(world, row, patch)
    read = world.store.message

    async def damaged(message_id: str) -> Row | None:
        if message_id == row.id:
            raise StatementFailed("a damaged row")
        return await read(message_id)

    with patch.context() as damage:
        damage.setattr(world.store, "message", damaged)
        for _ in range(MAX_FAILED_STARTS + 1):
            job = world.runner(Turns(WORKS)).generate(row.id)
            await asyncio.gather(job, return_exceptions=True)


async def cancel(world: Steered, row: Row, patch: pytest.MonkeyPatch) -> None:
    """A person stops the answer, whose worker died."""
    await dies(world, row, patch)
    await closing.cancel(world.store, world.log, world.jobs, row.id, "me")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("policy", ["queue", "steer"])
@pytest.mark.parametrize("ends", [deaths, bug, unread, cancel])
async def test_the_next_answer_starts(
    world: Steered, monkeypatch: pytest.MonkeyPatch, ends: Ends, policy: Policy
) -> None:
    """No step has brought the message: it is answered next, and its job is enqueued."""
    row = await world.posts()
    posted = await world.posts_again(row, "And?", policy)
    await ends(world, row, monkeypatch)
    ended, own = await world.row(row), posted.assistant_message
    assert ended.status == ("cancelled" if ends is cancel else "error")
    assert ended.error is None or ended.error["code"] == "internal_error"
    assert own.id in [name for name, _ in world.jobs.sent]
    provider = Turns(says("Here."))
    assert (await world.runs(provider, own)).content == "Here."
    users = [text for role, text in sent(provider.asked[0]) if role == "user"]
    assert users == ["hi", "And?"]
    assert (await world.row(posted.user_message)).steers is None


async def test_behind_the_step_the_message_belongs_to_the_answer_that_failed(
    world: Steered,
) -> None:
    """What stands behind it in line starts."""
    row = await world.posts()
    steering = await world.posts_again(row, "In French")
    queued = await world.posts_again(row, "And?", "queue")
    turns: Any = [WORKS, AuthenticationFailed("no key")]
    row = await world.runs(Turns(*turns), row)
    assert (row.error or {})["code"] == "authentication_failed"
    assert await world.step_ids(row) == [[steering.user_message.id]]
    assert (await world.row(steering.assistant_message)).cancel_by == "steered"
    assert queued.assistant_message.id in [name for name, _ in world.jobs.sent]
    provider = Turns(says("Here."))
    await world.runs(provider, queued.assistant_message)
    users = [text for role, text in sent(provider.asked[0]) if role == "user"]
    assert users == ["hi", "In French", "And?"]
