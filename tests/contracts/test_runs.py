"""Provider runs: unneeded ones are found from the rows alone, however their answer ended."""

import pytest

from tests.databases import sql
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Post
from tokenwire.models.runs import RunToEnd, outstanding
from tokenwire.models.store import Store

ME = "me"
LONGEST_WAIT_MS = 300_000


async def answer(store: Store) -> str:
    """The id of an answer that its first attempt has begun."""
    conversation = await store.create_conversation(ME)
    posted = await store.post(Post(conversation.id, ME, "hi", "m"))
    assert await store.begin_attempt(posted.assistant_message.id, 1, "m")
    return posted.assistant_message.id


def at(
    message_id: str,
    attempt: int,
    run_id: str | None,
    content: str = "",
    seq: int = 5,
    saves: int = 0,
) -> Checkpoint:
    return Checkpoint(
        message_id,
        attempt,
        content,
        "",
        "e1",
        seq,
        run_id,
        0 if run_id else None,
        saves=saves,
    )


def ending(message_id: str, attempt: int, status: str = "cancelled") -> Ending:
    return Ending(message_id, attempt, status, "", "", "e1", 9)  # type: ignore[arg-type]


async def to_end(store: Store) -> list[tuple[str, str]]:
    return [(run.message_id, run.run_id) for run in await store.runs_to_end(10, LONGEST_WAIT_MS)]


async def test_the_name_of_a_run_is_saved_with_its_text(store: Store) -> None:
    """A successor reads both from one row."""
    message_id = await answer(store)
    assert await store.begin_run("run", "m", at(message_id, 1, "run", "held"))
    row = await store.message(message_id)
    assert row is not None
    assert (row.run_id, row.run_cursor, row.content, row.seq, row.epoch) == (
        "run",
        0,
        "held",
        5,
        "e1",
    )
    assert await to_end(store) == []


@pytest.mark.parametrize("status", ["cancelled", "error", "complete"])
async def test_the_run_of_an_ended_answer_is_to_be_ended(store: Store, status: str) -> None:
    """Unless the provider has proved its end."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.finish(ending(message_id, 1, status))
    assert await store.runs_to_end(10, LONGEST_WAIT_MS) == [RunToEnd(message_id, "run", "m", 0)]
    await store.run_ended(message_id, "run")
    assert await to_end(store) == []


async def test_an_answer_may_leave_several_runs(store: Store) -> None:
    """The end of one says nothing about the others."""
    message_id = await answer(store)
    for run in ("first", "second"):
        await store.begin_run(run, "m", at(message_id, 1, run))
    assert await store.finish(ending(message_id, 1))
    assert sorted(await to_end(store)) == [(message_id, "first"), (message_id, "second")]
    await store.run_ended(message_id, "first")
    assert await to_end(store) == [(message_id, "second")]


async def test_the_run_of_a_deleted_answer_is_to_be_ended(store: Store) -> None:
    """Its row outlives the conversation."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    row = await store.message(message_id)
    assert row is not None
    await store.delete_conversation(row.conversation_id)
    assert await to_end(store) == [(message_id, "run")]


async def test_the_run_of_an_answer_between_two_attempts_is_wanted(store: Store) -> None:
    """A due retry, a hand-over, a dead worker: the next attempt attaches to it."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.schedule_retry(message_id, 1, 5_000, 1, 0)
    assert await to_end(store) == []
    assert await store.begin_attempt(message_id, 2, "m")
    assert await to_end(store) == []


async def test_an_abandoned_run_is_to_be_ended(store: Store) -> None:
    """A later attempt has made a new request: nobody needs the older run."""
    message_id = await answer(store)
    await store.begin_run("old", "m", at(message_id, 1, "old"))
    assert await store.begin_attempt(message_id, 2, "m")
    assert await store.begin_run("new", "m", at(message_id, 2, "new"))
    assert await to_end(store) == [(message_id, "old")]


async def test_a_run_without_a_name_in_its_row_is_to_be_ended(store: Store) -> None:
    """It could not be attached to; its attempt has ended, whatever the next one does."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.checkpoint([at(message_id, 1, None)])
    assert await to_end(store) == []  # the attempt still reads it
    assert await store.schedule_retry(message_id, 1, 5_000, 1, 0)
    assert await to_end(store) == [(message_id, "run")]


@pytest.mark.parametrize("late", [True, False])
async def test_a_late_checkpoint_forgets_no_run(store: Store, late: bool) -> None:
    """It was taken before the run had a name. In either order of commits, the row holds what was
    taken last.
    """
    message_id = await answer(store)

    async def earlier() -> None:
        await store.checkpoint([at(message_id, 1, None, "ten", 10, saves=1)])

    if not late:
        await earlier()
    assert await store.begin_run("run", "m", at(message_id, 1, "run", "twelve", 12, saves=2))
    if late:
        await earlier()
    row = await store.message(message_id)
    assert row is not None
    assert (row.run_id, row.content, row.seq) == ("run", "twelve", 12)


@pytest.mark.parametrize("saved_since", [True, False])
async def test_a_late_name_of_a_run_keeps_newer_text(store: Store, saved_since: bool) -> None:
    """A later checkpoint also names the run. The attempt that saves the name still owns the
    answer.
    """
    message_id = await answer(store)
    newer = at(message_id, 1, "run", "twelve", 12, saves=2)
    if saved_since:
        await store.checkpoint([newer])
    assert await store.begin_run("run", "m", at(message_id, 1, "run", "ten", 10, saves=1))
    if not saved_since:
        await store.checkpoint([newer])
    row = await store.message(message_id)
    assert row is not None
    assert (row.run_id, row.content, row.seq) == ("run", "twelve", 12)


