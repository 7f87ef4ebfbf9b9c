"""The faults of a cluster: one function for each kind, and their seeded order."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tests.chaos.cluster import Cluster, ports_of
from tests.chaos.load import Load
from tests.chaos.moments import POINTS, Moments
from tests.chaos.report import most_deaths
from tests.chaos.site import RUNS

WEIGHTS: Mapping[str, float] = {
    "kill-worker": 8,
    "kill-began": 2,
    "kill-ended": 2,
    "kill-broadcaster": 3,
    "kill-web": 2,
    "pause-worker": 3,
    "pause-broadcaster": 1,
    "term-worker": 3,
    "term-broadcaster": 1,
    "term-web": 1,
    "cut-redis": 1,
    "cut-readers": 2,
    "refuse-redis": 0.4,
    "freeze-worker": 2,
    "pause-redis": 0.3,
    "oom-redis": 0.3,
    "misconf-redis": 0.3,
    "fill-redis": 0.3,
    "fill-database": 0.3,
    "restart-redis": 0.4,
    "empty-redis": 0.3,
    "flush-redis": 0.3,
    "restart-database": 0.4,
    "crash-database": 0.4,
    "pause-database": 0.3,
}
AIMED = tuple(f"kill-{point}" for point in POINTS)
LOSE_LOG = ("empty-redis", "flush-redis")
"""After these an answer may start over. A crash keeps everything that Redis had acknowledged: a
`reset` after it is a failure.
"""
REPLACED_SECONDS = 180.0
NOT_REPEATABLE = ("send", "pay")
SPARED_DEATHS = 5
"""Aimed kills pause while so many workers in a row have died over one answer: eight end it."""
OF_DISKS = ("fill-redis", "fill-database")
OF_POSTGRES = ("restart-database", "crash-database", "pause-database")


@dataclass
class Faults:
    """Carries faults out and counts them. `spacing`: mean seconds between two."""

    cluster: Cluster
    load: Load
    dice: random.Random
    notes: list[tuple[float, str]] = field(default_factory=list)
    """When (`time.monotonic()`) what was done."""
    aims: Collection[str] = NOT_REPEATABLE
    """The tools that kills are aimed at."""
    failed: list[str] = field(default_factory=list)
    """Faults that could not be completed. They spoil the run, which still continues to its
    report.
    """

    async def run(self, kinds: list[str], count: int, spacing: float, deadline: float) -> None:
        """So many faults, or until the time is over."""
        background: set[asyncio.Task[None]] = set()
        while len(self.notes) < count and time.monotonic() < deadline:
            await asyncio.sleep(self.dice.uniform(0.3, 1.7) * spacing)
            (kind,) = self.dice.choices(kinds, [WEIGHTS.get(kind, 2) for kind in kinds])
            task = asyncio.create_task(self.one(kind))
            background.add(task)
            if kind.endswith(("redis", "database")):
                await task  # one of these at a time; the others fall on top of it
        await asyncio.gather(*background)

    async def roll(self, workers: int) -> None:
        """A deploy: SIGTERM to one process after another, each awaited until a new one is ready."""
        there = {"worker": workers, "broadcaster": 2, "web": 2}
        for kind, count in there.items():
            await self._until_ready(kind, count)
        for kind in there:
            old = await asyncio.to_thread(self._candidates, "term", kind)
            for pid in old:
                before = self.cluster.starts(kind)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
                    self.notes.append((time.monotonic(), f"term-{kind}"))
                await self._until_ready(kind, before + 1)
                await asyncio.sleep(1.0)

    async def _until_ready(self, kind: str, starts: int) -> None:
        async with asyncio.timeout(REPLACED_SECONDS):
            while self.cluster.starts(kind) < starts:
                await asyncio.sleep(0.1)

    async def one(self, kind: str) -> None:
        """Carry out one fault, to its end."""
        if kind not in AIMED:
            self.notes.append((time.monotonic(), kind))
        try:
            await self._do(kind)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the report says so
            self.failed.append(f"{kind}: {error!r}")

    async def _do(self, kind: str) -> None:
        verb, _, what = kind.partition("-")
        if what == "redis":
            await self._redis(verb)
        elif what == "database":
            await self._database(verb)
        elif kind == "freeze-worker":
            await self._freeze()
        elif kind in AIMED:
            await self._kill_at(what)
        elif what == "readers":
            self.cluster.broadcasters.cut(self.dice.choice(("rst", "fin")))
            self.cluster.web.cut("rst")
        else:
            await self._process(verb, what)

    # --- processes ---

    async def _kill_at(self, point: str) -> None:
        """SIGKILL to a worker at this point of a call. It counts if the worker was there."""
        moments = Moments(self.cluster, self.load, self.cluster.folder / RUNS, self.aims)
        if await asyncio.to_thread(most_deaths, self.cluster.database_url) >= SPARED_DEATHS:
            return
        pid = await moments.next(point)
        if pid is None:
            return
        hurt = self._running_in(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self.notes.append((time.monotonic(), f"kill-{point}"))
            self._note_deaths(hurt, time.monotonic())

    async def _freeze(self) -> None:
        """SIGSTOP to a worker, and people cancel what it streams while it stands still."""
        pids = [
            pid for pid in await asyncio.to_thread(self.cluster.workers) if self._running_in(pid)
        ]
        if not pids:
            return
        pid = self.dice.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                running = self._running_in(pid)
                # A stream whose post has not been answered yet has no id to cancel it by.
                hit = [
                    stream
                    for stream in self.load.streams
                    if stream.script.number in running and stream.message_id
                ]
                await asyncio.gather(*(self.load.cancel_frozen(stream) for stream in hit[:2]))
                await asyncio.sleep(self.dice.uniform(4, 8))
            finally:
                os.kill(pid, signal.SIGCONT)

    async def _process(self, verb: str, what: str) -> None:
        pids = await asyncio.to_thread(self._candidates, verb, what)
        if not pids:
            return
        pid = self.dice.choice(pids)
        number = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP, "term": signal.SIGTERM}[verb]
        hurt = (
            await asyncio.to_thread(self._running_in, pid)
            if (verb, what) == ("kill", "worker")
            else []
        )
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            died = time.monotonic()
            if verb == "pause":
                await asyncio.sleep(self.dice.uniform(4, 8))
                os.kill(pid, signal.SIGCONT)
            self._note_deaths(hurt, died)

    def _candidates(self, verb: str, what: str) -> list[int]:
        if what != "worker":
            return self.cluster.pids(what)
        workers = self.cluster.workers()
        if verb == "pause":
            return workers
        masters = [pid for pid in self.cluster.pids("worker") if pid not in workers]
        # SIGTERM goes to the master, which passes it on, as under a supervisor. If either is
        # killed, the other ends too.
        return masters if verb == "term" else workers

    def _running_in(self, pid: int) -> list[int]:
        """Numbers of the texts that this worker streams now."""
        ports = ports_of(pid, self.load.provider.port)
        return [asked.number for asked in self.load.provider.running() if asked.peer_port in ports]

    def _note_deaths(self, numbers: list[int], died: float) -> None:
        for stream in self.load.streams:
            if stream.script.number in numbers:
                stream.killed.append(died)

    # --- servers ---

    async def _redis(self, verb: str) -> None:
        valkey, proxy = self.cluster.valkey, self.cluster.redis_proxy
        if f"{verb}-redis" in LOSE_LOG:
            self.load.redis_faults += 1
        if verb == "cut":
            proxy.cut(self.dice.choice(("rst", "fin")))
        elif verb == "refuse":
            proxy.faults.refuse = True
            proxy.cut()
            await asyncio.sleep(self.dice.uniform(2, 5))
            proxy.faults.refuse = False
        elif verb == "pause":
            valkey.freeze()
            await asyncio.sleep(10)
            valkey.thaw()
        elif verb == "flush":
            await asyncio.to_thread(self._flush)
        elif verb == "fill":
            await self._fill("redis")
        elif verb in ("oom", "misconf"):
            await self._refuse_writes(verb)
        else:
            await asyncio.to_thread(valkey.restart, lose_data=verb == "empty")
        if f"{verb}-redis" in LOSE_LOG:
            self.load.redis_faults += 1

    async def _refuse_writes(self, why: str) -> None:
        valkey = self.cluster.valkey
        begin, end = (
            (valkey.fill, valkey.empty)
            if why == "oom"
            else (valkey.break_saving, valkey.mend_saving)
        )
        await asyncio.to_thread(begin)
        try:
            await asyncio.sleep(self.dice.uniform(2, 6))
        finally:
            await asyncio.to_thread(end)

    async def _fill(self, what: str) -> None:
        """Its disk is full for a while. PostgreSQL may end, as a real one does, and is
        restarted.
        """
        disk = self.cluster.disks[what]
        await asyncio.to_thread(disk.fill)
        try:
            await asyncio.sleep(self.dice.uniform(2, 6))
        finally:
            await asyncio.to_thread(disk.empty)
        server = self.cluster.postgres
        if (
            what == "database"
            and server is not None
            and server.process is not None
            and server.process.poll() is not None
        ):
            await asyncio.to_thread(server.start)

    def _flush(self) -> None:
        with self.cluster.valkey.client() as client:
            client.flushall()

    async def _database(self, verb: str) -> None:
        if verb == "fill":
            await self._fill("database")
            return
        server = self.cluster.postgres
        if server is None:
            return
        if verb == "pause":
            self.cluster.freeze_postgres()
            await asyncio.sleep(self.dice.uniform(3, 8))
            self.cluster.thaw_postgres()
        else:
            how = signal.SIGINT if verb == "restart" else signal.SIGQUIT
            await asyncio.to_thread(server.stop, how)
            await asyncio.sleep(self.dice.uniform(0, 3))
            await asyncio.to_thread(server.start)
