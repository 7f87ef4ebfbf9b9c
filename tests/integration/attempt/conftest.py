"""The rig of every test of this folder, and a clock that stands."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.conversations import Post
from models.migrate import migrate
from models.store import Store
from streams.memory import MemoryLog
from tests.integration.attempt.rig import Clock, Rig
from tests.integration.worker_rig import NoJobs, services_over
from worker import reading, run


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    url = f"sqlite:///{tmp_path}/t.db"
    migrate(url)
    store, log, jobs = Store.open(url), MemoryLog(), NoJobs()
    conversation = await store.create_conversation("me")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    yield Rig(store, log, jobs, services_over(store, log, jobs), posted.assistant_message)
    await store.aclose()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (reading, run):
        monkeypatch.setattr(module, "clock", lambda: clock.now)
    return clock
