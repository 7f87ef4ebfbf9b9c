"""models/quotas.py: what a user may store and have waiting, on SQLite and PostgreSQL."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
from sqlalchemy import create_engine, event, func, select
from sqlmodel import col

from tests.databases import sql
from tests.rows import stored_bytes, take_part
from tokenwire.models import database
from tokenwire.models.answers import Ending
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.deletions import UNLISTED_LIFE_MS
from tokenwire.models.engines import driver_url
from tokenwire.models.errors import (
    HistoryTooLong,
    NotFound,
    StorageFull,
    TooManyQueued,
    TooManyUnfinished,
)
from tokenwire.models.quotas import ROW_BYTES, Drift, Quotas, amend
from tokenwire.models.recount import main, recount
from tokenwire.models.responses import PastTurn, Question
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation, Message
from tokenwire.models.threads import ROWS_A_TURN
from tokenwire.models.tool_choices import OwnTool, ToolChoices

ME, OTHER = "me", "other"

Open = Callable[..., Store]


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Open]:
    """Opens stores with quotas on one migrated database."""
    stores: list[Store] = []

    def make(**quotas: int) -> Store:
        stores.append(Store.open(database_url, Quotas(**quotas)))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


@pytest.fixture
def opened_url(database_url: str) -> str:
    """A database in which a sum is wrong."""
    engine = create_engine(driver_url(database_url, asynchronous=False))
    with engine.begin() as connection:
        connection.execute(sql("INSERT INTO storage (user_id, bytes) VALUES ('nobody', 7)"))
    engine.dispose()
    return database_url


async def said(store: Store, conversation_id: str, text: str = "hi", user: str = ME) -> Posted:
    return await store.post(Post(conversation_id, user, text, "demo"))


async def ended(store: Store, answer: Message, text: str = "", reasoning: str = "") -> Message:
    """The answer, ended as a worker would end it."""
    await store.begin_attempt(answer.id, answer.attempt + 1, "demo")
    assert await store.finish(
        Ending(answer.id, answer.attempt + 1, "complete", text, reasoning, "e", 0, "stop")
    )
    found = await store.message(answer.id)
    assert found is not None
    return found


async def asked(store: Store, text: str, follows: Message | None = None, **more: object) -> Message:
    return (
        await store.ask(Question(ME, [PastTurn("user", text)], "demo", follows=follows, **more))
    ).assistant_message  # type: ignore[arg-type]


async def total_text(store: Store) -> tuple[int, int]:
    """Rows of messages, and bytes of text in them, of all users."""
    async with store.reading() as session:
        row = (
            await session.execute(
                select(func.count(), func.coalesce(func.sum(func.length(col(Message.content))), 0))
            )
        ).one()
    return row[0], row[1]


# --- what waits ---


async def test_queued_posts_of_a_conversation_are_limited(opened: Open) -> None:
    """The next one is refused and leaves nothing. A running answer is not queued; other
    conversations do not count.
    """
    store = opened(queued_per_conversation=3)
    conversation = await store.create_conversation(ME)
    answers = [(await said(store, conversation.id)).assistant_message for _ in range(3)]
    with pytest.raises(TooManyQueued):
        await said(store, conversation.id)
    assert (await total_text(store))[0] == 6
    await said(store, (await store.create_conversation(ME)).id)
    await store.begin_attempt(answers[0].id, 1, "demo")
    await said(store, conversation.id)
    with pytest.raises(TooManyQueued):
        await said(store, conversation.id)


async def test_a_cancelled_answer_is_not_queued(opened: Open) -> None:
    """It will not be answered, even before it has ended."""
    store = opened(queued_per_conversation=2)
    conversation = await store.create_conversation(ME)
    answers = [(await said(store, conversation.id)).assistant_message for _ in range(2)]
    await store.request_cancel(answers[1].id, ME)
    await said(store, conversation.id)
    with pytest.raises(TooManyQueued):
        await said(store, conversation.id)


async def test_simultaneous_posts_are_counted(opened: Open) -> None:
    """Speed does not get past either limit."""
    store = opened(queued_per_conversation=3, unfinished_per_user=5)
    first, second = [(await store.create_conversation(ME)).id for _ in range(2)]
    done = await asyncio.gather(
        *(said(store, name) for name in [first, second] * 8), return_exceptions=True
    )
    assert len([posted for posted in done if isinstance(posted, Posted)]) == 5
    assert {type(error) for error in done if isinstance(error, Exception)} <= {
        TooManyQueued,
        TooManyUnfinished,
    }


async def test_unfinished_answers_of_a_user_are_limited(opened: Open) -> None:
    """For posts, regenerations and responses. An end makes room; other users do not count."""
    store = opened(unfinished_per_user=2)
    conversation = await store.create_conversation(ME)
    posted = await said(store, conversation.id)
    first = await ended(store, posted.assistant_message, "a")
    again = (
        await store.regenerate(Regeneration(conversation.id, ME, first.id, "demo"))
    ).assistant_message
    await asked(store, "x")
    for refused in (
        said(store, (await store.create_conversation(ME)).id),
        asked(store, "y"),
        store.regenerate(Regeneration(conversation.id, ME, again.id, "demo", stop_running=True)),
    ):
        with pytest.raises(TooManyUnfinished):
            await refused
    await said(store, (await store.create_conversation(OTHER)).id, user=OTHER)
    await ended(store, again)
    await asked(store, "y")


async def test_the_user_who_asks_is_counted(opened: Open) -> None:
    """A participant uses up their own quota, not the owner's."""
    store = opened(unfinished_per_user=1)
    conversation = await store.create_conversation(ME)
    await take_part(store, conversation.id, OTHER)
    await said(store, conversation.id, user=OTHER)
    await said(store, conversation.id)
    with pytest.raises(TooManyUnfinished):
        await said(store, conversation.id, user=OTHER)


