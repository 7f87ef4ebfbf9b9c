"""A row that a working database cannot read: its answer ends, nobody waits for it, and everything
else continues.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.databases import Postgres
from tests.integration.sweeper.rig import DONE
from tests.integration.worker_rig import (
    NoJobs,
    Script,
    events_of,
    kinds,
    runner_over,
    services_over,
)
from tests.poison import LONG, lose, poison, unreadable
from tokenwire.config.metrics import TASK_FAILURES
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.models.migrate import migrate
from tokenwire.models.recount import recount
from tokenwire.models.store import Store
from tokenwire.protocol import events
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import runner as module
from tokenwire.worker.deaths import MAX_FAILED_STARTS
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.sweeper.sweeper import Sweeper


class Damaged:
    """A queued answer that cannot be read, and another one behind it."""

    def __init__(self, store: Store, sick: str, behind: str) -> None:
        self.store, self.log, self.jobs, self.sick, self.behind = (
            store,
            MemoryLog(),
            NoJobs(),
            sick,
            behind,
        )
        self.told: list[dict[str, Any]] = []
        self.services: WorkerServices = services_over(store, self.log, self.jobs)
        object.__setattr__(
            self.services, "notify_operators", lambda _error, facts: self.told.append(facts)
        )
        self.runner: Runner = runner_over(self.services, Script([DONE]))

    async def status(self) -> str:
        async with self.store.reading() as session:
            return str(
                (
                    await session.execute(
                        text("SELECT status FROM messages WHERE id = :id"), {"id": self.sick}
                    )
                ).scalar_one()
            )

    async def age(self, message_id: str, **values: object) -> None:
        """Make the row a minute old, with other columns as given."""
        columns = "".join(f", {name} = :{name}" for name in values)
        change = f"UPDATE messages SET updated_at = updated_at - 60000{columns} WHERE id = :id"
        async with self.store.writing() as session:
            await session.execute(text(change), {"id": message_id, **values})


async def queued(store: Store) -> Damaged:
    conversation = await store.create_conversation("me", title="t")
    first, second = [
        (await store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message.id
        for _ in range(2)
    ]
    return Damaged(store, first, second)


@pytest.fixture
async def damaged(sqlite_store: Store) -> Damaged:
    found = await queued(sqlite_store)
    await unreadable(sqlite_store, found.sick)
    return found


@pytest.fixture
async def in_postgresql(own_postgres: Postgres) -> AsyncIterator[Damaged]:
    url = own_postgres.database("postgres")
    migrate(url)
    store = Store.open(url)
    found = await queued(store)
    await lose(store, own_postgres, {found.sick: "content"})
    yield found
    await store.aclose()


async def jobs_end_it(damaged: Damaged) -> None:
    with pytest.raises(StatementFailed) as failure:
        await damaged.store.message(damaged.sick)
    told = failure.value
    assert (told.__cause__, told.__suppress_context__) == (None, True), (
        "what the driver says may quote the row"
    )
    for number in range(MAX_FAILED_STARTS + 1):
        assert (await damaged.status(), damaged.told) == ("queued", []), number
        with pytest.raises(StatementFailed):
            async with asyncio.timeout(20):
                await damaged.runner.generate(damaged.sick)
    assert await damaged.status() == "error"
    assert [facts["message_id"] for facts in damaged.told] == [damaged.sick]
    assert damaged.jobs.sent == [(damaged.behind, None)]


async def test_its_jobs_fail_and_end_the_answer(damaged: Damaged) -> None:
    """None of them waits in a thread. The answer behind it starts; operators are notified once."""
    await jobs_end_it(damaged)
    with pytest.raises(StatementFailed):
        await damaged.runner.generate(damaged.sick)
    assert (len(damaged.told), damaged.jobs.sent) == (1, [(damaged.behind, None)])


async def test_the_same_in_postgresql(in_postgresql: Damaged) -> None:
    """The block with its text is gone: the driver raises an operational error, as for an outage."""
    await jobs_end_it(in_postgresql)


@pytest.fixture
async def lost(
    own_postgres: Postgres, request: pytest.FixtureRequest
) -> AsyncIterator[dict[str, Damaged]]:
    """An answer for each long column whose data PostgreSQL has lost: the blocks themselves, or
    their contents.
    """
    url = own_postgres.database("postgres")
    migrate(url)
    store = Store.open(url)
    found = {column: await queued(store) for column in LONG}
    await lose(
        store,
        own_postgres,
        {one.sick: column for column, one in found.items()},
        block=request.param,
    )
    yield found
    await store.aclose()


async def conversation(damaged: Damaged) -> str:
    found = await damaged.store.conversation_of(damaged.behind)
    assert found is not None
    return found.id


@pytest.mark.parametrize("lost", [False], indirect=True, ids=["values"])
async def test_any_lost_column(lost: dict[str, Damaged]) -> None:
    """The answer ends, operators are notified once, and its owner can delete the conversation."""
    assert {
        "content",
        "reasoning",
        "kept",
        "tool_calls",
        "options",
        "usage",
        "seams",
        "error",
        "asked",
        "attachments",
    } < lost.keys()
    for column, damaged in lost.items():
        with capture_logs() as lines:
            await jobs_end_it(damaged)
            assert await damaged.store.delete_conversation(await conversation(damaged)), column
        assert not [
            line
            for line in lines
            if line["log_level"] == "error" and "recount" not in line["event"]
        ], column
        assert await damaged.store.message(damaged.behind) is None
    assert [drift.stored for drift in await recount(damaged.store)] == [0], (
        "what could not be counted was not given back"
    )
    assert await recount(damaged.store) == []


@pytest.mark.parametrize("lost", [True], indirect=True, ids=["blocks"])
async def test_any_lost_block(lost: dict[str, Damaged]) -> None:
    """The same without the deletion: PostgreSQL can neither delete a row without its blocks nor
    replace the value.

    So a lost `error` would block the end, but unfinished answers have none.
    """
    del lost["error"]
    for damaged in lost.values():
        await jobs_end_it(damaged)
        with pytest.raises(StatementFailed):
            await damaged.store.delete_conversation(await conversation(damaged))


async def test_operators_are_notified_before_a_failing_end(
    damaged: Damaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notification comes before the end is written."""

    async def end_unread(*_arguments: object) -> str:
        raise StatementFailed("XX001")

    monkeypatch.setattr(damaged.store, "end_unread", end_unread)
    for _ in range(MAX_FAILED_STARTS + 1):
        assert damaged.told == []
        with pytest.raises(StatementFailed):
            await damaged.runner.generate(damaged.sick)
    assert [facts["message_id"] for facts in damaged.told] == [damaged.sick]


