"""The cost of a sweeper's round as a curve: with ever more ended rows, and with ever more due ones.

On SQLite, and the idle system on PostgreSQL too (without the CPU time of its server).
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import text

from tests.databases import launch
from tokenwire.models.migrate import migrate
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.packing import Packing
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.sweeper.sweeper import INTERVAL_SECONDS, Sweeper

ENDED = (0, 10_000, 200_000)
DUE = (100, 500, 1_000, 5_000)
ROUNDS = 5
CHUNK = 10_000
HOUR_MS = 3_600_000


class Queue:
    """Accepts every job and holds none: the cost of the sweeper alone."""

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        pass

    async def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:  # noqa: ARG002
        return {}

    async def held(self, message_ids: Sequence[str]) -> set[str]:  # noqa: ARG002
        return set()

    async def lead(self, name: str, seconds: float) -> bool:  # noqa: ARG002
        return True

    def now_ms(self) -> int:
        return int(time.time() * 1000)


class NoEndings:
    """No run continues at a provider."""

    async def carry_out(self) -> None:
        pass


async def fill(store: Store, status: str, rows: int, per_conversation: int) -> None:
    """That many answers of an hour ago, all announced."""
    now = await store.now_ms() - HOUR_MS
    async with store.reading() as session:
        first = (await session.execute(text("SELECT count(*) FROM messages"))).scalar_one() + 1
    numbers = (
        f"WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < "
        f"{first + rows - 1}) "
    )
    owner = f"'{status}' || ((i - 1) / {per_conversation})"
    async with store.writing() as session:
        await session.execute(
            text(
                "INSERT INTO conversations (id, listed, user_id, rev, announced_rev, "
                "created_at, updated_at) "
                f"{numbers} SELECT DISTINCT {owner}, true, 'me', 1, 1, {now}, {now} FROM n"
            )
        )
        columns = (
            "id, conversation_id, ordinal, role, content, reasoning, status, seq, "
            "attempt, tries, started_with, rev, announced_rev"
        )
        values = (
            f"'{status}' || i, {owner}, i, 'assistant', 'text', '', '{status}', 1, 0, 0, "
            f"0, 1, 1, {str(status == 'complete').lower()}"
        )
        await session.execute(
            text(
                f"INSERT INTO messages ({columns}, terminal_announced, created_at, updated_at) "
                f"{numbers} SELECT {values}, {now}, {now} FROM n"
            )
        )


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The address of an empty one."""
    if kind == "SQLite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder)}/t.db"
        return
    server = launch()
    try:
        yield server.url
    finally:
        server.close()


async def round_ms(ended: int, due: int, per_conversation: int, kind: str = "SQLite") -> float:
    """The median of some rounds, in CPU time, so that other processes do not count."""
    with database(kind) as url:
        migrate(url)
        store = Store.open(url)
        for _ in range(0, ended, CHUNK):
            await fill(store, "complete", CHUNK, 20)
        if due:
            await fill(store, "queued", due, per_conversation)
        log, checkpointer = MemoryLog(), Checkpointer(store, 1.0, 500)
        queue: Any = Queue()
        services = WorkerServices(store, log, queue, checkpointer, 3.0, NoEndings(), Packing(log))
        sweeper, took = Sweeper(services), []
        for _ in range(ROUNDS):
            async with store.writing() as session:
                await session.execute(
                    text("UPDATE messages SET enqueued_at = NULL WHERE enqueued_at IS NOT NULL")
                )
            began = time.process_time()
            await sweeper.sweep()
            took.append((time.process_time() - began) * 1000)
        await store.aclose()
    return statistics.median(took)


async def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    print("| rows | of them due | CPU ms a round | % of a core | ms a due row |")
    print("|---:|---:|---:|---:|---:|")
    for kind, ended in [("SQLite", ended) for ended in ENDED] + [
        ("PostgreSQL", ended) for ended in ENDED
    ]:
        took = await round_ms(ended, 0, 1, kind)
        print(
            f"| {ended:,} ended, {kind} | 0 | {took:.1f} | {took / INTERVAL_SECONDS / 10:.1f} | |",
            flush=True,
        )
    for due in DUE:
        took = await round_ms(10_000, due, 1)
        print(
            f"| {due:,} queued, a conversation each | {due:,} | {took:.1f} | | {took / due:.2f} |",
            flush=True,
        )
    for due in DUE:
        took = await round_ms(10_000, due, due)
        print(
            f"| {due:,} queued in one conversation | 1 | {took:.1f} | "
            f"{took / INTERVAL_SECONDS / 10:.1f} | |",
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main())
