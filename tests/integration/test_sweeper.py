"""worker.sweeper and worker.runner on a real database: work that nobody does is found and done, and what died is accounted for."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from config.catalogue import Catalogue, ModelSpec
from models.conversations import Post
from models.generations import Ending
from models.migrate import migrate
from models.store import Store
from models.tables import Message as Row
from providers import base
from streams import events
from streams.memory import MemoryLog
from streams.ports import UNHEARD_SECONDS
from tests.integration.worker_rig import NoJobs, Script, events_of, kinds, runner_over, services_over, text_of
from worker.enqueue import JobsUnavailable
from worker.runner import Models
from worker.services import Services
from worker.sweeper import Sweeper
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
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Cancelled"


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
