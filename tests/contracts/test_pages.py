"""Pages of conversations and messages: each row comes once, in order, and pages are bounded."""

import pytest

from tokenwire.models import conversations
from tokenwire.models.conversations import Post
from tokenwire.models.errors import BadCursor
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation

ME, YOU = "me", "you"


async def test_pages_of_conversations_cover_all_of_them_newest_first(store: Store) -> None:
    """Following `next` visits every conversation of the user exactly once, and no other."""
    made = [await store.create_conversation(ME) for _ in range(7)]
    await store.create_conversation(YOU)
    seen: list[Conversation] = []
    cursor: str | None = None
    for _ in range(3):
        page, cursor = await store.conversations(ME, 3, cursor)
        seen += page
    assert cursor is None
    assert {row.id for row in seen} == {row.id for row in made}
    order = [(row.updated_at, row.id) for row in seen]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    "cursor", ["", "x", "1", "1.", ".a", "1.a;drop", "99999999999999999.a", "-1.a", "1.\x00"]
)
async def test_an_invented_cursor_is_refused(store: Store, cursor: str) -> None:
    """It neither reaches SQL nor gives an empty page."""
    with pytest.raises(BadCursor):
        await store.conversations(ME, 3, cursor)


async def test_pages_of_messages_reach_the_beginning(store: Store) -> None:
    """The newest come first, each page in order; `next` is null at the beginning."""
    conversation = await store.create_conversation(ME)
    for n in range(5):
        await store.post(Post(conversation.id, ME, str(n), "demo"))
    newest = await store.snapshot(conversation.id, ME, 4)
    assert ([row.ordinal for row in newest.messages], newest.next) == ([7, 8, 9, 10], 7)
    middle = await store.snapshot(conversation.id, ME, 4, newest.next)
    assert ([row.ordinal for row in middle.messages], middle.next) == ([3, 4, 5, 6], 3)
    oldest = await store.snapshot(conversation.id, ME, 4, middle.next)
    assert ([row.ordinal for row in oldest.messages], oldest.next) == ([1, 2], None)


async def test_a_page_of_long_texts_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page holds a bounded number of bytes, but one row at least; together the pages hold
    everything.
    """
    monkeypatch.setattr(conversations, "HISTORY_PAGE_BYTES", 250)
    made = await store.create_conversation(ME)
    for size in (10, 300, 100, 100, 100, 10):
        await store.post(Post(made.id, ME, "é" * (size // 2), "demo"))
    seen: list[list[int]] = []
    before = None
    while not seen or before is not None:
        page = await store.snapshot(made.id, ME, 4, before)
        seen.insert(0, [len(row.content.encode()) for row in page.messages if row.role == "user"])
        before = page.next
    assert [size for part in seen for size in part] == [10, 300, 100, 100, 100, 10]
    assert all(sum(part) <= 250 or len(part) == 1 for part in seen)


async def test_a_page_is_measured_as_json(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-byte character may take six bytes in JSON: what clients receive counts."""
    monkeypatch.setattr(conversations, "HISTORY_PAGE_BYTES", 250)
    text = "\x01" * 30
    made = await store.create_conversation(ME, instructions=text)
    ids = [(await store.post(Post(made.id, ME, text, "demo"))).user_message.id for _ in range(4)]
    await store.create_conversation(ME, instructions=text)
    newest = await store.snapshot(made.id, ME, 8)
    assert [row.content for row in newest.messages if row.role == "user"] == [text]
    assert newest.next is not None
    assert [row.id for row in await store.rows(ids)] == ids[:1]
    listed, more = await store.conversations(ME, 4)
    assert (len(listed), more is None) == (1, False)


async def test_a_page_of_long_input_is_short(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for named rows."""
    monkeypatch.setattr(conversations, "HISTORY_PAGE_BYTES", 250)
    made = await store.create_conversation(ME)
    ids = [
        (await store.post(Post(made.id, ME, "x" * size, "demo"))).user_message.id
        for size in (100, 100, 100, 300)
    ]
    assert [row.id for row in await store.rows(ids)] == ids[:2]
    assert [row.id for row in await store.rows(["gone", ids[3], ids[0]])] == [ids[3]]


async def test_a_page_of_long_instructions_is_short(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for lists of conversations."""
    monkeypatch.setattr(conversations, "HISTORY_PAGE_BYTES", 250)
    made = [
        (await store.create_conversation(ME, instructions="x" * size)).id
        for size in (100, 300, 0, 100, 100)
    ]
    long = {"const": "x" * 100}
    made.append((await store.create_conversation(ME, response_schema=long)).id)
    seen: list[list[str]] = []
    before = None
    while not seen or before is not None:
        page, before = await store.conversations(ME, 4, before)
        seen.append([row.id for row in page])
        sizes = [len(row.instructions or "") + len(str(row.response_schema or "")) for row in page]
        assert sum(sizes) <= 250 or len(page) == 1
    assert sorted(name for part in seen for name in part) == sorted(made)
    assert len(seen) > 2
