"""What lists show of a conversation: its messages are counted by every act that adds or replaces
rows, on SQLite and PostgreSQL, and each participant has an archive.
"""

import asyncio
from typing import Any

import pytest

from tests.contracts.plans import recorded, without_index
from tests.databases import sql
from tests.rows import take_part
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversation_rows import Miscount
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.errors import NotFound
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.recount import main, recount
from tokenwire.models.store import Store

pytestmark = pytest.mark.usefixtures("counted_right")

ADA, BOB = "ada", "bob"


async def post(store: Store, conversation_id: str, content: str = "hi", **changes: Any) -> Posted:
    return await store.post(Post(conversation_id, ADA, content, "demo", **changes))


async def counted(store: Store, conversation_id: str) -> tuple[int, int | None]:
    """The count, which is that of the rows, and the time of the newest."""
    row = await store.conversation(conversation_id, ADA)
    shown = await store.snapshot(conversation_id, ADA, 200)
    assert row.message_count == len(shown.messages)
    return row.message_count, row.last_message_at


async def test_a_post_is_counted_once(store: Store) -> None:
    """Also if the same request comes twice, and many come at once."""
    conversation = await store.create_conversation(ADA)
    assert await counted(store, conversation.id) == (0, None)
    key = Idempotency("k", "messages", "f")
    first = await post(store, conversation.id, idempotency=key)
    assert await counted(store, conversation.id) == (2, first.user_message.created_at)
    again = await post(store, conversation.id, idempotency=key)
    assert again.user_message.id == first.user_message.id
    assert await counted(store, conversation.id) == (2, first.user_message.created_at)
    await asyncio.gather(*(post(store, conversation.id) for _ in range(5)))
    assert (await counted(store, conversation.id))[0] == 12


async def test_replaced_messages_do_not_count(store: Store) -> None:
    """An edit and a regeneration replace all that follows."""
    chat = await store.open_chat(ADA, "c")
    await post(store, chat.id, "one", client_id="m1")
    second = await post(store, chat.id, "two", client_id="m2")
    assert (await counted(store, chat.id))[0] == 4
    again = Regeneration(chat.id, ADA, second.assistant_message.id, "demo", stop_running=True)
    made = await store.regenerate(again)
    assert await counted(store, chat.id) == (4, made.assistant_message.created_at)
    await post(store, chat.id, "other", client_id="m1", edits=True)
    assert (await counted(store, chat.id))[0] == 2


async def test_a_change_is_no_message(store: Store) -> None:
    """A title moves a conversation in the list, and adds nothing to it."""
    conversation = await store.create_conversation(ADA)
    posted = await post(store, conversation.id)
    await asyncio.sleep(0.01)
    row = await store.change_conversation(conversation.id, ADA, {"title": "T"})
    assert row.updated_at > posted.user_message.created_at
    assert row.last_message_at == posted.user_message.created_at


async def test_wrong_counts_are_put_right(
    store: Store,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the difference: what is added meanwhile stays counted."""
    right, wrong, empty = [(await store.create_conversation(ADA)).id for _ in range(3)]
    for name in (right, wrong):
        await post(store, name)
    async with store.writing() as session:
        change = "UPDATE conversations SET message_count = 7 WHERE id IN (:a, :b)"
        await session.execute(sql(change), {"a": wrong, "b": empty})
    expected = [Miscount(name, 7, stored) for name, stored in sorted([(wrong, 2), (empty, 0)])]
    assert await recount(store, amend=False) == expected
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("MODE", "development")
    assert await asyncio.to_thread(main, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{wrong}: 7 messages counted, 2 stored" in lines
    assert await recount(store, amend=False) == []


async def names(store: Store, user: str, *, archived: bool) -> list[str]:
    return [row.id for row in (await store.conversations(user, 10, archived=archived))[0]]


async def test_each_participant_has_an_archive(store: Store) -> None:
    """What one puts there stays in the lists of others, and goes on as before."""
    one, two = [(await store.create_conversation(ADA)).id for _ in range(2)]
    await take_part(store, one, BOB)
    await store.archive(one, ADA, archived=True)
    assert await names(store, ADA, archived=False) == [two]
    assert await names(store, ADA, archived=True) == [one]
    assert await names(store, BOB, archived=False) == [one]
    assert await names(store, BOB, archived=True) == []
    assert [row.conversation.id for row in await store.overviews(ADA, 10)] == [two]
    await post(store, one)
    assert await names(store, ADA, archived=True) == [one]
    assert (await store.snapshot(one, ADA, 10)).archived is True
    assert (await store.snapshot(one, BOB, 10)).archived is False
    await store.archive(one, ADA, archived=False)
    assert await names(store, ADA, archived=False) == [one, two]
    assert not await store.is_archived(one, ADA)


async def test_only_a_participant_archives(store: Store) -> None:
    """For anybody else the conversation does not exist."""
    one = (await store.create_conversation(ADA)).id
    for name, user in ((one, BOB), ("none", ADA)):
        with pytest.raises(NotFound):
            await store.archive(name, user, archived=True)
        assert not await store.is_archived(name, user)


async def test_lists_and_archives_read_by_index(store: Store) -> None:
    """However many others there are."""
    one, _two = [await store.create_conversation(ADA) for _ in range(2)]
    await post(store, one.id)
    with recorded(store) as ran:
        await store.archive(one.id, ADA, archived=True)
        await store.conversations(ADA, 10, archived=True)
        await store.conversations(ADA, 10)
        await store.overviews(ADA, 10)
        await store.archived_among(ADA, [one.id])
        await store.is_archived(one.id, ADA)
        await store.snapshot(one.id, ADA, 10)
    assert await without_index(store, ran) == []
