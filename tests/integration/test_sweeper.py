"""worker.sweeper and worker.runner on a real database: work that nobody does is found and done, and what died is accounted for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from config.catalogue import Catalogue, ModelSpec
from config.metrics import TASK_FAILURES
from models.conversations import Post
from models.errors import GivenUp, StoreUnavailable
from models.generations import Ending
from models.migrate import migrate
from models.store import Store
from models.sweeps import Place
from models.tables import Message as Row
from providers import base
from streams import events
from streams.memory import MemoryLog
from streams.ports import UNHEARD_SECONDS, Claim, Gone, Limits, Page
from streams.positions import Position
from tests.integration.worker_rig import NoJobs, Script, events_of, kinds, runner_over, services_over, text_of
from worker import closing, revocations
from worker.enqueue import JobsUnavailable
from worker.retries import MAX_TRIES
from worker.runner import Models
from worker.services import Services
from worker.sweeper import PAGE, Sweeper
from worker.sweeps import LOST_JOB_MS
from worker.titles import name_conversation

DONE = [base.Finish("stop", "stop")]
LONG_AGO = 60_000


class Rig:
    """One queued answer, and a sweeper."""

    def __init__(self, store: Store, row: Row) -> None:
        self.store, self.log, self.jobs, self.row = store, MemoryLog(), NoJobs(), row
        self.services: Services = services_over(store, self.log, self.jobs)
        self.sweeper = Sweeper(self.services)

    async def age(self, **values: object) -> None:
        """Let the row be a minute old, with other columns as given."""
        columns = "".join(f", {name} = :{name}" for name in values)
        async with self.store.writing() as session:
            await session.execute(text(f"UPDATE messages SET updated_at = updated_at - {LONG_AGO}{columns}"), values)  # noqa: S608

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def expire(self) -> None:
        """The lease of a dead attempt runs out."""
        while await self.log.leased(self.row.conversation_id, self.row.id):
            await asyncio.sleep(0.02)

    async def die(self, content: str, appended: str = "") -> None:
        """An attempt that appended so much and was killed: its lease has run out."""
        row = await self.reread()
        claim = await self.log.claim(row.conversation_id, row.id, row.attempt, 0.0)
        assert await self.store.begin_attempt(row.id, claim.attempt, "m")
        if appended:
            await self.log.append(claim, 0, 0, [events.Chunk(row.id, claim.attempt, len(content), appended)])
        await self.age()


@contextlib.asynccontextmanager
async def sweeping(rig: Rig) -> AsyncIterator[None]:
    """The sweeper of a process, while the block runs."""
    running = asyncio.create_task(rig.sweeper.run())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(question: Callable[[], bool]) -> None:
    """Returns when the answer is yes."""
    while not question():
        await asyncio.sleep(0.01)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    url = f"sqlite:///{tmp_path}/t.db"
    migrate(url)
    store = Store.open(url)
    conversation = await store.create_conversation("me")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    await store.mark_posted(posted.user_message.id, posted.assistant_message.id, 1, enqueued=False)
    yield Rig(store, posted.assistant_message)
    await store.aclose()


async def test_a_row_that_was_never_enqueued(rig: Rig) -> None:
    """Committed, and then the web process died: the job is sent, once."""
    await rig.age()
    await rig.sweeper.sweep()
    await rig.age(enqueued_at=await rig.store.now_ms() + 3_000)  # just now, however long the next look takes
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_a_row_whose_job_waits_is_left_alone(rig: Rig) -> None:
    """A busy system is not a lost job."""
    await rig.age()
    row = await rig.reread()
    rig.jobs.known[row.id] = row.created_at
    await rig.sweeper.sweep()
    assert rig.jobs.sent == []


async def test_a_dead_attempt_is_taken_over_and_goes_on(rig: Rig) -> None:
    """What was appended stays, whether a checkpoint held it or not; the model is asked to go on after it; nothing is repeated."""
    await rig.die("", "So far")
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]
    script = Script([[base.Text(", so good."), *DONE]])
    await runner_over(rig.services, script, continuation="prefix").generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert (row.status, row.content, row.attempt, row.seams) == ("complete", "So far, so good.", 2, [6])
    assert text_of(log) == row.content
    assert "Reset" not in kinds(log)
    assert script.asked[0].continuation == base.Continuation("prefix", "So far")


async def test_a_model_that_cannot_go_on_starts_over_with_a_reset(rig: Rig) -> None:
    """Viewers are told what is withdrawn before anything is said again."""
    await rig.die("", "So far")
    await runner_over(rig.services, Script([[base.Text("Anew."), *DONE]]), continuation="restart").generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert kinds(log) == ["Chunk", "Reset", "Start", "Chunk", "Complete"]
    assert row.content == "Anew."


async def test_a_model_that_cannot_go_on_keeps_the_partial_text(rig: Rig) -> None:
    """Neither a second beginning behind the first, nor a reset: the answer ends as interrupted, and nobody is asked."""
    await rig.die("", "Half")
    script = Script([[base.Text("Half and half"), *DONE]])
    await runner_over(rig.services, script, continuation="none").generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.content, script.asked) == ("error", "Half", [])
    assert row.error is not None
    assert row.error["code"] == "interrupted"


async def test_the_answers_of_a_dead_worker_are_taken_over_side_by_side(rig: Rig) -> None:
    """A slow queue costs its time once, not once a row; one row that cannot be dealt with keeps no other one waiting."""
    asked, all_asked = 0, asyncio.Event()

    async def together(message_id: str, delay_ms: int | None = None) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            all_asked.set()
        await all_asked.wait()
        if message_id == rig.row.id:
            raise JobsUnavailable("not this one")
        rig.jobs.sent.append((message_id, delay_ms))

    rig.jobs.generate = together  # type: ignore[method-assign]
    others = []
    for _ in range(2):
        conversation = await rig.store.create_conversation("me")
        others.append((await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message.id)
    await rig.age()
    with pytest.raises(JobsUnavailable):
        async with asyncio.timeout(10):
            await rig.sweeper.sweep()
    assert sorted(rig.jobs.sent) == sorted((other, None) for other in others)


async def test_a_live_lease_is_respected(rig: Rig) -> None:
    """Silent does not mean dead."""
    await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    await rig.age()
    await rig.sweeper.sweep()
    assert rig.jobs.sent == []


async def test_three_deaths_without_progress_end_in_an_error(rig: Rig) -> None:
    """A message that kills its worker does not do so for ever: the fourth attempt asks nobody."""
    for _ in range(3):
        begun = asyncio.Event()

        async def hang(begun: asyncio.Event = begun) -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(runner_over(rig.services, Script([hang])).generate(rig.row.id))
        await begun.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await rig.expire()
    script = Script([[base.Text("never asked"), *DONE]])
    await runner_over(rig.services, script).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.attempt, script.asked) == ("error", 4, [])
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Error"


@pytest.mark.parametrize(("added", "status", "tries"), [(1000, "complete", 0), (100, "complete", 2), (30, "error", 3)])
async def test_deaths_after_progress_are_free(rig: Rig, added: int, status: str, tries: int) -> None:
    """An attempt gives back a try for each hundred characters that it added; a few words are none."""
    await rig.age(tries=2)
    await rig.die("", "x" * added)
    await runner_over(rig.services, Script([[base.Text("."), *DONE]]), continuation="prefix").generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.tries) == (status, tries)


async def test_an_end_that_was_never_announced(rig: Rig) -> None:
    """Killed between commit and append: the terminal event is supplied, once, and matches the row."""
    await rig.die("", "All")
    row = await rig.reread()
    epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
    ending = Ending(row.id, row.attempt, "complete", "All", "", None, epoch, 1, "stop")
    assert await rig.store.finish(ending)
    await rig.age()
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    log = await events_of(rig.log, rig.row)
    assert kinds(log) == ["Chunk", "Complete"]
    assert isinstance(log[-1], events.Complete)
    assert log[-1].length == 3
    assert (await rig.reread()).terminal_announced


async def test_an_end_is_announced_to_a_log_that_never_heard_the_text(rig: Rig) -> None:
    """Redis began empty between commit and append: the new log is given the text that the terminal event attests."""
    await rig.die("", "All")
    row = await rig.reread()
    epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
    assert await rig.store.finish(Ending(row.id, row.attempt, "complete", "All", "", None, epoch, 1, "stop"))
    rig.log.restart(lose_data=True)
    await rig.age()
    await rig.sweeper.sweep()
    log = await events_of(rig.log, rig.row)
    assert kinds(log) == ["Reset", "Chunk", "Complete"]
    assert text_of(log) == "All"


@pytest.mark.parametrize("how", ["announced", "cancelled"])
async def test_what_waited_behind_a_dead_answer_is_started(rig: Rig, how: str) -> None:
    """Whoever supplies the end wakes the next in line, as the worker would have done."""
    behind = (await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))).assistant_message
    await rig.die("", "All")
    row = await rig.reread()
    if how == "announced":
        epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
        assert await rig.store.finish(Ending(row.id, row.attempt, "complete", "All", "", None, epoch, 1, "stop"))
    else:
        await rig.store.request_cancel(row.id, "me")
    await rig.store.mark_enqueued(behind.id)  # too fresh for the sweeper to see to it by itself
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE messages SET updated_at = updated_at - 60000 WHERE id = :id"), {"id": row.id})
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(behind.id, None)]


async def test_two_answers_of_a_conversation_do_not_run_at_once(rig: Rig) -> None:
    """A job that comes too early is dropped: the end of the answer before it brings another one."""
    behind = (await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))).assistant_message
    script = Script([[base.Text("too early"), *DONE]])
    await runner_over(rig.services, script).generate(behind.id)
    row = await rig.store.message(behind.id)
    assert row is not None
    assert (row.status, row.attempt, script.asked) == ("queued", 0, [])


async def test_a_retry_does_not_run_before_it_is_due(rig: Rig) -> None:
    """The job is given back to the queue for the rest of the time."""
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    assert await rig.store.schedule_retry(rig.row.id, 1, 60_000, 1, 0)
    script = Script([[base.Text("too early"), *DONE]])
    await runner_over(rig.services, script).generate(rig.row.id)
    assert ((await rig.reread()).status, script.asked) == ("retrying", [])
    ((sent, wait_ms),) = rig.jobs.sent
    assert sent == rig.row.id
    assert wait_ms is not None
    assert 0 < wait_ms <= 60_000


async def test_a_cancel_of_a_dead_attempt(rig: Rig) -> None:
    """Nobody runs it: the sweeper ends it, with the text that people saw."""
    await rig.die("", "Seen")
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    row = await rig.reread()
    assert (row.status, row.content, row.cancel_by) == ("cancelled", "Seen", "me")
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Cancelled"


async def test_a_cancel_while_the_worker_is_frozen(rig: Rig) -> None:
    """Nobody but the sweeper follows it up: it takes the answer despite the lease, once the worker had the time to obey."""
    claim = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    await rig.log.append(claim, 0, 0, [events.Chunk(rig.row.id, 1, 0, "Seen")])
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    assert (await rig.reread()).status == "streaming"
    now = rig.log._clock
    rig.log._clock = lambda: now() + UNHEARD_SECONDS
    await rig.sweeper.sweep()
    row = await rig.reread()
    assert (row.status, row.content, row.cancel_by) == ("cancelled", "Seen", "me")
    end = (await events_of(rig.log, rig.row))[-1]
    assert isinstance(end, events.Cancelled)
    assert end.usage == events.Usage(1, 1, estimated=True)  # as the worker itself would say
    assert row.usage is not None
    assert row.usage["estimated"]


async def lose_the_middle(rig: Rig) -> None:
    """SQL is set back behind what the log still holds: its text and the log's have a hole between them."""
    rig.log._limits = Limits(max_events=4)
    claim = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 0.0)
    assert await rig.store.begin_attempt(rig.row.id, claim.attempt, "m")
    for index in range(20):
        await rig.log.append(claim, index, index, [events.Chunk(rig.row.id, claim.attempt, index, "x")])
    await rig.age(content="", seq=0, epoch=claim.epoch)


