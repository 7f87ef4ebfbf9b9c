"""A task that is cancelled during a database call ends as cancelled. It does not wait for an
outage, and leaves nothing open.
"""

import asyncio
import gc

import pytest

from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message

ROWS = 400
"""More than one turn of a history that is read in turns."""
MOMENTS = 60


@pytest.fixture
async def last(store: Store) -> Message:
    """The newest answer of a long conversation."""
    conversation = await store.create_conversation("me")
    for _ in range(ROWS // 2 - 1):
        await store.post(Post(conversation.id, "me", "hi " * 50, "m"))
    return (await store.post(Post(conversation.id, "me", "last", "m"))).assistant_message


async def cancelled_after(seconds: float, store: Store, last: Message) -> bool:
    """Whether a task that reads and writes for ever ends as cancelled."""

    async def work() -> None:
        while True:
            await store.history(last.conversation_id, last.ordinal)
            await store.mark_enqueued(last.id)

    task = asyncio.create_task(work())
    await asyncio.sleep(seconds)
    task.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({task})
    return task.cancelled()


@pytest.mark.sampled(1)
async def test_a_cancelled_task_ends_as_cancelled(store: Store, last: Message) -> None:
    """At any moment of a statement, alone or with others; no cursor or connection is left to the
    garbage collector.
    """
    ends = [await cancelled_after(moment * 0.0007, store, last) for moment in range(MOMENTS)]
    ends += await asyncio.gather(
        *(cancelled_after(moment * 0.001, store, last) for moment in range(MOMENTS))
    )
    assert all(ends)
    gc.collect()  # an unclosed resource is an error of this test
    assert len(await store.history(last.conversation_id, last.ordinal)) > 0
