"""The usage of an answer is that of all its requests."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.worker_rig import NoJobs, Script, Step, events_of, runner_over, services_over
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import closing
from tokenwire.worker.runner import Runner

DONE = base.Finish("stop")


class Rig:
    """One answer, and workers for it."""

    def __init__(self, store: Store, row: Row) -> None:
        self.store, self.row, self.log, self.jobs = store, row, MemoryLog(), NoJobs()
        self.services = services_over(store, self.log, self.jobs)

    def runner(
        self, *steps: Step, rung: str = "prefix", run_id: str | None = None, **spec: Any
    ) -> Runner:
        return runner_over(self.services, Script(steps, run_id=run_id), continuation=rung, **spec)

    async def run(self, *steps: Step, **options: Any) -> Row:
        """One attempt, due at once."""
        async with self.store.writing() as session:
            await session.execute(text("UPDATE messages SET due_at = 0 WHERE due_at IS NOT NULL"))
        await self.runner(*steps, **options).generate(self.row.id)
        return await self.reread()

    async def begin(self, *steps: Step, **options: Any) -> "tuple[Runner, asyncio.Task[None]]":
        """An attempt that has received this much, and waits."""
        waits = asyncio.Event()

        async def wait() -> None:
            waits.set()
            await asyncio.Event().wait()

        runner = self.runner(*steps, wait, **options)
        running = asyncio.create_task(runner.generate(self.row.id))
        await waits.wait()
        for attempt in runner.running():
            await attempt.work.writer.settle()
        return runner, running

    async def kill(self, running: "asyncio.Task[None]") -> None:
        """The worker does nothing any more, and its lease expires."""
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        while await self.log.leased(self.row.conversation_id, self.row.id):
            await asyncio.sleep(0.01)

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def told(self) -> events.Usage | None:
        """The usage that readers get at the end; the row says the same."""
        row, last = await self.reread(), (await events_of(self.log, self.row))[-1]
        assert isinstance(last, events.Complete | events.Error | events.Cancelled)
        assert (events.Usage(**row.usage) if row.usage else None) == last.usage
        return last.usage


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    conversation = await sqlite_store.create_conversation("me", title="t")
    return Rig(
        sqlite_store,
        (await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message,
    )


async def test_requests_that_were_retried_count(rig: Rig) -> None:
    """Each was billed its input again."""
    row = await rig.run(
        [base.TextDelta("One "), base.UsageDelta(10, 2, cached_tokens=4)], base.Interrupted("cut")
    )
    assert row.status == "retrying"
    await rig.run([base.TextDelta("two."), base.UsageDelta(12, 3)], [DONE])
    assert await rig.told() == events.Usage(22, 5, 4)


async def test_a_request_that_reported_nothing_adds_nothing(rig: Rig) -> None:
    """The reported usage of the others counts."""
    await rig.run([base.TextDelta("One "), base.UsageDelta(10, 2)], base.Interrupted("cut"))
    await rig.run([base.TextDelta("two.")], [DONE])
    assert await rig.told() == events.Usage(10, 2)


async def test_a_request_that_was_lost_is_estimated(rig: Rig) -> None:
    """Its worker died with what it would have reported. It was billed all the same."""
    runner, running = await rig.begin([base.TextDelta("One two three four ")])
    await rig.services.checkpointer.save(runner.running())
    await rig.kill(running)
    await rig.run([base.TextDelta("five."), base.UsageDelta(12, 3)], [DONE])
    usage = await rig.told()
    assert usage is not None
    assert (usage.estimated, usage.output_tokens) == (True, 5 + 3)
    assert 12 < usage.input_tokens < 24


async def test_a_refused_request_costs_nothing(rig: Rig) -> None:
    """Its provider had not begun to answer."""
    await rig.run(base.Unavailable("busy"))
    await rig.run([base.TextDelta("One."), base.UsageDelta(12, 3)], [DONE])
    assert await rig.told() == events.Usage(12, 3)


PRICES = {"input_price": 1.0, "output_price": 10.0}


async def test_the_cost_is_that_of_every_try(rig: Rig) -> None:
    """At the prices of each; readers and the row know it."""
    await rig.run(
        [base.TextDelta("One "), base.UsageDelta(10, 2)], base.Interrupted("cut"), **PRICES
    )
    dearer = {name: 2 * price for name, price in PRICES.items()}
    await rig.run([base.TextDelta("two."), base.UsageDelta(12, 3)], [DONE], **dearer)
    assert await rig.told() == events.Usage(22, 5, cost=(10 + 20 + 24 + 60) / 1e6)


@pytest.mark.parametrize("dead", [True, False])
async def test_a_stopped_answer_has_an_estimated_cost(rig: Rig, dead: bool) -> None:
    """Also if another process ends it, which knows no catalogue: the row has the prices."""
    runner, running = await rig.begin([base.TextDelta("two three")], **PRICES)
    if dead:
        await rig.services.checkpointer.save(runner.running())
        await rig.kill(running)
    await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")  # type: ignore[arg-type]
    await asyncio.gather(running, return_exceptions=True)
    usage = await rig.told()
    assert usage is not None
    assert usage.estimated
    assert usage.cost == (usage.input_tokens + 10 * usage.output_tokens) / 1e6 > 0


async def test_an_answer_that_starts_over_was_paid_twice(rig: Rig) -> None:
    """Withdrawn text was billed."""
    await rig.run(
        [base.TextDelta("One "), base.UsageDelta(10, 2)], base.Interrupted("cut"), rung="restart"
    )
    await rig.run([base.TextDelta("Anew."), base.UsageDelta(9, 3)], [DONE], rung="restart")
    assert (await rig.reread()).content == "Anew."
    assert await rig.told() == events.Usage(19, 5)


async def test_usage_reported_to_a_killed_worker_counts(rig: Rig) -> None:
    """As far as it was checkpointed."""
    runner, running = await rig.begin([base.UsageDelta(10, 1), base.TextDelta("One ")])
    await rig.services.checkpointer.save(runner.running())
    await rig.kill(running)
    await rig.run([base.TextDelta("two."), base.UsageDelta(12, 3)], [DONE])
    assert await rig.told() == events.Usage(22, 4)


async def test_what_a_killed_worker_reported_is_not_estimated_again(rig: Rig) -> None:
    """However much shorter it was than the estimate of the request."""
    runner, running = await rig.begin([base.UsageDelta(1, 1), base.TextDelta("One ")])
    await rig.services.checkpointer.save(runner.running())
    await rig.kill(running)
    await rig.run([base.TextDelta("two."), base.UsageDelta(1, 3)], [DONE])
    assert await rig.told() == events.Usage(2, 4)


async def test_a_deploy_counts_both(rig: Rig) -> None:
    """The successor knows the usage that the first worker received."""
    runner, running = await rig.begin([base.UsageDelta(10, 1), base.TextDelta("One ")])
    await runner.drain(0)
    await running
    await rig.run([base.TextDelta("two."), base.UsageDelta(12, 3)], [DONE])
    assert await rig.told() == events.Usage(22, 4)


async def test_the_usage_of_an_attached_run_counts_once(rig: Rig) -> None:
    """It may report the same numbers to each attempt."""
    steps: list[Step] = [
        [base.TextDelta("One "), base.UsageDelta(10, 1)],
        [base.TextDelta("two."), base.UsageDelta(10, 5)],
        [DONE],
    ]
    runner, running = await rig.begin(steps[0], rung="attach", run_id="run-1")
    await runner.drain(0)
    await running
    await rig.run(*steps, rung="attach", run_id="run-1")
    assert (await rig.reread()).content == "One two."
    assert await rig.told() == events.Usage(10, 5)


@pytest.mark.parametrize("dead", [True, False])
async def test_a_cancel_adds_an_estimate_for_the_request_under_way(rig: Rig, dead: bool) -> None:
    """Whoever ends the answer: its worker, or another process in place of a dead one."""
    await rig.run([base.TextDelta("One "), base.UsageDelta(10, 2)], base.Interrupted("cut"))
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE messages SET due_at = 0"))
    runner, running = await rig.begin([base.TextDelta("two three")])
    if dead:
        await rig.services.checkpointer.save(runner.running())
        await rig.kill(running)
    await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")  # type: ignore[arg-type]
    await asyncio.gather(running, return_exceptions=True)
    usage = await rig.told()
    assert usage is not None
    assert (usage.estimated, usage.output_tokens) == (True, 2 + 3)
    assert 10 < usage.input_tokens < 20
