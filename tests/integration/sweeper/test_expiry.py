"""Calls that nobody decides about in time: the sweeper decides, and their answers go on."""

import asyncio

import pytest

from tests.contracts.calls import Asked, asked, call, waiting
from tests.integration.sweeper.rig import Rig
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.sweeper import sweeper

SHORT_MS = 50


async def over(answer: Asked) -> None:
    """Wait until the time for the first decision is over, by the database's clock."""
    ends = (await answer.calls())[0].expires_at or 0
    while await answer.store.now_ms() < ends:
        await asyncio.sleep(0.01)


async def test_a_waiting_answer_goes_on(rig: Rig) -> None:
    """Its job is sent once; a call that has time left stays, and so does another answer."""
    answer = await waiting(
        rig.store,
        call(0, "awaiting_approval", expires_in_ms=SHORT_MS),
        call(1, "awaiting_approval"),
    )
    other = await waiting(rig.store)
    await over(answer)
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    assert await answer.states() == ["denied", "awaiting_approval"]
    assert rig.jobs.sent == [(answer.id, None)]
    row = await answer.row()
    assert (row.status, row.calls_rev, row.enqueued_at is not None) == ("queued", 1, True)
    assert (await other.row()).status == "waiting"


async def test_a_running_answer_is_left_to_its_attempt(rig: Rig) -> None:
    """It reads the calls itself: it needs no job."""
    answer = await asked(rig.store, call(0, "awaiting_client", expires_in_ms=SHORT_MS))
    await over(answer)
    await rig.sweeper.sweep()
    assert await answer.states() == ["failed"]
    assert rig.jobs.sent == []
    assert ((await answer.row()).status, (await answer.row()).calls_rev) == ("streaming", 1)


async def test_without_redis_the_answer_is_found_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision stays, and the row says that it has no job."""
    answer = await waiting(rig.store, call(0, "awaiting_approval", expires_in_ms=SHORT_MS))
    await over(answer)
    send = rig.jobs.generate

    async def fail(_id: str, _delay_ms: int | None = None) -> None:
        raise JobsUnavailable("no Redis")

    monkeypatch.setattr(rig.jobs, "generate", fail)
    with pytest.raises(JobsUnavailable):
        await rig.sweeper.sweep()
    assert await answer.states() == ["denied"]
    monkeypatch.setattr(rig.jobs, "generate", send)
    await answer.set("messages", updated_at=await rig.store.now_ms() - 60_000)
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(answer.id, None)]


async def test_many_expire_in_pages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be decided hides no other."""
    monkeypatch.setattr(sweeper, "SWEEP_PAGE", 2)
    answers = [await waiting(rig.store) for _ in range(5)]
    now = await rig.store.now_ms()
    for ago, answer in enumerate(answers):
        await answer.set("calls", expires_at=now - ago)
    expire = rig.store.expire_calls

    async def expire_all_but_one(message_id: str) -> bool:
        if message_id == answers[-1].id:
            raise ValueError("a bad row")
        return await expire(message_id)

    monkeypatch.setattr(rig.store, "expire_calls", expire_all_but_one)
    await rig.sweeper.sweep()
    assert [(await answer.row()).status for answer in answers] == [*["queued"] * 4, "waiting"]
    assert {name for name, _ in rig.jobs.sent} == {answer.id for answer in answers[:4]}
