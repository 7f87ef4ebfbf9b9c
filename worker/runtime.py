"""Everything around a `Runner` in a real process: connections, the event loop that Dramatiq's
worker threads share, start and stop.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

import structlog
import uvloop
from dramatiq import Broker, Worker
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import AsyncIO

from tokenwire.config import metrics, startup
from tokenwire.config.background import EXIT_NOT_OPENED, EXIT_TASK_ENDED, Background, supervise
from tokenwire.config.parent import die_with_parent
from tokenwire.config.settings import Settings
from tokenwire.models.quotas import Quotas
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.log import keys, ports
from tokenwire.streams.log.redis import RedisLog
from tokenwire.streams.tool_names import ReportedTools, keep
from tokenwire.worker.broker import WakingBroker
from tokenwire.worker.checkpoints import Checkpointer
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.metrics import RUNNING
from tokenwire.worker.needs import needs
from tokenwire.worker.operators import OperatorHook
from tokenwire.worker.packing import Packing
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import RunEnder
from tokenwire.worker.sweeper.sweeper import Sweeper
from tokenwire.worker.titles import name_conversation
from tokenwire.worker.tools.registry import Tools
from tokenwire.worker.tools.toolbox import Toolbox, places

log_line = structlog.get_logger(__name__)

INTERRUPT_CHECK_SECONDS = 5.0
"""How often a blocked worker thread checks for Dramatiq's interrupts.

With Dramatiq's 0.1 s, hundreds of threads would occupy a core.
"""
CONTROL_PAUSE_SECONDS = 1.0
T = TypeVar("T", Store, RedisLog, RedisPubSub, HttpClient, Toolbox, ReportedTools)


class Runtime:
    """The connections and the runner of a worker process."""

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        tools: Tools,
        notify_operators: OperatorHook,
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._tools = tools
        self._notify_operators = notify_operators
        self._drained: asyncio.Task[None] | None = None
        self._opened = contextlib.AsyncExitStack()
        self.background = Background()

    async def open(self, broker: WakingBroker) -> None:
        """Connect, on the event loop, before the first job.

        Call `close` after an exception, too.
        """
        self._connect()
        self._assemble(broker)
        await self._services.toolbox.open()
        self._start()
        await self._opened.enter_async_context(startup.asking(needs(self._store, self._log)))

    def _connect(self) -> None:
        """Connect to the database, Redis and the providers."""
        settings = self._settings
        store = Store.open(
            settings.database_url,
            Quotas.of(settings),
            timeout_seconds=settings.database_timeout_seconds,
        )
        limits = ports.Limits.of(settings)
        self._store = self._to_close(store)
        self._log = self._to_close(RedisLog(settings.redis, limits, settings.coalesce_ms))
        self._pubsub = self._to_close(RedisPubSub(settings.redis))
        self._client = self._to_close(HttpClient())
        self._tool_names = self._to_close(ReportedTools(settings.redis))

    def _to_close(self, opened: T) -> T:
        self._opened.push_async_callback(opened.aclose)
        return opened

    def _assemble(self, broker: WakingBroker) -> None:
        settings = self._settings
        self._models = Models(
            catalogue=self._catalogue, open=lambda spec: open_provider(spec, self._client)
        )
        self._services = WorkerServices(
            store=self._store,
            log=self._log,
            jobs=Jobs(settings.redis, broker),
            checkpointer=Checkpointer(
                self._store, settings.checkpoint_seconds, settings.checkpoint_chars
            ),
            lease_seconds=settings.lease_seconds,
            run_ender=RunEnder(self._store, self._models.provider, self._notify_operators),
            packing=Packing(self._log),
            notify_operators=self._notify_operators,
            terms=settings,
            toolbox=self._to_close(Toolbox(self._tools.fixed, settings, self._tools.sources)),
        )
        self._runner = Runner(self._services, self._models)

    def _start(self) -> None:
        """Start the tasks beside the jobs. They end before the connections are closed."""
        services, background = self._services, self.background
        self._opened.push_async_callback(services.run_ender.aclose)
        self._opened.push_async_callback(background.aclose)
        background.when_ended(_stop_process)
        background.start("checkpointer", lambda: services.checkpointer.run(self._runner.running))
        background.start("sweeper", Sweeper(services).run)
        background.start("packing", services.packing.run)
        background.start("tool names", lambda: keep(self._report_tools))
        listening = asyncio.create_task(supervise("cancels", self._listen))
        self._opened.push_async_callback(_end, listening)

    async def _report_tools(self) -> None:
        await self._tool_names.report(places(self._services.toolbox.tools))

    async def _listen(self) -> None:
        """Listen for cancels. Without this channel, the lease's next renewal reports them."""
        await self._pubsub.start(self._heard, lambda _channel: None)
        while True:
            try:
                await self._pubsub.subscribe(keys.CONTROL)
            except ports.LogUnavailable:
                await asyncio.sleep(CONTROL_PAUSE_SECONDS)
            else:
                return

    def _heard(self, messages: list[tuple[bytes, bytes]]) -> None:
        for _channel, payload in messages:
            verb, _, message_id = payload.decode().partition(" ")
            if verb == "cancel":
                self._runner.check_cancel(message_id)

    async def generate(self, message_id: str) -> None:
        """The job that makes this answer."""
        await self._runner.generate(message_id)

    async def title(self, message_id: str) -> None:
        """The job that names a conversation."""
        await name_conversation(self._services, self._models, message_id)

    def metrics(self) -> contextlib.AbstractContextManager[None]:
        """Serve the metrics of this process during the block."""
        RUNNING.set_function(lambda: len(self._runner.running()))
        return metrics.served(self._settings.metrics_host, self._settings.metrics_port)

    def show_ready(self, ready: bool = True) -> None:
        """Create or remove READY_FILE, if it is set."""
        file = self._settings.ready_file
        try:
            if file is not None and ready:
                file.touch()
            elif file is not None:
                file.unlink(missing_ok=True)
        except OSError as error:
            log_line.error("READY_FILE cannot be written", reason=str(error))  # noqa: TRY400

    async def drain(self) -> None:
        """Let attempts run for DRAIN_SECONDS, then hand them over. A second call waits, too."""
        if self._drained is None:
            self._drained = asyncio.create_task(self._runner.drain(self._settings.drain_seconds))
        await self._drained

    async def close(self) -> None:
        """Close everything that `open` opened, the newest first."""
        await self._opened.aclose()


