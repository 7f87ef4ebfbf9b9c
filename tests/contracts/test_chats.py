"""Chats under their clients' names, edited messages and regenerated answers, on SQLite and
PostgreSQL.
"""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.databases import sql
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.errors import AnswerRunning, Conflict, KeyReused, NotFound
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.store import Store
from tokenwire.models.tool_choices import ToolChoices

pytestmark = pytest.mark.usefixtures("counted_right")

ADA, BOB = "ada", "bob"


async def post(store: Store, conversation_id: str, content: str = "hi", **changes: Any) -> Posted:
    return await store.post(Post(conversation_id, ADA, content, "demo", **changes))


async def shown(store: Store, conversation_id: str) -> list[tuple[str, str]]:
    found = await store.snapshot(conversation_id, ADA, 200)
    return [(row.role, row.id) for row in found.messages]


async def test_a_chat_belongs_to_its_user(store: Store) -> None:
    """The same name is the same conversation; for another user it is another one. Slashes and dots
    are allowed.
    """
    name = "chat/1/../ä x"
    assert await store.find_chat(ADA, name) is None
    made = await store.open_chat(ADA, name)
    assert (await store.open_chat(ADA, name)).id == made.id
    assert (await store.open_chat(BOB, name)).id != made.id
    assert (await store.participants(made.id)) == [ADA]


async def test_a_chat_opened_by_several_at_once_is_one(store: Store) -> None:
    """The first creates it."""
    opened = await asyncio.gather(*(store.open_chat(ADA, "same") for _ in range(8)))
    assert len({conversation.id for conversation in opened}) == 1


async def test_a_conversations_id_is_a_name_for_its_participants(store: Store) -> None:
    """For nobody else."""
    made = await store.create_conversation(ADA)
    assert (found := await store.find_chat(ADA, made.id)) is not None
    assert found.id == made.id
    assert await store.find_chat(BOB, made.id) is None
    assert (await store.open_chat(BOB, made.id)).id != made.id


async def test_a_message_is_posted_once(store: Store) -> None:
    """By its client id, also at the same moment; another text is refused."""
    chat = await store.open_chat(ADA, "c")
    made = await asyncio.gather(*(post(store, chat.id, client_id="m1") for _ in range(5)))
    assert len({posted.user_message.id for posted in made}) == 1
    assert len({posted.assistant_message.id for posted in made}) == 1
    assert len(await shown(store, chat.id)) == 2
    with pytest.raises(KeyReused):
        await post(store, chat.id, "something else", client_id="m1")
    other = await store.open_chat(ADA, "d")
    assert (await post(store, other.id, client_id="m1")).user_message.id != made[0].user_message.id


async def test_an_edited_message_replaces_what_followed(store: Store) -> None:
    """It keeps its name. Superseded rows are kept, but neither shown nor sent to a provider."""
    chat = await store.open_chat(ADA, "c")
    first = await post(store, chat.id, "one", client_id="m1")
    second = await post(store, chat.id, "two", client_id="m2")
    edited = await post(store, chat.id, "another", client_id="m1", edits=True)
    assert edited.superseded == [first.assistant_message.id, second.assistant_message.id]
    assert edited.user_message.parent_id is None
    assert await shown(store, chat.id) == [
        ("user", edited.user_message.id),
        ("assistant", edited.assistant_message.id),
    ]
    assert [row.id for row in await store.history(chat.id, edited.assistant_message.ordinal)] == [
        edited.user_message.id
    ]
    old = await store.message(second.user_message.id)
    assert old is not None
    assert old.superseded_by == edited.user_message.id
    named = await store.named_message(chat.id, "m1")
    assert named is not None
    assert named.id == edited.user_message.id
    again = await post(store, chat.id, "another", client_id="m1")
    assert again.assistant_message.id == edited.assistant_message.id


async def test_a_regenerated_answer(store: Store) -> None:
    """A new row after the same message; the old one and what followed it leave the conversation,
    and the next post follows the new one.
    """
    chat = await store.open_chat(ADA, "c")
    first, second = await post(store, chat.id, "one"), await post(store, chat.id, "two")
    with pytest.raises(AnswerRunning):
        await store.regenerate(Regeneration(chat.id, ADA, first.assistant_message.id, "demo"))
    made = await store.regenerate(
        Regeneration(chat.id, ADA, first.assistant_message.id, "second", stop_running=True)
    )
    assert made.superseded == [first.assistant_message.id, second.assistant_message.id]
    assert (made.assistant_message.parent_id, made.assistant_message.model) == (
        first.user_message.id,
        "second",
    )
    assert await shown(store, chat.id) == [
        ("user", first.user_message.id),
        ("assistant", made.assistant_message.id),
    ]
    assert [row.cancel_by for row in await store.unfinished(chat.id)] == [
        "superseded",
        "superseded",
        None,
    ]
    later = await post(store, chat.id, "three")
    assert later.user_message.parent_id == made.assistant_message.id
    history = await store.history(chat.id, later.assistant_message.ordinal)
    assert [row.id for row in history] == [
        first.user_message.id,
        made.assistant_message.id,
        later.user_message.id,
    ]


async def test_regeneration_by_the_users_message_or_a_superseded_answer(store: Store) -> None:
    """Both name the same question."""
    chat = await store.open_chat(ADA, "c")
    posted = await post(store, chat.id)
    question, answer = posted.user_message.id, posted.assistant_message.id
    one = await store.regenerate(Regeneration(chat.id, ADA, question, "demo", stop_running=True))
    two = await store.regenerate(Regeneration(chat.id, ADA, answer, "demo", stop_running=True))
    assert two.superseded == [one.assistant_message.id]
    assert await shown(store, chat.id) == [
        ("user", question),
        ("assistant", two.assistant_message.id),
    ]


