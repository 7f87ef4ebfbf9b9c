"""The sweeper: the cost of a round, and no step of it blocks another."""

import asyncio
import gc
import warnings
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from tests.integration.sweeper.rig import Rig, sweeping, until
from tests.integration.worker_rig import events_of, kinds
from tokenwire.config.metrics import TASK_FAILURES
from tokenwire.models.conversations import Post
from tokenwire.models.errors import GivenUp, StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.models.sweeps import SweepKey, Unannounced
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.sweeper.sweeper import Deposed


@pytest.mark.parametrize(
    "step",
    [
        "_cancel",
        "_take_over",
        "_enqueue_heads",
        "_announce_ends",
        "_announce_rows",
        "_announce_titles",
    ],
)
async def test_steps_of_a_sweep_fail_independently(
    rig: Rig, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any failure, rows are announced, jobs sent, logs deleted, and the failure is counted."""

    async def broken() -> None:
        raise KeyError("a bug")

    async def everything(*_arguments: object) -> set[str]:
        return set(rig.sweeper._steps)

    monkeypatch.setattr(rig.store, "outstanding", everything)
    before = TASK_FAILURES.labels("sweep")._value.get()
    gone = await rig.store.create_conversation("me")
    await rig.log.announce(gone.id, gone.id, 1, events.Title("t", 1))
    await rig.store.delete_conversation(gone.id)
    await rig.age(announced_rev=0)
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000")
        )
    monkeypatch.setattr(rig.sweeper, step, broken)
    await rig.sweeper.sweep()
    assert TASK_FAILURES.labels("sweep")._value.get() == before + 1
    if step != "_enqueue_heads":
        assert rig.jobs.sent == [(rig.row.id, None)]
    if step != "_announce_rows":
        assert kinds(await events_of(rig.log, rig.row)) == ["MessageEvent", "MessageEvent"]
    with pytest.raises(Gone):
        await rig.log.read(gone.id, None, 0, 0)


async def test_an_idle_round_is_one_transaction(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any number of steps: an idle system is queried twice a second."""
    await rig.store.delete_conversation(rig.row.conversation_id)
    transactions, reading = 0, rig.store.reading

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal transactions
        transactions += 1
        return reading(*arguments, **options)

    monkeypatch.setattr(rig.store, "reading", counted)
    monkeypatch.setattr(rig.store, "writing", counted)
    await rig.sweeper.sweep()
    assert transactions == 1


async def test_without_the_outstanding_query_each_step_queries_itself(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in one query affects no other; it is counted."""

    async def broken(*_arguments: object) -> set[str]:
        raise KeyError("a bug")

    await rig.age(announced_rev=0)
    before = TASK_FAILURES.labels("sweep")._value.get()
    monkeypatch.setattr(rig.store, "outstanding", broken)
    await rig.sweeper.sweep()
    assert TASK_FAILURES.labels("sweep")._value.get() == before + 1
    assert rig.jobs.sent == [(rig.row.id, None)]
    assert kinds(await events_of(rig.log, rig.row)) == ["MessageEvent", "MessageEvent"]


async def test_rows_of_a_sweep_fail_independently(rig: Rig) -> None:
    """An answer with a broken log is counted; others are announced by the same step and the next
    ones.
    """
    conversation = await rig.store.create_conversation("me")
    other = (await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
    await rig.age(announced_rev=0)
    read = rig.log.read

    async def broken(conversation_id: str, *arguments: Any) -> Page:
        if conversation_id == rig.row.conversation_id:
            raise ValueError("a bug")
        return await read(conversation_id, *arguments)

    rig.log.read = broken  # type: ignore[method-assign]
    await rig.sweeper.sweep()
    rig.log.read = read  # type: ignore[method-assign]
    assert kinds(await events_of(rig.log, other)) == ["MessageEvent", "MessageEvent"]
    assert len(rig.jobs.sent) == 2


async def test_an_outage_of_one_query_stops_no_other_step(rig: Rig) -> None:
    """It is repeated; takeovers, cancels and deletions continue meanwhile."""
    asked = 0

    async def too_slow(*_arguments: object) -> list[SweepKey]:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("a query that takes too long")

    rig.store.changed_lately = too_slow  # type: ignore[method-assign]
    await rig.die("", "So far")
    async with sweeping(rig):
        await until(lambda: asked > 1 and rig.jobs.sent == [(rig.row.id, None)])
        assert not rig.sweeper.holds_back


async def test_an_abandoned_row_is_left_to_the_next_round(rig: Rig) -> None:
    """Its lock is neither an outage nor a bug, and nothing waits for it."""
    before = TASK_FAILURES.labels("sweep")._value.get()
    conversation = await rig.store.create_conversation("me")
    other = (await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
    for message_id in (rig.row.id, other.id):
        await rig.store.request_cancel(message_id, "me")
    request = rig.store.request_cancel

    async def locked(message_id: str, by: str) -> Row | None:
        if message_id == rig.row.id:
            raise GivenUp("locked")
        return await request(message_id, by)

    rig.store.request_cancel = locked  # type: ignore[method-assign]
    await rig.sweeper.sweep()
    assert not rig.sweeper.holds_back
    row = await rig.store.message(other.id)
    assert row is not None
    assert (row.status, (await rig.reread()).status) == ("cancelled", "queued")
    assert TASK_FAILURES.labels("sweep")._value.get() == before
    rig.store.request_cancel = request  # type: ignore[method-assign]
    await rig.sweeper.sweep()
    assert (await rig.reread()).status == "cancelled"


async def test_a_locked_row_delays_no_other(postgres_url: str) -> None:
    """An operator's transaction locks one of three cancelled answers: two end, and takeovers go on;
    then the third ends.
    """
    store = Store.open(postgres_url)
    try:
        answers = []
        for _ in range(3):
            conversation = await store.create_conversation("me")
            answers.append(
                (await store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
            )
            await store.request_cancel(answers[-1].id, "me")
        rig = Rig(store, answers[0])
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT id FROM messages WHERE id = %s FOR UPDATE", (rig.row.id,))
            await rig.sweeper.sweep()
            assert not rig.sweeper.holds_back
            rows = [await store.message(answer.id) for answer in answers]
            assert [row and row.status for row in rows] == ["queued", "cancelled", "cancelled"]
        await rig.sweeper.sweep()
        assert (await rig.reread()).status == "cancelled"
    finally:
        await store.aclose()


async def test_a_slow_query_stops_no_step(rig: Rig) -> None:
    """One query finds all outstanding work: if it is cancelled, each step queries itself."""

    async def given_up(*_arguments: object) -> set[str]:
        raise GivenUp("too slow")

    rig.store.outstanding = given_up  # type: ignore[method-assign,assignment]
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    assert (await rig.reread()).status == "cancelled"


async def test_an_outage_makes_the_sweeper_wait_one_lease(rig: Rig) -> None:
    """After Redis was away, leases of healthy workers have expired too: none is taken over before
    it could renew.
    """
    await rig.die("", "So far")
    rig.log.go_down()
    running = asyncio.create_task(rig.sweeper.run())
    while not rig.sweeper.holds_back:
        await asyncio.sleep(0)
    rig.log.come_back()
    assert rig.jobs.sent == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_outage_in_another_step_spares_expired_leases(
    rig: Rig,
) -> None:
    """Earlier results do not count: a lease may have expired only because Redis was away."""
    await rig.die("", "So far")
    leased = rig.log.leased

    async def meanwhile(conversation_id: str, message_id: str) -> bool:
        rig.sweeper._put_off(LogUnavailable("away"))
        return await leased(conversation_id, message_id)

    rig.log.leased = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Deposed):
        await rig.sweeper.sweep()
    assert (rig.sweeper.holds_back, rig.jobs.sent) == (True, [])


async def test_one_broken_connection_is_no_outage(rig: Rig) -> None:
    """Takeovers do not wait a lease if a second call succeeds."""
    await rig.die("", "So far")
    lead, failures = rig.jobs.lead, [JobsUnavailable("broken pipe")]

    async def broken_once(name: str, seconds: float) -> bool:
        if failures:
            raise failures.pop()
        return await lead(name, seconds)

    rig.jobs.lead = broken_once  # type: ignore[method-assign]
    running = asyncio.create_task(rig.sweeper.run())
    while not rig.jobs.sent:
        await asyncio.sleep(0.01)
    assert not rig.sweeper.holds_back
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_round_that_is_cancelled_leaves_no_work_unawaited(
    rig: Rig, recwarn: pytest.WarningsRecorder
) -> None:
    """A deploy may end the sweeper before the rows of a page have their turn."""
    warnings.simplefilter("always")

    async def cancelled_meanwhile(*_arguments: object) -> list[Unannounced]:
        sweep = asyncio.current_task()
        assert sweep is not None
        asyncio.get_running_loop().call_soon(sweep.cancel)
        return [Unannounced(rig.row.id, rig.row.conversation_id, rig.row.ordinal)]

    rig.store.unannounced_rows = cancelled_meanwhile  # type: ignore[method-assign]
    done, _ = await asyncio.wait([asyncio.create_task(rig.sweeper._announce_rows())])
    assert done.pop().cancelled()
    gc.collect()
    assert [str(told.message) for told in recwarn] == []
