"""The processes of a simulation: each holds the project's own objects, assembled as in
`worker.runtime`, `web` and `broadcaster`.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from tests.simulation import broker, database, redis
from tests.simulation.author import KEPT_BYTES
from tests.simulation.client import parse_frames
from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.net import Net, Service
from tests.simulation.provider import RUNGS, Mood, Provider, Script
from tests.simulation.store import Store
from tests.simulation.tools import World
from tests.simulation.trace import Trace
from tokenwire.broadcaster.readers import SocketReader, SocketReaders
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Policy, Post
from tokenwire.models.errors import AnswerRunning, NotAwaited, NotFound, StoreUnavailable
from tokenwire.protocol import tokens
from tokenwire.protocol.frames import CloseCode
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.presets import rung_of
from tokenwire.providers.spec import ModelSpec, Rung
from tokenwire.streams.hub import hub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log import keys, ports
from tokenwire.web import delivery
from tokenwire.web.api import calls, shapes
from tokenwire.web.api import routes as api
from tokenwire.web.cancels import Cancels
from tokenwire.worker import closing
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.packing import Packing
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import RunEnder
from tokenwire.worker.sweeper.sweeper import Sweeper
from tokenwire.worker.tools.toolbox import Toolbox

USER = "me"
KEY = "a key of the simulation, which guards nothing"
LEASE_SECONDS = 3.0
HTTP_SECONDS = 10.0
ROOM_BYTES = 1500
"""What a reader's socket holds before it is full."""


@dataclass
class Site:
    """What all processes share: the machines between them, and the receiver of complaints."""

    loop: VirtualLoop
    rng: random.Random
    trace: Trace
    net: Net
    redis: Service
    sql: Service
    server: redis.Server
    database: database.Database
    broker: broker.Broker
    scripts: dict[str, Script]
    mood: Mood
    complain: Callable[[str], None]
    world: World | None = None
    """What tools have done; None: there are no tools."""
    steps: dict[str, set[str]] = field(default_factory=dict)
    """Answer -> users' messages that steps of it have named in a log."""


def _connections(site: Site, node: Node) -> tuple[Any, Any, Any]:
    store = Store(site.net, node, site.sql, site.database)
    log = redis.Log(site.net, node, site.redis, site.server)
    return store, log, broker.Jobs(site.net, node, site.redis, site.broker)


class WorkerProcess:
    """A worker: runner, checkpoints, sweeper, control channel."""

    def __init__(self, site: Site, name: str) -> None:
        self.node = Node(site.loop, name)
        self.draining = False
        self.ended = False
        self._site = site
        store, log, jobs = _connections(site, self.node)
        checkpointer = Checkpointer(store, 1.0, 40)
        run_ender = RunEnder(store, self._open_named, _nobody)
        packing = Packing(log)
        services = WorkerServices(
            store,
            log,
            jobs,
            checkpointer,
            LEASE_SECONDS,
            run_ender,
            packing,
            _nobody,
            AnswerTerms(max_kept_bytes=KEPT_BYTES),
            site.world.toolbox() if site.world else Toolbox(),
        )
        specs = {rung: ModelSpec(rung, "demo", rung, continuation=rung) for rung in RUNGS}
        catalogue = Catalogue("prefix", "prefix", specs, {})
        models = Models(catalogue, self._open)
        self._runner = Runner(services, models)
        self.pubsub = redis.PubSub(site.loop, site.rng, self.node, site.server, site.redis)
        self.node.spawn(checkpointer.run(self._runner.running))
        self.node.spawn(Sweeper(services).run())
        self.node.spawn(packing.run())
        self.node.spawn(self._listen())
        site.broker.consumers.append(self)

    @property
    def busy(self) -> bool:
        """Whether it runs an answer now."""
        return self.node.alive and not self.node.paused and any(self._runner.running())

    @property
    def attempts(self) -> list[tuple[str, int]]:
        """(message id, attempt) of what it runs."""
        return [(attempt.message_id, attempt.draft.attempt) for attempt in self._runner.running()]

    def _open(self, spec: ModelSpec) -> Provider:
        site = self._site
        return Provider(rung_of(spec), site.scripts, site.complain, site.database.is_answered)

    def _open_named(self, name: str) -> Provider:
        return Provider(cast("Rung", name), self._site.scripts, self._site.complain)

    async def _listen(self) -> None:
        await self.pubsub.start(self._heard, lambda _channel: None)
        while True:
            try:
                await self.pubsub.subscribe(keys.CONTROL)
            except ports.LogUnavailable:
                await asyncio.sleep(1.0)
            else:
                return

    def _heard(self, messages: list[tuple[bytes, bytes]]) -> None:
        for _channel, payload in messages:
            self._runner.check_cancel(payload.decode().partition(" ")[2])

    def take(self, message_id: str, done: Callable[[], None]) -> None:
        """A job was delivered to this process."""
        self._site.trace.add(self.node.name, f"takes {message_id}")
        self.node.spawn(self._generate(message_id, done))

    async def _generate(self, message_id: str, done: Callable[[], None]) -> None:
        try:
            await self._runner.generate(message_id)
        except ZeroDivisionError:
            pass  # the bug in an adapter that a script asked for: a dead letter
        except (StoreUnavailable, ports.LogUnavailable, broker.JobsUnavailable):
            return  # not acknowledged: it comes again when this process has gone
        except Exception as error:  # noqa: BLE001
            self._site.complain(f"{self.node.name}: the job of {message_id} failed: {error!r}")
        done()

    def deploy(self, seconds: float) -> "asyncio.Task[None]":
        """SIGTERM: drain, then end."""
        self.draining = True
        return self.node.spawn(self._leave(seconds))

    async def _leave(self, seconds: float) -> None:
        await self._runner.drain(seconds)
        self._site.trace.add(self.node.name, "ends")
        self.ended = True
        self.node.kill()