async def test_an_unreadable_cancelled_answer_ends(damaged: Damaged) -> None:
    """The sweeper cannot read the visible text: its jobs count the failures."""
    await damaged.age(damaged.sick, cancel_by="me")
    for _ in range(MAX_FAILED_STARTS + 1):
        await Sweeper(damaged.services)._cancel()
        assert damaged.jobs.sent.pop() == (damaged.sick, None)
        with pytest.raises(StatementFailed):
            await damaged.runner.generate(damaged.sick)
        assert damaged.jobs.sent == [] or await damaged.status() == "error"
    assert await damaged.status() == "error"


async def test_its_announcement_delays_no_other(damaged: Damaged) -> None:
    """The rest of its page is announced; takeovers continue."""
    row = await damaged.store.message(damaged.behind)
    assert row is not None
    for message_id in (damaged.sick, damaged.behind):
        await damaged.age(message_id, announced_rev=0)
    before = TASK_FAILURES.labels("sweep")._value.get()
    sweeper = Sweeper(damaged.services)
    await sweeper._announce_rows()
    assert not sweeper.holds_back
    said = await events_of(damaged.log, row)
    assert damaged.behind in [
        event.message["id"] for event in said if isinstance(event, events.MessageEvent)
    ], kinds(said)
    assert TASK_FAILURES.labels("sweep")._value.get() == before + 1


async def test_an_unwritable_row_is_enqueued_rarely_and_apart(
    sqlite_store: Store,
) -> None:
    """The others' marks are stored; its job fails at once and is not sent twice a second."""
    answers = [await queued(sqlite_store) for _ in range(3)]
    ids = [answer.sick for answer in answers]
    damaged = answers[0]
    for answer in answers:
        await answer.age(answer.sick, enqueued_at=None)
    await poison(sqlite_store, damaged.sick, "SELECT json('x')")
    sweeper = Sweeper(damaged.services)
    await sweeper._enqueue_heads()
    assert sorted(name for name, _ in damaged.jobs.sent) == sorted(ids)
    await sweeper._enqueue_heads()
    assert len(damaged.jobs.sent) == 3
    sweeper._apart[damaged.sick] = 0.0
    await sweeper._enqueue_heads()
    assert [name for name, _ in damaged.jobs.sent[3:]] == [damaged.sick]


async def test_one_job_of_an_answer_waits_for_an_outage(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waiting job has a thread: a hundred would leave none to other answers. The one that
    waits does the work.
    """
    monkeypatch.setattr(module, "JOB_RETRY_SECONDS", 0.01)
    found = await queued(sqlite_store)
    read, away = sqlite_store.message, True

    async def message(message_id: str) -> Any:
        if away:
            raise StoreUnavailable("away")
        return await read(message_id)

    monkeypatch.setattr(sqlite_store, "message", message)
    jobs = [asyncio.create_task(found.runner.generate(found.sick)) for _ in range(5)]
    async with asyncio.timeout(20):
        while sum(job.done() for job in jobs) < 4:
            await asyncio.sleep(0.01)
        away = False
        await asyncio.gather(*jobs)
        assert await found.status() == "complete"
        away = True
        again = asyncio.create_task(found.runner.generate(found.sick))
        while not found.runner._waiting:
            await asyncio.sleep(0.01)
        assert not again.done()
        away = False
        await again
    assert not found.runner._waiting
