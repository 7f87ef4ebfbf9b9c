"""`dramatiq worker.main` as a process that is told to stop: when it hands its answers over, and how soon it is gone then."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.parent import dying_with_us
from models.conversations import Post
from models.migrate import migrate
from models.store import Store
from worker.enqueue import Jobs

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 20.0
"""What anything may take on a machine that is busy; the waits below are longer, so that a test which sits through them fails."""
CONSUMERS_WAIT = """
import worker.broker
worker.broker.POLL_SECONDS = worker.broker.DELAY_POLL_SECONDS = 40.0
import worker.main
"""
DRAMATIQ_WAITS = """
import time, types, dramatiq.cli
dramatiq.cli.time = types.SimpleNamespace(sleep=lambda _seconds: time.sleep(40))
import worker.main
"""


class Worker:
    """A running worker and what it has logged."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process, self._log = process, log

    def says(self, words: str) -> None:
        """Wait for a line with these words."""
        deadline = time.monotonic() + SECONDS
        while words not in self._log.read_text():
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.02)


@contextmanager
def running(folder: Path, program: str, **environment: str) -> Iterator[Worker]:
    (folder / "patient.py").write_text(program)
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "MODE": "development", "DRAIN_SECONDS": "0"}
    command = [sys.executable, "-m", "dramatiq", "patient", "--processes", "1", "--threads", "2", "--worker-fork-timeout", "1000"]
    with (folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log, preexec_fn=dying_with_us())
    try:
        yield Worker(process, folder / "worker.log")
    finally:
        process.kill()
        process.wait()


async def _is_writing(url: str, redis_url: str) -> None:
    """Post a message, and wait until a worker answers it."""
    store, jobs = Store.open(url), Jobs(redis_url)
    try:
        conversation = await store.create_conversation("me")
        answer = (await store.post(Post(conversation.id, "me", "!slow", "demo"))).assistant_message
        await jobs.generate(answer.id)
        async with asyncio.timeout(SECONDS):
            while (row := await store.message(answer.id)) is None or row.status != "streaming":
                await asyncio.sleep(0.05)
    finally:
        await asyncio.gather(store.aclose(), jobs.aclose())


@contextmanager
def writing(folder: Path, program: str, redis_url: str) -> Iterator[Worker]:
    """A worker that is in the middle of an answer."""
    url = f"sqlite:///{folder}/rows.db"
    migrate(url)
    with running(folder, program, DATABASE_URL=url, REDIS_URL=redis_url) as worker:
        worker.says("ready for action")
        asyncio.run(_is_writing(url, redis_url))
        yield worker


def test_it_is_gone_soon_after_the_hand_over(tmp_path: Path, valkey_url: str) -> None:
    """Its consumers sleep between two looks at the queue; they do not sleep through the end."""
    with writing(tmp_path, CONSUMERS_WAIT, valkey_url) as worker:
        worker.process.send_signal(signal.SIGTERM)
        worker.says("handed over")
        assert worker.process.wait(SECONDS) == 0


def test_the_hand_over_begins_with_the_signal(tmp_path: Path, valkey_url: str) -> None:
    """Dramatiq looks whether it was told to stop once a second, here far more seldom: no answer waits for that."""
    with writing(tmp_path, DRAMATIQ_WAITS, valkey_url) as worker:
        worker.process.send_signal(signal.SIGTERM)
        worker.says("handed over")
