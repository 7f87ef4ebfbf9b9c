"""The faults of a schedule, and how each is caused. The seed chooses everything before the schedule
begins.
"""

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from tests.simulation import steering
from tests.simulation.calls import POINTS, points
from tests.simulation.net import Service, Weather
from tests.simulation.processes import BroadcasterProcess, Site, WebProcess, WorkerProcess

FAULT_SECONDS = 6.0
"""Faults begin within so many seconds; people act in them too."""


@dataclass
class Plan:
    """`faults`: (second, name), in order. Weathers hold until the last fault is over."""

    redis: Weather = field(default_factory=Weather)
    sql: Weather = field(default_factory=lambda: Weather(slowest=0.01))
    pubsub_trouble: float = 0.0
    job_trouble: float = 0.0
    faults: list[tuple[float, str]] = field(default_factory=list)
    hasty: bool = False
    """People cancel at the moment when text comes: its worker does not know yet that it was
    appended.
    """
    lost: list[int] = field(default_factory=list)
    """How many writes `lose_the_end` takes, each time; by chance where there is nothing more."""

    die_behind: int = 0
    """A worker is killed behind its effect of this number, counted over all workers; 0: none is."""

    @property
    def journal(self) -> bool:
        """Whether Redis must be able to lose its last writes."""
        return any(name == "lose_the_end" for _, name in self.faults)

    @property
    def alone(self) -> str | None:
        """The name of the only thing that goes wrong, "" if nothing does; None where more does."""
        quiet = (
            self.redis == Weather()
            and self.sql == Weather(slowest=0.01)
            and not self.pubsub_trouble
            and not self.job_trouble
        )
        return (
            None if not quiet or len(self.faults) > 1 else "".join(name for _, name in self.faults)
        )


class Town(Protocol):
    """Who can be struck; a process that ends is replaced by `hire`."""

    site: Site
    rng: random.Random
    plan: Plan
    workers: list[WorkerProcess]
    broadcasters: list[BroadcasterProcess]
    web: WebProcess
    killed: list[tuple[float, str, int]]
    """(when, message id, attempt) of what a killed worker ran."""

    def hire_worker(self) -> None: ...
    def hire_broadcaster(self) -> None: ...
    def hire_web(self) -> None: ...


Fault = Callable[[Town], Awaitable[None]]


def plan(rng: random.Random) -> Plan:
    """From clear skies to several storms at a time."""
    made = Plan()
    if rng.random() < 0.35:
        made.redis = Weather(
            *_shares(rng), slowest=rng.choice((0.002, 0.01, 0.05)), spike=rng.choice((0.0, 0.02))
        )
    if rng.random() < 0.35:
        made.sql = Weather(
            *_shares(rng), slowest=rng.choice((0.01, 0.05, 0.2)), spike=rng.choice((0.0, 0.02))
        )
    made.pubsub_trouble = rng.choice((0.0, 0.0, 0.05, 0.3))
    made.job_trouble = rng.choice((0.0, 0.0, 0.0, 0.2))
    if (
        rng.random() < 0.1
    ):  # a zombie, undisturbed: paused beyond its lease in the midst of an answer
        return Plan(faults=[(rng.uniform(0.2, 2.0), "pause_worker_for_long")])
    if rng.random() < 0.06:  # several forks in a row
        times = [rng.uniform(0.2, 4.0) for _ in range(rng.choice((1, 2, 3, 5)))]
        return Plan(
            faults=[
                (at, rng.choice(("lose_the_end", "lose_the_end", "restart_redis")))
                for at in sorted(times)
            ]
        )
    if rng.random() < 0.1:  # answers of Redis get lost, and nothing else
        return Plan(redis=Weather(unanswered=0.2), hasty=rng.random() < 0.5)
    count = rng.choice((0, 1, 1, 2, 2, 3, 4, 6))
    chosen = rng.choices(list(FAULTS), list(SHARES.values()), k=count)
    made.faults = sorted((rng.uniform(0.0, FAULT_SECONDS), name) for name in chosen)
    return made


def aim(made: Plan, rng: random.Random) -> None:
    """Some kills in the midst of calls, besides."""
    chosen = rng.choices(list(AIMED), k=rng.choice((0, 0, 1, 2, 3)))
    made.faults = sorted([*made.faults, *((rng.uniform(0.0, 3.0), name) for name in chosen)])