# --- what is stored ---


async def test_an_ended_answer_gives_back_what_it_counted(opened: Open) -> None:
    """Tool calls and kept values too: no more and no less."""
    store = opened()
    await ended(
        store,
        (await said(store, (await store.create_conversation(ME)).id)).assistant_message,
        "stays",
    )
    before = await stored_bytes(store, ME)
    answer = (await said(store, (await store.create_conversation(ME)).id)).assistant_message
    await store.begin_attempt(answer.id, 1, "demo")
    call = {"type": "tool_call", "id": "c", "name": "f", "state": "proposed", "input": "y" * 500}
    kept = [{"part": 0, "dialect": "a", "kind": "k", "value": {"x": "y" * 500}}]
    assert await store.finish(
        Ending(
            *(answer.id, 1, "complete", "text", "", "e", 0, "tool_calls"),
            parts=[call],
            parts_kept=kept,
        )
    )
    assert await stored_bytes(store, ME) > before + 1000
    assert await store.delete_conversation(answer.conversation_id)
    assert await stored_bytes(store, ME) == before


async def test_what_a_user_stores_is_bounded(opened: Open) -> None:
    """Text, answers and other fields of a request count; a refused post leaves nothing."""
    store = opened(stored_bytes_per_user=20 * ROW_BYTES)
    conversation = await store.create_conversation(ME)
    posted = await said(store, conversation.id, "é" * ROW_BYTES)
    await ended(store, posted.assistant_message, "a" * ROW_BYTES, "b" * ROW_BYTES)
    rows = 3  # the conversation and two messages
    assert await stored_bytes(store, ME) == (rows + 2 + 2) * ROW_BYTES
    before = await total_text(store)
    with pytest.raises(StorageFull):
        await said(store, conversation.id, "x" * 12 * ROW_BYTES)
    with pytest.raises(StorageFull):
        await asked(store, "x", asked={"metadata": {"a": "b" * 20 * ROW_BYTES}})
    with pytest.raises(StorageFull):
        await asked(store, "x", instructions="i" * 20 * ROW_BYTES)
    assert await total_text(store) == before
    assert await stored_bytes(store, ME) == 7 * ROW_BYTES


