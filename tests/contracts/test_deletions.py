"""models/deletions.py on SQLite and PostgreSQL: deleted and expired rows go, in any number,
whatever blocks some of them.
"""

from collections.abc import Sequence

import psycopg
import pytest
from sqlalchemy import event

from tests.contracts.calls import DAY, call, checkpoint
from tests.databases import prefixed, sql
from tests.rows import stored_bytes
from tokenwire.models import database, deletions
from tokenwire.models.deletions import KEY_LIFE_MS, UNLISTED_LIFE_MS
from tokenwire.models.responses import PastTurn, Question
from tokenwire.models.store import Store

ME = "me"
PAGE = 10


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows count as very many."""
    monkeypatch.setattr(deletions, "ROWS_AT_A_TIME", PAGE)
    monkeypatch.setattr(deletions, "CONVERSATIONS_AT_A_TIME", 3)


async def single(store: Store, messages: int, *, old: bool = True) -> str:
    """The id of a conversation with a single answer after that many messages."""
    posted = await store.ask(
        Question(ME, [PastTurn("user", f"said {number}") for number in range(messages)], "demo")
    )
    name = posted.assistant_message.conversation_id
    if old:
        await age(store, "updated_at", name)
    return name


async def age(store: Store, column: str, *names: str, by: int = UNLISTED_LIFE_MS + 60_000) -> None:
    """Set back a time of these conversations."""
    async with store.writing() as session:
        change = sql(f"UPDATE conversations SET {column} = {column} - :by WHERE id = :id")
        for name in names:
            await session.execute(change, {"by": by, "id": name})


async def left_of(store: Store, names: Sequence[str]) -> list[str]:
    """Which of them are there after expired ones went."""
    await store.forget_unlisted()
    async with store.reading() as session:
        there = set(await session.scalars(sql("SELECT id FROM conversations")))
    return [name for name in names if name in there]


async def left(store: Store, table: str = "conversations") -> int:
    async with store.reading() as session:
        return int((await session.execute(sql(f"SELECT count(*) FROM {table}"))).scalar_one())


def largest_deletion(store: Store) -> list[int]:
    """How many messages each statement deletes from now on."""
    counts = list[int]()

    @event.listens_for(store._engine.sync_engine, "after_cursor_execute")
    def _executed(_connection: object, cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith(prefixed("DELETE FROM messages")):
            counts.append(cursor.rowcount)  # type: ignore[attr-defined]

    return counts


async def test_a_long_conversation_goes_page_by_page(store: Store) -> None:
    """No transaction deletes more rows than it can in time; the quota gets back what was
    counted.
    """
    name = await single(store, 3 * PAGE + 2, old=False)
    counts = largest_deletion(store)
    assert await store.delete_conversation(name)
    assert counts == [PAGE] * 3
    assert (await left(store), await left(store, "messages"), await stored_bytes(store, ME)) == (
        0,
        0,
        0,
    )
    assert not await store.delete_conversation(name)


async def test_each_deleted_page_leaves_a_conversation(store: Store) -> None:
    """If the deletion breaks off, the rest is a shorter conversation that counts what it holds."""
    name = await single(store, 2 * PAGE, old=False)
    short = await single(store, PAGE - 1, old=False)
    async with store.writing() as session:
        assert await deletions._delete_newest(session, name)
        assert not await deletions._delete_newest(session, short)
    async with store.reading() as session:
        query = sql("SELECT ordinal FROM messages WHERE conversation_id = :id ORDER BY ordinal")
        assert list(await session.scalars(query, {"id": name})) == list(range(1, PAGE + 2))
    for one in (name, short):
        await store.delete_conversation(one)
    assert await stored_bytes(store, ME) == 0


async def test_expired_rows_go_in_bounded_transactions(store: Store) -> None:
    """Short conversations together, a long one alone; young and listed ones stay."""
    for messages in (1, 2 * PAGE, 1, 4, 4, 1, 3 * PAGE):
        await single(store, messages)
    young, listed = await single(store, 2, old=False), (await store.create_conversation(ME)).id
    counts = largest_deletion(store)
    await store.forget_unlisted()
    assert set(counts) == {PAGE}
    async with store.reading() as session:
        assert set(await session.scalars(sql("SELECT id FROM conversations"))) == {young, listed}


async def test_a_call_that_may_be_allowed_keeps_its_answer(store: Store) -> None:
    """A day longer than the decision may come, and no call of another attempt."""
    names = list[str]()
    for attempt, keep_ms in ((1, 7 * DAY), (2, 7 * DAY), (1, None)):
        posted = await store.ask(Question(ME, [PastTurn("user", "hi")], "demo"))
        answer = posted.assistant_message
        names.append(answer.conversation_id)
        assert await store.begin_attempt(answer.id, 1, "demo")
        left = call(0, runs_at="caller", keep_ms=keep_ms)
        assert await store.prove_turn(checkpoint(answer.id, attempt, 1), [left]) == (attempt == 1)
    await age(store, "updated_at", *names)
    assert await left_of(store, names) == names[:1]
    await age(store, "kept_until", names[0], by=7 * DAY)
    assert await left_of(store, names) == names[:1]
    await age(store, "kept_until", names[0])
    assert await left_of(store, names) == []


async def test_a_locked_conversation_delays_no_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even the oldest: all others are deleted, and the locked one at the next run."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.2)
    store = Store.open(postgres_url)
    try:
        names = [await single(store, 1) for _ in range(5)]
        with psycopg.connect(postgres_url) as other:
            other.execute(
                prefixed("SELECT id FROM messages WHERE conversation_id = %s FOR UPDATE"),
                (names[0],),
            )
            await store.forget_unlisted()
            assert await left(store) == 1
        await store.forget_unlisted()
        assert await left(store) == 0
    finally:
        await store.aclose()


async def test_other_rows_go_in_pages(store: Store) -> None:
    """Keys and deletions: all that have expired and no others."""
    async with store.writing() as session:
        now = await store.now_ms()
        for number in range(2 * PAGE + 1):
            for age, kind in ((KEY_LIFE_MS + 60_000, "old"), (0, "new")):
                values = {"key": f"{kind}{number}", "at": now - age}
                await session.execute(
                    sql("INSERT INTO idempotency_keys VALUES ('me', 'r', :key, 'h', '{}', :at)"),
                    values,
                )
                await session.execute(
                    sql("INSERT INTO deleted_conversations VALUES (:key, :at, true)"), values
                )
    await store.forget_keys()
    await store.forget_deleted(KEY_LIFE_MS)
    for table in ("idempotency_keys", "deleted_conversations"):
        assert await left(store, table) == 2 * PAGE + 1


async def test_a_deletion_is_kept_until_redis_knows_it(store: Store) -> None:
    """However old it is: the sweeper has yet to delete the log."""
    name = (await store.create_conversation("me")).id
    await store.delete_conversation(name)
    long_ago = -60_000  # everything up to a minute from now
    await store.forget_deleted(long_ago)
    assert await left(store, "deleted_conversations") == 1
    await store.log_deleted(name)
    await store.forget_deleted(long_ago)
    assert await left(store, "deleted_conversations") == 0
