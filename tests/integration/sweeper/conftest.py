"""The rig of every test of this folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.conversations import Post
from models.migrate import migrate
from models.store import Store
from tests.integration.sweeper.rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    url = f"sqlite:///{tmp_path}/t.db"
    migrate(url)
    store = Store.open(url)
    conversation = await store.create_conversation("me")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    await store.mark_posted(posted.user_message.id, posted.assistant_message.id, 1, enqueued=False)
    yield Rig(store, posted.assistant_message)
    await store.aclose()