async def newest(rig: Rig) -> list[events.AnyEvent]:
    """What a log still holds that was trimmed."""
    page = await rig.log.read(rig.row.conversation_id, None, 0, 0)
    page = await rig.log.read(rig.row.conversation_id, None, page.oldest - 1, 100)
    return [event for _, event in map(events.decode, (entry.data for entry in page.entries)) if event is not None]


async def attempt(rig: Rig) -> None:
    """One delivery of the job, as Dramatiq makes it: what escapes is a dead letter."""
    with contextlib.suppress(ValueError):
        await runner_over(rig.services, Script([[base.Text("."), *DONE]]), continuation="prefix").generate(rig.row.id)


async def test_an_answer_that_cannot_be_recovered_ends(rig: Rig) -> None:
    """After some tries, as an error of ours, with what the row holds; operators are told once; viewers and row agree."""
    told: list[BaseException] = []
    rig.services = replace(rig.services, tell_operators=lambda error, _facts: told.append(error))
    await lose_the_middle(rig)
    tries = 0
    while (await rig.reread()).status != "error":
        await attempt(rig)
        await rig.age()
        tries += 1
        assert tries <= MAX_TRIES
    row, log = await rig.reread(), await newest(rig)
    assert (row.status, (row.error or {})["code"], tries) == ("error", "internal_error", MAX_TRIES)
    assert [str(error)[:6] for error in told] == ["a hole"]
    assert isinstance(log[-1], events.Error)
    assert (log[-1].length, kinds(log)[-2]) == (len(row.content), "Reset")