async def test_a_deletion_gives_back_what_was_counted(opened: Open) -> None:
    """Exactly, whatever state its answers are in."""
    store = opened(stored_bytes_per_user=100 * ROW_BYTES)
    conversation = await store.create_conversation(ME, instructions="be kind")
    await take_part(store, conversation.id, OTHER)
    first = (await said(store, conversation.id, "one")).assistant_message
    running = (await said(store, conversation.id, "two")).assistant_message
    await said(store, conversation.id, "three", OTHER)
    await ended(store, first, "answer", "thoughts")
    await store.begin_attempt(running.id, 1, "demo")
    assert await stored_bytes(store, ME) > 5 * ROW_BYTES
    assert await stored_bytes(store, OTHER) == 2 * ROW_BYTES + len("three")
    await store.delete_conversation(conversation.id)
    assert (await stored_bytes(store, ME), await stored_bytes(store, OTHER)) == (0, 0)


async def test_no_more_is_given_back_than_was_counted(opened: Open) -> None:
    """A sum that was too low ends at zero and never gives additional room."""
    store = opened()
    conversation = await store.create_conversation(ME)
    await said(store, conversation.id)
    async with store.writing() as session:
        await session.execute(sql("UPDATE storage SET bytes = 1"))
    await store.delete_conversation(conversation.id)
    assert await stored_bytes(store, ME) == 0


async def test_instructions_count_as_they_change(opened: Open) -> None:
    """Longer ones are refused without room."""
    store = opened(stored_bytes_per_user=4 * ROW_BYTES)
    conversation = await store.create_conversation(ME, instructions="x" * ROW_BYTES)
    await store.change_conversation(conversation.id, ME, {"instructions": "y" * 3 * ROW_BYTES})
    assert await stored_bytes(store, ME) == 4 * ROW_BYTES
    with pytest.raises(StorageFull):
        await store.change_conversation(conversation.id, ME, {"instructions": "z" * 4 * ROW_BYTES})
    await store.change_conversation(conversation.id, ME, {"instructions": None})
    assert await stored_bytes(store, ME) == ROW_BYTES


async def test_instructions_may_always_become_shorter(opened: Open) -> None:
    """Even for a user above a lowered quota."""
    conversation = await opened().create_conversation(ME, instructions="x" * 3 * ROW_BYTES)
    store = opened(stored_bytes_per_user=2 * ROW_BYTES)
    await store.change_conversation(conversation.id, ME, {"instructions": "x" * 2 * ROW_BYTES})
    assert await stored_bytes(store, ME) == 3 * ROW_BYTES
    with pytest.raises(StorageFull):
        await store.change_conversation(
            conversation.id, ME, {"instructions": "x" * (2 * ROW_BYTES + 1)}
        )


async def test_tools_and_a_schema_count_as_they_change(opened: Open) -> None:
    """Together with instructions; other changes cost nothing."""
    store = opened(stored_bytes_per_user=4 * ROW_BYTES)
    long = {"const": "x" * 2 * ROW_BYTES}
    conversation = await store.create_conversation(ME, tools=["add"], response_schema=long)
    before = await stored_bytes(store, ME)
    assert 3 * ROW_BYTES < before < 4 * ROW_BYTES
    await store.change_conversation(conversation.id, ME, {"title": "x" * 100, "model": "m"})
    assert await stored_bytes(store, ME) == before
    for changes in ({"instructions": "x" * ROW_BYTES}, {"tools": ["x" * 64] * 10}):
        with pytest.raises(StorageFull):
            await store.change_conversation(conversation.id, ME, changes)
    await store.change_conversation(conversation.id, ME, {"tools": None, "response_schema": None})
    assert await stored_bytes(store, ME) == ROW_BYTES
    assert await recount(store) == []


