"""The rig of every test in this folder, and a clock that stands still."""

import pytest

from tests.integration.attempt.rig import Clock, Rig
from tests.integration.worker_rig import NoJobs, services_over
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.attempt import intake, keeper, outcome


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    log, jobs = MemoryLog(), NoJobs()
    conversation = await sqlite_store.create_conversation("me")
    posted = await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))
    return Rig(
        sqlite_store, log, jobs, services_over(sqlite_store, log, jobs), posted.assistant_message
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (intake, keeper, outcome):
        monkeypatch.setattr(module, "clock", lambda: clock.now)
    return clock