def _shares(rng: random.Random) -> tuple[float, float, float]:
    return (
        rng.choice((0.0, 0.02, 0.1)),
        rng.choice((0.0, 0.02, 0.1, 0.25)),
        rng.choice((0.0, 0.0, 0.02, 0.1)),
    )


async def _worker(town: Town) -> WorkerProcess:
    """Rather one that has something to lose, if there is one soon."""
    for _ in range(town.rng.choice((1, 20))):
        busy = [worker for worker in town.workers if worker.busy]
        if busy:
            return town.rng.choice(busy)
        await asyncio.sleep(0.1)
    return town.rng.choice(town.workers)


async def kill_worker(town: Town) -> None:
    """SIGKILL, now; the launcher starts another one."""
    worker = await _worker(town)
    town.killed += [(town.site.loop.time(), *attempt) for attempt in worker.attempts]
    worker.node.kill()
    await _replace(town)


async def burn_worker(town: Town) -> None:
    """SIGKILL at some await soon."""
    node = (await _worker(town)).node
    node.fuse = town.rng.randint(1, 200)
    while node.alive and node.fuse:
        await asyncio.sleep(0.1)
    await _replace(town)


async def _replace(town: Town) -> None:
    await asyncio.sleep(town.rng.uniform(0.05, 1.5))
    town.hire_worker()


async def pause_worker(town: Town) -> None:
    """SIGSTOP, often for longer than a lease; it wakes up as a zombie."""
    node = (await _worker(town)).node
    node.pause()
    await asyncio.sleep(town.rng.uniform(0.3, 6.0))
    node.resume()


async def pause_worker_for_long(town: Town) -> None:
    """SIGSTOP for longer than a lease and a takeover."""
    if len(town.workers) == 1:
        town.hire_worker()
    node = (await _worker(town)).node
    node.pause()
    await asyncio.sleep(town.rng.uniform(4.0, 10.0))
    node.resume()


async def deploy_worker(town: Town) -> None:
    """SIGTERM; the successor is started at once."""
    worker = await _worker(town)
    if not worker.draining:
        worker.deploy(town.rng.choice((0.0, 0.3, 2.0)))
        town.hire_worker()
        await asyncio.sleep(3.0)


async def kill_broadcaster(town: Town) -> None:
    """SIGKILL; another one follows."""
    town.rng.choice(town.broadcasters).node.kill()
    await asyncio.sleep(town.rng.uniform(0.0, 1.0))
    town.hire_broadcaster()


async def deploy_broadcaster(town: Town) -> None:
    """SIGTERM."""
    broadcaster = town.rng.choice(town.broadcasters)
    if not broadcaster.closing and broadcaster.node.alive:
        broadcaster.deploy()
        town.hire_broadcaster()


async def pause_broadcaster(town: Town) -> None:
    """SIGSTOP for some seconds."""
    node = town.rng.choice(town.broadcasters).node
    node.pause()
    await asyncio.sleep(town.rng.uniform(0.3, 5.0))
    node.resume()


async def kill_web(town: Town) -> None:
    """SIGKILL at some await soon, such as between a commit and what should follow it."""
    node = town.web.node
    node.fuse = town.rng.randint(1, 60)
    await asyncio.sleep(2.0)
    node.fuse = 0
    if not node.alive:
        town.hire_web()


async def cut_feed(town: Town) -> None:
    """A pub/sub connection breaks and comes back."""
    process = town.rng.choice([*town.broadcasters, *town.workers])
    process.pubsub.cut()
    await asyncio.sleep(town.rng.uniform(0.05, 4.0))
    process.pubsub.mend()


async def pause_redis(town: Town) -> None:
    """Redis stands still; calls that arrive are executed when it continues, even if their sender
    has given up.
    """
    await _pause(town, town.site.redis, 5.0)


async def pause_sql(town: Town) -> None:
    """The database stands still."""
    await _pause(town, town.site.sql, 4.0)


async def _pause(town: Town, service: Service, longest: float) -> None:
    service.paused = True
    await asyncio.sleep(town.rng.uniform(0.2, longest))
    service.paused = False
    held, service.held = service.held, []
    for arrive in held:
        arrive()


async def redis_away(town: Town) -> None:
    """Redis refuses connections; it keeps its data and is the same server (a firewall, an exhausted
    limit).
    """
    await _away(town, town.site.redis, 8.0)


async def sql_away(town: Town) -> None:
    """The database refuses connections."""
    await _away(town, town.site.sql, 8.0)