async def busy(store: Store) -> None:
    """Rows of every kind, of two users."""
    conversation = await store.create_conversation(ME, instructions="be kind")
    await take_part(store, conversation.id, OTHER)
    first = (await said(store, conversation.id, "one é")).assistant_message
    await ended(store, first, "answer", "thoughts")
    await store.begin_attempt(
        (await said(store, conversation.id, "two")).assistant_message.id, 1, "demo"
    )
    await said(store, conversation.id, "three", OTHER)
    await ended(
        store, await asked(store, "four", instructions="short", asked={"metadata": {"a": "b"}}), "4"
    )


async def test_what_a_request_says_about_tools_counts(opened: Open) -> None:
    """Its own tools may be long. A deletion gives the same back."""
    store = opened()
    conversation = await store.create_conversation(ME)
    brought = OwnTool(name="pick", description="x" * 700, parameters={}, runs_at="client")
    before = await stored_bytes(store, ME)
    await said(store, conversation.id)
    plain = await stored_bytes(store, ME) - before
    await store.post(Post(conversation.id, ME, "hi", "demo", tools=ToolChoices(own=[brought])))
    assert 700 < await stored_bytes(store, ME) - before - 2 * plain < 1000
    assert await recount(store) == []


async def test_sums_equal_the_rows(opened: Open) -> None:
    """After any posts, answers, responses and deletions, a recount finds nothing wrong."""
    store = opened()
    await busy(store)
    gone = await store.create_conversation(OTHER)
    await said(store, gone.id, "gone", OTHER)
    await store.delete_conversation(gone.id)
    assert await recount(store) == []


async def test_a_wrong_sum_is_corrected(opened: Open) -> None:
    """Too high, too low, missing, or of a user without rows; `--look` changes nothing."""
    store = opened()
    await busy(store)
    right = {user: await stored_bytes(store, user) for user in (ME, OTHER)}
    async with store.writing() as session:
        await session.execute(sql("UPDATE storage SET bytes = bytes + 1000 WHERE user_id = 'me'"))
        await session.execute(sql("DELETE FROM storage WHERE user_id = 'other'"))
        await session.execute(sql("INSERT INTO storage (user_id, bytes) VALUES ('nobody', 7)"))
    wrong = [
        Drift(ME, right[ME] + 1000, right[ME]),
        Drift("nobody", 7, 0),
        Drift(OTHER, 0, right[OTHER]),
    ]
    assert await recount(store, amend=False) == wrong
    assert await stored_bytes(store, OTHER) == 0
    assert await recount(store) == wrong
    assert {user: await stored_bytes(store, user) for user in (ME, OTHER, "nobody")} == right | {
        "nobody": 0
    }
    assert await recount(store) == []


async def test_a_post_during_a_recount_is_counted_once(opened: Open) -> None:
    """The sum changes by the difference that was found, and is not set to it."""
    store = opened()
    await busy(store)
    async with store.writing() as session:
        await session.execute(sql("UPDATE storage SET bytes = bytes - 100 WHERE user_id = 'me'"))
    (drift,) = await recount(store, amend=False)
    await busy(store)
    async with store.writing() as session:
        await amend(session, drift)
    assert await recount(store) == []


