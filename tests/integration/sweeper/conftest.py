"""The rig of every test in this folder."""

import pytest

from tests.integration.sweeper.rig import Rig
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    conversation = await sqlite_store.create_conversation("me")
    posted = await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))
    await sqlite_store.mark_posted(
        posted.user_message.id, posted.assistant_message.id, 1, enqueued=False
    )
    return Rig(sqlite_store, posted.assistant_message)