async def test_an_answer_that_cannot_be_recovered_can_be_cancelled(rig: Rig) -> None:
    """At once: nothing has to be gone on from."""
    await lose_the_middle(rig)
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    row, log = await rig.reread(), await newest(rig)
    assert (row.status, row.cancel_by, kinds(log)[-2:]) == ("cancelled", "me", ["Reset", "Cancelled"])


async def test_attempts_that_got_on_are_not_counted_against_an_answer(rig: Rig) -> None:
    """Hand-overs, retries and deaths are accounted for elsewhere."""
    for _ in range(MAX_TRIES + 3):
        await rig.die("", "")
        await rig.age(tries=0)
        runner = runner_over(rig.services, Script([base.Interrupted("cut")]), continuation="restart")
        await runner.generate(rig.row.id)
        await rig.age(tries=0, due_at=1)
    assert (await rig.reread()).starts <= 2


async def test_a_log_that_cannot_be_asked_ends_the_answer_in_the_rows(rig: Rig) -> None:
    """A bug in a script, say: tried some times, then the conversation is free again."""

    async def broken(*_arguments: object) -> Claim:
        raise ValueError("a bug")

    rig.log.claim = broken  # type: ignore[method-assign]
    for _ in range(MAX_TRIES):
        await attempt(rig)
        assert (await rig.reread()).status == "queued"
    await attempt(rig)
    assert (await rig.reread()).status == "error"