class RuntimeMiddleware(AsyncIO):
    """Runs Dramatiq's event loop thread on uvloop, and the runtime on it."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime
        self._serving_metrics = contextlib.ExitStack()

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002  # dramatiq's signature
        """Make this process end with Dramatiq's master, even if the master is killed."""
        # Multiprocessing remembers the process that forked this one. The system may report another
        # parent by now.
        if (master := multiprocessing.parent_process()) is not None and master.pid is not None:
            die_with_parent(master.pid)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Start the loop and open the runtime. Ends the process (SystemExit) if that fails.

        Dramatiq ignores every other error here and takes jobs nevertheless. Without a runtime, each
        job would become a dead letter.
        """
        try:
            self._open(broker)
        except Exception as error:  # noqa: BLE001 -- after any error, this process can run no job
            log_line.critical(
                "the worker cannot start, the process stops", reason=startup.reason(error)
            )
            with contextlib.suppress(Exception):
                self._close(broker, worker)
            raise SystemExit(EXIT_NOT_OPENED) from None

    def _open(self, broker: Broker) -> None:
        if not isinstance(broker, WakingBroker):
            raise TypeError("the runtime needs worker.broker.make_broker")
        thread = EventLoopThread(self.logger, INTERRUPT_CHECK_SECONDS)
        thread.daemon = True  # a loop that nothing can stop must not delay the end of the process
        thread.loop.close()
        thread.loop = uvloop.new_event_loop()
        set_event_loop_thread(thread)
        thread.start(timeout=5.0)
        thread.run_coroutine(self._runtime.open(broker))
        self._serving_metrics.enter_context(self._runtime.metrics())

    # Dramatiq's signature.
    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Say that it is ready, and begin to drain with the signal. Dramatiq itself checks for a
        stop only once a second.
        """
        self._runtime.show_ready()
        if (
            threading.current_thread() is not threading.main_thread()
        ):  # a test's worker gets no signals
            return
        noted, thread = signal.getsignal(signal.SIGTERM), get_event_loop_thread()

        def drain_at_once(number: int, frame: FrameType | None) -> None:
            # Dramatiq ends at a second signal, in the middle of the hand-over.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if callable(noted):
                noted(number, frame)
            if thread is not None and thread.loop.is_running():
                asyncio.run_coroutine_threadsafe(self._drain(broker), thread.loop)

        signal.signal(signal.SIGTERM, drain_at_once)

    # Dramatiq's signature.
    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Drain, then let the consumers end."""
        self._run(self._drain(broker))
        if isinstance(broker, WakingBroker):
            broker.leave()

    async def _drain(self, broker: Broker) -> None:
        """Fetch no more jobs, and hand attempts over."""
        self._runtime.show_ready(False)
        if isinstance(broker, WakingBroker):
            broker.drain()
        await self._runtime.drain()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Close the runtime, stop the loop."""
        self._close(broker, worker)
        if self._runtime.background.ended is not None:
            raise SystemExit(EXIT_TASK_ENDED)

    def _close(self, broker: Broker, worker: Worker) -> None:
        self._serving_metrics.close()
        try:
            self._run(self._runtime.close())
        finally:
            # Dramatiq is typed in part.
            super().after_worker_shutdown(broker, worker)  # type: ignore[no-untyped-call]

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        thread = get_event_loop_thread()
        if thread is not None:
            thread.run_coroutine(coroutine)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _stop_process() -> None:
    """Stop like after a signal: attempts are handed over before the process ends."""
    os.kill(os.getpid(), signal.SIGTERM)
