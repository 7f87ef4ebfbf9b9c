"""One schedule: processes, people and faults from a seed, run to the end and judged.

`run(seed)` gives an `Outcome`; the same seed gives the same one, to the last line of its trace.
"""

import asyncio
import gc
import itertools
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import structlog

import tokenwire.broadcaster.readers
import tokenwire.streams.hub.room
import tokenwire.streams.log.memory_state
import tokenwire.worker.schemas
import tokenwire.worker.sweeper.sweeper
import tokenwire.worker.tools.executor
from tests.simulation import calls, checks, faults, people, processes, provider, steering
from tests.simulation.broker import Broker
from tests.simulation.client import Client, Link
from tests.simulation.database import Database
from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.net import Net, Service, Weather
from tests.simulation.processes import BroadcasterProcess, Site, Socket, WebProcess, WorkerProcess
from tests.simulation.redis import Server
from tests.simulation.rounds import Rounds
from tests.simulation.tools import VirtualThread, VirtualToolLoop, World, misfits
from tests.simulation.trace import Trace
from tokenwire.models.conversations import Policy
from tokenwire.providers.spec import Rung
from tokenwire.streams.log import ports

REST_SECONDS = 200.0
"""Everything must come to rest within this time after the last fault; a job lost by Redis is missed
after 60.
"""
CANCEL_SECONDS = 0.2
WITH_TOOLS = 0.25
"""The share of schedules whose models call tools."""
POLICIES: tuple[Policy, ...] = ("queue", "queue", *("steer",) * 5, "reject", "cancel_previous")
"""Of posts in these schedules."""
EXPECTED = ("provider adapter failed",)
"""Errors in the log that a script asks for."""


@dataclass
class Outcome:
    """What a schedule showed. `complaints` is empty if all went well."""

    seed: int
    digest: str
    seconds: float
    turns: int
    complaints: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)


ServerFactory = Callable[[Callable[[], float], ports.Limits], Server]
DatabaseFactory = Callable[[Callable[[], float]], Database]


def run(
    seed: int,
    make_server: ServerFactory = Server,
    tail: int = 60,
    make_database: DatabaseFactory = Database,
    plan: faults.Plan | None = None,
    tools: bool | None = None,
) -> Outcome:
    """Run the schedule of a seed. `make_server`, `make_database`: another log or database to
    compare with.

    `plan`: faults in place of the seed's. `tools`: whether models call tools; None: the seed says.
    """
    was_collecting = gc.isenabled()
    gc.disable()  # what it would close, and when, is nobody's seed
    loop = VirtualLoop(random.Random(f"{seed} loop"))
    trace = Trace(loop.time)
    town = _Town(seed, loop, trace, make_server, make_database, plan, tools)
    loop.set_exception_handler(lambda _loop, context: town.note(context))
    try:
        with _determined(seed, loop, town):
            asyncio.set_event_loop(loop)
            try:
                loop.run(town.live())
            # A town that breaks down is a finding, with its trace.
            except Exception as error:  # noqa: BLE001
                town.complain(f"the schedule broke down: {error!r}")
            for failure in loop.unseen():
                town.complain(f"a task failed and nobody looked: {failure!r}")
            town.over = True
            loop.close()
    finally:
        asyncio.set_event_loop(None)
        if was_collecting:
            gc.enable()
    return Outcome(
        seed, trace.digest(), loop.time(), loop.turns, town.complaints, trace.tail(tail), town.facts
    )


