"""Provider runs: what nobody wants any longer is found by the rows alone, whichever way its answer ended."""

import pytest
from sqlalchemy import text

from models.conversations import Post
from models.generations import Checkpoint, Ending
from models.runs import RunToEnd, outstanding
from models.store import Store

ME = "me"


async def answer(store: Store) -> str:
    """The id of an answer that its first attempt has begun."""
    conversation = await store.create_conversation(ME)
    posted = await store.post(Post(conversation.id, ME, "hi", "m"))
    assert await store.begin_attempt(posted.assistant_message.id, 1, "m")
    return posted.assistant_message.id


def at(message_id: str, attempt: int, run_id: str | None, content: str = "") -> Checkpoint:
    return Checkpoint(message_id, attempt, content, "", None, "e1", 5, run_id, 0 if run_id else None)


def ending(message_id: str, attempt: int, status: str = "cancelled") -> Ending:
    return Ending(message_id, attempt, status, "", "", None, "e1", 9)  # type: ignore[arg-type]


async def to_end(store: Store) -> list[tuple[str, str]]:
    return [(run.message_id, run.run_id) for run in await store.runs_to_end(10)]


async def test_the_name_of_a_run_is_saved_with_the_text_that_it_goes_on_from(store: Store) -> None:
    """A successor reads both from one row."""
    message_id = await answer(store)
    assert await store.begin_run("run", "m", at(message_id, 1, "run", "held"))
    row = await store.message(message_id)
    assert row is not None
    assert (row.run_id, row.run_cursor, row.content, row.seq, row.epoch) == ("run", 0, "held", 5, "e1")
    assert await to_end(store) == []


@pytest.mark.parametrize("status", ["cancelled", "error", "complete"])
async def test_the_run_of_an_answer_that_has_ended_is_to_be_ended(store: Store, status: str) -> None:
    """Unless somebody proved that it has ended."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.finish(ending(message_id, 1, status))
    assert await store.runs_to_end(10) == [RunToEnd(message_id, "run", "m", 0)]
    await store.run_ended(message_id, "run")
    assert await to_end(store) == []


async def test_the_run_of_a_deleted_answer_is_to_be_ended(store: Store) -> None:
    """Its row outlives the conversation."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    row = await store.message(message_id)
    assert row is not None
    await store.delete_conversation(row.conversation_id)
    assert await to_end(store) == [(message_id, "run")]


async def test_the_run_of_an_answer_between_two_attempts_is_wanted(store: Store) -> None:
    """A retry that is due, a hand-over, a worker that died: the next attempt attaches to it."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.schedule_retry(message_id, 1, 5_000, 1, 0)
    assert await to_end(store) == []
    assert await store.begin_attempt(message_id, 2, "m")
    assert await to_end(store) == []


async def test_a_run_that_the_answer_goes_on_without_is_to_be_ended(store: Store) -> None:
    """A later attempt has asked anew: the older run is of no use to anybody."""
    message_id = await answer(store)
    await store.begin_run("old", "m", at(message_id, 1, "old"))
    assert await store.begin_attempt(message_id, 2, "m")
    assert await store.begin_run("new", "m", at(message_id, 2, "new"))
    assert await to_end(store) == [(message_id, "old")]


async def test_a_run_that_was_forgotten_is_to_be_ended(store: Store) -> None:
    """It could not be attached to; its attempt has ended, whatever the next one does."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.checkpoint([at(message_id, 1, None)])
    assert await to_end(store) == []  # the attempt still reads it
    assert await store.schedule_retry(message_id, 1, 5_000, 1, 0)
    assert await to_end(store) == [(message_id, "run")]


async def test_a_run_that_is_attached_to_belongs_to_the_attempt_that_attached(store: Store) -> None:
    """A checkpoint between two pieces of a character has no place in the run: the run is wanted all the same."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.begin_attempt(message_id, 2, "m")
    assert await store.begin_run("run", "m", at(message_id, 2, "run", "more"))
    await store.checkpoint([at(message_id, 2, None, "more and")])
    assert await to_end(store) == []


@pytest.mark.parametrize("gone", [True, False])
async def test_a_name_that_comes_after_the_answer_was_taken_away(store: Store, gone: bool) -> None:
    """A worker that was fenced off, or whose conversation was deleted, learns what it has begun: the row is not its own, the run is to be
    ended."""
    message_id = await answer(store)
    row = await store.message(message_id)
    assert row is not None
    if gone:
        await store.delete_conversation(row.conversation_id)
    else:
        assert await store.begin_attempt(message_id, 2, "m")
    assert not await store.begin_run("late", "m", at(message_id, 1, "late"))
    assert await to_end(store) == [(message_id, "late")]


async def test_who_ends_a_run_tells_the_others(store: Store) -> None:
    """Two sweepers see the same list; one of them calls the provider, and comes back after the pause."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.finish(ending(message_id, 1))
    (run,) = await store.runs_to_end(10)
    assert await store.try_to_end(run, 60_000)
    assert not await store.try_to_end(run, 60_000)
    assert await to_end(store) == []
    async with store.writing() as session:
        await session.execute(text("UPDATE provider_runs SET due_at = due_at - 60000"))
    assert [found.tries for found in await store.runs_to_end(10)] == [1]


async def test_a_run_that_is_given_up_stays_to_be_looked_at(store: Store) -> None:
    """It is not tried again; its row names it."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.finish(ending(message_id, 1))
    (run,) = await store.runs_to_end(10)
    assert await store.try_to_end(run, None)
    assert await to_end(store) == []
    async with store.reading() as session:
        assert list(await session.scalars(text("SELECT run_id FROM provider_runs WHERE due_at IS NULL"))) == ["run"]


async def test_runs_are_found_without_reading_the_messages(store: Store) -> None:
    """By the index of what is due and the key of the message, however many messages there are."""
    ids = [await answer(store) for _ in range(3)]
    for message_id in ids:
        await store.begin_run("run", "m", at(message_id, 1, "run"))
    async with store.writing() as session:
        columns = "id, conversation_id, ordinal, role, content, reasoning, status, seq, attempt, tries, started_with, rev, announced_rev"
        row = await store.message(ids[0])
        assert row is not None
        shared = f"'{row.conversation_id}', %d, 'assistant', '', '', 'complete', 0, 1, 0, 0, 1, 1, true, 0, 0"
        values = ", ".join(f"('x{number}', {shared % (number + 10)})" for number in range(3_000))
        await session.execute(text(f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) VALUES {values}"))  # noqa: S608
        await session.execute(text("ANALYZE"))
    query = outstanding(100).compile(store._engine.sync_engine, compile_kwargs={"literal_binds": True})
    async with store.reading() as session:
        told = await session.execute(text(f"{'EXPLAIN QUERY PLAN' if store.is_sqlite else 'EXPLAIN'} {query}"))
    plan = [str(line) for line in told]
    assert plan
    assert not [line for line in plan if "messages" in line and ("Seq Scan" in line or "SCAN" in line)], plan