@pytest.mark.parametrize("step", ["_cancel", "_take_over", "_enqueue_heads", "_announce_ends", "_announce_rows", "_announce_titles"])
async def test_no_step_of_a_sweep_keeps_another_from_being_made(rig: Rig, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails with: rows are announced, jobs are sent, logs are deleted, the failure is counted."""

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
        await session.execute(text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000"))
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
    """Whatever steps there are: an idle system is asked twice a second."""
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


async def test_where_what_is_outstanding_cannot_be_told_each_step_looks_for_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in one query keeps no other one from being asked; it is counted."""

    async def broken(*_arguments: object) -> set[str]:
        raise KeyError("a bug")

    await rig.age(announced_rev=0)
    before = TASK_FAILURES.labels("sweep")._value.get()
    monkeypatch.setattr(rig.store, "outstanding", broken)
    await rig.sweeper.sweep()
    assert TASK_FAILURES.labels("sweep")._value.get() == before + 1
    assert rig.jobs.sent == [(rig.row.id, None)]
    assert kinds(await events_of(rig.log, rig.row)) == ["MessageEvent", "MessageEvent"]


async def test_one_row_of_a_sweep_does_not_keep_others_from_being_dealt_with(rig: Rig) -> None:
    """An answer whose log is broken is counted; the answers beside it are announced, by the same step and the next ones."""
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


async def test_what_is_announced_late_keeps_nobody_waiting(rig: Rig) -> None:
    """After a failover thousands of rows are announced: an answer whose worker dies meanwhile is taken over, another one is cancelled."""
    announcing = asyncio.Event()

    async def never(*_arguments: object) -> Position:
        announcing.set()
        await asyncio.Event().wait()
        raise AssertionError

    rig.log.announce = never  # type: ignore[method-assign]
    conversation = await rig.store.create_conversation("me")
    other = (await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
    await rig.store.mark_enqueued(rig.row.id, other.id)
    await rig.age(announced_rev=0, enqueued_at=await rig.store.now_ms() + 4_000)
    async with sweeping(rig):
        await announcing.wait()
        await rig.store.request_cancel(other.id, "me")
        await rig.die("", "So far")
        await rig.age(enqueued_at=1)
        await until(lambda: rig.jobs.sent == [(rig.row.id, None)])
        while (row := await rig.store.message(other.id)) is None or row.status != "cancelled":
            await asyncio.sleep(0.01)


async def test_rows_are_announced_in_order_within_a_conversation_and_side_by_side_beyond(rig: Rig) -> None:
    """A reader gets the question before the answer; a conversation whose log is slow costs its time once."""
    names = [rig.row.conversation_id]
    for _ in range(3):
        names.append((await rig.store.create_conversation("me")).id)
        await rig.store.post(Post(names[-1], "me", "hi", "m"))
    await rig.age(announced_rev=0)
    announce, told, together = rig.log.announce, list[tuple[str, str]](), asyncio.Event()

    async def meet(conversation_id: str, row_id: str, rev: int, event: events.AnyEvent) -> Position:
        assert isinstance(event, events.MessageEvent)
        told.append((conversation_id, event.message["role"]))
        if len({name for name, _ in told}) == len(names):
            together.set()
        await together.wait()
        return await announce(conversation_id, row_id, rev, event)

    rig.log.announce = meet  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await rig.sweeper.sweep()
    assert [[role for name, role in told if name == conversation] for conversation in names] == [["user", "assistant"]] * 4


async def test_an_outage_while_what_changed_lately_is_looked_for_stops_nobody(rig: Rig) -> None:
    """It is looked for again; takeovers, cancels and deletions go on meanwhile."""
    asked = 0

    async def too_slow(*_arguments: object) -> list[Place]:
        nonlocal asked
        asked += 1
        raise StoreUnavailable("a query that takes too long")

    rig.store.changed_lately = too_slow  # type: ignore[method-assign]
    await rig.die("", "So far")
    async with sweeping(rig):
        await until(lambda: asked > 1 and rig.jobs.sent == [(rig.row.id, None)])
        assert not rig.sweeper.holds_back


async def test_a_row_that_the_database_gave_up_is_left_to_the_next_round(rig: Rig) -> None:
    """Somebody has locked it: no outage, no bug, and nothing for others to wait for."""
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


async def test_a_deletion_whose_log_was_left_is_made_good(rig: Rig) -> None:
    """Redis was away when the conversation was deleted: its log goes as soon as it is back, and readers are told."""
    await rig.log.announce(rig.row.conversation_id, "r", 1, events.Title("t", 1))
    rig.log.go_down()
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id, 900.0)
    rig.log.come_back()
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000"))
    heard: list[bytes] = []
    rig.log.listen(lambda _channel, payload: heard.append(payload))
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    assert heard.count(b"gone") == 1
    with pytest.raises(Gone):
        await rig.log.read(rig.row.conversation_id, None, 0, 0)


async def test_a_removal_that_redis_did_not_hear_of_is_made_good(rig: Rig) -> None:
    """And once more if another server knows nothing of it: what they have open ends, on every process."""
    name = rig.row.conversation_id
    await rig.store.invite(name, "me", "you", 9, 9)
    await rig.store.accept_invitation(name, "you")
    rig.log.go_down()
    await rig.store.remove_participant(name, "you")
    await revocations.tell_or_leave(rig.store, rig.log, name, "you", 60)
    rig.log.come_back()
    assert await rig.log.revoked(name) == set()
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE revocations SET revoked_at = revoked_at - 60000"))
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == {"you"}
    rig.log.restart(lose_data=True)
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == set()
    await rig.sweeper._look_for_another_server()
    await rig.sweeper.sweep()
    assert await rig.log.revoked(name) == {"you"}


async def test_a_deletion_that_a_new_server_has_not_heard_of_is_repeated(rig: Rig) -> None:
    """What survived of the log would be read by whoever still has a token."""
    await rig.log.announce(rig.row.conversation_id, "r", 1, events.Title("t", 1))
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id, 900.0)
    rig.log.restart(lose_data=True)
    await rig.log.read(rig.row.conversation_id, None, 0, 9)
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000"))
    await rig.sweeper._look_for_another_server()
    await rig.sweeper.sweep()
    with pytest.raises(Gone):
        await rig.log.read(rig.row.conversation_id, None, 0, 0)


