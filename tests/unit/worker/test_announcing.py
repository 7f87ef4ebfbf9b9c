"""worker.announcing: the log first, then the note; what is deleted needs no announcement."""

from typing import Any

import pytest

from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation, Message
from tokenwire.protocol import events
from tokenwire.streams.log import ports
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import announcing


@pytest.fixture
async def row(sqlite_store: Store) -> Message:
    conversation = await sqlite_store.create_conversation("me")
    return (await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))).user_message


async def titled(store: Store, row: Message) -> Conversation:
    return await store.change_conversation(row.conversation_id, "me", {"title": "Tides"})


async def logged(log: MemoryLog, row: Message) -> list[Any]:
    page = await log.read(row.conversation_id, None, 0, 100)
    return [events.decode(entry.data)[1] for entry in page.entries]


async def reread(store: Store, row: Message) -> Message:
    found = await store.message(row.id)
    assert found is not None
    return found


async def test_what_is_announced_is_noted(sqlite_store: Store, row: Message) -> None:
    """Once in the log, however often it is announced, and the sweeper has nothing to make good."""
    log = MemoryLog()
    conversation = await titled(sqlite_store, row)
    for _ in range(2):
        await announcing.announce_message(sqlite_store, log, row)
        await announcing.announce_title(sqlite_store, log, conversation)
    [message, title] = await logged(log, row)
    assert (message.message["content"], title.title) == ("hi", "Tides")
    assert (await reread(sqlite_store, row)).announced_rev == row.rev
    now = await sqlite_store.conversation(row.conversation_id, "me")
    assert now.announced_rev == now.rev


async def test_an_answer_is_announced_without_its_text(sqlite_store: Store, row: Message) -> None:
    """However far it is, and whatever the log holds of it: its own events bring text and parts."""
    log = MemoryLog()
    [_, answer] = (await sqlite_store.snapshot(row.conversation_id, "me", 2)).messages
    answer.content, answer.reasoning, answer.seq = "Hello", "Hm.", 7
    answer.parts = [{"type": "reasoning", "length": 3}, {"type": "text", "length": 5}]
    await announcing.append_message(log, answer)
    [event] = await logged(log, row)
    texts = {name: event.message[name] for name in ("content", "reasoning", "parts", "seq")}
    assert texts == {"content": "", "reasoning": "", "parts": [], "seq": 0}
    assert event.message["parent_id"] == row.id


async def test_what_the_log_did_not_take_is_not_noted(sqlite_store: Store, row: Message) -> None:
    """The sweeper must find it."""
    log = MemoryLog()
    conversation = await titled(sqlite_store, row)
    log.go_down()
    with pytest.raises(ports.LogUnavailable):
        await announcing.announce_message(sqlite_store, log, row)
    with pytest.raises(ports.LogUnavailable):
        await announcing.announce_title(sqlite_store, log, conversation)
    assert (await reread(sqlite_store, row)).announced_rev < row.rev
    now = await sqlite_store.conversation(row.conversation_id, "me")
    assert now.announced_rev < now.rev


async def test_a_deleted_conversation_has_nothing_to_announce(
    sqlite_store: Store, row: Message
) -> None:
    """Its rows count as announced: nobody tries again."""
    log = MemoryLog()
    conversation = await titled(sqlite_store, row)
    await log.delete(row.conversation_id)
    await announcing.announce_message(sqlite_store, log, row)
    await announcing.announce_title(sqlite_store, log, conversation)
    assert (await reread(sqlite_store, row)).announced_rev == row.rev