class WebProcess:
    """The API: the project's own routes where they need no request, else the same steps."""

    def __init__(self, site: Site, name: str) -> None:
        self.node = Node(site.loop, name)
        self._site = site
        store, log, jobs = _connections(site, self.node)
        counter = SimpleNamespace(inc=lambda: None)
        metrics = SimpleNamespace(undelivered=SimpleNamespace(labels=lambda _step: counter))
        cancels = Cancels(store, log, jobs)
        settings = SimpleNamespace(
            cancel_without_readers_seconds=0.0, max_tool_result_bytes=48 * 1024
        )
        self.services: Any = SimpleNamespace(
            store=store, log=log, jobs=jobs, metrics=metrics, cancels=cancels, settings=settings
        )

    async def ask(
        self, client: Node, what: str, handler: Callable[["WebProcess"], Awaitable[Any]]
    ) -> Any:
        """A request of `client`. Raises ConnectionError where no answer comes, or a 503."""
        loop, trace = self._site.loop, self._site.trace
        answer: asyncio.Future[Any] = loop.create_future()

        async def handle() -> None:
            try:
                result: Any = await handler(self)
            except (StoreUnavailable, ports.LogUnavailable) as error:
                result = ConnectionError(f"503: {error}")
            except (NotFound, AnswerRunning, ports.Gone):
                result = None
            except Exception as error:  # noqa: BLE001
                self._site.complain(f"{what}: {error!r}")
                result = ConnectionError("500")
            trace.add(self.node.name, f"{what} for {client.name} -> {type(result).__name__}")
            loop.call_later(
                self._site.rng.uniform(0.0005, 0.01),
                _answer,
                answer,
                result,
                context=loop.world.context,
            )

        loop.call_later(
            self._site.rng.uniform(0.0005, 0.01),
            lambda: self.node.spawn(handle()),
            context=self.node.context,
        )
        try:
            async with asyncio.timeout(HTTP_SECONDS):
                result = await answer
        except TimeoutError as error:
            raise ConnectionError("no answer") from error
        if isinstance(result, Exception):
            raise result
        return result

    async def snapshot(self, conversation_id: str) -> dict[str, Any]:
        """GET /api/conversations/{id}."""
        found = await api.get_conversation(self.services, USER, conversation_id, 200, None)
        return found.model_dump()

    async def post(self, conversation_id: str, content: str, policy: Policy) -> str:
        """POST .../messages; gives the id of the answer."""
        services = self.services
        _, conversation = await asyncio.gather(
            delivery.log_state(services, conversation_id),
            services.store.conversation(conversation_id, USER),
        )
        posted = await services.store.post(
            Post(conversation_id, USER, content, conversation.model, policy)
        )
        await delivery.announce_post(services, posted)
        return posted.assistant_message.id  # type: ignore[no-any-return]

    async def cancel(self, message_id: str) -> None:
        """POST /api/messages/{id}/cancel."""
        await api.cancel_message(self.services, USER, message_id)

    async def decide(self, message_id: str, number: int, body: dict[str, Any]) -> str:
        """POST .../decision; gives `applied`, or the name of the refusal."""
        decision = shapes.NewDecision(**body)
        try:
            await calls.decide(self.services, USER, message_id, number, decision)
        except NotAwaited as refusal:
            return type(refusal).__name__
        return "applied"

    async def delete(self, conversation_id: str) -> None:
        """DELETE /api/conversations/{id}."""
        await closing.delete_conversation(self.services.store, self.services.log, conversation_id)


class BroadcasterProcess:
    """The broadcaster's readers on the hub, with sockets that are not there."""

    def __init__(self, site: Site, name: str) -> None:
        self.node = Node(site.loop, name)
        self._site = site
        self._sockets: list[Socket] = []
        self.pubsub = redis.PubSub(site.loop, site.rng, self.node, site.server, site.redis)
        self.hub = hub.Hub(redis.Log(site.net, self.node, site.redis, site.server), self.pubsub)
        self.readers = SocketReaders(self.hub, KEY, HeartbeatPace(5.0, 25.0))
        self.node.spawn(self.hub.start())
        self.node.on_death.append(self._hang_up)
        self.closing = False

    def accept(self, conversation_id: str, client: Node) -> "Socket":
        """A client connects."""
        socket = Socket(self._site, self, conversation_id, client)
        self._sockets.append(socket)
        return socket

    def deploy(self) -> "asyncio.Task[None]":
        """SIGTERM: every reader is told, then the process ends."""
        self.closing = True
        return self.node.spawn(self._leave())

    async def _leave(self) -> None:
        for socket in list(self._sockets):
            if socket.reader in self.readers.all:
                socket.reader.end(CloseCode.RESTART, "restart")
                await asyncio.sleep(self._site.rng.uniform(0.0, 0.2))
        await asyncio.sleep(0.5)
        self.node.kill()

    def _hang_up(self) -> None:
        for socket in self._sockets:
            socket.deliver_later(0)