async def test_a_deletion_that_went_well_leaves_the_sweeper_nothing(rig: Rig) -> None:
    """Rows and log went together."""
    await closing.delete_conversation(rig.store, rig.log, rig.row.conversation_id, 900.0)
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE deleted_conversations SET deleted_at = deleted_at - 60000"))
    heard: list[bytes] = []
    rig.log.listen(lambda _channel, payload: heard.append(payload))
    await rig.sweeper.sweep()
    assert heard == []


async def test_a_drain_sees_jobs_that_are_about_to_begin(rig: Rig) -> None:
    """One that is being recovered is waited for, and handed over as soon as it is an attempt: it does not die with the process."""
    recovering, go_on = asyncio.Event(), asyncio.Event()
    await rig.die("", "Half")
    read = rig.log.read

    async def slow(*arguments: Any) -> Page:
        recovering.set()
        await go_on.wait()
        return await read(*arguments)

    rig.log.read = slow  # type: ignore[method-assign]
    script = Script([[base.Text(" more")], asyncio.Event().wait])  # type: ignore[list-item]
    runner = runner_over(replace(rig.services, lease_seconds=30.0), script, continuation="prefix")
    running = asyncio.create_task(runner.generate(rig.row.id))
    await recovering.wait()
    draining = asyncio.create_task(runner.drain(0.01))
    while not runner._handing_over:
        await asyncio.sleep(0.01)
    go_on.set()
    await draining
    assert running.done()
    row = await rig.reread()
    assert (row.status, row.content) == ("queued", "Half")
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_five_thousand_rows(rig: Rig) -> None:
    """2,000 queued answers of one conversation hide nothing; 3,000 lost jobs elsewhere are all sent in one round; the broker is asked
    once for each page, and for a job that waits for very long by its id."""
    now = await rig.store.now_ms() - LONG_AGO
    columns = "id, conversation_id, ordinal, role, content, reasoning, status, seq, attempt, tries, started_with, rev, announced_rev"
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
    async with rig.store.writing() as session:
        await session.execute(
            text(
                "INSERT INTO conversations (id, listed, user_id, rev, announced_rev, created_at, updated_at) "  # noqa: S608
                f"{counted} SELECT 'c' || i, 1, 'me', 1, 1, {now}, {now} FROM n"
            )
        )
        await session.execute(
            text(
                f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) {counted} "  # noqa: S608
                "SELECT 'm' || i, 'c' || CASE WHEN i <= 2000 THEN 1 ELSE i END, i, 'assistant', '', '', 'queued', 0, 0, 0, 0, 1, 1, 0, "
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
    rig.jobs.known = {"m1": rig.jobs.now_ms() - LOST_JOB_MS, "m2001": rig.jobs.now_ms(), "m2002": rig.jobs.now_ms() - LOST_JOB_MS}
    rig.jobs.queue = {"m1"}
    await rig.sweeper.sweep()
    sent = {message_id for message_id, _ in rig.jobs.sent}
    assert rig.row.id in sent
    assert sent - {rig.row.id} == {"m2002"} | {f"m{number}" for number in range(2003, 5001)}
    assert asked <= 5001 / PAGE + 2


async def test_a_retry_whose_job_was_lost(rig: Rig) -> None:
    """Due and nobody came: the job is sent again."""
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    assert await rig.store.schedule_retry(rig.row.id, 1, 10, 1, 0)
    await rig.age(due_at=1)
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]