def test_the_command(
    opened_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the users with wrong sums and corrects them unless `--look` is given."""
    monkeypatch.setenv("DATABASE_URL", opened_url)
    monkeypatch.setenv("MODE", "development")
    for arguments, said in (
        (["--look"], "1 sums are wrong"),
        ([], "1 sums were put right"),
        ([], "0 sums were put right"),
    ):
        assert main(arguments) == 0
        assert capsys.readouterr().out.splitlines()[-1] == said


async def test_an_answer_ends_although_its_sum_is_locked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits a moment, since connections are few, then ends uncounted; a recount corrects the
    sum.
    """
    monkeypatch.setattr(database, "LOCK_SECONDS", 60.0)
    async with aclosing(Store.open(postgres_url, timeout_seconds=120.0)) as store:
        answer = (await said(store, (await store.create_conversation(ME)).id)).assistant_message
        before = await stored_bytes(store, ME)
        async with store.writing() as operator:
            await operator.execute(sql("SELECT * FROM storage FOR UPDATE"))
            began = time.monotonic()
            assert (await ended(store, answer, "x" * 100)).status == "complete"
            assert time.monotonic() - began < 20, "less than what any other statement would wait"
        assert await recount(store) == [Drift(ME, before, before + 100)]


# --- chains ---


async def test_a_follow_up_stores_only_its_own_text(opened: Open) -> None:
    """The attack: long questions, then short follow-ups. The table grows by the short ones
    alone.
    """
    store = opened()
    answer = await ended(store, await asked(store, "x" * 100_000), "a" * 1000)
    rows, text = await total_text(store)
    for _ in range(10):
        answer = await ended(store, await asked(store, "more", answer), "ok")
    assert await total_text(store) == (rows + 20, text + 10 * len("moreok"))
    history = await store.history(answer.conversation_id, answer.ordinal)
    assert [row.content[:4] for row in history] == ["xxxx", "aaaa", *["more", "ok"] * 9, "more"]


async def test_a_chain_does_not_change(opened: Open) -> None:
    """An answer of an ordinary conversation is followed: later posts and edits there change
    nothing.
    """
    store = opened()
    conversation = await store.create_conversation(ME)
    first = await ended(store, (await said(store, conversation.id, "one")).assistant_message, "1")
    second = await ended(store, (await said(store, conversation.id, "two")).assistant_message, "2")
    following = await asked(store, "three", second)
    await store.regenerate(Regeneration(conversation.id, ME, first.id, "demo"))
    await said(store, conversation.id, "four")
    assert [
        row.content for row in await store.history(following.conversation_id, following.ordinal)
    ] == ["one", "1", "two", "2", "three"]
    assert [row.content for row in await store.rows(await store.input_ids(following, ME))] == [
        "one",
        "1",
        "two",
        "2",
        "three",
    ]


async def test_a_deleted_chain_is_not_followed(opened: Open) -> None:
    """Never in part: the missing message is reported."""
    store = opened()
    first = await ended(store, await asked(store, "one"), "1")
    second = await ended(store, await asked(store, "two", first), "2")
    waiting = await asked(store, "three", second)
    await store.delete_conversation(first.conversation_id)
    with pytest.raises(NotFound):
        await asked(store, "four", second)
    with pytest.raises(NotFound):
        await store.history(waiting.conversation_id, waiting.ordinal)
    assert [row.content for row in await store.rows(await store.input_ids(waiting, ME))] == [
        "two",
        "2",
        "three",
    ]


async def test_a_deleted_end_is_not_followed(opened: Open) -> None:
    """An answer needs all that it follows."""
    store = opened()
    first = await ended(store, await asked(store, "one"), "1")
    waiting = await asked(store, "two", first)
    await store.delete_conversation(first.conversation_id)
    with pytest.raises(NotFound):
        await asked(store, "three", first)
    with pytest.raises(NotFound):
        await store.history(waiting.conversation_id, waiting.ordinal)


async def test_a_history_has_a_limit(opened: Open) -> None:
    """In bytes: a longer chain is not followed, and a longer conversation is not read."""
    store = opened(history_bytes=12_000)
    first = await ended(store, await asked(store, "x" * 6000), "1")
    second = await ended(store, await asked(store, "y" * 3000, first), "2")
    with pytest.raises(HistoryTooLong):
        await asked(store, "z" * 1500, second)
    assert (
        len(
            await store.history(
                (third := await asked(store, "z", second)).conversation_id, third.ordinal
            )
        )
        == 5
    )
    conversation = await store.create_conversation(ME)
    for _ in range(3):
        last = (await said(store, conversation.id, "x" * 4000)).assistant_message
    with pytest.raises(HistoryTooLong):
        await store.history(conversation.id, last.ordinal)


async def test_a_history_above_the_limit_is_not_incomplete(opened: Open) -> None:
    """Even if some of its rows are as long as the limit: what precedes them was not deleted."""
    store, lowered = opened(), opened(history_bytes=2 * ROW_BYTES + 4)
    first = await ended(store, await asked(store, "one"), "1")
    second = await ended(store, await asked(store, "two", first), "2")
    third = await asked(store, "three", second)
    with pytest.raises(HistoryTooLong):
        await lowered.history(third.conversation_id, third.ordinal)


async def test_a_single_answer_above_the_limit_is_not_followed(opened: Open) -> None:
    """It is distinguished from a deleted one, and is sent to nobody."""
    store = opened(history_bytes=12_000)
    long = await ended(store, await asked(store, "one"), "a" * 12_000)
    with pytest.raises(HistoryTooLong):
        await asked(store, "more", long)
    following = await asked(
        opened(), "more", long
    )  # as a conversation from before the limit was lowered
    with pytest.raises(HistoryTooLong):
        await store.history(following.conversation_id, following.ordinal)
    with pytest.raises(HistoryTooLong):
        await store.input_ids(following, ME)


async def test_very_many_short_messages_are_a_long_history(opened: Open) -> None:
    """Each has its price besides its text, in this request or an earlier one."""
    store = opened(history_bytes=20 * ROW_BYTES)
    with pytest.raises(HistoryTooLong):
        await store.ask(Question(ME, [PastTurn("user", "x")] * 20, "demo"))
    posted = await store.ask(Question(ME, [PastTurn("user", "x")] * 19, "demo"))
    row = posted.assistant_message
    assert len(await store.history(row.conversation_id, row.ordinal)) == 19


async def test_a_chain_lives_as_long_as_its_last_follow_up(opened: Open) -> None:
    """Old messages are deleted and given back once nothing recent follows them."""
    store = opened()
    first = await ended(store, await asked(store, "one"), "1")
    second = await ended(store, await asked(store, "two", first), "2")
    third = await asked(store, "three", second)
    lone = await asked(store, "lone")
    await _age(store, first, second, lone)
    await store.forget_unlisted()
    assert [await store.message(row.id) is not None for row in (first, second, third, lone)] == [
        True,
        True,
        True,
        False,
    ]
    await _age(store, third)
    await store.forget_unlisted()
    assert [await store.message(row.id) for row in (first, second, third)] == [None, None, None]
    assert await stored_bytes(store, ME) == 0


async def _age(store: Store, *answers: Message) -> None:
    async with store.writing() as session:
        for answer in answers:
            found = await session.get(Conversation, answer.conversation_id)
            assert found is not None
            found.updated_at -= UNLISTED_LIFE_MS + 1000


async def test_a_long_history_does_not_block_the_loop(opened: Open) -> None:
    """Its rows are built in slices: a worker's loop serves many answers."""
    store, turns = opened(), 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    said = [PastTurn("user", f"{number}") for number in range(10 * ROWS_A_TURN)]
    row = (await store.ask(Question(ME, said, "demo"))).assistant_message
    made: Counter[int] = Counter()

    def count(_target: object, _context: object) -> None:
        made[turns] += 1

    event.listen(Message, "load", count)
    beside = asyncio.create_task(others())
    try:
        history = await store.history(row.conversation_id, row.ordinal)
    finally:
        event.remove(Message, "load", count)
        beside.cancel()
    assert [message.content for message in history] == [one.content for one in said]
    assert made.total() == len(said)
    assert max(made.values()) <= ROWS_A_TURN