@contextmanager
def _determined(seed: int, loop: VirtualLoop, town: "_Town") -> Iterator[None]:
    """Chance, names and clocks come from the seed; log lines go into the trace."""
    names = random.Random(f"{seed} names")
    replaced: list[tuple[Any, str, Any]] = [
        (
            tokenwire.streams.log.memory_state,
            "secrets",
            SimpleNamespace(
                token_hex=lambda count: f"{names.getrandbits(8 * count):0{2 * count}x}"
            ),
        ),
        (tokenwire.broadcaster.readers, "time", SimpleNamespace(time=loop.time)),
        (tokenwire.broadcaster.readers, "set", Ordered),
        (tokenwire.streams.hub.room, "set", Ordered),
        (
            tokenwire.worker.sweeper.sweeper,
            "uuid",
            SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"s{names.getrandbits(32):x}")),
        ),
    ]
    readings = itertools.count()  # time goes on between two of them
    executor = tokenwire.worker.tools.executor
    replaced += [
        (executor, "threading", SimpleNamespace(Thread=VirtualThread, Lock=threading.Lock)),
        (executor, "time", SimpleNamespace(monotonic=lambda: loop.time() + next(readings) * 1e-9)),
        (executor, "ToolLoop", VirtualToolLoop),
        (tokenwire.worker.schemas, "_ask", misfits),
    ]
    before = [getattr(module, name, None) for module, name, _ in replaced]
    for module, name, stand_in in replaced:
        setattr(module, name, stand_in)
    state, configured = (
        random.getstate(),
        structlog.get_config() if structlog.is_configured() else None,
    )
    random.seed(seed)
    structlog.configure(
        processors=[town.log_line],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = _Errors(town.complain)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.reset_defaults()
        if configured is not None:
            structlog.configure(**configured)
        random.setstate(state)
        for (module, name, _), value in zip(replaced, before, strict=True):
            if value is None:
                delattr(module, name)
            else:
                setattr(module, name, value)


class Ordered(dict[Any, None]):
    """A set that iterates in insertion order: a real one iterates by memory addresses."""

    def add(self, item: Any) -> None:
        """Add an item at the end, unless it is there already."""
        self[item] = None

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        self.pop(item, None)


class _Errors(logging.Handler):
    def __init__(self, complain: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._complain = complain

    def emit(self, record: logging.LogRecord) -> None:
        self._complain(
            f"{record.name} logged: {record.getMessage()} "
            f"{record.exc_info[1] if record.exc_info else ''}"
        )


class _Town:
    """Everybody in a schedule."""

    def __init__(
        self,
        seed: int,
        loop: VirtualLoop,
        trace: Trace,
        make_server: ServerFactory,
        make_database: DatabaseFactory,
        plan: faults.Plan | None = None,
        tools: bool | None = None,
    ) -> None:
        self.rng = rng = random.Random(f"{seed} town")
        self.loop, self.trace = loop, trace
        self.complaints: list[str] = []
        self.over = False
        """From then on only the remains of dead processes are cleared away."""
        self.facts: dict[str, int] = {}
        by_chance = faults.plan(rng)
        self._of_tools = of_tools = random.Random(f"{seed} tools")
        self.with_tools = of_tools.random() < WITH_TOOLS if tools is None else tools
        if self.with_tools:
            faults.aim(by_chance, of_tools)
        self.plan = plan or by_chance
        limits = ports.Limits(rng.choice((10_000, 10_000, 40, 8)), 4 * 1024 * 1024, 24 * 3600)
        redis, sql = Service("redis", ordered=True), Service("sql", ordered=False)
        redis.weather, sql.weather = self.plan.redis, self.plan.sql
        net = Net(loop, random.Random(f"{seed} net"), trace)
        broker = Broker(loop, random.Random(f"{seed} broker"), net, redis)
        broker.trouble = self.plan.job_trouble
        self.site = Site(
            loop=loop,
            rng=random.Random(f"{seed} site"),
            trace=trace,
            net=net,
            redis=redis,
            sql=sql,
            server=make_server(loop.time, limits),
            database=make_database(loop.time),
            broker=broker,
            scripts={},
            mood=provider.Mood(rng.choice((0.0, 0.2, 0.5)), rng.choice((0.02, 0.1, 0.3))),
            complain=self.complain,
            world=World(of_tools, loop, trace, self.complain) if self.with_tools else None,
        )
        self.deaths = calls.Deaths(self.site, self.plan.die_behind, self._die)
        if self.plan.journal:
            self.site.server.journal = deque(maxlen=200)
        self.observer = checks.Observer(self.site)
        self._count = 0
        self.impatience = 0.8 if self.plan.hasty else rng.choice((0.2, 0.2, 0.2, 0.8))
        """The share of answers that somebody cancels."""
        self.killed: list[tuple[float, str, int]] = []
        self.workers: list[WorkerProcess] = []
        self.broadcasters: list[BroadcasterProcess] = []
        self.clients: list[Client] = []
        self.asked: dict[str, provider.Script] = {}

    # --- judgement ---

    def complain(self, what: str) -> None:
        """Something happened that must not."""
        if self.over:
            return
        self.trace.add("!", what)
        self.complaints.append(what)

    def note(self, context: dict[str, Any]) -> None:
        """What the event loop reports of a callback or task that failed."""
        self.complain(f"{context['message']}: {context.get('exception')!r}")

    def log_line(self, _logger: Any, method: str, line: dict[str, Any]) -> Any:
        """A line that the project's code logs."""
        event = line.pop("event", "")
        if method in ("error", "exception", "critical") and event not in EXPECTED:
            import sys

            self.complain(f"logged: {event} {line} {sys.exc_info()[1]!r}")
        self.trace.add("log", f"{event} {line}")
        raise structlog.DropEvent

    # --- life ---

    async def live(self) -> None:
        """Everything, from the first process to the last check."""
        for _ in range(self.rng.choice((1, 2, 2, 3))):
            self.hire_worker()
        for _ in range(self.rng.choice((1, 1, 2))):
            self.hire_broadcaster()
        self.hire_web()
        await asyncio.gather(self._strike(), self._populate())
        self._calm()
        await self._rest()
        if not self.complaints:
            await self._look_again()
        checks.at_rest(self.site, self.clients, self.observer, self.asked)
        calls.at_rest(self.site)
        steering.at_rest(self.site, lost=len({epoch for epoch, _ in self.observer.owners}) > 1)
        checks.in_time(self.site, self.observer, self.plan.alone, self.killed)
        checks.undisturbed(self.site, self.clients, self.plan, self.observer.restarted)
        self.facts.update(
            epochs=len({epoch for epoch, _ in self.observer.owners}),
            cancelled=sum(row.status == "cancelled" for row in self.site.database.answers()),
            complete=sum(row.status == "complete" for row in self.site.database.answers()),
            resyncs=sum(client.resyncs for client in self.clients),
            forks=sum(client.forks for client in self.clients),
            withdrawn=sum(len(client.withdrawn) for client in self.clients),
            attempts=sum(row.attempt for row in self.site.database.answers()),
            answers=len(self.site.database.answers()),
            **self.deaths.facts,
            **calls.counted(self.site),
            **steering.counted(self.site),
        )

    async def _strike(self) -> None:
        struck = []
        for at, name in self.plan.faults:
            await asyncio.sleep(max(0.0, at - self.loop.time()))
            struck.append(asyncio.create_task(self._fault(name)))
        await asyncio.gather(*struck)

    async def _fault(self, name: str) -> None:
        self.trace.add("fault", f"{name} begins")
        await (faults.FAULTS | faults.AIMED)[name](self)
        self.trace.add("fault", f"{name} is over")

    def _calm(self) -> None:
        """From here on nothing goes wrong any more."""
        site = self.site
        site.redis.weather, site.sql.weather, site.broker.trouble = (
            Weather(),
            Weather(slowest=0.01),
            0.0,
        )
        for process in (*self.workers, *self.broadcasters):
            process.pubsub.trouble = 0.0
        for client in self.clients:
            client.dropping = 0.0
        site.mood.failing = 0.0
        if not self.web.node.alive:
            self.hire_web()
        self.workers = [w for w in self.workers if w.node.alive]
        if all(worker.draining for worker in self.workers):
            self.hire_worker()
        self.trace.add("calm", "no more faults")

    async def _rest(self) -> None:
        until = self.loop.time() + REST_SECONDS
        while (
            (why := checks.unsettled(self.site, self.clients))
            and self.loop.time() < until
            and not self.complaints
        ):
            await asyncio.sleep(0.5)
        if why and not self.complaints:
            self.complain(f"no rest: {why}")

    async def _look_again(self) -> None:
        """Somebody who comes when all is over sees the same."""
        for conversation_id in self.site.database.conversations:
            self._add_client(conversation_id, 0.0, 0.0)
        await self._rest()

    # --- processes ---

    def hire_worker(self) -> None:
        """Start a worker."""
        self.workers = [w for w in self.workers if w.node.alive]
        self.workers.append(WorkerProcess(self.site, self._name("worker")))
        self.workers[-1].pubsub.trouble = self.plan.pubsub_trouble
        self.deaths.watch(self.workers[-1])

    def _die(self, node: Node) -> None:
        """A worker is killed here; another one follows."""
        node.kill()
        self.loop.call_later(0.3, self.hire_worker, context=self.loop.world.context)

    def hire_broadcaster(self) -> None:
        """Start a broadcaster."""
        self.broadcasters = [b for b in self.broadcasters if b.node.alive and not b.closing]
        self.broadcasters.append(BroadcasterProcess(self.site, self._name("caster")))
        self.broadcasters[-1].pubsub.trouble = self.plan.pubsub_trouble

    def hire_web(self) -> None:
        """Start a web process; there is one at a time."""
        self.web = WebProcess(self.site, self._name("web"))

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    # --- people ---

    async def _populate(self) -> None:
        await asyncio.gather(*(self._converse() for _ in range(self.rng.choice((1, 1, 2)))))

    async def _converse(self) -> None:
        """Somebody begins a conversation, asks, cancels, perhaps deletes it; others watch."""
        rng, rung = self.rng, self.rng.choice(provider.RUNGS)
        conversation = self.site.database.create_conversation(
            processes.USER, model=rung, instructions=rng.choice((None, "Be brief"))
        )
        for _ in range(rng.choice((1, 2, 3))):
            self._add_client(
                conversation.id,
                rng.choice((0.0, 0.0, rng.uniform(0.0, 8.0))),
                rng.choice((0.0, 0.0, 1.0)),
            )
        person = Node(self.loop, self._name("person"))
        more = self._of_tools.choice((0, 0, 1, 2)) if self.with_tools else 0
        for _ in range(rng.choice((1, 1, 2, 3)) + more):
            await asyncio.sleep(rng.choice((0.0, rng.uniform(0.0, 2.0))))
            await self._ask(person, conversation.id, rung)
        if rng.random() < 0.08:
            await asyncio.sleep(rng.uniform(0.0, 3.0))
            await self.attempt(person, "delete", lambda web: web.delete(conversation.id))

    async def _ask(self, person: Node, conversation_id: str, rung: Rung) -> None:
        name = f"q{len(self.site.scripts) + 1}"
        chance, mood, scripts = (
            random.Random(self.rng.getrandbits(64)),
            self.site.mood,
            self.site.scripts,
        )
        script: Any = (
            Rounds(name, rung, chance, mood, scripts)
            if self.with_tools
            else provider.Script(name, rung, chance, mood)
        )
        scripts[name] = script
        policy: Policy = self.rng.choice(("queue", "queue", "queue", "cancel_previous"))
        if self.with_tools:
            policy = self._of_tools.choice(POLICIES)
        await self.attempt(
            person, f"post {name}", lambda web: web.post(conversation_id, name, policy)
        )
        for row in list(self.site.database.messages.values()):
            if row.content == name:
                answer = next(
                    r.id for r in self.site.database.messages.values() if r.parent_id == row.id
                )
                self.asked[answer] = script
                self.observer.asked(answer, script)
                if self.with_tools:
                    person.spawn(people.attend(self, person, answer, chance))
                if self.rng.random() < self.impatience:
                    person.spawn(
                        self._cancel(
                            person,
                            answer,
                            script,
                            self.rng.uniform(0.0, self.rng.choice((1.0, 4.0))),
                        )
                    )

    async def _cancel(
        self, person: Node, message_id: str, script: provider.Script, seconds: float
    ) -> None:
        await self._moment(message_id, script, seconds)
        if script.open and self.plan.alone == "":
            person.spawn(self._check_closed(script, script.calls))
        await self.attempt(person, f"cancel {message_id}", lambda web: web.cancel(message_id))

    async def _moment(self, message_id: str, script: provider.Script, seconds: float) -> None:
        """When somebody cancels: as text comes, at any time, or soon after the first words."""
        if self.plan.hasty:
            with suppress(TimeoutError):
                async with asyncio.timeout(4.0):
                    for _ in range(self.rng.randint(1, 6)):
                        await self.observer.written(message_id)
            return
        await asyncio.sleep(seconds)
        for _ in range(self.rng.choice((0, 40))):
            if script.open:
                await asyncio.sleep(self.rng.uniform(0.0, 0.5))
                break
            await asyncio.sleep(0.05)

    async def _check_closed(self, script: provider.Script, call: int) -> None:
        await asyncio.sleep(CANCEL_SECONDS)
        if script.open and script.calls == call:
            self.complain(
                f"{script.name}: the provider's connection is open {CANCEL_SECONDS} s after a "
                f"cancel"
            )

    async def attempt(self, person: Node, what: str, request: Callable[[WebProcess], Any]) -> Any:
        """A request: its answer, or None if none comes."""
        try:
            return await self.web.ask(person, what, request)
        except ConnectionError as error:
            self.trace.add(person.name, f"{what} failed: {error}")
            return None

    def _add_client(self, conversation_id: str, after: float, dropping: float) -> None:
        node = Node(self.loop, self._name("client"))
        client = Client(
            node.name,
            conversation_id,
            _Door(self, node),
            random.Random(self.rng.getrandbits(64)),
            self.complain,
            dropping,
        )
        self.clients.append(client)
        node.spawn(client.run(after))
        if self.rng.random() < 0.2:
            node.spawn(self._read_slowly(client))

    async def _read_slowly(self, client: Client) -> None:
        """Now and then this reader does not read for a while."""
        rng = self.rng
        while client.dropping or self.loop.time() < faults.FAULT_SECONDS:
            await asyncio.sleep(rng.uniform(0.1, 1.0))
            socket = client._door.socket  # type: ignore[attr-defined]
            if socket is not None:
                socket.read_on(False)
                await asyncio.sleep(rng.uniform(0.1, 3.0))
                socket.read_on(True)


class _Door:
    """What a client reaches: the web process there is, and any broadcaster."""

    def __init__(self, town: _Town, node: Node) -> None:
        self._town, self._node = town, node
        self.socket: Socket | None = None

    async def snapshot(self, conversation_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._town.web.ask(
            self._node, f"snapshot of {conversation_id}", lambda web: web.snapshot(conversation_id)
        )
        return found

    async def connect(self, conversation_id: str) -> tuple[Link, str]:
        await asyncio.sleep(0.01)
        up = [b for b in self._town.broadcasters if b.node.alive and not b.closing]
        if not up:
            raise ConnectionError("refused")
        self.socket = self._town.rng.choice(up).accept(conversation_id, self._node)
        return self.socket, processes.token(conversation_id)