async def test_rows_that_were_never_announced(rig: Rig) -> None:
    """A post while Redis was away: both rows reach the log."""
    await rig.age(announced_rev=0)
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    assert kinds(await events_of(rig.log, rig.row)) == ["MessageEvent", "MessageEvent"]


async def test_an_outage_makes_the_sweeper_wait_one_lease(rig: Rig) -> None:
    """After Redis was away, leases of healthy workers have run out too: nobody is robbed before they could renew."""
    await rig.die("", "So far")
    rig.log.go_down()
    running = asyncio.create_task(rig.sweeper.run())
    while not rig.sweeper.holds_back:
        await asyncio.sleep(0)
    rig.log.come_back()
    assert rig.jobs.sent == []
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_provider_that_still_runs_is_attached_to(rig: Rig) -> None:
    """The run goes on after the saved cursor; what the log holds beyond the checkpoint is not said twice; no seam is left."""
    script = Script([[base.Text("One ")], [base.Text("two ")], [base.Text("three"), *DONE]], run_id="run-1")
    await rig.die("", "One two")  # the log holds half of the second batch; the checkpoint below holds the first
    await rig.age(content="One ", epoch=(await rig.log.read(rig.row.conversation_id, None, 0, 0)).epoch, run_id="run-1", run_cursor=1)
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE messages SET seq = 0"))
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert script.asked[0].continuation == base.Continuation("attach", "One two", "run-1", 1)
    assert (row.content, row.status, row.seams) == ("One two three", "complete", [])
    assert text_of(log) == row.content