async def test_a_late_checkpoint_after_a_hand_over(store: Store) -> None:
    """The successor resumes the text that was handed over; its own first checkpoint counts."""
    message_id = await answer(store)
    assert await store.hand_back(at(message_id, 1, "run", "twelve", 12, saves=9), 0)
    await store.checkpoint([at(message_id, 1, None, "ten", 10, saves=8)])
    row = await store.begin_attempt(message_id, 2, "m")
    assert row is not None
    assert (row.run_id, row.content) == ("run", "twelve")
    await store.checkpoint([at(message_id, 2, None, "thirteen", 13, saves=1)])
    again = await store.message(message_id)
    assert again is not None
    assert again.content == "thirteen"


async def test_a_set_back_clock_delays_no_end(store: Store) -> None:
    """A due time further ahead than any that we set was noted by another clock: the run is due. One
    that we put off is not.
    """
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.finish(ending(message_id, 1))
    for ahead, due in ((3_600_000, True), (LONGEST_WAIT_MS - 60_000, False), (-1, True)):
        async with store.writing() as session:
            await session.execute(
                sql("UPDATE provider_runs SET due_at = :at"), {"at": await store.now_ms() + ahead}
            )
        assert await to_end(store) == ([(message_id, "run")] if due else [])


async def test_a_run_belongs_to_the_attempt_that_attached(store: Store) -> None:
    """A checkpoint between two halves of a character has no offset in the run: the run is still
    needed.
    """
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.begin_attempt(message_id, 2, "m")
    assert await store.begin_run("run", "m", at(message_id, 2, "run", "more"))
    await store.checkpoint([at(message_id, 2, None, "more and")])
    assert await to_end(store) == []


async def test_a_fenced_attempt_takes_no_run_back(store: Store) -> None:
    """Its late note changes nothing: the run belongs to the attempt that attached since."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    assert await store.begin_attempt(message_id, 2, "m")
    assert await store.begin_run("run", "m", at(message_id, 2, "run", "more"))
    await store.note_run("run", "m", message_id, 1)
    await store.checkpoint([at(message_id, 2, None, "more and")])
    assert await to_end(store) == []


@pytest.mark.parametrize("gone", [True, False])
async def test_a_name_that_comes_after_the_answer_is_lost(store: Store, gone: bool) -> None:
    """A fenced worker, or one whose conversation was deleted, learns the run's name: it cannot
    write the row, and the run is to be ended.
    """
    message_id = await answer(store)
    row = await store.message(message_id)
    assert row is not None
    if gone:
        await store.delete_conversation(row.conversation_id)
    else:
        assert await store.begin_attempt(message_id, 2, "m")
    assert not await store.begin_run("late", "m", at(message_id, 1, "late"))
    assert await to_end(store) == [(message_id, "late")]


async def test_the_end_of_a_run_is_claimed(store: Store) -> None:
    """Two sweepers read the same list; one calls the provider, and the run is due again after the
    pause.
    """
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.finish(ending(message_id, 1))
    (run,) = await store.runs_to_end(10, LONGEST_WAIT_MS)
    assert await store.try_to_end(run, 60_000)
    assert not await store.try_to_end(run, 60_000)
    assert await to_end(store) == []
    async with store.writing() as session:
        await session.execute(sql("UPDATE provider_runs SET due_at = due_at - 60000"))
    assert [found.tries for found in await store.runs_to_end(10, LONGEST_WAIT_MS)] == [1]


async def test_a_run_that_is_given_up_stays_for_operators(store: Store) -> None:
    """It is not tried again; its row names it."""
    message_id = await answer(store)
    await store.begin_run("run", "m", at(message_id, 1, "run"))
    await store.finish(ending(message_id, 1))
    (run,) = await store.runs_to_end(10, LONGEST_WAIT_MS)
    assert await store.try_to_end(run, None)
    assert await to_end(store) == []
    async with store.reading() as session:
        assert list(
            await session.scalars(sql("SELECT run_id FROM provider_runs WHERE due_at IS NULL"))
        ) == ["run"]


async def test_runs_are_found_without_reading_the_messages(store: Store) -> None:
    """By the index of due runs and the key of the message, however many messages there are."""
    ids = [await answer(store) for _ in range(3)]
    for message_id in ids:
        await store.begin_run("run", "m", at(message_id, 1, "run"))
    async with store.writing() as session:
        columns = (
            "id, conversation_id, ordinal, role, content, reasoning, status, seq, "
            "attempt, tries, started_with, rev, announced_rev"
        )
        row = await store.message(ids[0])
        assert row is not None
        shared = (
            f"'{row.conversation_id}', %d, 'assistant', '', '', 'complete', 0, 1, 0, 0, 1, "
            f"1, true, 0, 0"
        )
        values = ", ".join(f"('x{number}', {shared % (number + 10)})" for number in range(3_000))
        await session.execute(
            sql(
                f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) "
                f"VALUES {values}"
            )
        )
        await session.execute(sql("ANALYZE"))
    query = outstanding(100, LONGEST_WAIT_MS).compile(
        store._engine.sync_engine, compile_kwargs={"literal_binds": True}
    )
    async with store.reading() as session:
        told = await session.execute(
            sql(f"{'EXPLAIN QUERY PLAN' if store.is_sqlite else 'EXPLAIN'} {query}")
        )
    plan = [str(line) for line in told]
    assert plan
    assert not [
        line for line in plan if "messages" in line and ("Seq Scan" in line or "SCAN" in line)
    ], plan
