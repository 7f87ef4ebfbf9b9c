"""`python -m tokenwire.worker` as a process that is told to stop: when it hands its answers over,
and how soon it is gone.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.processes import PATIENCE_SECONDS, Process, running, stopped
from tokenwire.models.conversations import Post
from tokenwire.models.migrate import migrate
from tokenwire.models.store import Store
from tokenwire.worker.enqueue import Jobs

# Both wait for longer than the tests do, so that a worker that does not wake up fails.
CONSUMERS_WAIT = """
import tokenwire.worker.broker
tokenwire.worker.broker.POLL_SECONDS = tokenwire.worker.broker.DELAY_POLL_SECONDS = 40.0
"""
DRAMATIQ_WAITS = """
import time, types, dramatiq.cli
dramatiq.cli.time = types.SimpleNamespace(sleep=lambda _seconds: time.sleep(40))
"""
RUN = """
import sys
from tokenwire.worker.__main__ import main
sys.exit(main())
"""


async def _is_writing(url: str, redis_url: str) -> None:
    """Post a message, and wait until a worker answers it."""
    store, jobs = Store.open(url), Jobs(redis_url)
    try:
        conversation = await store.create_conversation("me")
        answer = (await store.post(Post(conversation.id, "me", "!slow", "demo"))).assistant_message
        await jobs.generate(answer.id)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (row := await store.message(answer.id)) is None or row.status != "streaming":
                await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(store.aclose(), jobs.aclose())


@contextmanager
def writing(folder: Path, patience: str, redis_url: str) -> Iterator[Process]:
    """A worker in the middle of an answer."""
    url = f"sqlite:///{folder}/rows.db"
    migrate(url)
    with running(
        folder, ("-c", patience + RUN), DATABASE_URL=url, REDIS_URL=redis_url, DRAIN_SECONDS="0"
    ) as process:
        process.says("ready for action")
        asyncio.run(_is_writing(url, redis_url))
        yield process


def test_it_ends_soon_after_the_hand_over(tmp_path: Path, valkey_url: str) -> None:
    """Its consumers sleep between two polls of the queue, and the stop wakes them.

    Repeated signals change nothing.
    """
    with writing(tmp_path, CONSUMERS_WAIT, valkey_url) as process:
        assert stopped(process.popen) == 0, process.log
        assert "handed over" in process.log


def test_the_hand_over_begins_with_the_signal(tmp_path: Path, valkey_url: str) -> None:
    """Dramatiq checks for a stop once a second, here far less often: no answer waits for that."""
    with writing(tmp_path, DRAMATIQ_WAITS, valkey_url) as process:
        process.popen.send_signal(signal.SIGTERM)
        process.says("handed over")