class Socket:
    """Both ends of a WebSocket: `broadcaster.connection.Connection` for the server, a `client.Link`
    for the client.
    """

    def __init__(
        self, site: Site, server: BroadcasterProcess, conversation_id: str, client: Node
    ) -> None:
        self.conversation_id = conversation_id
        self.listener: Any = None
        self.transport = self
        self.paused = False
        self.is_open = True
        self.reading = True
        self._site, self._server, self._client = site, server, client
        self._on_way = 0
        self._inbox: list[tuple[int, Any]] = []
        self._there = asyncio.Event()
        self._at = 0.0
        self.reader: SocketReader = server.node.context.copy().run(
            SocketReader, server.readers, self
        )  # type: ignore[arg-type]

    # --- the server's end ---

    def write(self, data: bytes) -> None:
        """Send bytes to the client. Complains if the connection is closed."""
        if not self.is_open:
            self._site.complain(f"written to a closed socket of {self.conversation_id}: {data!r}")
        self._on_way += len(data)
        self.paused = self._on_way > ROOM_BYTES
        self.deliver_later((len(data), data))

    def is_closing(self) -> bool:
        """Whether the connection is closed."""
        return not self.is_open

    def pause_reading(self) -> None:
        """Do nothing: clients send too little to be paused."""

    def abort(self) -> None:
        """Close the connection at once."""
        self._shut(0)

    async def close_with(self, code: int) -> None:
        """The closing handshake."""
        self.is_open = False
        self._shut(int(code))
        await asyncio.sleep(0.005)

    def _shut(self, code: int) -> None:
        self.is_open = False
        self.deliver_later(code)
        loop = self._site.loop
        loop.call_soon(self._lost, context=self._server.node.context)

    def _lost(self) -> None:
        self.reader.lost()
        self.reader.gone()

    # --- the way to the client ---

    def deliver_later(self, what: Any) -> None:
        """Bytes, or the close code."""
        loop = self._site.loop
        self._at = max(loop.time() + self._site.rng.uniform(0.0002, 0.01), self._at + 1e-6)
        loop.call_at(self._at, self._arrive, what, context=loop.world.context)

    def _arrive(self, what: Any) -> None:
        if isinstance(what, int):
            self._inbox.append((0, what))
        else:
            size, data = what
            frames = parse_frames(data)
            self._inbox += [(0, frame) for frame in frames[:-1]] + [
                (size, frame) for frame in frames[-1:]
            ]
        self._there.set()

    # --- the client's end ---

    def send(self, frame: dict[str, Any]) -> None:
        """A frame of the client."""
        import json

        text = json.dumps(frame)
        loop = self._site.loop

        def arrive() -> None:
            if self.is_open:
                self._server.node.spawn(self.reader.receive(text))

        loop.call_later(
            self._site.rng.uniform(0.0002, 0.01), arrive, context=self._server.node.context
        )

    async def receive(self) -> Any:
        """The next frame, or the close code."""
        while not self._inbox or not self.reading:
            self._there.clear()
            await self._there.wait()
        size, frame = self._inbox.pop(0)
        if size:
            loop = self._site.loop
            loop.call_later(0.001, self._drained, size, context=self._server.node.context)
        return frame

    def read_on(self, reading: bool) -> None:
        """Whether the client reads at all."""
        self.reading = reading
        self._there.set()

    def close(self, *args: Any) -> Any:
        """The client closes (no argument), or the server closes with a code (like the library's
        `close`).
        """
        if args:
            return self.close_with(args[0])
        if self.is_open:
            loop = self._site.loop
            loop.call_later(
                self._site.rng.uniform(0.0002, 0.01),
                self._hung_up,
                context=self._server.node.context,
            )
        return None

    def _hung_up(self) -> None:
        if self.is_open:
            self.is_open = False
            self._lost()

    def _drained(self, size: int) -> None:
        self._on_way -= size
        if self.paused and self._on_way < ROOM_BYTES // 2:
            self.paused = False
            if self.is_open:
                self.reader.send_more()


def token(conversation_id: str) -> str:
    """A subscription token that outlives every schedule."""
    return tokens.mint(KEY, conversation_id, USER, 100_000_000, 0)


def _answer(future: "asyncio.Future[Any]", result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _nobody(_error: BaseException, _facts: Any) -> None:
    """Operators have a quiet time."""
