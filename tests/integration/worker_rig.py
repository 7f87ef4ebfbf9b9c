"""A worker without Redis or Dramatiq: a log in memory, a real SQLite database, recorded jobs, a
scripted provider.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.packing import Packing
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import RunEnder

LEASE_SECONDS = 0.2
Step = Sequence[base.Delta] | Exception | Callable[[], Awaitable[None]]


class NoJobs:
    """Records what was enqueued; every candidate is elected."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int | None]] = []
        self.known: dict[str, int] = {}
        self.titles: list[str] = []
        self.queue: set[str] = set()

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        self.sent.append((message_id, delay_ms))

    async def title(self, message_id: str) -> None:
        self.titles.append(message_id)

    async def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        return {name: since for name, since in self.known.items() if name in message_ids}

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        return set(message_ids) & self.queue

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    async def lead(self, name: str, seconds: float) -> bool:
        return True

    async def aclose(self) -> None:
        pass


@dataclass
class Script:
    """A provider that plays its steps: batches of deltas, waits, errors. With a `run_id`, its
    cursor counts the batches.
    """

    steps: Sequence[Step]
    stall_seconds: float = 60.0
    run_id: str | None = None
    cursor: int | None = None
    kept: bool = False
    closed: bool = False
    stitching: bool = False
    midway: bool = False
    naming: bool = False
    run_over: bool = False
    asked: list[base.Request] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def stream(self, request: base.Request) -> AsyncIterator["Script"]:
        self.asked.append(request)
        if self.run_id is not None:
            self.cursor = (request.continuation and request.continuation.cursor) or 0
        try:
            yield self
        finally:
            self.closed = True

    def keep_run(self) -> None:
        self.kept = True

    async def end(self, run_id: str) -> None:
        self.ended.append(run_id)

    async def __aiter__(self) -> AsyncIterator[Sequence[base.Delta]]:
        for step in self.steps[self.cursor or 0 :]:
            if isinstance(step, Exception):
                raise step
            if callable(step):
                await step()
            else:
                if self.cursor is not None:
                    self.cursor += 1
                yield step
                await asyncio.sleep(0)


def services_over(
    store: Store, log: MemoryLog, jobs: NoJobs, terms: AnswerTerms | None = None
) -> WorkerServices:
    """The services that an attempt needs."""
    run_ender = RunEnder(store, lambda _model: Script([]))
    return WorkerServices(
        store,
        log,  # type: ignore[arg-type]
        jobs,  # type: ignore[arg-type]
        Checkpointer(store, 1.0, 500),
        LEASE_SECONDS,
        run_ender,
        Packing(log),
        terms=terms or AnswerTerms(),
    )


def runner_over(services: WorkerServices, provider: base.Provider, **spec: Any) -> Runner:
    """A process whose only model is `m`, answered by `provider`."""
    model = ModelSpec(name="m", provider="scripted", model="m", **spec)
    catalogue = Catalogue(default="m", title_model="m", models={"m": model}, missing={})
    return Runner(services, Models(catalogue, lambda _spec: provider))


async def events_of(log: MemoryLog, row: Row) -> list[events.AnyEvent]:
    """All events of the row's conversation."""
    page = await log.read(row.conversation_id, None, 0, 1000)
    return [
        event
        for _, event in map(events.decode, (entry.data for entry in page.entries))
        if event is not None
    ]


def kinds(log: Sequence[events.AnyEvent]) -> list[str]:
    """The events' class names."""
    return [type(event).__name__ for event in log]


def text_of(log: Sequence[events.AnyEvent]) -> str:
    """All chunks joined."""
    return "".join(event.content for event in log if isinstance(event, events.Chunk))