async def test_what_cannot_be_regenerated(store: Store) -> None:
    """A missing message, another user's message, and one that has left the conversation."""
    chat, other = await store.open_chat(ADA, "c"), await store.open_chat(ADA, "d")
    posted = await post(store, chat.id, client_id="m1")
    await post(store, chat.id, "edited", client_id="m1", edits=True)
    for conversation_id, user, message_id in (
        (chat.id, ADA, "nobody"),
        (chat.id, BOB, posted.assistant_message.id),
        (other.id, ADA, posted.assistant_message.id),
    ):
        with pytest.raises(NotFound):
            await store.regenerate(Regeneration(conversation_id, user, message_id, "demo"))
    with pytest.raises(Conflict):
        await store.regenerate(Regeneration(chat.id, ADA, posted.assistant_message.id, "demo"))


async def test_a_repeated_request_regenerates_once(store: Store) -> None:
    """By its key."""
    chat = await store.open_chat(ADA, "c")
    posted = await post(store, chat.id)
    again = Regeneration(
        chat.id, ADA, posted.user_message.id, "demo", True, Idempotency("k", "r", "")
    )
    one, two = await store.regenerate(again), await store.regenerate(again)
    assert (two.user_message.id, two.assistant_message.id) == (
        posted.user_message.id,
        one.assistant_message.id,
    )


async def test_single_answers_are_listed_nowhere_and_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a day, and nothing else with them."""
    listed = await store.create_conversation(ADA)
    single = await store.create_unlisted(ADA, "say it in one word")
    assert [row.id for row in (await store.conversations(ADA, 10))[0]] == [listed.id]
    assert [overview.conversation.id for overview in await store.overviews(ADA, 10)] == [listed.id]
    await store.forget_unlisted()
    assert (await store.conversation(single.id, ADA)).instructions == "say it in one word"
    monkeypatch.setattr("tokenwire.models.deletions.UNLISTED_LIFE_MS", -1000)
    await store.forget_unlisted()
    with pytest.raises(NotFound):
        await store.conversation(single.id, ADA)
    assert (await store.conversation(listed.id, ADA)).id == listed.id
    async with store.reading() as session:  # the sweeper deletes its log like that of any other
        assert list(
            await session.scalars(sql("SELECT id FROM deleted_conversations WHERE NOT log_deleted"))
        ) == [single.id]


async def test_the_last_question_is_not_superseded(store: Store) -> None:
    """A superseded message has left the conversation, so it is not answered."""
    chat = await store.open_chat(ADA, "c")
    first = await post(store, chat.id)
    await post(store, chat.id, "second")
    await store.regenerate(
        Regeneration(chat.id, ADA, first.assistant_message.id, "demo", stop_running=True)
    )
    assert (found := await store.last_question(chat.id)) is not None
    assert found.id == first.user_message.id


async def test_a_name_that_is_another_rows_id_hides_no_row(store: Store) -> None:
    """The id comes first, whichever row is newer; for a repeated post, too."""
    chat = await store.open_chat(ADA, "c")
    first, second = await post(store, chat.id, "one"), await post(store, chat.id, "two")
    async with store.writing() as session:
        name, other = first.user_message.id, second.user_message.id
        change = sql("UPDATE messages SET client_id = :name WHERE id = :other")
        await session.execute(change, {"name": name, "other": other})
    named = await store.named_message(chat.id, name)
    assert named is not None
    assert named.id == name
    again = await post(store, chat.id, "one", client_id=name)
    assert again.assistant_message.id == first.assistant_message.id


async def test_a_superseded_row_is_found_only_without_another(store: Store) -> None:
    """A client edits a message by its row's id. If the row was edited before, the new row is meant.
    A regenerated answer is found by its own id.
    """
    chat = await store.open_chat(ADA, "c")
    first = await post(store, chat.id, "one")
    name = first.user_message.id
    edited = await post(store, chat.id, "another", client_id=name, edits=True)
    found = [
        await store.named_message(chat.id, each) for each in (name, first.assistant_message.id)
    ]
    assert [row.id for row in found if row is not None] == [
        edited.user_message.id,
        first.assistant_message.id,
    ]
    again = await post(store, chat.id, "another", client_id=name)
    assert again.user_message.id == edited.user_message.id
    with pytest.raises(KeyReused):
        await post(store, chat.id, "one", client_id=name)
    assert await store.named_message((await store.open_chat(ADA, "d")).id, name) is None


async def test_a_superseded_message_can_be_posted_again(store: Store) -> None:
    """Under its own id: the superseded row is no earlier post of the same message."""
    chat = await store.open_chat(ADA, "c")
    first, second = await post(store, chat.id, "one"), await post(store, chat.id, "two")
    await store.regenerate(
        Regeneration(chat.id, ADA, first.assistant_message.id, "demo", stop_running=True)
    )
    again = await post(store, chat.id, "two", client_id=second.user_message.id)
    assert again.user_message.id != second.user_message.id
    assert again.user_message.superseded_by is None


async def test_a_new_answer_takes_over_what_was_said_about_tools(store: Store) -> None:
    """Unless the request says something itself, which may be nothing at all."""
    chat = await store.open_chat(ADA, "c")
    said = ToolChoices(use=["add"], choice="required")
    first = await post(store, chat.id, tools=said)
    question = first.user_message.id
    again = Regeneration(chat.id, ADA, question, "demo", stop_running=True)
    assert (await store.regenerate(again)).assistant_message.tools == said.stored()
    for tools, wanted in ((ToolChoices(use=[]), {"use": []}), (ToolChoices(), None)):
        made = await store.regenerate(replace(again, tools=tools))
        assert made.assistant_message.tools == wanted
