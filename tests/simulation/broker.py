"""The job queue of a simulation, with the guarantees of Dramatiq on Redis: at least once, sometimes
much later, sometimes never.

`Jobs` is a process's part: `worker.enqueue.Jobs` over the network. Redis keeps the queue, so it
shares its outages and losses.
"""

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from tests.simulation.database import FIRST_MS
from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.net import Net, NoAnswer, Service
from tokenwire.worker.enqueue import JobsUnavailable

LOOK_SECONDS = 0.3
Saved = tuple[dict[int, str], dict[str, int]]


class Consumer(Protocol):
    """A worker process that fetches jobs."""

    node: Node
    draining: bool

    def take(self, message_id: str, done: Callable[[], None]) -> None:
        """Run the job; `done` acknowledges it."""
        ...


class Broker:
    """The queue. `trouble`: the share of jobs that are lost, and of those that are delivered twice
    or late.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random, net: Net, service: Service) -> None:
        self._loop, self._rng, self._net, self._service = loop, rng, net, service
        self._jobs: dict[int, str] = {}
        self._waiting: dict[str, int] = {}
        self._next = 0
        self._leader: tuple[str, float] = ("", 0.0)
        self.consumers: list[Consumer] = []
        self.trouble = 0.0

    # --- what processes ask ---

    def generate(self, message_id: str, delay_ms: int | None) -> None:
        self._waiting[message_id] = self.now_ms()
        if self._rng.random() < self.trouble / 3:
            return
        for _ in range(2 if self._rng.random() < self.trouble else 1):
            self._next += 1
            self._jobs[self._next] = message_id
            late = self._rng.uniform(0.0, 8.0) if self._rng.random() < self.trouble else 0.0
            self._later((delay_ms or 0) / 1000 + late + self._rng.uniform(0.001, 0.01), self._next)

    def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        return {name: self._waiting[name] for name in message_ids if name in self._waiting}

    def held(self, message_ids: Sequence[str]) -> set[str]:
        return set(message_ids) & set(self._jobs.values())

    def lead(self, name: str, seconds: float) -> bool:
        leader, until = self._leader
        if leader != name and until > self._loop.time():
            return False
        self._leader = (name, self._loop.time() + seconds)
        return True

    # --- what happens to it ---

    def save(self) -> Saved:
        """What a replica or a file on disk holds now."""
        return dict(self._jobs), dict(self._waiting)

    def restore(self, saved: Saved) -> None:
        """Know what `save` gave; what was delivered meanwhile is delivered again."""
        self._jobs, self._waiting = dict(saved[0]), dict(saved[1])
        self._leader = ("", 0.0)
        for job in self._jobs:
            self._later(self._rng.uniform(0.1, 2.0), job)

    # --- delivery ---

    def _later(self, seconds: float, job: int) -> None:
        self._loop.call_later(seconds, self._deliver, job, context=self._loop.world.context)

    def _deliver(self, job: int) -> None:
        if job not in self._jobs:
            return
        takers = [
            c
            for c in self.consumers
            if c.node.alive and not c.node.paused and not c.draining and self._reaches(c)
        ]
        if not takers or not self._service.up or self._service.paused:
            self._later(LOOK_SECONDS, job)
            return
        taker = self._rng.choice(takers)
        message_id = self._jobs[job]
        self._waiting.pop(message_id, None)
        taker.node.on_death.append(lambda: self._later(self._rng.uniform(1.0, 60.0), job))
        taker.take(message_id, lambda: self._acknowledge(taker, job))

    def _reaches(self, consumer: Consumer) -> bool:
        return not self._net.is_cut(consumer.node, self._service)

    def _acknowledge(self, taker: Consumer, job: int) -> None:
        if self._service.up and not self._service.paused and self._reaches(taker):
            self._jobs.pop(job, None)
        else:  # the acknowledgement did not arrive: the job comes again
            self._later(self._rng.uniform(1.0, 20.0), job)

    def now_ms(self) -> int:
        return FIRST_MS + int(self._loop.time() * 1000)


class Jobs:
    """`worker.enqueue.Jobs` of one process."""

    def __init__(self, net: Net, node: Node, service: Service, broker: Broker) -> None:
        self._net, self._node, self._service, self._broker = net, node, service, broker

    async def generate(self, message_id: str, delay_ms: int | None = None) -> None:
        """Enqueue the job that makes this answer."""
        await self._ask(
            f"enqueue({message_id}, {delay_ms})",
            lambda: self._broker.generate(message_id, delay_ms),
        )

    async def title(self, message_id: str) -> None:
        """Ask the broker, and enqueue nothing: no schedule has jobs for titles."""
        await self._ask(f"title({message_id})", lambda: None)

    async def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        """The messages of these whose job waits for a worker, and since when (ms)."""
        answer: dict[str, int] = await self._ask(
            "waiting", lambda: self._broker.waiting(message_ids)
        )
        return answer

    async def held(self, message_ids: Sequence[str]) -> set[str]:
        """The messages of these with a job in the queue itself."""
        answer: set[str] = await self._ask("held", lambda: self._broker.held(message_ids))
        return answer

    def now_ms(self) -> int:
        """The broker's time in ms."""
        return self._broker.now_ms()

    async def lead(self, name: str, seconds: float) -> bool:
        """Ask to be the active sweeper for the next `seconds`."""
        return bool(await self._ask("lead", lambda: self._broker.lead(name, seconds)))

    async def aclose(self) -> None:
        """Nothing to close."""

    def _ask(self, what: str, act: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        return self._asked(what, act)

    async def _asked(self, what: str, act: Callable[[], Any]) -> Any:
        try:
            return await self._net.call(self._node, self._service, f"jobs {what}", act)
        except NoAnswer as error:
            raise JobsUnavailable(str(error)) from error
