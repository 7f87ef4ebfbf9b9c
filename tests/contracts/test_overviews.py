"""Conversation lists are the same on SQLite and PostgreSQL."""

from tests.contracts.test_store import ME, YOU
from tests.rows import take_part
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.overviews import Overview
from tokenwire.models.store import Store


def seen(overview: Overview) -> tuple[str | None, str | None, bool]:
    return overview.answer_id, overview.answer_status, overview.running


async def test_a_list_shows_the_newest_answer_and_any_running_one(store: Store) -> None:
    """The user's rows do not count; an older answer that still runs does."""
    conversation = await store.create_conversation(ME)
    assert [seen(row) for row in await store.overviews(ME, 10)] == [(None, None, False)]
    first = (await store.post(Post(conversation.id, ME, "one", "demo"))).assistant_message.id
    second = (await store.post(Post(conversation.id, ME, "two", "demo"))).assistant_message.id
    assert [seen(row) for row in await store.overviews(ME, 10)] == [(second, "queued", True)]
    await store.begin_attempt(second, 1, "demo")
    assert await store.finish(Ending(second, 1, "error", "", "", "e", 1))
    assert [seen(row) for row in await store.overviews(ME, 10)] == [(second, "error", True)]
    await store.begin_attempt(first, 1, "demo")
    assert await store.finish(Ending(first, 1, "complete", "x", "", "e", 1))
    assert [seen(row) for row in await store.overviews(ME, 10)] == [(second, "error", False)]


async def test_a_list_holds_the_users_conversations_newest_first(store: Store) -> None:
    """Those of a participant, too; a post moves a conversation to the front."""
    mine = [(await store.create_conversation(ME)).id for _ in range(3)]
    other = (await store.create_conversation(YOU)).id
    assert [row.conversation.id for row in await store.overviews(ME, 2)] == [mine[2], mine[1]]
    await take_part(store, other, ME)
    await store.post(Post(other, YOU, "hi", "demo"))
    await store.post(Post(mine[0], ME, "hi", "demo"))
    assert [row.conversation.id for row in await store.overviews(ME, 2)] == [mine[0], other]


async def test_affected_users_and_remaining_conversations(store: Store) -> None:
    """Participants of any of the conversations; conversations that still exist for a user."""
    one, two = [(await store.create_conversation(user)).id for user in (ME, YOU)]
    assert await store.participants_among([one]) == {ME}
    assert await store.participants_among([one, two, "nothing"]) == {ME, YOU}
    assert await store.participants_among([]) == set()
    assert await store.archived_among(ME, [one, two]) == {one: False}
    await store.archive(one, ME, archived=True)
    assert await store.archived_among(ME, [one, two]) == {one: True}
    await store.delete_conversation(one)
    assert await store.archived_among(ME, [one, two]) == {}
    assert await store.participants_among([one]) == set()
