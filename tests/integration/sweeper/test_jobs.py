"""The sweeper and the runner: jobs that are lost, too early or repeated, and a process that
drains.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from tests.integration.sweeper.rig import DONE, LONG_AGO, Rig
from tests.integration.worker_rig import Script, runner_over
from tokenwire.models.conversations import Post
from tokenwire.providers import base
from tokenwire.streams.log.ports import Page
from tokenwire.worker.sweeper.sweeper import SWEEP_PAGE
from tokenwire.worker.sweeper.sweeps import LOST_JOB_MS


async def test_a_row_without_a_job(rig: Rig) -> None:
    """The web process died after the commit: the job is sent once."""
    await rig.age()
    await rig.sweeper.sweep()
    await rig.age(
        enqueued_at=await rig.store.now_ms() + 3_000
    )  # just now, however long the next query takes
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_a_waiting_job_is_left_alone(rig: Rig) -> None:
    """A busy system has not lost it."""
    await rig.age()
    row = await rig.reread()
    rig.jobs.known[row.id] = row.created_at
    await rig.sweeper.sweep()
    assert rig.jobs.sent == []


async def test_answers_of_a_conversation_run_one_at_a_time(rig: Rig) -> None:
    """An early job is dropped: the end of the answer before it enqueues another."""
    behind = (
        await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))
    ).assistant_message
    script = Script([[base.TextDelta("too early"), *DONE]])
    await runner_over(rig.services, script).generate(behind.id)
    row = await rig.store.message(behind.id)
    assert row is not None
    assert (row.status, row.attempt, script.asked) == ("queued", 0, [])


async def test_a_retry_does_not_run_before_it_is_due(rig: Rig) -> None:
    """The job is enqueued again for the rest of the time."""
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    assert await rig.store.schedule_retry(rig.row.id, 1, 60_000, 1, 0)
    script = Script([[base.TextDelta("too early"), *DONE]])
    await runner_over(rig.services, script).generate(rig.row.id)
    assert ((await rig.reread()).status, script.asked) == ("retrying", [])
    ((sent, wait_ms),) = rig.jobs.sent
    assert sent == rig.row.id
    assert wait_ms is not None
    assert 0 < wait_ms <= 60_000


async def test_a_retry_without_a_job(rig: Rig) -> None:
    """It was due and nobody came: the job is sent again."""
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    assert await rig.store.schedule_retry(rig.row.id, 1, 10, 1, 0)
    await rig.age(due_at=1)
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_five_thousand_rows(rig: Rig) -> None:
    """2,000 queued answers of one conversation hide nothing; 3,000 lost jobs elsewhere are sent in
    one round, with one question to the broker per page.
    """
    now = await rig.store.now_ms() - LONG_AGO
    columns = (
        "id, conversation_id, ordinal, role, content, reasoning, status, seq, attempt, "
        "tries, started_with, rev, announced_rev"
    )
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    async with rig.store.writing() as session:
        await session.execute(
            text(
                "INSERT INTO conversations (id, listed, user_id, rev, announced_rev, "
                "created_at, updated_at) "
                f"{counted} SELECT 'c' || i, 1, 'me', 1, 1, {now}, {now} FROM n"
            )
        )
        await session.execute(
            text(
                f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) "
                f"{counted} "
                "SELECT 'm' || i, 'c' || CASE WHEN i <= 2000 THEN 1 ELSE i END, i, 'assistant', "
                "'', '', 'queued', 0, 0, 0, 0, 1, 1, 0, "
                f"{now}, {now} FROM n"
            )
        )
    await rig.die("", "So far")
    asked = 0
    waiting = rig.jobs.waiting

    async def counted_waiting(message_ids: Sequence[str]) -> dict[str, int]:
        nonlocal asked
        asked += 1
        return await waiting(message_ids)

    rig.jobs.waiting = counted_waiting  # type: ignore[method-assign]
    rig.jobs.known = {
        "m1": rig.jobs.now_ms() - LOST_JOB_MS,
        "m2001": rig.jobs.now_ms(),
        "m2002": rig.jobs.now_ms() - LOST_JOB_MS,
    }
    rig.jobs.queue = {"m1"}
    await rig.sweeper.sweep()
    sent = {message_id for message_id, _ in rig.jobs.sent}
    assert rig.row.id in sent
    assert sent - {rig.row.id} == {"m2002"} | {f"m{number}" for number in range(2003, 5001)}
    assert asked <= 5001 / SWEEP_PAGE + 2


async def test_a_drain_waits_for_starting_jobs(rig: Rig) -> None:
    """A job in recovery is handed over as soon as it is an attempt; it does not die with the
    process.
    """
    recovering, go_on = asyncio.Event(), asyncio.Event()
    await rig.die("", "Half")
    read = rig.log.read

    async def slow(*arguments: Any) -> Page:
        recovering.set()
        await go_on.wait()
        return await read(*arguments)

    rig.log.read = slow  # type: ignore[method-assign]
    script = Script([[base.TextDelta(" more")], asyncio.Event().wait])  # type: ignore[list-item]
    runner = runner_over(replace(rig.services, lease_seconds=30.0), script, continuation="prefix")
    running = asyncio.create_task(runner.generate(rig.row.id))
    await recovering.wait()
    draining = asyncio.create_task(runner.drain(0.01))
    while not runner._running.handing_over:
        await asyncio.sleep(0.01)
    go_on.set()
    await draining
    assert running.done()
    row = await rig.reread()
    assert (row.status, row.content) == ("queued", "Half")
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_a_drain_hands_answers_over(rig: Rig) -> None:
    """Nothing is lost, no try is used up, and a job that arrives now is passed on."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    runner = runner_over(
        rig.services, Script([[base.TextDelta("Half")], wait]), continuation="prefix"
    )
    await runner.generate("gone")  # its end says nothing about the next one
    running = asyncio.create_task(runner.generate(rig.row.id))
    await begun.wait()
    await runner.drain(0)
    assert running.done()
    row = await rig.reread()
    assert (row.status, row.content, row.tries) == ("queued", "Half", 0)
    await runner.generate(rig.row.id)
    assert rig.jobs.sent == [(rig.row.id, None), (rig.row.id, None)]
    other = runner_over(
        rig.services, Script([[base.TextDelta(" and half."), *DONE]]), continuation="prefix"
    )
    await other.generate(rig.row.id)
    assert (await rig.reread()).content == "Half and half."


async def test_a_late_end_of_an_attempt_does_not_hide_the_next_one(rig: Rig) -> None:
    """A later attempt of the same answer already runs in this process: cancels and the drain must
    find it.
    """
    later: Any = object()

    async def begin_another() -> None:
        runner._running._attempts[rig.row.id] = later

    runner = runner_over(rig.services, Script([[base.TextDelta("a")], begin_another, DONE]))
    await runner.generate(rig.row.id)
    assert runner.running() == [later]


async def test_the_name_of_a_run_is_saved_with_the_text(rig: Rig) -> None:
    """A hand-over keeps the run alive and records how far it was followed."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    script = Script([[base.TextDelta("One ")], [base.TextDelta("two")], wait], run_id="run-1")
    runner = runner_over(rig.services, script, continuation="attach")
    running = asyncio.create_task(runner.generate(rig.row.id))
    await begun.wait()
    await runner.drain(0)
    await running
    row = await rig.reread()
    assert (row.content, row.run_id, row.run_cursor) == ("One two", "run-1", 2)
    assert script.kept