async def _away(town: Town, service: Service, longest: float) -> None:
    service.up = False
    await asyncio.sleep(town.rng.uniform(0.1, longest))
    service.up = True


async def restart_redis(town: Town) -> None:
    """With its data, which a fast restart saves; a new server all the same."""
    await _restart(town, lambda: town.site.server.restart())


async def lose_the_end(town: Town) -> None:
    """A crash that took the last writes with it, some or many; what is left is whole."""
    count = (
        town.plan.lost.pop(0)
        if town.plan.lost
        else town.rng.choice((1, 2, 3, town.rng.randint(0, 60)))
    )
    jobs = town.site.broker.save()

    def lose() -> None:
        town.site.server.lose_the_end(count)
        town.site.broker.restore(jobs)

    await _restart(town, lose)


async def empty_redis(town: Town) -> None:
    """Everything is lost, jobs too."""

    def lose() -> None:
        town.site.server.restart(lose_data=True)
        town.site.broker.restore(({}, {}))

    await _restart(town, lose)


async def fail_over(town: Town) -> None:
    """A replica that lags becomes the server: what was acknowledged last is gone."""
    log, jobs = town.site.server.save(), town.site.broker.save()
    await asyncio.sleep(town.rng.choice((0.02, 0.2, 1.0)))

    def promote() -> None:
        town.site.server.fail_over(log)
        town.site.broker.restore(jobs)

    await _restart(town, promote)


async def _restart(town: Town, change: Callable[[], None]) -> None:
    pubsubs = [
        process.pubsub
        for process in (*town.workers, *town.broadcasters)
        if process.pubsub.connected
    ]
    town.site.redis.up = False
    for pubsub in pubsubs:
        pubsub.cut()
    await asyncio.sleep(town.rng.uniform(0.01, 1.0))
    change()
    town.site.redis.up = True
    for pubsub in pubsubs:
        await asyncio.sleep(town.rng.uniform(0.0, 0.3))
        pubsub.mend()


async def partition_worker(town: Town) -> None:
    """One worker does not reach Redis, or the database, or either."""
    node = (await _worker(town)).node
    cut = town.rng.choice(([town.site.redis], [town.site.sql], [town.site.redis, town.site.sql]))
    for service in cut:
        town.site.net.cut(node, service)
    await asyncio.sleep(town.rng.uniform(0.5, 7.0))
    for service in cut:
        town.site.net.mend(node, service)


async def partition_broadcaster(town: Town) -> None:
    """One broadcaster does not reach Redis: what it holds it still relays, and nothing else."""
    process = town.rng.choice(town.broadcasters)
    town.site.net.cut(process.node, town.site.redis)
    process.pubsub.cut()
    await asyncio.sleep(town.rng.uniform(0.5, 8.0))
    town.site.net.mend(process.node, town.site.redis)
    process.pubsub.mend()


async def _kill_at(town: Town, point: str) -> None:
    """SIGKILL to a worker that has a call at this point, if there is one soon."""
    for _ in range(2000):
        for worker in town.workers:
            if point in points_in(town, worker):
                worker.node.kill()
                await _replace(town)
                return
        await asyncio.sleep(0.002)


def points_in(town: Town, worker: WorkerProcess) -> set[str]:
    """The points at which this worker would die now."""
    if town.site.world is None or not worker.node.alive or worker.node.paused:
        return set()
    site, found = town.site, set[str]()
    for message_id, _ in worker.attempts:
        found |= points(site, message_id, worker.node) | steering.points(site, message_id)
    return found


AIMED: dict[str, Fault] = {
    f"kill at: {point}": functools.partial(_kill_at, point=point)
    for point in (*POINTS, *steering.POINTS)
}
"""Kills that hit a worker between two steps of a call, or of taking a message in."""
SHARES: dict[Fault, int] = {
    kill_worker: 3,
    burn_worker: 3,
    pause_worker: 2,
    pause_worker_for_long: 1,
    deploy_worker: 3,
    partition_worker: 3,
    kill_broadcaster: 1,
    deploy_broadcaster: 1,
    pause_broadcaster: 1,
    partition_broadcaster: 1,
    cut_feed: 2,
    kill_web: 2,
    pause_redis: 2,
    redis_away: 2,
    restart_redis: 2,
    lose_the_end: 3,
    empty_redis: 2,
    fail_over: 2,
    pause_sql: 2,
    sql_away: 2,
}
"""How often each is chosen, among all."""
FAULTS: dict[str, Fault] = {act.__name__: act for act in SHARES}
