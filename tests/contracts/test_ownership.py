"""Who may write to an answer: its current attempt until it ends. Also the promises of SQLite's
transactions.
"""

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.databases import create_tables
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.sweeps import Due
from tokenwire.models.tables import Message

ME = "me"
DUE = Due(0, 0, 0, 0, 0, 0)
Write = Callable[[Store, str, int], Awaitable[Any]]


async def answer(store: Store, attempt: int = 0, conversation_id: str | None = None) -> str:
    """A posted answer, begun by that attempt (0: by none yet)."""
    conversation_id = conversation_id or (await store.create_conversation(ME)).id
    message_id = (await store.post(Post(conversation_id, ME, "hi", "demo"))).assistant_message.id
    if attempt:
        assert await store.begin_attempt(message_id, attempt, "demo")
    return message_id


def saved(message_id: str, attempt: int) -> Checkpoint:
    return Checkpoint(message_id, attempt, "stolen", "", "e9", 99)


def ending(message_id: str, attempt: int) -> Ending:
    return Ending(message_id, attempt, "complete", "stolen", "", "e9", 99, "length")


async def _checkpoint(store: Store, message_id: str, attempt: int) -> None:
    await store.checkpoint([saved(message_id, attempt)])


WRITES: dict[str, Write] = {
    "checkpoint": _checkpoint,
    "hand_back": lambda store, message_id, attempt: store.hand_back(saved(message_id, attempt), 0),
    "finish": lambda store, message_id, attempt: store.finish(ending(message_id, attempt)),
    "schedule_retry": lambda store, message_id, attempt: store.schedule_retry(
        message_id, attempt, 1000, 2, 0
    ),
    "begin_attempt": lambda store, message_id, attempt: store.begin_attempt(
        message_id, attempt, "other"
    ),
    "note_attempt": lambda store, message_id, attempt: store.note_attempt(
        message_id, attempt, 3, 7
    ),
}


async def whole(store: Store, message_id: str) -> dict[str, Any]:
    row = await store.message(message_id)
    assert row is not None
    return row.model_dump()


@pytest.mark.parametrize("write", WRITES)
async def test_an_older_attempt_changes_nothing(store: Store, write: str) -> None:
    """Its worker was taken for dead and woke up."""
    message_id = await answer(store, 2)
    before = await whole(store, message_id)
    assert not await WRITES[write](store, message_id, 1)
    assert await whole(store, message_id) == before


@pytest.mark.parametrize("write", sorted(set(WRITES) - {"note_attempt"}))
async def test_an_ended_answer_changes_no_more(store: Store, write: str) -> None:
    """Whoever writes late: the attempt that ended it, or a newer one."""
    message_id = await answer(store, 2)
    assert await store.finish(replace(ending(message_id, 2), content="done"))
    before = await whole(store, message_id)
    for attempt in (2, 3):
        await WRITES[write](store, message_id, attempt)
        assert await whole(store, message_id) == before


async def test_an_attempt_has_one_owner(store: Store) -> None:
    """Two workers claim the same number after Redis lost data: the second one gets nothing."""
    message_id = await answer(store, 1)
    assert await store.begin_attempt(message_id, 1, "demo") is None


async def test_checkpoints_count_anew_in_each_attempt(store: Store) -> None:
    """However many the previous attempt made, they hide none of the next one's."""
    message_id = await answer(store, 1)
    await store.checkpoint([replace(saved(message_id, 1), saves=9)])
    assert await store.begin_attempt(message_id, 2, "demo")
    await store.checkpoint([replace(saved(message_id, 2), content="mine", saves=1)])
    assert (await whole(store, message_id))["content"] == "mine"


async def test_starts_count_until_an_attempt_completes(store: Store) -> None:
    """By a hand-over or a retry. After too many in a row, a bug is assumed and the answer ends."""
    message_id = await answer(store, 1)
    assert await store.begin_attempt(message_id, 2, "demo")
    assert (await whole(store, message_id))["starts"] == 2
    assert await store.hand_back(saved(message_id, 2), 0)
    assert (await whole(store, message_id))["starts"] == 0
    assert await store.begin_attempt(message_id, 3, "demo")
    assert await store.schedule_retry(message_id, 3, 0, 1, 0)
    assert (await whole(store, message_id))["starts"] == 0


async def test_one_answer_of_a_conversation_is_first(store: Store) -> None:
    """The others wait; the next one is first when it has ended."""
    first = await answer(store)
    row = await store.message(first)
    assert row is not None
    second = await answer(store, conversation_id=row.conversation_id)
    elsewhere = await answer(store)
    assert await _first_in_line(store) == {first, elsewhere}
    assert await store.begin_attempt(first, 1, "demo")
    assert await store.finish(ending(first, 1))
    assert await _first_in_line(store) == {second, elsewhere}


async def _first_in_line(store: Store) -> set[str]:
    return {row.message_id for row in await store.heads(DUE, "", 100)}


async def test_a_writing_transaction_has_the_lock_from_its_start(tmp_path: Path) -> None:
    """SQLite refuses a transaction at once that reads first and asks for the lock after another one
    wrote, whatever its timeout.
    """
    create_tables(f"sqlite:///{tmp_path}/t.db")
    store = Store.open(f"sqlite:///{tmp_path}/t.db")
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None, timeout=0)
    try:
        async with store.writing() as session:
            await session.get(Message, "m")
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        async with store.reading() as session:
            await session.get(Message, "m")
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
    finally:
        other.close()
        await store.aclose()


async def test_statements_of_one_read_see_one_state(store: Store) -> None:
    """A snapshot takes several queries: a commit between two of them shows in none."""
    message_id = await answer(store, 1)
    async with store.reading() as session:
        before = await session.get(Message, message_id)
        assert before is not None
        assert before.content == ""
        await store.checkpoint([saved(message_id, 1)])
        session.expire_all()
        again = await session.get(Message, message_id)
        assert again is not None
        assert again.content == ""
    assert (await whole(store, message_id))["content"] == "stolen"
