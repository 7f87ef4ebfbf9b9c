"""Files of answers in the store, on SQLite and PostgreSQL."""

import hashlib
import os

import pytest

from tests.contracts.test_parts import Running, posted
from tests.databases import sql
from tests.rows import stored_bytes
from tokenwire.models.errors import FileTooLong, NotFound
from tokenwire.models.files import StoredFile, checked_media_type
from tokenwire.models.quotas import Quotas
from tokenwire.models.recount import recount
from tokenwire.models.store import Store
from tokenwire.protocol.files import ANY_MEDIA_TYPE

ME = "me"
IMAGE = os.urandom(1024 * 1024)


async def test_a_file_is_stored_once_and_read_as_it_was(store: Store) -> None:
    """A megabyte of any bytes, by its digest."""
    _, message_id = await posted(store)
    digest = await store.save_file(message_id, 1, 0, "image/png", IMAGE)
    assert digest == hashlib.sha256(IMAGE).hexdigest()
    assert await store.save_file(message_id, 1, 3, "image/gif", IMAGE) == digest
    assert await store.visible_file(message_id, digest, ME) == StoredFile("image/png", IMAGE)


async def test_only_readers_of_the_message_get_its_files(store: Store) -> None:
    """And only under their message."""
    _, message_id = await posted(store)
    _, other = await posted(store)
    digest = await store.save_file(message_id, 1, 0, "image/png", b"x")
    assert digest is not None
    for place in ((message_id, digest, "you"), (other, digest, ME), (message_id, "0" * 64, ME)):
        with pytest.raises(NotFound):
            await store.visible_file(*place)


async def test_only_the_current_attempt_stores_files(store: Store) -> None:
    """Of an answer that has not ended."""
    _, message_id = await posted(store)
    assert await store.save_file(message_id, 2, 0, "image/png", b"x") is None
    assert await store.finish(Running(message_id).ending())
    assert await store.save_file(message_id, 1, 0, "image/png", b"x") is None


async def test_a_file_has_a_limit(store: Store) -> None:
    """The limit is exact."""
    _, message_id = await posted(store)
    store.quotas = Quotas(file_bytes=10)
    assert await store.save_file(message_id, 1, 0, "image/png", b"x" * 10)
    with pytest.raises(FileTooLong):
        await store.save_file(message_id, 1, 0, "image/png", b"x" * 11)


async def test_files_are_counted_and_deleted_with_their_message(store: Store) -> None:
    """They count for their user like text."""
    conversation_id, message_id = await posted(store)
    digest = await store.save_file(message_id, 1, 0, "image/png", IMAGE)
    before = await stored_bytes(store, ME)
    running = Running(message_id)
    url = f"/api/messages/{message_id}/files/{digest}"
    running.part(0, type="file", media_type="image/png", url=url)
    assert await store.finish(running.ending())
    assert len(IMAGE) < await stored_bytes(store, ME) - before < len(IMAGE) + 1_000
    assert await recount(store, amend=False) == []
    await store.delete_conversation(conversation_id)
    assert await stored_bytes(store, ME) == 0
    async with store.reading() as session:
        assert (await session.execute(sql("SELECT digest FROM part_files"))).all() == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("image/png", "image/png"),
        ("Image/PNG; charset=x", "image/png"),
        ("image/svg+xml", "image/svg+xml"),
        ("", ANY_MEDIA_TYPE),
        ("png", ANY_MEDIA_TYPE),
        ("image/png\r\nx: y", ANY_MEDIA_TYPE),
        ("image/" + "x" * 300, ANY_MEDIA_TYPE),
    ],
)
def test_an_invalid_media_type_is_any_bytes(given: str, found: str) -> None:
    """A provider wrote it."""
    assert checked_media_type(given) == found