async def test_a_run_that_is_gone_is_not_attached_to_twice(rig: Rig) -> None:
    """The next attempt asks the model to go on in a turn of its own."""
    await rig.die("", "One")
    await rig.age(run_id="run-1", run_cursor=0)
    await runner_over(rig.services, Script([base.Unavailable("gone", code="run_gone")]), continuation="attach").generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.run_id, row.content) == ("retrying", None, "One")
    await rig.age(due_at=1)
    script = Script([[base.Text(" two"), *DONE]])
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    assert script.asked[0].continuation == base.Continuation("turn", "One")
    assert (await rig.reread()).content == "One two"


async def test_the_name_of_a_run_is_saved_with_the_text(rig: Rig) -> None:
    """A hand-over keeps the run alive and says how far it was followed."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    script = Script([[base.Text("One ")], [base.Text("two")], wait], run_id="run-1")
    runner = runner_over(rig.services, script, continuation="attach")
    running = asyncio.create_task(runner.generate(rig.row.id))
    await begun.wait()
    await runner.drain(0)
    await running
    row = await rig.reread()
    assert (row.content, row.run_id, row.run_cursor) == ("One two", "run-1", 2)
    assert script.kept


async def test_one_broken_connection_is_no_outage(rig: Rig) -> None:
    """Judgement does not wait a lease for what a second call answers."""
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


async def test_a_process_that_drains_hands_its_answers_back(rig: Rig) -> None:
    """Nothing is lost, no try is used up, and a job that arrives now is passed on."""
    begun = asyncio.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    runner = runner_over(rig.services, Script([[base.Text("Half")], wait]), continuation="prefix")
    running = asyncio.create_task(runner.generate(rig.row.id))
    await begun.wait()
    await runner.drain(0)
    await running
    row = await rig.reread()
    assert (row.status, row.content, row.tries) == ("queued", "Half", 0)
    await runner.generate(rig.row.id)
    assert rig.jobs.sent == [(rig.row.id, None), (rig.row.id, None)]
    other = runner_over(rig.services, Script([[base.Text(" and half."), *DONE]]), continuation="prefix")
    await other.generate(rig.row.id)
    assert (await rig.reread()).content == "Half and half."


async def test_a_conversation_is_named_after_its_first_answer(rig: Rig) -> None:
    """By the title model; viewers are told; a title that somebody gave stays."""
    script = Script([[base.Text("Because of scattering."), *DONE]])
    await runner_over(rig.services, script).generate(rig.row.id)
    assert rig.jobs.titles == [rig.row.id]
    catalogue = Catalogue("m", "m", {"m": ModelSpec(name="m", provider="scripted", model="m")}, {})
    models = Models(catalogue, lambda _spec: Script([[base.Text('"Greeting."'), *DONE]]))
    await name_conversation(rig.services, models, rig.row.id)
    await name_conversation(rig.services, models, rig.row.id)
    titles = [event for event in await events_of(rig.log, rig.row) if isinstance(event, events.Title)]
    assert [title.title for title in titles] == ["Greeting"]


async def test_a_title_while_redis_is_away(rig: Rig) -> None:
    """It is stored, the job does not fail, and the sweeper tells viewers."""
    await runner_over(rig.services, Script([[base.Text("Hello."), *DONE]])).generate(rig.row.id)
    rig.log.go_down()
    models = Models(Catalogue("demo", "demo", {}, {}), lambda _spec: Script([]))
    await name_conversation(rig.services, models, rig.row.id)
    rig.log.come_back()
    conversation = await rig.store.conversation_of(rig.row.id)
    assert conversation is not None
    assert (conversation.title, conversation.announced_rev < conversation.rev) == ("hi", True)


async def test_a_title_model_that_fails_costs_nothing(rig: Rig) -> None:
    """The first words serve."""
    catalogue = Catalogue("m", "m", {"m": ModelSpec(name="m", provider="scripted", model="m")}, {})
    models = Models(catalogue, lambda _spec: Script([base.AuthenticationFailed("no")]))
    await name_conversation(rig.services, models, rig.row.id)
    conversation = await rig.store.conversation_of(rig.row.id)
    assert conversation is not None
    assert conversation.title == "hi"
